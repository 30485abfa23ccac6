"""Summary of a run: as text for a terminal, and as JSON for programs."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from retrieval.domain.wording import counted, printable
from retrieval.eval.compare import Difference, compare, p_text
from retrieval.eval.measure import Answer
from retrieval.eval.run import Run, SavedRun
from retrieval.eval.sets.matching import IndexedDocument

_SHOWN: Final = 5
"""Failures that the terminal shows, to fit on a screen; the HTML page has all."""
_WANTED: Final = 3
"""Wanted documents that the terminal shows for each failure."""
_TEXT: Final = 100
"""Characters of a line, the width of a terminal."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a run differs from an earlier one."""

    path: Path
    """File of the earlier run."""
    before: SavedRun
    differences: Sequence[Difference]
    in_common: int
    """Number of queries that both have."""


def compare_with(path: Path, before: SavedRun, run: Run) -> Comparison:
    """Compare a run with a saved one, by the queries that both have.

    Args:
        path: file of the saved run.
        before: the saved run.
        run: the new run.

    Raises:
        InvalidArgument: they have no query, or no measure, in common.
    """
    shared = before.values_of(answer.query for answer in run.answers)
    return Comparison(path, before, compare(shared, run.values()), len(shared))


def as_text(run: Run, comparison: Comparison | None = None) -> str:
    """Return lines with what was measured, the measures, and the queries that found nothing."""
    lines = [*_heading(run), ""]
    lines += [f"  {name:<12} {value:.4f}" for name, value in run.means().items()]
    times = ", ".join(f"{name} {value:.1f} ms" for name, value in run.percentiles().items())
    lines.append(f"  {'time':<12} {times}")
    if comparison:
        lines += ["", *_differences(run, comparison)]
    if run.failures():
        lines += ["", *_failures(run)]
    return "\n".join(lines)


def as_json(run: Run, comparison: Comparison | None = None) -> dict[str, Any]:
    """Return everything except the single queries as one JSON object."""
    before = comparison.before.info if comparison else None
    return {
        "run": asdict(run.info),
        "queries": len(run.answers),
        "judgements": run.judgements(),
        "documents": {
            "wanted": run.matching.wanted,
            "found_by": dict(run.matching.kinds),
            "missing": list(run.matching.missing),
            "several": list(run.matching.several),
        },
        "notes": list(run.notes),
        "measures": run.means(),
        "milliseconds": run.percentiles(),
        "without_any": [answer.query.id for answer in run.failures()],
        "compared": [asdict(one) for one in comparison.differences] if comparison else [],
        "compared_with": asdict(before) if before else None,
        "compared_queries": comparison.in_common if comparison else 0,
    }


def wanted_of(run: Run, answer: Answer) -> list[str]:
    """Return what a query should find: texts of passages, or URIs and titles of documents."""
    if answer.query.passages:
        return [f"“{text}”" for text in answer.query.passages]
    shown = []
    for name in answer.query.documents:
        documents = run.matching.documents.get(name, ())
        shown += [_document(name, one) for one in documents] or [f"{name} (not in this index)"]
    return shown


def _document(name: str, document: IndexedDocument) -> str:
    """Return a wanted document's URI, its name in the judgements, and its title."""
    shown = f"{document.uri} ({name})" if name == document.record_id else document.uri
    # A document without a title has its file's name as one.
    called_after_file = document.title == PurePosixPath(document.uri).stem
    return shown if called_after_file else f"{shown} “{document.title}”"


def found_first(answer: Answer) -> str:
    """Return where the best passage is, and its text."""
    first = answer.first
    if first is None:
        return "nothing"
    return f"{first.uri}:{first.line_start}-{first.line_end} “{' '.join(first.text.split())}”"


def _heading(run: Run) -> Iterator[str]:
    info = run.info
    judged = f", judged by {info.qrels}" if info.qrels else ""
    yield f"{counted(len(run.answers), 'query', 'queries')} of {info.queries}{judged}"
    kinds = " and ".join(f"{count} by {kind}" for kind, count in run.matching.kinds.items())
    yield f"  {'wanted':<12} {_relevant(run)}" + (
        f"; documents were matched: {kinds}" if kinds else ""
    )
    yield f"  {'searched':<12} {printable(info.where)}"
    documents = counted(info.documents, "document")
    yield f"  {'':<12} generation {info.generation}, {documents}, model {info.model}"
    options = "".join(f", {name} {value}" for name, value in info.options.items())
    yield f"  {'how':<12} mode {info.mode}, k {info.k}{printable(options)}"
    yield f"  {'date':<12} {info.date}"
    for note in run.notes:
        yield f"  note: {printable(note)}"


def _relevant(run: Run) -> str:
    """Return the number of documents or passages that all queries together want."""
    judged = {"passage" if answer.query.passages else "document" for answer in run.answers}
    if len(judged) == 1:
        return counted(run.judgements(), f"relevant {judged.pop()}")
    return f"{run.judgements()} relevant documents and passages"


def _differences(run: Run, comparison: Comparison) -> Iterator[str]:
    before = comparison.before
    yield f"before: {comparison.path}" + (f": {before.info.line()}" if before.info else "")
    common = comparison.in_common
    alone = [len(values) - common for values in (before.values, run.values())]
    if any(alone):
        yield (
            f"  note: only the {counted(common, 'query', 'queries')} of both runs "
            f"{'is' if common == 1 else 'are'} compared; {alone[0]} of the earlier run and "
            f"{alone[1]} of this one are not"
        )
    yield f"  {'':<12} {'before':>7} {'after':>7} {'':>8} {'p':>6}  better/worse queries"
    for one in comparison.differences:
        yield (
            f"  {one.measure:<12} {one.before:>7.4f} {one.after:>7.4f} "
            f"{one.after - one.before:>+8.4f} {p_text(one.p_value):>6}  {one.better}/{one.worse}"
        )


def _failures(run: Run) -> Iterator[str]:
    failed = run.failures()
    total = counted(len(run.answers), "query", "queries")
    yield f"nothing relevant was found for {len(failed)} of {total}:"
    for answer in failed[:_SHOWN]:
        yield f"  {_short(answer.query.text)}"
        wanted = wanted_of(run, answer)
        yield from (f"    wanted  {_short(one)}" for one in wanted[:_WANTED])
        if len(wanted) > _WANTED:
            yield f"            … and {len(wanted) - _WANTED} more"
        yield f"    first   {_short(found_first(answer))}"
    if len(failed) > _SHOWN:
        yield f"  … and {len(failed) - _SHOWN} more; --report shows all"


def _short(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= _TEXT else f"{line[: _TEXT - 1]}…"
