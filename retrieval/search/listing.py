"""A ranking of texts → the page of passages that a query asks for."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from retrieval.found import Hit, ScoreKind, StageScores
from retrieval.search.arrange import MMR_POOL, Head, by_document, collapse, diversify
from retrieval.search.query import Query
from retrieval.search.ranking import Ranked, Ranking
from retrieval.store import IndexReader


class Listing:
    """The passages that a query finds, as it wants them listed."""

    def __init__(self, reader: IndexReader, query: Query, ranking: Ranking) -> None:
        """Bind a checked query, and the ranking that it asks for."""
        self._reader = reader
        self._query = query
        self._ranking = ranking
        self._where = query.where
        # As scores are shown: a passage's own score must not leave it out.
        self._lowest = np.float32(-math.inf if query.min_score is None else query.min_score)

    def page(self) -> tuple[list[Head], bool]:
        """The page's passages in order, and whether there are more after them.

        Where passages are grouped by document, ``k`` and ``offset`` count documents, and each has
        up to ``group_size`` passages, one after the other.
        """
        query = self._query
        end = query.offset + query.k
        # One more than the page shows that there is more.
        heads = self._arranged(max(end + 1, MMR_POOL if query.mmr is not None else 0))
        page = heads[query.offset : end]
        if query.group_size > 1:
            page = [member for head in page for member in self._group(head)]
        return page, len(heads) > end

    def first(self, limit: int) -> list[Head]:
        """The best ``limit`` passages, for a query that asks for no other list than that."""
        return self._arranged(limit)[:limit]

    def _arranged(self, needed: int) -> list[Head]:
        """The list, at least so many where there are."""
        query = self._query

        def shortened(hits: Sequence[Hit]) -> list[Head]:
            heads = [Head(hit) for hit in hits]
            if query.collapse is not None:
                heads = collapse(hits, self._reader.vectors, query.collapse)
            return by_document(heads) if query.group_by_document else heads

        shortens = query.group_by_document or query.collapse is not None
        heads = self._hits(shortened, needed, 4 * needed if shortens else needed)
        if query.mmr is not None:
            heads = diversify(heads, self._reader.vectors, query.mmr)
        return heads

    def _hits(
        self, shortened: Callable[[Sequence[Hit]], list[Head]], needed: int, first: int
    ) -> list[Head]:
        """Take more and more of the best texts, until enough are left of their passages."""
        # The passage that was asked about is not listed.
        wanted = first + (self._query.passage is not None)
        while True:
            texts = self._ranking.best(wanted)
            complete = len(texts.scores) < wanted or np.float32(texts.scores[-1]) < self._lowest
            heads = shortened(self._passages(texts))
            if complete or len(heads) >= needed:
                return heads
            wanted *= 2

    def _passages(self, texts: Ranked) -> list[Hit]:
        """Where the texts stand, in the ranking's order; those of one text in order of document."""
        kept = int(np.count_nonzero(texts.scores.astype(np.float32) >= self._lowest))
        vector_ids = texts.vector_ids[:kept].tolist()
        places = self._reader.places_of_texts(
            vector_ids, texts.text_ids[:kept].tolist(), self._where
        )
        stages = _stages(texts, kept, self._ranking.kind)
        return [
            Hit(score, *place, vector_id, scores)
            for vector_id, standing, score, scores in zip(
                vector_ids, places, texts.scores[:kept].tolist(), stages, strict=True
            )
            for place in standing
            if place != self._query.passage
        ]

    def _group(self, head: Head) -> list[Head]:
        """The best passages of a document: all of it is compared, however far down they rank."""
        document_id = head.hit.document_id
        of_document = self._reader.vectors_of_document(document_id)
        texts = self._ranking.of(np.unique(np.array(of_document, dtype=np.int64)))
        hits = [hit for hit in self._passages(texts) if hit.document_id == document_id]
        if self._query.collapse is None:
            others = [Head(hit) for hit in hits if hit[1:3] != head.hit[1:3]]
        else:
            others = collapse(hits, self._reader.vectors, self._query.collapse)[1:]
        return [head, *others[: self._query.group_size - 1]]


def _stages(texts: Ranked, count: int, kind: ScoreKind) -> Iterator[StageScores]:
    """How each of the first ``count`` texts came to its score."""
    dense, lexical, fused = (
        [None if math.isnan(score) else score for score in part[:count].tolist()]
        for part in (texts.dense, texts.lexical, texts.fused)
    )
    reranked = texts.scores[:count].tolist() if kind == "rerank" else [None] * count
    dense_ranks, lexical_ranks = (
        [rank or None for rank in part[:count].tolist()]
        for part in (texts.dense_ranks, texts.lexical_ranks)
    )
    for scores in zip(dense, lexical, dense_ranks, lexical_ranks, fused, reranked, strict=True):
        yield StageScores(kind, *scores)
