"""Tune an approximate index by measuring its recall against exact search.

Queries are made from the segment itself. For each number of candidates the tuner finds the lowest
effort that reaches the target, and it keeps the setting that reads the fewest bytes.
"""

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
"""Give up when doubling the effort gains less recall than this twice in a row."""
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
    queries = made_queries(vectors)
    exact: NDArray[np.float32] = vectors.search(queries, min(RECALL_K, vectors.ntotal))[0]
    tuner = _Tuner(ann, vectors, queries, exact, target)
    cheapest: AnnSettings | None = None
    for candidates in CANDIDATES:
        cheapest = tuner.cheaper(candidates, cheapest)
    return cheapest or tuner.best


class _Tuner:
    """Tries settings on one segment and keeps the one with the best recall."""

    def __init__(
        self,
        ann: Ann,
        vectors: faiss.Index,
        queries: NDArray[np.float32],
        exact: NDArray[np.float32],
        target: float,
    ) -> None:
        """Take what to measure on; ``exact`` is [n, k], the scores of exact search."""
        self._ann = ann
        self._vectors = vectors
        self._queries = queries
        self._exact = exact
        self._target = target
        self.best = replace(ann.settings, recall=0.0)

    def cheaper(self, candidates: int, than: AnnSettings | None) -> AnnSettings | None:
        """Find the lowest effort that reaches the target, if it costs less than ``than``."""
        tried: list[AnnSettings] = []
        effort = 1 if self._ann.settings.kind == "ivf" else candidates
        while effort <= (self._ann.settings.lists or _MOST_BREADTH):
            if than and self._cost(effort, candidates) >= self._cost(than.effort, than.candidates):
                return than
            tried.append(self._measure(effort, candidates))
            if tried[-1].recall >= self._target:
                return self._refined(tried)
            gains = [after.recall - before.recall for before, after in pairwise(tried[-3:])]
            if len(gains) > 1 and max(gains) < _ENOUGH:
                break
            effort *= 2
        return than

    def _refined(self, tried: list[AnnSettings]) -> AnnSettings:
        """Find the lowest sufficient effort between the last two that were tried."""
        enough = tried[-1]
        too_little = tried[-2].effort if len(tried) > 1 else enough.effort
        for _ in range(_REFINEMENTS):
            middle = (too_little + enough.effort) // 2
            if middle in (too_little, enough.effort):
                break
            between = self._measure(middle, enough.candidates)
            if between.recall >= self._target:
                enough = between
            else:
                too_little = middle
        return enough

    def _measure(self, effort: int, candidates: int) -> AnnSettings:
        """Measure the recall of a setting."""
        tried = replace(
            self._ann.settings,
            effort=effort,
            candidates=candidates,
            queries=len(self._queries),
            target=self._target,
        )
        k = self._exact.shape[1]
        proposed = Ann(self._ann.index, tried).propose(self._queries, k)
        scores = rescore(self._vectors, self._queries, proposed, k)[0]
        # Compare scores instead of rows: rows with equal scores are equally good.
        found = (scores >= self._exact[:, -1:] - _SAME_SCORE).mean()
        tried = replace(tried, recall=round(float(found), 4))
        if tried.recall > self.best.recall:
            self.best = tried
        return tried

    def _cost(self, effort: int, candidates: int) -> float:
        """Estimate the cost of a query as a number of bytes read in sequence."""
        dim, rows = int(self._vectors.d), int(self._vectors.ntotal)
        again = candidates * dim * 4 * _RANDOM_READ
        settings = self._ann.settings
        if settings.kind == "ivf":
            code_bytes = int(self._ann.index.sa_code_size())
            return again + effort / settings.lists * rows * code_bytes
        return again + effort * LINKS * dim


def made_queries(vectors: faiss.Index) -> NDArray[np.float32]:
    """Make queries near a segment's vectors, but different from them: float32 [≤ QUERIES, dim].

    Each query is a row plus the normalised difference of two others, a direction in which the data
    varies. Its distance from the row is like that of a question from the passage that answers it
    (cosine about 0.7).
    """
    generator = np.random.default_rng(_SEED)
    count = min(QUERIES, vectors.ntotal)
    own, one, other = (
        vectors.reconstruct_batch(generator.integers(vectors.ntotal, size=count)) for _ in range(3)
    )
    away = one - other
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
    queries = own + away
    queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-9)
    return np.ascontiguousarray(queries, dtype=np.float32)
