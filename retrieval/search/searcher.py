"""The path of a query: check → (embed) → nearest vectors → passages with their texts."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import InvalidArgument
from retrieval.records import Hit, Passage, SectionText
from retrieval.store import IndexReader, parse_filter

Place = tuple[int, int]
"""(document id, ordinal) of a passage."""

DEFAULT_K = 10
MAX_K = 1_000
"""Most passages of one result."""
MAX_OFFSET = 10_000
"""Furthest that a result can start from the best passage."""
MAX_SECTION_CHARS = 65_536
"""Longest text around a passage, in characters."""
MAX_QUERY_CHARS = 65_536
"""Longest query, in characters."""


@dataclass(frozen=True, slots=True)
class EmbeddedQuery:
    """A query's vector and what was seen on the way to it."""

    vector: NDArray[np.float32]
    """[dim], L2-normalised."""
    token_count: int
    """Tokens that went through the model, prompt and special tokens included."""
    truncated: bool
    """Whether the query had more tokens than the model takes."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked; exactly one of ``text``, ``vector`` and ``passage`` is given."""

    text: str | None = None
    vector: NDArray[np.float32] | None = None
    """[dim]; normalised before it is used, so that scores are cosines."""
    passage: Place | None = None
    """Passages like this one, itself left out."""
    k: int = DEFAULT_K
    """How many passages, 1 to ``MAX_K``."""
    offset: int = 0
    """How many of the best to leave out (for pages), 0 to ``MAX_OFFSET``."""
    min_score: float | None = None
    """Leave out passages below this cosine similarity."""
    filter: str = ""
    """Only passages of documents that pass, see ``retrieval.store.filters``; empty: of all."""
    exact: bool = False
    """Compare with every passage, also where there is an approximate index."""
    section_chars: int = 0
    """Most characters of the section to go with a passage, up to ``MAX_SECTION_CHARS``; 0: none."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds spent in each stage."""

    embed_seconds: float
    search_seconds: float
    fetch_seconds: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Ranked passages, best first, equal scores in order of document and place."""

    passages: tuple[Passage, ...]
    generation: int
    """Of the index that was searched."""
    more: bool
    """Whether there are passages after these."""
    query_token_count: int
    """0 where no text was embedded."""
    query_truncated: bool
    timings: Timings


class Searcher:
    """Dense search over one generation of an index; safe to share between threads."""

    def __init__(self, reader: IndexReader) -> None:
        """Bind an open index."""
        self.reader = reader

    def search(
        self, query: Query, embedded: EmbeddedQuery | None = None, *, embed_seconds: float = 0.0
    ) -> SearchResult:
        """Answer one query.

        Args:
            query: what is asked.
            embedded: its text, embedded with the index's model; None where it has no text.
            embed_seconds: what that took.

        Raises:
            InvalidArgument: a value is out of range; ``metadata["field"]`` names it.
            NotFound: the query's passage does not exist.
            ValueError: the query has a text, and its embedding is not given, or the other way
                round.
        """
        check_query(query)
        if (embedded is None) != (query.text is None):
            raise ValueError("the embedding of a query's text goes with the text")
        started = time.perf_counter()
        embedded = embedded or self._given_vector(query)
        ranked = self._rank(query, embedded.vector)
        found = time.perf_counter()
        passages = self.reader.passages(ranked[query.offset : query.offset + query.k])
        return SearchResult(
            passages=tuple(self._with_sections(passages, query.section_chars)),
            generation=self.reader.info.generation,
            more=len(ranked) > query.offset + query.k,
            query_token_count=embedded.token_count,
            query_truncated=embedded.truncated,
            timings=Timings(embed_seconds, found - started, time.perf_counter() - found),
        )

    def _with_sections(self, passages: Sequence[Passage], most_chars: int) -> Iterator[Passage]:
        """Passages with the text around them, unless a better one has it."""
        told: dict[int, list[SectionText]] = {}
        for passage in passages:
            before = told.setdefault(passage.document_id, [])
            start, end = passage.char_start, passage.char_end
            if not most_chars or any(s.char_start <= start and end <= s.char_end for s in before):
                yield passage
                continue
            section = self.reader.section(passage.document_id, passage.ordinal, most_chars)
            before.append(section)
            yield passage._replace(section=section)

    def _given_vector(self, query: Query) -> EmbeddedQuery:
        if query.passage is not None:
            return EmbeddedQuery(self.reader.passage_vector(*query.passage), 0, truncated=False)
        dim = self.reader.info.model.dim
        vector = np.asarray(query.vector, dtype=np.float32)
        if vector.shape != (dim,):
            raise InvalidArgument(
                f"the query vector must have {dim} numbers, not {vector.size}", field="vector"
            )
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if not math.isfinite(length) or length == 0:
            raise InvalidArgument(
                "the query vector must be finite and not all zero", field="vector"
            )
        return EmbeddedQuery((vector / length).astype(np.float32), 0, truncated=False)

    def _rank(self, query: Query, vector: NDArray[np.float32]) -> list[Hit]:
        """The best passages, in order, to one beyond the page at least.

        A vector may stand for several passages, and several vectors may have one score. Equal
        scores are taken all or none, so that pages neither repeat nor miss a passage.
        """
        lowest = -math.inf if query.min_score is None else query.min_score
        # One more than the page shows that there is more; one again for the passage asked about.
        needed = query.offset + query.k + 1 + (query.passage is not None)
        where = parse_filter(query.filter) if query.filter else None
        # And one whose score is lower than the last one's shows that none is equal to it.
        wanted = needed + 1
        while True:
            hits = self.reader.search_vectors(vector[None], wanted, where=where, exact=query.exact)
            scores = hits.scores[0]
            if len(scores) < wanted or scores[-1] < scores[needed - 1]:
                break
            wanted *= 2
        kept = (hits.vector_ids[0] >= 0) & (scores >= lowest)
        vector_ids = hits.vector_ids[0][kept].tolist()
        places = self.reader.places_of_vectors(vector_ids, where)
        ranked = [
            Hit(score, *place, vector_id)
            for score, vector_id in zip(scores[kept].tolist(), vector_ids, strict=True)
            for place in places[vector_id]
            if place != query.passage
        ]
        return sorted(ranked, key=lambda hit: (-hit.score, hit.document_id, hit.ordinal))


def check_query(query: Query) -> None:
    """Refuse values that are out of range, naming the field.

    Raises:
        InvalidArgument: the first value at fault.
    """
    given = [part for part in (query.text, query.vector, query.passage) if part is not None]
    if len(given) != 1:
        raise InvalidArgument("give exactly one of text, vector and passage", field="query")
    if query.text is not None:
        if not query.text.strip():
            raise InvalidArgument("the query is empty; give it some text", field="text")
        if len(query.text) > MAX_QUERY_CHARS:
            raise InvalidArgument(
                f"the query has {len(query.text)} characters; at most {MAX_QUERY_CHARS} are taken",
                field="text",
            )
    if not 1 <= query.k <= MAX_K:
        raise InvalidArgument(f"k must be from 1 to {MAX_K}, not {query.k}", field="page_size")
    if not 0 <= query.offset <= MAX_OFFSET:
        raise InvalidArgument(
            f"the offset must be from 0 to {MAX_OFFSET}, not {query.offset}", field="page_token"
        )
    if not 0 <= query.section_chars <= MAX_SECTION_CHARS:
        raise InvalidArgument(
            f"section_chars must be from 0 to {MAX_SECTION_CHARS}, not {query.section_chars}",
            field="section_chars",
        )
    if query.filter:
        parse_filter(query.filter)
    if query.min_score is not None and not -1 <= query.min_score <= 1:
        raise InvalidArgument(
            f"min_score is a cosine, from -1 to 1, not {query.min_score}", field="min_score"
        )
