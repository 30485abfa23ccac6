"""Packed hidden states → one vector a sequence."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from retrieval.gte.cpu import traceable
from retrieval.gte.packing import PackedBatch

Pooling = Literal["cls", "mean", "last"]


def pooled_rows(batch: PackedBatch, pooling: Pooling) -> Tensor | None:
    """The one token of each sequence that makes its vector.

    Args:
        batch: where the sequences begin and end.
        pooling: which reduction.

    Returns:
        int64 [B] into the packed tokens; None where all tokens count (mean).
    """
    if pooling == "cls":
        return batch.cu_seqlens[:-1].long()
    if pooling == "last":
        return batch.cu_seqlens[1:].long() - 1
    return None


def pool(hidden: Tensor, batch: PackedBatch, pooling: Pooling) -> Tensor:
    """Reduce each sequence to one vector: its first token's, its mean, or its last token's.

    Args:
        hidden: [N, hidden_size], the encoder's output.
        batch: where the sequences begin and end.
        pooling: which reduction.

    Returns:
        float32 [B, hidden_size], not normalised.
    """
    rows = pooled_rows(batch, pooling)
    if rows is not None:
        return hidden[rows].float()
    if traceable.is_tracing():
        return traceable.mean(hidden, batch.cu_seqlens)
    means = [
        hidden[run.start : run.end].view(run.count, -1, hidden.shape[1]).float().mean(dim=1)
        for run in batch.runs
    ]
    return torch.cat(means)


def normalize(vectors: Tensor) -> Tensor:
    """Scale each row to unit L2 length; a zero row stays zero.

    Args:
        vectors: float32 [B, dim].

    Returns:
        float32 [B, dim].
    """
    return functional.normalize(vectors, dim=-1)
