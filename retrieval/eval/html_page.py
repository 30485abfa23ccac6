"""HTML page of a run, and the plot in it."""

import html
import io
from pathlib import Path
from typing import TYPE_CHECKING, Final

from retrieval.domain.wording import printable
from retrieval.errors import InvalidArgument, StorageError
from retrieval.eval.run import Run, deepest_recall, write_text
from retrieval.eval.summary import Comparison, as_text, found_first, wanted_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FOUND_CHARS: Final = 300
"""Characters shown of the best passage: about four lines of its column."""

_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;"
    "border-bottom:1px solid #ddd;vertical-align:top}td.n{text-align:right}"
    "pre{white-space:pre-wrap}"
)


def check_plot(path: Path) -> None:
    """Refuse a file whose extension is not a format that matplotlib writes.

    Raises:
        InvalidArgument: an unknown format, or matplotlib is not installed.
    """
    formats = _figure().canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in formats:
        raise InvalidArgument(
            f"can't plot to {path}: its name must end in .png, .svg, .pdf, or another format that "
            "matplotlib writes"
        )


def write_plot(path: Path, run: Run) -> None:
    """Write the plot to a file, in the format that its extension names.

    Raises:
        InvalidArgument: an unknown format, or matplotlib is not installed.
        StorageError: the disk refuses.
    """
    check_plot(path)
    figure = _plot(run)
    try:
        figure.savefig(path)
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror}") from error


def write_html(path: Path, run: Run, comparison: Comparison | None = None) -> None:
    """Write a self-contained page: measures, plot, and every query, worst first.

    Raises:
        InvalidArgument: matplotlib is not installed.
        StorageError: the disk refuses.
    """
    drawn = io.StringIO()
    _plot(run).savefig(drawn, format="svg")
    picture = drawn.getvalue()
    parts = [
        "<!doctype html><meta charset=utf-8><title>Search quality</title>",
        f"<style>{_STYLE}</style><h1>Search quality</h1>",
        f"<pre>{_escaped(as_text(run, comparison))}</pre>",
        picture[picture.index("<svg") :],
    ]
    if run.matching.missing:
        parts.append("<h2>Wanted documents that are not in this index</h2><ul>")
        parts += [f"<li>{_escaped(name)}" for name in run.matching.missing]
        parts.append("</ul>")
    parts.append(
        "<h2>Queries</h2><table><tr><th>nDCG@10<th>recall<th>ms<th>query<th>wanted<th>found first"
    )
    for answer in sorted(
        run.answers, key=lambda one: (one.measures["nDCG@10"], deepest_recall(one))
    ):
        numbers = (answer.measures["nDCG@10"], deepest_recall(answer), answer.milliseconds)
        cells = "".join(f"<td class=n>{number:.2f}" for number in numbers)
        wanted = "<br>".join(map(_escaped, wanted_of(run, answer)))
        found = found_first(answer)
        shown = found if len(found) <= _FOUND_CHARS else f"{found[: _FOUND_CHARS - 1]}…"
        parts.append(
            f"<tr>{cells}<td>{_escaped(answer.query.text)}<td>{wanted}<td>{_escaped(shown)}"
        )
    write_text(path, "\n".join([*parts, "</table>"]))


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def _figure() -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidArgument("plots need matplotlib: pip install 'gte-retrieval[eval]'") from error
    return Figure(figsize=(9, 3.5), layout="constrained")


def _plot(run: Run) -> "Figure":
    """Plot recall at k, and a histogram of the queries' nDCG@10."""
    figure = _figure()
    info = run.info
    figure.suptitle(
        f"{info.model}, {info.mode}, k {info.k}, {info.date}", fontsize=9, parse_math=False
    )
    left, right = figure.subplots(1, 2)
    recalls = {
        int(name.partition("@")[2]): value
        for name, value in run.means().items()
        if name.startswith("Recall@")
    }
    left.plot(list(recalls), list(recalls.values()), marker="o")
    left.set(xscale="log", ylim=(0, 1.02), xlabel="k", ylabel="recall@k", title="Recall")
    left.set_xticks(list(recalls), [str(at) for at in recalls])
    left.minorticks_off()
    left.grid(alpha=0.3)
    right.hist([answer.measures["nDCG@10"] for answer in run.answers], bins=20, range=(0, 1))
    right.set(xlabel="nDCG@10", ylabel="queries", title="Queries by nDCG@10")
    return figure
