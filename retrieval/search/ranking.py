"""Rank texts: by vectors, by words, or by both.

A vector is made of a passage's text alone; its words include its title and headings. So passages
with the same text under different headings share a vector, but are different *texts*. A ranking
lists the texts that have words of the query one by one, and all others of the vector as one entry
with text id 0. If a vector has a single text, that text's id is always 0.

- ``Dense``: the cosine of query and passage.
- ``Lexical``: BM25 (see ``retrieval.store.disk.lexical.lexical_index``).
- ``Weighted``: ``w · near + (1 - w) · bm25 / best``, a convex combination
  (https://doi.org/10.1145/3596512). ``near`` is the cosine relative to ``c``, the query's cosine
  with an average passage: ``(cos - c) / (1 - c)`` above it and ``(cos - c) / (1 + c)`` below. So it
  is 1 for the query's own text, 0 for an average passage and -1 for the opposite of the query, for
  any model. ``best`` is the BM25 of the best text. Both scores are computed for every candidate,
  even if only one of the searches found it, and candidates are added until no other text can be
  among the n best (the threshold algorithm, https://doi.org/10.1145/375551.375567).
- ``Reranked`` (in ``reranked``): a cross-encoder's probabilities for the best few of another.
- ``Fused``: reciprocal rank fusion, ``Σ 1 / (60 + rank)`` over the best thousand of each search
  (https://doi.org/10.1145/1571941.1572114). It uses ranks alone, not the distances between scores.

``StableRanking`` makes pages of any of them follow each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.passages import ScoreKind
from retrieval.store import Filter, LexicalHits, Reader, TextKey

RRF_RANK: Final = 60
"""Added to each rank; the larger, the less the first ranks differ. 60 is the paper's."""
RRF_DEPTH: Final = 1_000
"""Number of texts from each search to fuse by rank."""

_FIRST_DEPTH: Final = 200
"""Number of candidates from each search to start with; for ten passages it is usually enough."""
_DEEPER: Final = 4
"""Factor by which the number of candidates grows."""
_LEAST_RANGE: Final = 0.01
"""Lower bound of ``1 - c`` and ``1 + c``. Where all passages are alike to a query, dividing by less
would turn rounding errors into a ranking."""

FIRST_STAGE: Final = 16
"""Number of texts in the first stage: enough for a page of ten."""
_GROWTH: Final = 2
"""All stages together cost at most twice as much as the last one alone."""
_NOISE: Final = 1e-5
"""Scores that differ by less than this part are equal but for the order in which they were summed:
float32 has 24 bits, and a BM25 score is a sum of a few hundred terms at most."""


class Ranked(NamedTuple):
    """Texts, best first; equal scores in order of vector id, then text id. All [n]."""

    vector_ids: NDArray[np.int64]
    text_ids: NDArray[np.int64]
    """0 for all texts of the vector that are not listed individually; in ties, after those."""
    scores: NDArray[np.float64]
    dense: NDArray[np.float64]
    """Cosines; NaN where not compared."""
    lexical: NDArray[np.float64]
    """BM25 scores; NaN where not compared."""
    dense_ranks: NDArray[np.int64]
    """Ranks in the dense search, from 1; 0 if not compared, or ranked below the depth searched."""
    lexical_ranks: NDArray[np.int64]
    """Ranks in the lexical search, likewise."""
    fused: NDArray[np.float64]
    """The two combined; NaN if only one search was made."""

    def first(self, count: int) -> "Ranked":
        """Return the best ``count``."""
        return self.take(slice(count))

    def among(self, vector_ids: NDArray[np.int64]) -> "Ranked":
        """Return those of given vectors."""
        return self.take(np.flatnonzero(np.isin(self.vector_ids, vector_ids)))

    def take(self, rows: NDArray[np.int64] | slice) -> "Ranked":
        """Return some of them, in this order."""
        return Ranked._make(column[rows] for column in self)


class Ranking(Protocol):
    """A way to rank."""

    @property
    def kind(self) -> ScoreKind:
        """What its scores are."""
        ...

    def best(self, count: int) -> Ranked:
        """Return the ``count`` best texts, ≥ 1; fewer where there are no more."""
        ...

    def of(self, vector_ids: NDArray[np.int64], text_ids: NDArray[np.int64]) -> Ranked:
        """Rank given texts; those that the ranking never reaches are left out.

        Args:
            vector_ids: int64 [m] ascending, the vectors of the texts.
            text_ids: int64 [n] ascending, as the tables have them, also of vectors with one text.
        """
        ...


