"""Three ways to rank texts: by vectors, by words, by both.

A ranking is asked for its best n texts, again and again with larger n while it turns out that more
are needed. What a text's score is never depends on n, so pages follow each other without gaps.

- ``Dense``: the cosine of query and passage.
- ``Lexical``: BM25 (see ``retrieval.store.lexical``).
- ``Weighted``: ``w · (cos - c) / (1 - c) + (1 - w) · bm25 / best``, a convex combination
  (https://doi.org/10.1145/3596512). ``c`` is the query's cosine with an average passage, so that
  the first part is 1 for the query's own text and about 0 for one that has nothing to do with it,
  whatever the model; ``best`` is the BM25 of the best text. Both are known of every candidate, also
  where only one of the searches has found it, and candidates are taken until no other text can be
  among the n best (the threshold algorithm, https://doi.org/10.1145/375551.375567).
- ``Reranked`` (in ``rerank``): a model's judgement of the best few of one of these.
- ``Fused``: reciprocal rank fusion, ``Σ 1 / (60 + rank)`` over the best thousand of each search
  (https://doi.org/10.1145/1571941.1572114). It knows places alone, not how far apart they are.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.found import ScoreKind
from retrieval.store import Filter, IndexReader, LexicalHits

RRF_RANK: Final = 60
"""Added to a rank: how little the first few places differ."""
RRF_DEPTH: Final = 1_000
"""Texts of each search that are fused by rank."""

_FIRST_DEPTH: Final = 200
"""Candidates of each search to begin with: for ten passages it is enough, most of the time."""
_DEEPER: Final = 4


class Ranked(NamedTuple):
    """Texts, best first; equal scores in order of vector id. All [n]."""

    vector_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    dense: NDArray[np.float64]
    """NaN: not compared."""
    lexical: NDArray[np.float64]
    """The same."""
    dense_ranks: NDArray[np.int64]
    """Places in the dense search, from 1; 0: not compared, or further down than was looked."""
    lexical_ranks: NDArray[np.int64]
    """The same of the lexical search."""
    fused: NDArray[np.float64]
    """What was made of both; NaN: it was one search alone."""

    def first(self, count: int) -> "Ranked":
        """The best ``count``."""
        return self.take(slice(count))

    def among(self, vector_ids: NDArray[np.int64]) -> "Ranked":
        """Those that are among given texts."""
        return self.take(np.flatnonzero(np.isin(self.vector_ids, vector_ids)))

    def take(self, rows: NDArray[np.int64] | slice) -> "Ranked":
        """Some of them, in this order."""
        ids, scores, dense, lexical, dense_ranks, lexical_ranks, fused = self
        first = (ids[rows], scores[rows], dense[rows], lexical[rows])
        return Ranked(*first, dense_ranks[rows], lexical_ranks[rows], fused[rows])


class Ranking(Protocol):
    """A way to rank."""

    @property
    def kind(self) -> ScoreKind:
        """What its scores are."""
        ...

    def best(self, count: int) -> Ranked:
        """The ``count`` best texts, ≥ 1; fewer where there are no more."""
        ...

    def of(self, vector_ids: NDArray[np.int64]) -> Ranked:
        """Given texts, int64 [m] ascending; those that the ranking never reaches are left out."""
        ...


@dataclass(frozen=True, slots=True)
class Dense:
    """By the cosine with the query's vector."""

    reader: IndexReader
    vector: NDArray[np.float32]
    """[dim], L2-normalised."""
    where: Filter | None
    exact: bool
    kind: ScoreKind = field(default="cosine", init=False)

    def best(self, count: int) -> Ranked:
        """See ``Ranking``."""
        hits = self.reader.search_vectors(
            self.vector[None], count, where=self.where, exact=self.exact
        )
        found = hits.vector_ids[0] >= 0
        scores = hits.scores[0][found].astype(np.float64)
        return self._ranked(hits.vector_ids[0][found], scores, _places(scores))

    def of(self, vector_ids: NDArray[np.int64]) -> Ranked:
        """See ``Ranking``."""
        scores = self.reader.score_vectors(self.vector, vector_ids).astype(np.float64)
        unknown = self._ranked(vector_ids, scores, np.zeros_like(vector_ids))
        return ordered(unknown, len(vector_ids))

    @staticmethod
    def _ranked(
        ids: NDArray[np.int64], scores: NDArray[np.float64], ranks: NDArray[np.int64]
    ) -> Ranked:
        unknown = np.full_like(scores, np.nan)
        return Ranked(ids, scores, scores, unknown, ranks, np.zeros_like(ids), unknown)


@dataclass(frozen=True, slots=True)
class Lexical:
    """By the words of the query."""

    reader: IndexReader
    text: str
    where: Filter | None
    kind: ScoreKind = field(default="bm25", init=False)

    def best(self, count: int) -> Ranked:
        """See ``Ranking``."""
        hits = self.reader.search_words(self.text, count, where=self.where)
        return self._ranked(hits, _places(hits.scores))

    def of(self, vector_ids: NDArray[np.int64]) -> Ranked:
        """See ``Ranking``."""
        hits = self.reader.score_words(self.text, vector_ids)
        return self._ranked(hits, np.zeros_like(hits.vector_ids))

    @staticmethod
    def _ranked(hits: LexicalHits, ranks: NDArray[np.int64]) -> Ranked:
        ids, scores = hits.vector_ids, hits.scores
        unknown = np.full_like(scores, np.nan)
        return Ranked(ids, scores, unknown, scores, np.zeros_like(ids), ranks, unknown)


