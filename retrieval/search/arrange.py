"""Ranked passages → the list that is shown: without repeats, by document, diverse.

All of these look at a passage and at those that are better, or at the first hundred, never at how
many are asked for: so pages of an arranged list follow each other as those of a plain one do.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.found import Hit

MMR_POOL: Final = 100
"""Passages that are made diverse; those after them stay in order of score."""

Vectors = Callable[[Sequence[int]], NDArray[np.float32]]
"""Vector ids → float32 [n, dim], of length 1."""


class Head(NamedTuple):
    """A passage of the list, and those that it stands for."""

    hit: Hit
    similar: tuple[Hit, ...] = ()
    """Left out as they say nearly the same, best first."""


def collapse(hits: Sequence[Hit], vectors: Vectors, threshold: float) -> list[Head]:
    """Leave out each passage that is nearly the same as a better one that is kept.

    Args:
        hits: best first.
        vectors: looks vectors up.
        threshold: cosine of two passages' vectors, from which they are nearly the same.
    """
    every = vectors([hit.vector_id for hit in hits])
    kept: list[int] = []
    similar: dict[int, list[Hit]] = {}
    for row, hit in enumerate(hits):
        cosines = every[kept] @ every[row]
        # Equal vectors have a cosine of 1 to the last bits only.
        near = int(cosines.argmax()) if kept else -1
        if near >= 0 and cosines[near] >= threshold - 1e-6:
            similar[kept[near]].append(hit)
        else:
            kept.append(row)
            similar[row] = []
    return [Head(hits[row], tuple(similar[row])) for row in kept]


def by_document(heads: Sequence[Head]) -> list[Head]:
    """The best passage of each document."""
    first: dict[int, Head] = {}
    for head in heads:
        first.setdefault(head.hit.document_id, head)
    return list(first.values())


def diversify(heads: Sequence[Head], vectors: Vectors, balance: float) -> list[Head]:
    """Order the first hundred by maximal marginal relevance.

    Each is the one with the highest ``balance · score - (1 - balance) · cosine``, the score brought
    to 0 … 1 over the hundred, the cosine that with the nearest one chosen before
    (https://doi.org/10.1145/290941.291025).

    Args:
        heads: best first; at least a hundred, where there are so many.
        vectors: looks vectors up.
        balance: 1 is by score alone; the lower, the more diverse.
    """
    pool, rest = heads[:MMR_POOL], heads[MMR_POOL:]
    if not pool:
        return []
    scores = np.array([head.hit.score for head in pool])
    scores = (scores - scores.min()) / (np.ptp(scores) or 1.0)
    every = vectors([head.hit.vector_id for head in pool])
    cosines = every @ every.T
    nearest = np.zeros(len(pool))
    left = np.ones(len(pool), dtype=bool)
    order: list[int] = []
    for _ in pool:
        worth = np.where(left, balance * scores - (1 - balance) * nearest, -np.inf)
        chosen = int(worth.argmax())
        left[chosen] = False
        nearest = np.maximum(nearest, cosines[chosen]) if order else cosines[chosen]
        order.append(chosen)
    return [*(pool[row] for row in order), *rest]
