"""What was found → nDCG, recall, MRR and MAP of each query, computed by ir-measures."""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from retrieval.domain.passages import Passage
from retrieval.errors import InvalidArgument, RetrievalError
from retrieval.eval.sets.matching import Matching
from retrieval.eval.sets.queries import TestQuery

RECALL_AT: Final = (1, 2, 3, 5, 10, 20, 50, 100)

WARM_UP: Final = 5
"""Searches before the first that is timed: they load the model and fill the caches of the disk."""
_WARM_UP_CHARS: Final = 1_000


class Found(NamedTuple):
    """What a search answers."""

    passages: Sequence[Passage]
    """Best first."""
    mode: str
    """How it was searched: ``"dense"``, ``"lexical"`` or ``"hybrid"``."""
    generation: int
    """Of the index that was searched."""
    query_truncated: bool
    """Whether the model read the query in part only."""
    rerank_truncated: int
    """Passages that the reranker read in part only."""


class Search(Protocol):
    """Answers queries, here or on a server."""

    def __call__(self, text: str, k: int, *, by_document: bool) -> Found:
        """The ``k`` best passages; or documents, each by its best passage."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one query."""

    query: TestQuery
    milliseconds: float
    measures: Mapping[str, float]
    """Name → value, from 0 to 1."""
    found: Sequence[str]
    """What is ranked, best first: documents by the names that judgements use, others by their URIs;
    or passages, by the text that they were wanted for, others by their resource names."""
    first: Passage | None
    """The best passage."""
    mode: str
    """See ``Found``, as are the next."""
    generation: int
    query_truncated: bool
    rerank_truncated: int


Grades = Mapping[Any, int]
"""Key of a document or a passage (hashable) → grade, above 0."""


class _Ranked(NamedTuple):
    """A document or a passage in a ranking."""

    key: Hashable
    """That of its grade, where it has one."""
    name: str
    """What it is called."""


def warm_up(queries: Sequence[TestQuery], search: Search, k: int) -> None:
    """Search a few times, so that what is done once only is not in the times of the queries.

    The texts are like those of the first queries, but none of them: a server keeps the vectors of
    queries that it has seen, and would answer these sooner.

    Args:
        queries: at least one.
        search: answers them.
        k: as for ``run_queries``.
    """
    for query in queries[:WARM_UP]:
        text = f"before all: {query.text[:_WARM_UP_CHARS]}"
        search(text, k, by_document=not query.passages)


def run_queries(
    queries: Sequence[TestQuery], search: Search, k: int, matching: Matching
) -> Iterator[Answer]:
    """Ask every query, and measure what comes.

    Args:
        queries: at least one.
        search: answers them.
        k: how many documents, or passages where these are judged; measures look no further.
        matching: the documents that the queries' names mean.

    Returns:
        an answer each, in order.

    Raises:
        InvalidArgument: ir-measures is not installed.
        RetrievalError: a search failed; the message names the query.
    """
    calculate = calculator(k)
    return (_answer(query, search, k, matching, calculate) for query in queries)


def _answer(
    query: TestQuery, search: Search, k: int, matching: Matching, calculate: "Calculate"
) -> Answer:
    started = time.perf_counter()
    try:
        found = search(query.text, k, by_document=not query.passages)
    except RetrievalError as error:
        error.message = f"query {query.id}: {error.message}"
        raise
    milliseconds = (time.perf_counter() - started) * 1e3
    if query.passages:
        grades: Grades = query.passages
        ranked = list(_passages(query, found.passages))
    else:
        grades, ranked = _documents(query, found.passages, matching)
    return Answer(
        query,
        milliseconds,
        calculate(grades, [one.key for one in ranked]),
        [one.name for one in ranked],
        found.passages[0] if found.passages else None,
        found.mode,
        found.generation,
        found.query_truncated,
        found.rerank_truncated,
    )


def measure_names(k: int) -> list[str]:
    """The measures that are computed, in the order that they are shown."""
    recalls = [f"Recall@{at}" for at in RECALL_AT if at < k]
    return ["nDCG@10", "MRR@10", f"MAP@{k}", *recalls, f"Recall@{k}"]


Calculate = Callable[[Grades, Sequence[Hashable]], dict[str, float]]
"""Grades, and a ranking of distinct keys, best first → the measures, by name."""


def calculator(k: int) -> Calculate:
    """Make the function that computes the measures of one query.

    Args:
        k: how deep a ranking is.

    Raises:
        InvalidArgument: ir-measures is not installed.
    """
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

    def calculate(grades: Grades, found: Sequence[Hashable]) -> dict[str, float]:
        # trec_eval, beneath, is written in C: it gets names that can't have a NUL in them.
        plain = {key: f"d{number}" for number, key in enumerate(dict.fromkeys((*grades, *found)))}
        qrels = [Qrel("q", plain[key], grade) for key, grade in grades.items()]
        ranks = [ScoredDoc("q", plain[key], -float(rank)) for rank, key in enumerate(found)]
        # An empty run has no values at all.
        values = {one.measure: one.value for one in ir_measures.iter_calc(measures, qrels, ranks)}
        return {name: round(values.get(measure, 0.0), 6) for measure, name in names.items()}

    return calculate


def _documents(
    query: TestQuery, passages: Sequence[Passage], matching: Matching
) -> tuple[Grades, list[_Ranked]]:
    """The grades of what a query wants, and the documents of passages, each at its best one.

    Two names of one document are one wanted document, with the higher grade; a name that several
    documents have is one wanted document, found at the best of them.
    """
    grades: dict[str, int] = {}
    wanted: dict[int, str] = {}  # document id → the name that stands for it
    for name, grade in query.documents.items():
        documents = matching.documents.get(name, ())
        known = next((wanted[one.id] for one in documents if one.id in wanted), name)
        wanted.update(dict.fromkeys((one.id for one in documents), known))
        grades[known] = max(grade, grades.get(known, grade))
    ranked: dict[Hashable, _Ranked] = {}
    for passage in passages:
        name = wanted.get(passage.document_id, "")
        key: Hashable = name or passage.document_id
        ranked.setdefault(key, _Ranked(key, name or passage.uri))
    return grades, list(ranked.values())


def _passages(query: TestQuery, passages: Sequence[Passage]) -> Iterator[_Ranked]:
    """Passages by name; one that is wanted by the text that it is wanted for, once."""
    wanted = {text: _plain(text) for text in query.passages}
    for passage in passages:
        text = _plain(passage.text)
        found = next((name for name, part in wanted.items() if part in text or text in part), None)
        if found is None:
            yield _Ranked((passage.document_id, passage.ordinal), passage.name)
        else:
            del wanted[found]
            yield _Ranked(found, found)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
