"""Measurement of a search: nDCG, recall, MRR, MAP and time of each query, by ir-measures."""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from retrieval.domain.passages import Passage
from retrieval.errors import InvalidArgument, RetrievalError
from retrieval.eval.sets.matching import Matching
from retrieval.eval.sets.queries import TestQuery

RECALL_AT: Final = (1, 2, 3, 5, 10, 20, 50, 100)
"""Depths at which recall is measured, as far as a search goes; evenly spaced on a log scale."""

WARM_UP: Final = 5
"""Searches before the first timed one: they load the model and fill the disk's caches."""
_WARM_UP_CHARS: Final = 1_000
"""Characters of a query that are searched to warm up: enough to be as slow as the query."""


class Found(NamedTuple):
    """Answer of a search."""

    passages: Sequence[Passage]
    """Best first."""
    mode: str
    """How the index was searched: ``"dense"``, ``"lexical"`` or ``"hybrid"``."""
    generation: int
    """Generation of the index that was searched."""
    query_truncated: bool
    """Whether the query was longer than the model reads."""
    rerank_truncated: int
    """Number of passages that were longer than the reranker reads."""


class Search(Protocol):
    """A search, in this process or on a server."""

    def __call__(self, text: str, k: int, *, by_document: bool) -> Found:
        """Return the ``k`` best passages; or documents, each with its best passage."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """One query, what the search found for it, and the measures."""

    query: TestQuery
    milliseconds: float
    measures: Mapping[str, float]
    """Value of each measure, from 0 to 1, by its name."""
    found: Sequence[str]
    """The ranking, best first. Relevant documents have their names in the judgements, the others
    their URIs; relevant passages have the text that was wanted, the others their resource names."""
    first: Passage | None
    """The best passage."""
    mode: str
    """See ``Found``, as for the fields below."""
    generation: int
    query_truncated: bool
    rerank_truncated: int


Grades = Mapping[Any, int]
"""Grade, above 0, of each relevant document or passage, by its key (hashable)."""


class _Ranked(NamedTuple):
    """A document or a passage in a ranking."""

    key: Hashable
    """Its key in ``Grades``, if it is relevant."""
    name: str
    """Its name in ``Answer.found``."""


def warm_up(queries: Sequence[TestQuery], search: Search, k: int) -> None:
    """Search a few times so that one-time work does not count into the queries' times.

    The texts resemble the first queries but differ from them: a server caches the vectors of
    queries that it has seen, and would answer those sooner.

    Args:
        queries: at least one.
        search: the search to warm up.
        k: as for ``run_queries``.
    """
    for query in queries[:WARM_UP]:
        text = f"before all: {query.text[:_WARM_UP_CHARS]}"
        search(text, k, by_document=not query.passages)


def run_queries(
    queries: Sequence[TestQuery], search: Search, k: int, matching: Matching
) -> Iterator[Answer]:
    """Search for every query and measure the results.

    Args:
        queries: at least one.
        search: the search to measure.
        k: number of documents to ask for, or of passages if passages are judged.
        matching: the documents that the judgements' names mean.

    Returns:
        an answer for each query, in order.

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
    """Return the names of the computed measures, in the order in which they are shown."""
    recalls = [f"Recall@{at}" for at in RECALL_AT if at < k]
    return ["nDCG@10", "MRR@10", f"MAP@{k}", *recalls, f"Recall@{k}"]


Calculate = Callable[[Grades, Sequence[Hashable]], dict[str, float]]
"""Computes the measures, by name, from grades and a ranking of distinct keys, best first."""


def calculator(k: int) -> Calculate:
    """Return a function that computes the measures of one query.

    Args:
        k: length of the rankings.

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
        # ir-measures calls trec_eval, written in C, so names must not contain a NUL: number them.
        plain = {key: f"d{number}" for number, key in enumerate(dict.fromkeys((*grades, *found)))}
        qrels = [Qrel("q", plain[key], grade) for key, grade in grades.items()]
        ranks = [ScoredDoc("q", plain[key], -float(rank)) for rank, key in enumerate(found)]
        # A query without results has no values.
        values = {one.measure: one.value for one in ir_measures.iter_calc(measures, qrels, ranks)}
        return {name: round(values.get(measure, 0.0), 6) for measure, name in names.items()}

    return calculate


def _documents(
    query: TestQuery, passages: Sequence[Passage], matching: Matching
) -> tuple[Grades, list[_Ranked]]:
    """Return the grades of a query's documents, and the ranking of the documents found.

    A document ranks where its best passage does. Two names of one document count as one wanted
    document, with the higher grade. A name that several documents have counts as one wanted
    document too, found where the best of them is.
    """
    grades: dict[str, int] = {}
    wanted: dict[int, str] = {}  # the name that stands for a document, by its id
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
    """Yield the ranking of passages; each wanted text is found once, at its best passage."""
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
