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
- ``Fused``: reciprocal rank fusion, ``Σ 1 / (60 + rank)`` over the best thousand of each search
  (https://doi.org/10.1145/1571941.1572114). It knows places alone, not how far apart they are.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.records import ScoreKind
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


class Ranking(Protocol):
    """A way to rank."""

    @property
    def kind(self) -> ScoreKind:
        """What its scores are."""
        ...

    def best(self, count: int) -> Ranked:
        """The ``count`` best texts, ≥ 1; fewer where there are no more."""
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
        return Ranked(hits.vector_ids[0][found], scores, scores, np.full_like(scores, np.nan))


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
        unknown = np.full_like(hits.scores, np.nan)
        return Ranked(hits.vector_ids, hits.scores, unknown, hits.scores)


@dataclass(frozen=True, slots=True)
class Weighted:
    """By both, added up."""

    dense: Dense
    lexical: Lexical
    weight: float
    """Of the dense part, between 0 and 1."""
    kind: ScoreKind = field(default="weighted", init=False)

    def best(self, count: int) -> Ranked:
        """See ``Ranking``."""
        average = min(self.dense.reader.average_score(self.dense.vector), 1 - 1e-6)
        depth = max(_FIRST_DEPTH, 2 * count)
        while True:
            dense, lexical = self.dense.best(depth), self.lexical.best(depth)
            best = lexical.scores[0] if len(lexical.scores) else 1.0
            candidates = self._compare(dense, lexical)

            def add(
                cosine: NDArray[np.float64], bm25: NDArray[np.float64], best: float = best
            ) -> NDArray[np.float64]:
                near = (cosine - average) / (1 - average)
                return self.weight * near + (1 - self.weight) * bm25 / best

            scores = add(candidates.dense, candidates.lexical)
            ranked = _ordered(candidates._replace(scores=scores), count)
            if len(dense.scores) < depth:  # every text is a candidate
                return ranked
            # What a text that neither search has found can have at most.
            unseen_bm25 = lexical.scores[-1:] if len(lexical.scores) == depth else np.zeros(1)
            unseen = add(dense.scores[-1:], unseen_bm25)[0]
            if len(ranked.scores) == count and ranked.scores[-1] > unseen:
                return ranked
            depth *= _DEEPER

    def _compare(self, dense: Ranked, lexical: Ranked) -> Ranked:
        """All that either search has found, with both scores; in order of vector id."""
        reader = self.dense.reader
        ids = np.union1d(dense.vector_ids, lexical.vector_ids)
        cosines, bm25 = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
        cosines[np.searchsorted(ids, dense.vector_ids)] = dense.scores
        bm25[np.searchsorted(ids, lexical.vector_ids)] = lexical.scores
        missing = np.isnan(cosines)
        cosines[missing] = reader.score_vectors(self.dense.vector, ids[missing])
        missing = np.isnan(bm25)
        bm25[missing] = 0.0
        others: LexicalHits = reader.score_words(self.lexical.text, ids[missing])
        bm25[np.searchsorted(ids, others.vector_ids)] = others.scores
        return Ranked(ids, cosines, cosines, bm25)


@dataclass(frozen=True, slots=True)
class Fused:
    """By both, by rank."""

    dense: Dense
    lexical: Lexical
    kind: ScoreKind = field(default="rrf", init=False)

    def best(self, count: int) -> Ranked:
        """See ``Ranking``."""
        dense, lexical = self.dense.best(RRF_DEPTH), self.lexical.best(RRF_DEPTH)
        ids = np.union1d(dense.vector_ids, lexical.vector_ids)
        scores = np.zeros(len(ids))
        parts = np.full((2, len(ids)), np.nan)
        for part, found in zip(parts, (dense, lexical), strict=True):
            places = np.searchsorted(ids, found.vector_ids)
            scores[places] += 1 / (RRF_RANK + 1 + np.arange(len(places)))
            part[places] = found.scores
        return _ordered(Ranked(ids, scores, parts[0], parts[1]), count)


def _ordered(texts: Ranked, count: int) -> Ranked:
    """The ``count`` best, best first."""
    order = np.lexsort((texts.vector_ids, -texts.scores))[:count]
    ids, scores, dense, lexical = texts
    return Ranked(ids[order], scores[order], dense[order], lexical[order])
