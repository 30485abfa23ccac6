"""How good a model is on texts it never learned from."""

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
_PAIRS = 200
_DEPTH = 10
_TEACHER_TOKENS = 8_192


class HeldBack(NamedTuple):
    """Texts to measure on, the same at each measurement."""

    texts: list[list[int]]
    """Chunks, sorted by length."""
    wanted: Tensor | None
    """float32 [n, dim]: the teacher's vectors of these."""
    lefts: list[list[int]]
    rights: list[list[int]]
    """Headings, and passages that begin with them; the i-th belongs to the i-th."""
    ndcg: float | None
    """The teacher's own, as ``measure`` measures it."""


def hold_back(batches: Batches, teacher: Teacher | None) -> HeldBack:
    """Choose them, spread evenly, and have the teacher embed the texts."""
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
        ``cosine``: of its vectors with the teacher's, on average; ``ndcg``: nDCG@10 of finding the
        passage under a heading among all the held-back passages. What can't be measured is left
        out.
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
    """nDCG@10 where passage i, and no other, is what query i is to find.

    Args:
        scores: [n, n]; row i are query i's.
    """
    own = scores.diagonal()[:, None]
    ranks = (scores > own).sum(dim=1)  # 0: it is the best
    gains = torch.where(ranks < _DEPTH, 1 / torch.log2(ranks + 2.0), 0.0)
    return gains.mean().item()
