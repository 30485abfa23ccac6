"""Is one run better than another, or is it chance?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import InvalidArgument

_EXCHANGES: Final = 10_000
_AT_ONCE: Final = 500
"""Exchanges that are computed together: with 10,000 queries they take 40 MB."""
_SEED: Final = 0
_SMALLEST_SHOWN: Final = 0.001


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one measure, over the queries that both runs have."""

    measure: str
    before: float
    after: float
    p_value: float
    """How often chance alone makes a difference of this size, were the two equally good; above
    0."""
    better: int
    worse: int
    """Queries."""


def compare(
    before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]
) -> list[Difference]:
    """Compare two runs, query by query.

    By Fisher's paired randomization test, two-sided, over 10,000 exchanges at random
    (https://doi.org/10.1145/1321440.1321528).

    Args:
        before: query id → measure → value; the same measures for every query.
        after: of the other run.

    Returns:
        a difference for each measure that both have.

    Raises:
        InvalidArgument: they have no query, or no measure, in common.
    """
    queries = [query for query in before if query in after]
    if not queries:
        raise InvalidArgument("the two runs have no query in common")
    measures = [name for name in before[queries[0]] if name in after[queries[0]]]
    if not measures:
        raise InvalidArgument("the two runs have no measure in common; run both with the same -k")
    old, new = (
        np.array([[run[query][measure] for measure in measures] for query in queries])
        for run in (before, after)
    )
    gains = new - old  # [queries, measures]
    p_values = _p_values(gains)
    return [
        Difference(
            measure,
            float(old[:, i].mean()),
            float(new[:, i].mean()),
            float(p_values[i]),
            int(np.count_nonzero(gains[:, i] > 0)),
            int(np.count_nonzero(gains[:, i] < 0)),
        )
        for i, measure in enumerate(measures)
    ]


def p_text(p_value: float) -> str:
    """Return a p-value as it is printed: ``0.042``, or ``<0.001``, as it is never 0."""
    return f"<{_SMALLEST_SHOWN}" if p_value < _SMALLEST_SHOWN else f"{p_value:.3f}"


def _p_values(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """The p-value of each measure.

    Args:
        gains: float64 [queries, measures].

    Returns:
        float64 [measures], each above 0.
    """
    generator = np.random.default_rng(_SEED)
    seen = np.abs(gains.sum(axis=0)) - 1e-9
    as_large = np.zeros(gains.shape[1])
    for _ in range(0, _EXCHANGES, _AT_ONCE):
        signs = 1.0 - 2.0 * generator.integers(0, 2, size=(_AT_ONCE, len(gains)), dtype=np.int8)
        as_large += np.count_nonzero(np.abs(signs @ gains) >= seen, axis=0)
    p_values: NDArray[np.float64] = (as_large + 1) / (_EXCHANGES + 1)
    return p_values
