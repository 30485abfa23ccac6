"""The path of a query: check it, rank texts, read the passages that it asks for."""

import math
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.passages import Mode, Passage, ScoreKind, passage_name
from retrieval.domain.wording import counted
from retrieval.errors import InvalidArgument, NoReranker
from retrieval.search.diversity import Head
from retrieval.search.highlight import highlight
from retrieval.search.pages import Listing
from retrieval.search.query import Query, check_model, check_query
from retrieval.search.ranking import Dense, Fused, Lexical, Ranking, StableRanking, Weighted
from retrieval.search.reranked import PairScorer, Reranked
from retrieval.store import Filter, PassageKey, Reader, SectionSpan


@dataclass(frozen=True, slots=True)
class EmbeddedText:
    """A text's vector, and how the model read the text."""

    vector: NDArray[np.float32]
    """[dim], L2-normalised."""
    token_count: int
    """Number of tokens that the model read, prompt and special tokens included."""
    truncated: bool
    """Whether the text had more tokens than the model takes, so that its end was cut off."""

    def shortened(self, dimensions: int) -> "EmbeddedText":
        """Return it with the first components of its vector alone, scaled to length 1.

        Args:
            dimensions: how many to keep, from 1 to dim.
        """
        kept = self.vector[:dimensions]
        length = np.linalg.norm(kept)
        return replace(self, vector=kept / length if length > 0 else kept)


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds spent in each stage."""

    embed_seconds: float
    search_seconds: float
    fetch_seconds: float
    rerank_seconds: float = 0.0
    """Part of the search's seconds."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Ranked passages, best first, equal scores in a fixed order."""

    passages: tuple[Passage, ...]
    score_kind: ScoreKind
    """What their scores are."""
    generation: int
    """Generation of the index that was searched."""
    more: bool
    """Whether there are passages after these."""
    query_token_count: int
    """Number of tokens in the query; 0 if no text was embedded."""
    query_truncated: bool
    mode: Mode
    """How it was searched; never ``auto``."""
    timings: Timings
    rerank_truncated: int = 0
    """Number of passages that the reranker read only in part."""
    warnings: tuple[str, ...] = ()
    """What the user probably did not mean, in sentences without a full stop."""
    entries: tuple[PassageKey, ...] = ()
    """Entries of the list on this page; see ``Query.seen``."""


_MODES: Mapping[ScoreKind, Mode] = {
    "cosine": "dense",
    "bm25": "lexical",
    "weighted": "hybrid",
    "rrf": "hybrid",
}


def filter_warnings(reader: Reader, filter: Filter) -> Iterator[str]:
    """Warn about fields of a filter that no document has."""
    for name, close in reader.unknown_fields(filter).items():
        hint = f"; did you mean {close!r}?" if close else ""
        yield f"the filter asks for {name!r}, a field that no document has{hint}"


