"""Arrange a ranking: collapse near-duplicates, group by document, diversify.

Each decision depends on a passage and the better ones, or on the first hundred, but never on how
many are asked for. So the pages of an arranged list follow each other like those of a plain one.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.passages import Hit
from retrieval.store import PassageKey, TextKey

MMR_POOL: Final = 100
"""Number of passages to diversify; those after them stay in order of score."""

_BLOCK: Final = 64
"""Number of vectors to compare with all kept ones in one matrix product."""

Vectors = Callable[[Sequence[int]], NDArray[np.float32]]
"""Vector ids → float32 [n, dim], of length 1."""


class Head(NamedTuple):
    """An entry of the list: a passage, and the ones that it stands for."""

    hit: Hit
    similar: tuple[PassageKey, ...] = ()
    """Passages collapsed into it, best first, up to the number that is named."""
    similar_count: int = 0
    """Number of passages collapsed into it."""
    texts: tuple[TextKey, ...] = ()
    """The texts of all of them, its own first; empty if nothing was collapsed."""


def collapse(
    vector_ids: Sequence[int], vectors: Vectors, threshold: float, most: int
) -> list[list[int]]:
    """Collapse each text into the nearest better one that is kept, if they are nearly the same.

    Args:
        vector_ids: of the texts, best first.
        vectors: looks vectors up.
        threshold: cosine from which two vectors count as nearly the same.
        most: how many to keep; later texts count only if they are nearly the same as one of
            these.

    Returns:
        for each kept text, its number and those of the texts collapsed into it.
    """
    distinct = list(dict.fromkeys(vector_ids))
    nearest = _nearest(vectors(distinct), threshold, most) if distinct else []
    stands_for = dict(zip(distinct, nearest, strict=True))
    kept: dict[int, list[int]] = {}
    for number, vector_id in enumerate(vector_ids):
        if (near := stands_for[vector_id]) >= 0:
            kept.setdefault(near, []).append(number)
    return list(kept.values())


def _nearest(every: NDArray[np.float32], threshold: float, most: int) -> list[int]:
    """Return for each vector the place of the kept one that it is nearly the same as.

    Args:
        every: float32 [n, dim], best first.
        threshold: see ``collapse``.
        most: how many to keep.

    Returns:
        n places among the kept ones; -1 where ``most`` others are kept already.
    """
    # The cosine of equal vectors is 1 up to rounding.
    least = threshold - 1e-6
    kept = np.empty((min(most, len(every)), every.shape[1]), dtype=np.float32)
    count = 0
    nearest: list[int] = []
    for start in range(0, len(every), _BLOCK):
        # Always the same shape, so that rounding doesn't depend on how many are compared.
        block = np.zeros((_BLOCK, every.shape[1]), dtype=np.float32)
        part = every[start : start + _BLOCK]
        block[: len(part)] = part
        within = block @ block.T
        near, cosines = np.full(_BLOCK, -1), np.full(_BLOCK, -np.inf, dtype=np.float32)
        if count:
            earlier = block @ kept[:count].T
            near = earlier.argmax(axis=1)
            cosines = earlier[np.arange(_BLOCK), near]
        for row in range(len(part)):
            if cosines[row] >= least:
                nearest.append(int(near[row]))
            elif count == most:
                nearest.append(-1)
            else:
                kept[count] = part[row]
                nearest.append(count)
                nearer = within[row] > cosines
                near = np.where(nearer, count, near)
                cosines = np.where(nearer, within[row], cosines)
                count += 1
    return nearest


def by_document(heads: Sequence[Head]) -> list[Head]:
    """Return the best passage of each document."""
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
        heads: best first; at least a hundred, if available.
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