@dataclass(frozen=True, slots=True)
class Dense:
    """By the cosine with the query's vector."""

    reader: Reader
    vector: NDArray[np.float32]
    """[dim], L2-normalised."""
    filter: Filter | None
    exact: bool
    kind: ScoreKind = field(default="cosine", init=False)
    _known: dict[int, Ranked] = field(default_factory=dict, init=False)

    def best(self, count: int) -> Ranked:
        """See ``Ranking``."""
        # The cost of an approximate search grows with the number of texts asked for.
        is_exact = self.exact or self.reader.is_exact
        depth = _depth_for(count) if is_exact else count
        if depth not in self._known:
            self._known[depth] = self._search(depth)
        return self._known[depth].first(count)

    def _search(self, count: int) -> Ranked:
        hits = self.reader.search_vectors(
            self.vector[None], count, filter=self.filter, exact=self.exact
        )
        found = hits.vector_ids[0] >= 0
        scores = hits.scores[0][found].astype(np.float64)
        return self._ranked(hits.vector_ids[0][found], scores, _places(scores))

    def of(self, vector_ids: NDArray[np.int64], _text_ids: NDArray[np.int64]) -> Ranked:
        """See ``Ranking``."""
        scores = self.reader.score_vectors(self.vector, vector_ids).astype(np.float64)
        unknown = self._ranked(vector_ids, scores, np.zeros_like(vector_ids))
        return ordered(unknown, len(vector_ids))

    @staticmethod
    def _ranked(
        ids: NDArray[np.int64], scores: NDArray[np.float64], ranks: NDArray[np.int64]
    ) -> Ranked:
        unknown, none = np.full_like(scores, np.nan), np.zeros_like(ids)
        return Ranked(ids, none, scores, scores, unknown, ranks, none, unknown)


@dataclass(frozen=True, slots=True)
class Lexical:
    """By the words of the query."""

    reader: Reader
    text: str
    filter: Filter | None
    kind: ScoreKind = field(default="bm25", init=False)
    _known: dict[int, Ranked] = field(default_factory=dict, init=False)

    def best(self, count: int) -> Ranked:
        """See ``Ranking``."""
        depth = _depth_for(count)
        if depth not in self._known:
            hits = self.reader.search_lexical(self.text, depth, filter=self.filter)
            self._known[depth] = self._ranked(hits, _places(hits.scores))
        return self._known[depth].first(count)

    def of(self, _vector_ids: NDArray[np.int64], text_ids: NDArray[np.int64]) -> Ranked:
        """See ``Ranking``."""
        hits = self.reader.score_texts(self.text, text_ids, filter=self.filter)
        return self._ranked(hits, np.zeros_like(hits.vector_ids))

    def of_vectors(self, vector_ids: NDArray[np.int64], most: int) -> Ranked:
        """Rank the best texts of each vector, int64 [m], up to ``most`` of each."""
        hits = self.reader.score_texts_of_vectors(self.text, vector_ids, most, filter=self.filter)
        return self._ranked(hits, np.zeros_like(hits.vector_ids))

    @staticmethod
    def _ranked(hits: LexicalHits, ranks: NDArray[np.int64]) -> Ranked:
        ids, scores = hits.vector_ids, hits.scores
        unknown, none = np.full_like(scores, np.nan), np.zeros_like(ids)
        return Ranked(ids, hits.text_ids, scores, unknown, scores, none, ranks, unknown)


class _Candidates(NamedTuple):
    """What both searches have found down to some depth."""

    ranked: Ranked
    unseen: float
    """Upper bound on the score of texts that neither search found; -inf if there are none."""


