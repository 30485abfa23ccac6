"""A ranking whose best n are the beginning of its best m, for every m > n.

Approximate search looks further the more it is asked for, so a longer list may hold a text near its
top that a shorter one lacked. Pages cut from lists of different lengths would then repeat some
passages and miss others. The engines also sum scores in an order that depends on how many are
wanted, which changes the last bits.

So a list is made in stages of fixed lengths, regardless of how many texts are wanted. A stage goes
on after the last text of the stage before it: texts that are listed already are left out, and so
are texts that come too late, because their score is better than the last one listed. An exact
search has no texts that come too late. An approximate search misses them as it misses others.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.passages import ScoreKind
from retrieval.search.ranking import Ranked, Ranking

FIRST_STAGE: Final = 16
"""Texts of the first stage: enough for a page of ten."""
_GROWTH: Final = 2
"""All stages together cost at most twice as much as the last one alone."""
_NOISE: Final = 1e-5
"""Scores that differ by less than this part are equal but for the order in which they were summed:
float32 has 24 bits, and a BM25 score is a sum of a few hundred terms at most."""


class StableRanking:
    """Another ranking in stages of fixed lengths; for one search, in one thread at a time."""

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


def _among(texts: Ranked, others: Ranked) -> NDArray[np.bool_]:
    """Bool [n]: which texts are among others."""
    known = set(zip(others.vector_ids.tolist(), others.text_ids.tolist(), strict=True))
    pairs = zip(texts.vector_ids.tolist(), texts.text_ids.tolist(), strict=True)
    return np.fromiter((pair in known for pair in pairs), dtype=bool, count=len(texts.scores))


def _joined(parts: Sequence[Ranked]) -> Ranked:
    """One after the other."""
    return Ranked._make(np.concatenate(columns) for columns in zip(*parts, strict=True))
