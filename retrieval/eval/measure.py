"""What was found → nDCG, recall, MRR and MAP of each query, computed by ir-measures."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final, Protocol
from urllib.parse import unquote

from retrieval.errors import InvalidArgument
from retrieval.eval.queries import TestQuery
from retrieval.found import Passage


class Search(Protocol):
    """Answers queries, here or on a server."""

    def __call__(self, text: str, k: int, *, by_document: bool) -> Sequence[Passage]:
        """The ``k`` best passages, best first; or documents, each by its best passage."""
        ...


RECALL_AT: Final = (1, 2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one query."""

    query: TestQuery
    milliseconds: float
    measures: Mapping[str, float]
    """Name → value, from 0 to 1."""
    found: Sequence[str]
    """What is ranked, best first: names of documents, or of passages."""
    passages: Sequence[Passage] = field(repr=False)


def run_queries(queries: Sequence[TestQuery], search: Search, k: int) -> Iterator[Answer]:
    """Ask every query, and measure what comes.

    Args:
        queries: at least one.
        search: answers them.
        k: how many documents, or passages where these are judged; measures look no further.

    Yields:
        an answer each, in order.

    Raises:
        InvalidArgument: ir-measures is not installed.
    """
    calculate = _calculator(k)
    for query in queries:
        started = time.perf_counter()
        passages = search(query.text, k, by_document=not query.passages)
        milliseconds = (time.perf_counter() - started) * 1e3
        grades = query.passages or query.documents
        found = list(_passages(query, passages) if query.passages else _documents(query, passages))
        yield Answer(query, milliseconds, calculate(grades, found), found, passages)


def measure_names(k: int) -> list[str]:
    """The measures that are computed, in the order that they are shown."""
    recalls = [f"Recall@{at}" for at in RECALL_AT if at < k]
    return ["nDCG@10", "MRR@10", f"MAP@{k}", *recalls, f"Recall@{k}"]


def _calculator(k: int) -> Callable[[Mapping[str, int], Sequence[str]], dict[str, float]]:
    try:
        import ir_measures
        from ir_measures import AP, RR, Qrel, R, ScoredDoc, nDCG
    except ImportError as error:
        raise InvalidArgument(
            "measuring needs ir-measures: pip install 'gte-retrieval[eval]'"
        ) from error

    recalls = [R @ at for at in RECALL_AT if at < k]
    measures: list[Any] = [nDCG @ 10, RR @ 10, AP @ k, *recalls, R @ k]
    names = dict(zip(measures, measure_names(k), strict=True))

    def calculate(grades: Mapping[str, int], found: Sequence[str]) -> dict[str, float]:
        qrels = [Qrel("q", name, grade) for name, grade in grades.items()]
        ranks = [ScoredDoc("q", name, -float(rank)) for rank, name in enumerate(found)]
        # An empty run has no values at all.
        values = {one.measure: one.value for one in ir_measures.iter_calc(measures, qrels, ranks)}
        return {name: round(values.get(measure, 0.0), 6) for measure, name in names.items()}

    return calculate


def _documents(query: TestQuery, passages: Sequence[Passage]) -> Iterator[str]:
    """The documents of passages, each at its best one, by the names that the judgements use."""
    seen: set[str] = set()
    for passage in passages:
        aliases = names_of(passage.uri)
        name = next((alias for alias in aliases if alias in query.documents), passage.uri)
        if name not in seen:
            seen.add(name)
            yield name


def names_of(uri: str) -> list[str]:
    """What a document may be called: its URI, its path, either without extension, its file's stem.

    Args:
        uri: such as ``docs/guide/start.md``.
    """
    path = uri.partition("/")[2] or uri
    stem = PurePosixPath(path).stem
    shorter = [str(PurePosixPath(name).with_suffix("")) for name in (uri, path)]
    return list(dict.fromkeys([uri, path, *shorter, stem, unquote(stem)]))


def _passages(query: TestQuery, passages: Sequence[Passage]) -> Iterator[str]:
    """Passages by name; one that is wanted by the text that it is wanted for, once."""
    wanted = {text: _plain(text) for text in query.passages}
    for passage in passages:
        text = _plain(passage.text)
        found = next((name for name, part in wanted.items() if part in text or text in part), None)
        if found is not None:
            del wanted[found]
        yield passage.name if found is None else found


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
