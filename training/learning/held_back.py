"""Measurement of a model on held-back texts, which it never learns from."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from retrieval.encoding.batching import batches_by_length
from retrieval.gte import GteModel
from training.data.batches import Batches
from training.models.student import embed
from training.models.teacher import Teacher

_TEXTS = 128
"""Texts whose vectors are compared with the teacher's, few enough to measure often."""
_PAIRS = 200
"""Headings that are searched with, and passages that are searched."""
_DEPTH = 10
"""Results that nDCG counts."""
_TEACHER_TOKENS = 8_192
"""Tokens of a batch of the teacher."""


class HeldBack(NamedTuple):
    """Texts to measure on, the same ones each time."""

    texts: list[list[int]]
    """Token ids of chunks, sorted by length."""
    wanted: Tensor | None
    """The teacher's vectors of these texts, float32 [n, dim]."""
    lefts: list[list[int]]
    rights: list[list[int]]
    """Passages; heading i of ``lefts`` belongs to passage i."""
    ndcg: float | None
    """nDCG@10 of the teacher, as ``measure`` computes it."""


def hold_back(batches: Batches, teacher: Teacher | None) -> HeldBack:
    """Choose held-back texts, evenly spread, and let the teacher embed them."""
    texts, pairs = batches.held_texts(_TEXTS), batches.held_pairs(_PAIRS)
    lefts, rights = [pair.left for pair in pairs], [pair.right for pair in pairs]
    wanted = best = None
    if teacher is not None:
        wanted, left, right = (
            _taught(teacher, some, batches) if some else None for some in (texts, lefts, rights)
        )
        best = None if left is None or right is None else ndcg(left @ right.T)
    return HeldBack(texts, wanted, lefts, rights, best)


def _taught(teacher: Teacher, texts: Sequence[Sequence[int]], batches: Batches) -> Tensor:
    taught: dict[int, Tensor] = {}
    for rows in batches_by_length([len(text) for text in texts], _TEACHER_TOKENS):
        vectors = teacher.teach([texts[row] for row in rows], batches.special).vectors
        taught.update(zip(rows, vectors, strict=True))
    return torch.stack([taught[row] for row in range(len(texts))])


def measure(model: GteModel, held: HeldBack, micro_tokens: int, device: str) -> dict[str, float]:
    """Measure a model.

    Returns:
        ``cosine``, the mean cosine of its vectors with the teacher's; ``ndcg``, the nDCG@10 of
        finding the passage under a heading among all held-back passages. A measure without data is
        left out.
    """
    figures = {}
    if held.wanted is not None:
        vectors = embed(model, held.texts, micro_tokens, device)
        figures["cosine"] = (vectors * held.wanted).sum(dim=1).mean().item()
    if held.lefts:
        left, right = (
            embed(model, texts, micro_tokens, device) for texts in (held.lefts, held.rights)
        )
        figures["ndcg"] = ndcg(left @ right.T)
    return figures


def ndcg(scores: Tensor) -> float:
    """Return the nDCG@10 if passage i is the only relevant one for query i.

    Args:
        scores: [n, n]; row i has the scores of query i.
    """
    own = scores.diagonal()[:, None]
    ranks = (scores > own).sum(dim=1)  # 0 for the best
    gains = torch.where(ranks < _DEPTH, 1 / torch.log2(ranks + 2.0), 0.0)
    return gains.mean().item()