@dataclass(frozen=True)
class Weighted:
    """By both, added up."""

    dense: Dense
    lexical: Lexical
    weight: float
    """Of the dense part, between 0 and 1."""
    kind: ScoreKind = field(default="weighted", init=False)

    def best(self, count: int) -> Ranked:
        """See ``Ranking``."""
        depth = max(_FIRST_DEPTH, 2 * count)
        while True:
            dense = self.dense.best(depth)
            lexical = self._first_by_words if depth == _FIRST_DEPTH else self.lexical.best(depth)
            more_words = len(lexical.scores) == depth
            candidates = self._compare(dense, lexical, more_words=more_words)
            ranked = ordered(self._added(candidates), count)
            if len(dense.scores) < depth:  # every text is a candidate
                return ranked
            # What a text that neither search has found can have at most.
            last_words = float(lexical.scores[-1]) if more_words else 0.0
            unseen = self._add(dense.scores[-1:], np.array([last_words]))[0]
            if len(ranked.scores) == count and ranked.scores[-1] > unseen:
                return ranked
            depth *= _DEEPER

    def of(self, vector_ids: NDArray[np.int64]) -> Ranked:
        """See ``Ranking``."""
        dense, lexical = self.dense.of(vector_ids), self.lexical.of(vector_ids)
        candidates = self._compare(dense, lexical, more_words=False)
        return ordered(self._added(candidates), len(vector_ids))

    @cached_property
    def _average(self) -> float:
        """The query's cosine with an average passage, below 1."""
        return min(self.dense.reader.average_score(self.dense.vector), 1 - 1e-6)

    @cached_property
    def _first_by_words(self) -> Ranked:
        return self.lexical.best(_FIRST_DEPTH)

    @property
    def _highest(self) -> float:
        """The BM25 of the best text; 1 where no text has any."""
        scores = self._first_by_words.scores
        return float(scores[0]) if len(scores) else 1.0

    def _added(self, texts: Ranked) -> Ranked:
        scores = self._add(texts.dense, texts.lexical)
        return texts._replace(scores=scores, fused=scores)

    def _add(self, cosines: NDArray[np.float64], bm25: NDArray[np.float64]) -> NDArray[np.float64]:
        """The score of two scores."""
        near = (cosines - self._average) / (1 - self._average)
        total: NDArray[np.float64] = self.weight * near + (1 - self.weight) * bm25 / self._highest
        return total

    def _compare(self, dense: Ranked, lexical: Ranked, *, more_words: bool) -> Ranked:
        """All that either search has found, with both scores; in order of vector id.

        Args:
            dense: found by vectors.
            lexical: found by words.
            more_words: whether other texts have some of the words, too.
        """
        both = _united(dense, lexical)
        missing = np.isnan(both.dense)
        both.dense[missing] = self.dense.reader.score_vectors(
            self.dense.vector, both.vector_ids[missing]
        )
        missing = np.isnan(both.lexical)
        both.lexical[missing] = 0.0
        if more_words and missing.any():
            hits = self.lexical.reader.score_words(self.lexical.text, both.vector_ids[missing])
            both.lexical[np.searchsorted(both.vector_ids, hits.vector_ids)] = hits.scores
        return both


@dataclass(frozen=True)
class Fused:
    """By both, by rank."""

    dense: Dense
    lexical: Lexical
    kind: ScoreKind = field(default="rrf", init=False)

    def best(self, count: int) -> Ranked:
        """See ``Ranking``."""
        return self._all.first(count)

    def of(self, vector_ids: NDArray[np.int64]) -> Ranked:
        """See ``Ranking``."""
        return self._all.among(vector_ids)

    @cached_property
    def _all(self) -> Ranked:
        both = _united(self.dense.best(RRF_DEPTH), self.lexical.best(RRF_DEPTH))
        scores = np.zeros(len(both.vector_ids))
        for ranks in (both.dense_ranks, both.lexical_ranks):
            scores += np.where(ranks > 0, 1 / (RRF_RANK + np.maximum(ranks, 1)), 0.0)
        return ordered(both._replace(scores=scores, fused=scores), len(scores))


def _places(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place of each of some descending scores, from 1; equal ones share theirs."""
    return np.searchsorted(-scores, -scores) + 1


def _united(dense: Ranked, lexical: Ranked) -> Ranked:
    """All that either search has found, each with what is known of it; in order of vector id."""
    ids = np.union1d(dense.vector_ids, lexical.vector_ids)
    scores, dense_scores, lexical_scores, fused = np.full((4, len(ids)), np.nan)
    dense_ranks, lexical_ranks = np.zeros((2, len(ids)), dtype=np.int64)
    both = Ranked(ids, scores, dense_scores, lexical_scores, dense_ranks, lexical_ranks, fused)
    rows = np.searchsorted(ids, dense.vector_ids)
    both.dense[rows], both.dense_ranks[rows] = dense.dense, dense.dense_ranks
    rows = np.searchsorted(ids, lexical.vector_ids)
    both.lexical[rows], both.lexical_ranks[rows] = lexical.lexical, lexical.lexical_ranks
    return both


def ordered(texts: Ranked, count: int) -> Ranked:
    """The ``count`` best, best first."""
    return texts.take(np.lexsort((texts.vector_ids, -texts.scores))[:count])
