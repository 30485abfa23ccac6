"""Tune an approximate index by measuring its recall against exact search.

Queries are made from the segment itself. For each number of candidates the tuner finds the lowest
effort that reaches the target, and it keeps the setting that reads the fewest bytes.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.store.disk.vectors.approximate import LINKS, RECALL_K, Ann, rescore
from retrieval.store.records import AnnSettings

QUERIES = 200
"""Number of queries to measure with: ten results each give recall to about half a percent."""
CANDIDATES = (20, 50, 100, 200, 400, 800)
"""Numbers of proposed rows to try, each about twice the one before."""

_MOST_BREADTH = 4096
"""Largest breadth (efSearch) to try; FAISS visits at least that many nodes for each query."""
_ENOUGH = 0.001
"""Give up when doubling the effort gains less recall than this twice in a row. With a recall below
half the target it may be that the first lists are empty, so go on."""
_REFINEMENTS = 3
"""Number of halvings between an effort that was too low and its double, which was enough."""
_SAME_SCORE = 1e-6
"""Scores closer than this count as equal: summing in another order changes them by that much."""
_RANDOM_READ = 4
"""Cost of reading a byte at a random place on the disk, relative to a byte read in sequence."""
_SEED = 20_240_801
"""The seed is fixed, so tuning the same index again gives the same setting."""


def tune(ann: Ann, vectors: faiss.Index, target: float) -> AnnSettings:
    """Return the cheapest setting that reaches a recall, or else the one with the best recall.

    Args:
        ann: the index to tune; its present settings are ignored, except for kind and lists.
        vectors: the segment's own flat vectors.
        target: recall@10 against exact search.
    """
    rows, dim = int(vectors.ntotal), int(vectors.d)
    queries = made_queries(rows, vectors.reconstruct_batch)
    exact: NDArray[np.float32] = vectors.search(queries, min(RECALL_K, rows))[0]

    def measure(tried: AnnSettings) -> float:
        k = exact.shape[1]
        proposed = Ann(ann.index, tried).propose(queries, k)
        return recall(rescore(vectors, queries, proposed, k)[0], exact)

    def cost(tried: AnnSettings) -> float:
        """Estimate the cost of a query as a number of bytes read in sequence."""
        again = tried.candidates * dim * 4 * _RANDOM_READ
        if tried.kind == "ivf":
            return again + tried.effort / tried.lists * rows * int(ann.index.sa_code_size())
        return again + tried.effort * LINKS * dim

    start = replace(ann.settings, queries=len(queries), target=target)
    return cheapest(start, measure, cost)


def recall(scores: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """Return the recall of a search.

    Args:
        scores: scores that were found, [n, ≤ k], best first.
        exact: scores of exact search, [n, k], best first.
    """
    # Compare scores instead of rows: rows with equal scores are equally good.
    found = (scores >= exact[:, -1:] - _SAME_SCORE).sum() / max(1, exact.size)
    return round(float(found), 4)


def cheapest(
    start: AnnSettings,
    measure: Callable[[AnnSettings], float],
    cost: Callable[[AnnSettings], float],
) -> AnnSettings:
    """Return the cheapest setting that reaches a recall, or else the one with the best recall.

    Args:
        start: kind, lists and target, and the number of queries to record.
        measure: function that measures the recall of a setting.
        cost: function that estimates the cost of a query.
    """
    tuner = _Tuner(start, measure, cost)
    found: AnnSettings | None = None
    for candidates in CANDIDATES:
        found = tuner.cheaper(candidates, found)
    return found or tuner.best


class _Tuner:
    """Tries settings and keeps the one with the best recall."""

    def __init__(
        self,
        start: AnnSettings,
        measure: Callable[[AnnSettings], float],
        cost: Callable[[AnnSettings], float],
    ) -> None:
        """See ``cheapest``."""
        self._measure_recall = measure
        self._cost = cost
        self.best = replace(start, recall=0.0)

    def cheaper(self, candidates: int, than: AnnSettings | None) -> AnnSettings | None:
        """Find the lowest effort that reaches the target, if it costs less than ``than``."""
        tried: list[AnnSettings] = []
        effort = 1 if self.best.kind == "ivf" else candidates
        while effort <= (self.best.lists or _MOST_BREADTH):
            setting = replace(self.best, effort=effort, candidates=candidates)
            if than and self._cost(setting) >= self._cost(than):
                return than
            tried.append(self._measure(setting))
            if tried[-1].reached:
                return self._refined(tried)
            gains = [after.recall - before.recall for before, after in pairwise(tried[-3:])]
            vain = len(gains) > 1 and max(gains) < _ENOUGH
            if effort == self.best.lists or (vain and tried[-1].recall > self.best.target / 2):
                break
            # The last effort for an ivf index is all of its lists.
            effort = min(2 * effort, self.best.lists or 2 * effort)
        return than

    def _refined(self, tried: list[AnnSettings]) -> AnnSettings:
        """Find the lowest sufficient effort between the last two that were tried."""
        enough = tried[-1]
        too_little = tried[-2].effort if len(tried) > 1 else enough.effort
        for _ in range(_REFINEMENTS):
            middle = (too_little + enough.effort) // 2
            if middle in (too_little, enough.effort):
                break
            between = self._measure(replace(enough, effort=middle))
            if between.reached:
                enough = between
            else:
                too_little = middle
        return enough

    def _measure(self, setting: AnnSettings) -> AnnSettings:
        """Measure the recall of a setting."""
        tried = replace(setting, recall=self._measure_recall(setting))
        if tried.recall > self.best.recall:
            self.best = tried
        return tried


def made_queries(
    rows: int, read: Callable[[NDArray[np.int64]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Make queries near some vectors, but different from them: float32 [≤ QUERIES, dim].

    Each query is a row plus the normalised difference of two others, a direction in which the data
    varies. Its distance from the row is like that of a question from the passage that answers it
    (cosine about 0.7).

    Args:
        rows: number of vectors.
        read: function that reads the vectors of some rows, which may repeat.
    """
    generator = np.random.default_rng(_SEED)
    count = min(QUERIES, rows)
    own, one, other = (read(generator.integers(rows, size=count)) for _ in range(3))
    away = one - other
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
    queries = own + away
    queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-9)
    return np.ascontiguousarray(queries, dtype=np.float32)