@dataclass(frozen=True)
class Weighted:
    """By both, added up."""

    dense: Dense
    lexical: Lexical
    weight: float
    """Of the dense part, between 0 and 1."""
    kind: ScoreKind = field(default="weighted", init=False)
    _known: dict[int, _Candidates] = field(default_factory=dict, init=False)

    def best(self, count: int) -> Ranked:
        """See ``Ranking``."""
        depth = _depth_for(2 * count)
        while True:
            candidates = self._candidates(depth)
            ranked = candidates.ranked.first(count)
            if candidates.unseen == -np.inf:
                return ranked
            if len(ranked.scores) == count and ranked.scores[-1] >= candidates.unseen:
                return ranked
            depth *= _DEEPER

    def _candidates(self, depth: int) -> _Candidates:
        if depth not in self._known:
            dense, lexical = self.dense.best(depth), self.lexical.best(depth)
            more_words = len(lexical.scores) == depth
            texts = self._added(self._compare(dense, lexical, depth if more_words else 0))
            unseen = -np.inf
            if len(dense.scores) == depth:
                last_words = float(lexical.scores[-1]) if more_words else 0.0
                unseen = self._add(dense.scores[-1:], np.array([last_words]))[0]
            self._known[depth] = _Candidates(ordered(texts, len(texts.scores)), float(unseen))
        return self._known[depth]

    def of(self, vector_ids: NDArray[np.int64], text_ids: NDArray[np.int64]) -> Ranked:
        """See ``Ranking``."""
        dense = self.dense.of(vector_ids, text_ids)
        lexical = self.lexical.of(vector_ids, text_ids)
        candidates = self._compare(dense, lexical)
        return ordered(self._added(candidates), len(candidates.scores))

    @cached_property
    def _average(self) -> float:
        """The query's cosine with an average passage."""
        return self.dense.reader.average_score(self.dense.vector)

    @cached_property
    def _highest(self) -> float:
        """The BM25 of the best text, above 0; 1 where no text has any."""
        scores = self.lexical.best(1).scores
        return float(scores[0]) if len(scores) and scores[0] > 0 else 1.0

    def _added(self, texts: Ranked) -> Ranked:
        scores = self._add(texts.dense, texts.lexical)
        return texts._replace(scores=scores, fused=scores)

    def _add(self, cosines: NDArray[np.float64], bm25: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add up cosines and BM25 scores."""
        away = cosines - self._average
        above, below = (max(1 + sign * self._average, _LEAST_RANGE) for sign in (-1, 1))
        near = np.clip(away / np.where(away > 0, above, below), -1.0, 1.0)
        total: NDArray[np.float64] = self.weight * near + (1 - self.weight) * bm25 / self._highest
        return total

    def _compare(self, dense: Ranked, lexical: Ranked, more_texts: int = 0) -> Ranked:
        """Join what either search has found, with both scores, in order of vector id.

        Args:
            dense: found by vectors.
            lexical: found by words.
            more_texts: how many other texts of each vector may be looked up that have some of the
                words, too. Where a vector has more than that, the others rank after them.
        """
        both = _united(dense, lexical)
        missing = np.isnan(both.lexical)
        if more_texts and missing.any():
            others = self.lexical.of_vectors(both.vector_ids[missing], more_texts)
            both = _united(dense, others, lexical)
        missing = np.isnan(both.dense)
        both.dense[missing] = self.dense.reader.score_vectors(
            self.dense.vector, both.vector_ids[missing]
        )
        both.lexical[np.isnan(both.lexical)] = 0.0
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

    def of(self, vector_ids: NDArray[np.int64], _text_ids: NDArray[np.int64]) -> Ranked:
        """See ``Ranking``."""
        return self._all.among(vector_ids)

    @cached_property
    def _all(self) -> Ranked:
        both = _united(self.dense.best(RRF_DEPTH), self.lexical.best(RRF_DEPTH))
        scores = np.zeros(len(both.vector_ids))
        for ranks in (both.dense_ranks, both.lexical_ranks):
            scores += np.where(ranks > 0, 1 / (RRF_RANK + np.maximum(ranks, 1)), 0.0)
        return ordered(both._replace(scores=scores, fused=scores), len(scores))


class StableRanking:
    """Wraps a ranking so that its best n are always the beginning of its best m, for m > n.

    Approximate search looks further the more it is asked for, so a longer list may hold a text near
    its top that a shorter one lacked. Pages cut from lists of different lengths would then repeat
    some passages and miss others. The engines also sum scores in an order that depends on how many
    are wanted, which changes the last bits.

    So a list grows in stages of fixed lengths, regardless of how many texts are wanted. Each stage
    appends to the one before: it leaves out the texts that are already listed, and those that come
    too late because they score better than the last one listed. An exact search has no latecomers;
    an approximate one misses them as it misses others.

    For one search, in one thread at a time.
    """

    def __init__(self, inner: Ranking) -> None:
        """Rank as ``inner`` does."""
        self._inner = inner
        self._listed: Ranked | None = None
        self._stage = FIRST_STAGE
        self._complete = False

    @property
    def kind(self) -> ScoreKind:
        """See ``Ranking``."""
        return self._inner.kind

    def best(self, count: int) -> Ranked:
        """See ``Ranking``; always the beginning of the same list."""
        while self._listed is None or (len(self._listed.scores) < count and not self._complete):
            self._extend()
        return self._listed.first(count)

    def of(self, vector_ids: NDArray[np.int64], text_ids: NDArray[np.int64]) -> Ranked:
        """See ``Ranking``."""
        return self._inner.of(vector_ids, text_ids)

    def _extend(self) -> None:
        texts = self._inner.best(self._stage)
        self._complete = len(texts.scores) < self._stage
        self._stage *= _GROWTH
        listed = self._listed
        if listed is None or not len(listed.scores):
            self._listed = texts
            return
        last = float(listed.scores[-1])
        in_time = texts.scores <= last + _NOISE * max(1.0, abs(last))
        rows = np.flatnonzero(in_time & ~_among(texts, listed))
        more = texts.take(rows)
        more = more._replace(scores=np.minimum(more.scores, last))
        self._listed = _joined((listed, more))


def keys_of(texts: Ranked) -> list[TextKey]:
    """Return the keys by which the texts of a ranking are looked up."""
    pairs = zip(texts.vector_ids.tolist(), texts.text_ids.tolist(), strict=True)
    return [TextKey(*pair) for pair in pairs]


def _depth_for(count: int) -> int:
    """Return how many texts to ask a search for where ``count`` are wanted.

    One of a few numbers, so that what was found for a shorter list serves for a longer one.
    """
    depth = _FIRST_DEPTH
    while depth < count:
        depth *= _DEEPER
    return depth


def _places(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the rank of each of some descending scores, from 1; equal scores share one."""
    return np.searchsorted(-scores, -scores) + 1


def _united(dense: Ranked, *lexical: Ranked) -> Ranked:
    """Join what several searches have found, in order of vector id, then text id.

    Args:
        dense: found by vectors; what it says of a vector holds for all its texts.
        lexical: found by words; of what is in several, the last holds.
    """
    parts = (dense, *lexical)
    vector_ids, text_ids = (
        np.concatenate([one.vector_ids for one in parts]),
        np.concatenate([one.text_ids for one in parts]),
    )
    # As np.unique does over both, but many times as fast.
    order = np.lexsort((text_ids, vector_ids))
    vectors, texts = vector_ids[order], text_ids[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (vectors[1:] != vectors[:-1]) | (texts[1:] != texts[:-1])
    rows = np.empty(len(order), dtype=np.int64)
    rows[order] = np.cumsum(new) - 1
    ids, texts = vectors[new], texts[new]
    scores, dense_scores, lexical_scores, fused = np.full((4, len(ids)), np.nan)
    dense_ranks, lexical_ranks = np.zeros((2, len(ids)), dtype=np.int64)
    if len(dense.vector_ids):
        order = np.argsort(dense.vector_ids)
        at = np.searchsorted(dense.vector_ids, ids, sorter=order)
        at = order[np.minimum(at, len(order) - 1)]
        known = dense.vector_ids[at] == ids
        dense_scores[known] = dense.dense[at[known]]
        dense_ranks[known] = dense.dense_ranks[at[known]]
    start = len(dense.vector_ids)
    for one in lexical:
        here = rows[start : start + len(one.vector_ids)]
        lexical_scores[here], lexical_ranks[here] = one.lexical, one.lexical_ranks
        start += len(one.vector_ids)
    return Ranked(
        ids, texts, scores, dense_scores, lexical_scores, dense_ranks, lexical_ranks, fused
    )


def ordered(texts: Ranked, count: int) -> Ranked:
    """Return the ``count`` best, best first."""
    unnamed = texts.text_ids == 0  # after those that it stands beside
    keys = (texts.text_ids, unnamed, texts.vector_ids, -texts.scores)
    return texts.take(np.lexsort(keys)[:count])


def _among(texts: Ranked, others: Ranked) -> NDArray[np.bool_]:
    """Return which texts are among others, bool [n]."""
    known = set(zip(others.vector_ids.tolist(), others.text_ids.tolist(), strict=True))
    pairs = zip(texts.vector_ids.tolist(), texts.text_ids.tolist(), strict=True)
    return np.fromiter((pair in known for pair in pairs), dtype=bool, count=len(texts.scores))


def _joined(parts: Sequence[Ranked]) -> Ranked:
    """Join rankings, one after the other."""
    return Ranked._make(np.concatenate(columns) for columns in zip(*parts, strict=True))