class Searcher:
    """Search over one generation of an index; safe to share between threads."""

    def __init__(self, reader: Reader, reranker: PairScorer | None = None) -> None:
        """Bind an open index, and the model that reranks for queries that ask for it."""
        self.reader = reader
        self._reranker = reranker

    def search(
        self, query: Query, embedded: EmbeddedText | None = None, *, embed_seconds: float = 0.0
    ) -> SearchResult:
        """Answer one query.

        Args:
            query: what is asked.
            embedded: its text, embedded with the index's model, if it needs that.
            embed_seconds: how long that took.

        Raises:
            InvalidArgument: a value is out of range; ``metadata["field"]`` names it.
            UnexpectedModel: it expects another model than the index's.
            NotFound: the query's passage does not exist.
            NoLexicalIndex: it needs a lexical index, and there is none yet.
            NoReranker: it asks for reranking, and there is no model for it.
            ValueError: an embedding is missing, or given to a query that needs none.
        """
        asked = self._ask(query, embedded)
        page = asked.listing.page()
        result = asked.result(page.heads, embed_seconds, more=page.more)
        return replace(result, entries=page.entries)

    def prepare(self, query: Query) -> None:
        """Parse and evaluate a query's filter, and cache the result for the search.

        Raises:
            InvalidArgument: the filter is malformed.
            DeadlinePassed: no client waits for the answer any more.
        """
        if query.parsed_filter is not None:
            self.reader.prepare(query.parsed_filter)

    def stream(
        self,
        query: Query,
        embedded: EmbeddedText | None = None,
        *,
        limit: int,
        embed_seconds: float = 0.0,
    ) -> Iterator[SearchResult]:
        """Answer one query with up to ``limit`` passages, reading ``query.k`` at a time.

        Where passages are grouped by document, both count documents. The passages are found once,
        before the first result. The results equal the pages of ``search``; ``query.offset`` is 0.

        Yields:
            at least one result.
        """
        asked = self._ask(query, embedded)
        heads = asked.listing.first(limit)
        for start in range(0, max(1, len(heads)), query.k):
            end = start + query.k
            shown = asked.listing.shown(heads[start:end])
            yield asked.result(shown, embed_seconds, more=end < len(heads))

    def _ask(self, query: Query, embedded: EmbeddedText | None) -> "_Asked":
        """Check a query, and choose the ranking for it."""
        check_query(query)
        check_model(query, self.reader.info.model)
        if (embedded is not None) != query.needs_embedding:
            raise ValueError("the embedding of a query's text goes with the text")
        embedded = embedded or self._given_vector(query)
        ranking = StableRanking(self._ranking(query, embedded))
        return _Asked(self, query, embedded, ranking, self._reranked(query, ranking))

    def _reranked(self, query: Query, ranking: Ranking) -> Reranked | None:
        """Return the ranking that a model makes of another's best; None if it is not wanted."""
        if not query.rerank_top or query.text is None:
            return None
        if self._reranker is None:
            raise NoReranker(
                "there is no model to rerank with: name one with --reranker, an option of "
                "`retrieval serve` and `indexer search`, or search without"
            )
        top = query.rerank_top
        return Reranked(ranking, self.reader, self._reranker, query.text, top, query.parsed_filter)

    def read(self, query: Query, heads: Sequence[Head]) -> Iterator[Passage]:
        """Yield the passages of a page, with all that the query asks for."""
        passages = self.reader.passages([head.hit for head in heads])
        finder = None
        if query.highlight and query.text is not None:
            finder = self.reader.term_finder(query.text)
        if query.section_chars:
            passages = self._with_sections(passages, query.section_chars)
        if query.context_before or query.context_after:
            passages = self._with_context(query, passages)
        if query.include_vectors:
            passages = self._with_vectors(heads, passages)
        for head, passage in zip(heads, passages, strict=True):
            shown = passage
            if head.similar:
                names = tuple(passage_name(*place) for place in head.similar)
                shown = shown._replace(similar=names, similar_count=head.similar_count)
            if finder:
                shown = shown._replace(highlights=highlight(finder, shown.text, shown.omitted))
            if query.omit_text:
                shown = _everywhere(shown, text="", omitted=())
            yield _everywhere(shown, metadata={}) if query.omit_metadata else shown

    def _with_vectors(self, heads: Sequence[Head], passages: Sequence[Passage]) -> list[Passage]:
        """Add to each passage its own vector."""
        vectors = self.reader.vectors([head.hit.vector_id for head in heads])
        return [
            passage._replace(vector=array("f", vector.tobytes()))
            for passage, vector in zip(passages, vectors, strict=True)
        ]

    def _with_context(self, query: Query, passages: Sequence[Passage]) -> list[Passage]:
        """Add to each passage those before and after it."""
        every = self.reader.neighbours_of(
            [(passage.document_id, passage.ordinal) for passage in passages],
            before=query.context_before,
            after=query.context_after,
        )
        found = []
        for passage, around in zip(passages, every, strict=True):
            before = tuple(one for one in around if one.ordinal < passage.ordinal)
            found.append(passage._replace(before=before, after=tuple(around[len(before) :])))
        return found

    def _with_sections(self, passages: Sequence[Passage], most_chars: int) -> list[Passage]:
        """Add to each passage the text around it, unless a better one has it already."""
        places = [(passage.document_id, passage.ordinal) for passage in passages]
        stretches = self.reader.section_spans(places, most_chars)
        told: dict[int, list[SectionSpan]] = {}
        shown: list[int] = []
        for number, (passage, stretch) in enumerate(zip(passages, stretches, strict=True)):
            before = told.setdefault(passage.document_id, [])
            start, end = passage.char_start, passage.char_end
            if not any(one.start <= start and end <= one.end for one in before):
                before.append(stretch)
                shown.append(number)
        texts = self.reader.sections([(places[n][0], stretches[n]) for n in shown])
        found = list(passages)
        for number, text in zip(shown, texts, strict=True):
            found[number] = found[number]._replace(section=text)
        return found

    def warnings(self, query: Query) -> Iterator[str]:
        """Warn about fields of the filter that no document has, and limits of the words."""
        if query.parsed_filter:
            yield from filter_warnings(self.reader, query.parsed_filter)
        compares_words = query.mode != "dense" and (
            query.mode != "auto" or self.reader.has_lexical_index
        )
        if query.text is not None and compares_words:
            yield from self.reader.lexical_warnings(query.text)

    def _given_vector(self, query: Query) -> EmbeddedText:
        if query.text is not None:  # of lexical search
            return EmbeddedText(np.empty(0, np.float32), 0, truncated=False)
        if query.passage is not None:
            return EmbeddedText(self.reader.passage_vector(*query.passage), 0, truncated=False)
        dim = self.reader.info.model.dim
        vector = np.asarray(query.vector, dtype=np.float32)
        if vector.shape != (dim,):
            raise InvalidArgument(
                f"the query vector must have {counted(dim, 'number')}, not {vector.size}",
                field="vector",
            )
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if not math.isfinite(length) or length == 0:
            raise InvalidArgument(
                "the query vector must be finite and not all zero", field="vector"
            )
        return EmbeddedText((vector / length).astype(np.float32), 0, truncated=False)

    def _ranking(self, query: Query, embedded: EmbeddedText) -> Ranking:
        """Return the ranking that the query asks for."""
        dense = Dense(self.reader, embedded.vector, query.parsed_filter, query.exact)
        if query.text is None or query.mode == "dense":
            return dense
        lexical = Lexical(self.reader, query.text, query.parsed_filter)
        if query.mode == "lexical":
            return lexical
        if query.mode == "auto" and not self.reader.has_lexical_index:
            return dense
        if query.fusion == "rrf":
            return Fused(dense, lexical)
        return Weighted(dense, lexical, query.dense_weight)


