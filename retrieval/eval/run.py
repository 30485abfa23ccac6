"""A run of test queries: what was measured, the answers, and the file that keeps both."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

import retrieval
from retrieval.domain.wording import counted
from retrieval.errors import InvalidArgument, StorageError
from retrieval.eval.measure import Answer
from retrieval.eval.sets.line_files import Line, read_lines
from retrieval.eval.sets.matching import Matching
from retrieval.eval.sets.queries import TestQuery


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What was measured, and how."""

    queries: str
    """File or folder of the test queries."""
    qrels: str
    """File of the judgements; empty if they are beside the queries."""
    where: str
    """The index's folder, or the collection and its server."""
    generation: str
    """Generation of the index; several if it was reloaded during the run."""
    documents: int
    """Number of documents in the index."""
    model: str
    mode: str
    """How the index was searched, never ``auto``; several if queries were searched differently."""
    k: int
    options: Mapping[str, Any]
    """Ranking options that are not the defaults."""
    date: str
    """When the run began: RFC 3339, UTC."""
    version: str = retrieval.__version__
    """Version of this program."""

    def line(self) -> str:
        """Return a description of one line."""
        options = "".join(f", {name} {value}" for name, value in self.options.items())
        return (
            f"{self.where}, generation {self.generation}, {self.model}, {self.mode}, k {self.k}"
            f"{options}, {self.date}"
        )


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured, and the answer to each query."""

    info: RunInfo
    answers: Sequence[Answer]
    """At least one."""
    matching: Matching
    notes: Sequence[str] = ()
    """Remarks on the results, one sentence each."""

    def means(self) -> dict[str, float]:
        """Return each measure's mean over the queries."""
        names = self.answers[0].measures
        return {
            name: float(np.mean([answer.measures[name] for answer in self.answers]))
            for name in names
        }

    def percentiles(self) -> dict[str, float]:
        """Return the 50th, 90th and 99th percentile of the queries' times in milliseconds."""
        times = [answer.milliseconds for answer in self.answers]
        return {f"p{at}": float(np.percentile(times, at)) for at in (50, 90, 99)}

    def failures(self) -> list[Answer]:
        """Return the answers in which nothing relevant was found at any depth."""
        return [answer for answer in self.answers if not deepest_recall(answer)]

    def judgements(self) -> int:
        """Return the number of relevant documents, or judged passages, of all queries together."""
        return sum(len(answer.query.passages or answer.query.documents) for answer in self.answers)

    def values(self) -> dict[str, Mapping[str, float]]:
        """Return the values by query id and measure."""
        return {answer.query.id: answer.measures for answer in self.answers}


def deepest_recall(answer: Answer) -> float:
    """Return the recall at the greatest depth."""
    return [value for name, value in answer.measures.items() if name.startswith("Recall@")][-1]


def notes_on(answers: Sequence[Answer]) -> list[str]:
    """Return remarks on the answers, one sentence each."""
    notes = []
    if cut := sum(answer.query_truncated for answer in answers):
        which = "1 query is" if cut == 1 else f"{cut} queries are"
        notes.append(f"{which} longer than the model reads; the rest had no effect")
    if cut := sum(answer.rerank_truncated for answer in answers):
        notes.append(f"the reranker read {counted(cut, 'passage')} in part")
    if len({answer.generation for answer in answers}) > 1:
        notes.append("the index changed during the run")
    return notes


def in_order(values: Iterable[object]) -> str:
    """Return distinct values in the order of their first appearance, separated by commas."""
    return ", ".join(map(str, Counter(values)))


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A run as it was saved to a file."""

    info: RunInfo | None
    """None if an older version saved it, which did not record what was measured."""
    values: Mapping[str, Mapping[str, float]]
    """Values by query id and measure."""
    texts: Mapping[str, str]
    """Text by query id, if it is known."""

    def values_of(self, queries: Iterable[TestQuery]) -> dict[str, Mapping[str, float]]:
        """Return the values of those queries that this run has too, with the same id and text.

        Raises:
            InvalidArgument: it has none of them.
        """
        asked = {query.id: query.text for query in queries}
        shared = {
            query: values
            for query, values in self.values.items()
            if query in asked and self.texts.get(query, asked[query]) == asked[query]
        }
        if not shared:
            raise InvalidArgument("the two runs have no query in common")
        return shared


def save_run(path: Path, run: Run) -> None:
    """Save a run as JSON lines: first what was measured, then one query per line.

    Raises:
        StorageError: the disk refuses.
    """
    records: list[dict[str, object]] = [{"run": asdict(run.info)}]
    records += [
        {
            "id": answer.query.id,
            "query": answer.query.text,
            "milliseconds": round(answer.milliseconds, 3),
            "measures": answer.measures,
            "found": list(answer.found),
        }
        for answer in run.answers
    ]
    write_text(path, "\n".join(json.dumps(one, ensure_ascii=False) for one in records) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file; halves of surrogate pairs, which UTF-8 can't encode, become escapes.

    Raises:
        StorageError: the disk refuses.
    """
    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror}") from error


def load_run(path: Path) -> SavedRun:
    """Read a saved run.

    Raises:
        InvalidArgument: the file can't be read, or is not a saved run.
    """
    info: RunInfo | None = None
    values: dict[str, Mapping[str, float]] = {}
    texts: dict[str, str] = {}
    for line in read_lines(path):
        record = line.as_object()
        if not values and info is None and isinstance(record.get("run"), dict):
            info = _info_from(record["run"], line)
        else:
            query = str(record.get("id"))
            values[query] = _measures(record, values, line)
            if isinstance(text := record.get("query"), str):
                texts[query] = text
    if not values:
        raise InvalidArgument(f"{path} is not a run saved with --save: it has no queries")
    return SavedRun(info, values, texts)


def _info_from(record: Mapping[str, Any], line: Line) -> RunInfo:
    try:
        return RunInfo(**{one.name: record[one.name] for one in fields(RunInfo)})
    except KeyError as error:
        raise InvalidArgument(
            f"{line.where}: not a run saved with --save: {error} is missing"
        ) from error


def _measures(
    record: Mapping[str, Any], earlier: Mapping[str, Mapping[str, float]], line: Line
) -> Mapping[str, float]:
    problem = f"{line.where}: not a run saved with --save"
    measures = record.get("measures")
    if "id" not in record or not isinstance(measures, dict) or not measures:
        raise InvalidArgument(f'{problem}: it needs "id" and "measures"')
    if any(
        isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
        for value in measures.values()
    ):
        raise InvalidArgument(f"{problem}: a measure is not a number")
    first = next(iter(earlier.values()), measures)
    if list(first) != list(measures):
        raise InvalidArgument(f"{problem}: its measures differ from those of the lines before")
    return measures
