"""Comparison of two runs: how much each measure differs, and whether that may be chance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import InvalidArgument

_EXCHANGES: Final = 10_000
"""Random exchanges of the test: p-values near 0.05 then have a standard error of 0.002."""
_AT_ONCE: Final = 500
"""Exchanges that are computed together: with 10,000 queries they take 40 MB."""
_SEED: Final = 0
"""Seed of the exchanges, fixed so that the same two runs always have the same p-values."""
_SMALLEST_SHOWN: Final = 0.001
"""Smallest p-value that is printed as a number; 10,000 exchanges can't tell smaller ones apart."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference of one measure between two runs, over the queries that both have."""

    measure: str
    before: float
    after: float
    p_value: float
    """Probability of a difference of at least this size by chance, were the two equally good;
    above 0."""
    better: int
    """Number of queries with a higher value in the second run."""
    worse: int
    """Number of queries with a lower value in the second run."""


def compare(
    before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]
) -> list[Difference]:
    """Compare two runs, query by query.

    The p-values are those of Fisher's paired randomization test, two-sided, with 10,000 random
    exchanges (https://doi.org/10.1145/1321440.1321528).

    Args:
        before: the first run's values by query id and measure; every query has the same measures.
        after: the second run's values.

    Returns:
        one difference for each measure that both runs have.

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
    """Return a p-value as it is printed: ``0.042``, or ``<0.001`` because it is never 0."""
    return f"<{_SMALLEST_SHOWN}" if p_value < _SMALLEST_SHOWN else f"{p_value:.3f}"


def _p_values(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the p-value of each measure.

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