def _everywhere(passage: Passage, **changed: Any) -> Passage:  # noqa: ANN401  (fields of Passage)
    """Return a passage with other values, which those around it get as well."""
    return passage._replace(
        **changed,
        before=tuple(_everywhere(one, **changed) for one in passage.before),
        after=tuple(_everywhere(one, **changed) for one in passage.after),
    )


class _Asked:
    """One query in progress: its ranking, and its timings."""

    def __init__(
        self,
        searcher: Searcher,
        query: Query,
        embedded: EmbeddedText,
        ranking: Ranking,
        reranked: Reranked | None,
    ) -> None:
        """Start the clock."""
        self.listing = Listing(searcher.reader, query, reranked or ranking)
        self._searcher = searcher
        self._query = query
        self._embedded = embedded
        self._ranking = ranking
        self._reranked = reranked
        self._warnings = tuple(searcher.warnings(query))
        self._since = time.perf_counter()

    def result(self, heads: Sequence[Head], embed_seconds: float, *, more: bool) -> SearchResult:
        """Read what was found; the time since the last call counts as the search's."""
        found = time.perf_counter()
        reranked = self._reranked
        passages = tuple(self._searcher.read(self._query, heads))
        now = time.perf_counter()
        rerank_seconds = reranked.seconds if reranked else 0.0
        timings = Timings(embed_seconds, found - self._since, now - found, rerank_seconds)
        self._since = now
        return SearchResult(
            passages=passages,
            score_kind=(reranked or self._ranking).kind,
            mode=_MODES[self._ranking.kind],
            generation=self._searcher.reader.info.generation,
            more=more,
            query_token_count=self._embedded.token_count,
            query_truncated=self._embedded.truncated,
            rerank_truncated=reranked.truncated if reranked else 0,
            timings=timings,
            warnings=(*self._warnings, *self.listing.warnings()),
        )
