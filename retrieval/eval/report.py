"""A run as people read it: a table, the queries that found nothing, a plot of recall."""

import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from retrieval.errors import InvalidArgument, StorageError
from retrieval.eval.compare import Difference
from retrieval.eval.measure import Answer
from retrieval.render import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN: Final = 5
"""Failures that are shown on the terminal; the report has all."""
_TEXT: Final = 60

_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;"
    "border-bottom:1px solid #ddd;vertical-align:top}td.n{text-align:right}"
)


def means(answers: Sequence[Answer]) -> dict[str, float]:
    """Each measure's mean over the queries."""
    names = answers[0].measures
    return {name: float(np.mean([answer.measures[name] for answer in answers])) for name in names}


def percentiles(answers: Sequence[Answer]) -> dict[str, float]:
    """Milliseconds of a query: half take at most p50, 99 in a hundred at most p99."""
    times = [answer.milliseconds for answer in answers]
    return {f"p{at}": float(np.percentile(times, at)) for at in (50, 90, 99)}


def failures(answers: Sequence[Answer]) -> list[Answer]:
    """The queries for which nothing relevant was found, however far down."""
    return [answer for answer in answers if not _recall(answer)]


def as_text(answers: Sequence[Answer], differences: Sequence[Difference]) -> str:
    """The run, and how it differs from another where one was given."""
    lines = [f"{len(answers)} queries"]
    lines += [f"  {name:<12} {value:.4f}" for name, value in means(answers).items()]
    lines.append("  " + ", ".join(f"{k} {v:.1f} ms" for k, v in percentiles(answers).items()))
    if differences:
        lines.append(
            f"  {'':<12} {'before':>7} {'after':>7} {'':>8} {'p':>6}  better/worse queries"
        )
        lines += [
            f"  {one.measure:<12} {one.before:>7.4f} {one.after:>7.4f} "
            f"{one.after - one.before:>+8.4f} {one.p_value:>6.3f}  {one.better}/{one.worse}"
            for one in differences
        ]
    failed = failures(answers)
    if failed:
        lines.append(f"nothing relevant was found for {len(failed)} of them:")
        lines += [f"  {_short(one.query.text)} → {_short(_wanted(one))}" for one in failed[:_SHOWN]]
        if len(failed) > _SHOWN:
            lines.append(f"  … {len(failed) - _SHOWN} more")
    return "\n".join(lines)


def plot(answers: Sequence[Answer]) -> "Figure":
    """Recall at k, and how many queries have which nDCG@10.

    Raises:
        InvalidArgument: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidArgument("plots need matplotlib: pip install 'gte-retrieval[eval]'") from error
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    recalls = {
        int(name.partition("@")[2]): value
        for name, value in means(answers).items()
        if name.startswith("Recall@")
    }
    left.plot(list(recalls), list(recalls.values()), marker="o")
    left.set(xscale="log", ylim=(0, 1.02), xlabel="k", ylabel="recall@k", title="Recall")
    left.set_xticks(list(recalls), [str(at) for at in recalls])
    left.minorticks_off()
    left.grid(alpha=0.3)
    right.hist([answer.measures["nDCG@10"] for answer in answers], bins=20, range=(0, 1))
    right.set(xlabel="nDCG@10", ylabel="queries", title="Queries by nDCG@10")
    return figure


def write_plot(path: Path, answers: Sequence[Answer]) -> None:
    """Write the plot to a file of any format that matplotlib knows by its name.

    Raises:
        InvalidArgument: an unknown format, or matplotlib is not installed.
        StorageError: the disk refuses.
    """
    figure = plot(answers)
    try:
        figure.savefig(path)
    except ValueError as error:
        raise InvalidArgument(f"can't plot to {path}: {error}") from error
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror}") from error


def write_html(path: Path, answers: Sequence[Answer], differences: Sequence[Difference]) -> None:
    """Write a page that needs no other file: measures, plot, and every query, the worst first.

    Raises:
        InvalidArgument: matplotlib is not installed.
        StorageError: the disk refuses.
    """
    drawn = io.StringIO()
    plot(answers).savefig(drawn, format="svg")
    picture = drawn.getvalue()
    parts = [
        "<!doctype html><meta charset=utf-8><title>Search quality</title>",
        f"<style>{_STYLE}</style><h1>Search quality</h1>",
        f"<pre>{html.escape(as_text(answers, differences))}</pre>",
        picture[picture.index("<svg") :],
        "<h2>Queries</h2><table><tr><th>nDCG@10<th>recall<th>ms<th>query<th>wanted<th>found first",
    ]
    for answer in sorted(answers, key=lambda one: (one.measures["nDCG@10"], _recall(one))):
        first = answer.found[0] if answer.found else "nothing"
        numbers = (answer.measures["nDCG@10"], _recall(answer), answer.milliseconds)
        cells = "".join(f"<td class=n>{number:.2f}" for number in numbers)
        texts = (answer.query.text, _wanted(answer), first)
        parts.append(f"<tr>{cells}" + "".join(f"<td>{html.escape(text)}" for text in texts))
    try:
        path.write_text("\n".join([*parts, "</table>"]), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror}") from error


def _recall(answer: Answer) -> float:
    """As far down as was looked."""
    return [value for name, value in answer.measures.items() if name.startswith("Recall@")][-1]


def _wanted(answer: Answer) -> str:
    return ", ".join(answer.query.passages or answer.query.documents)


def _short(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= _TEXT else f"{line[: _TEXT - 1]}…"
