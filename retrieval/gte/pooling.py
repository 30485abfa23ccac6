"""Pooling: one vector per sequence from the hidden states of its tokens."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from retrieval.gte import cpu
from retrieval.gte.packing import PackedBatch

Pooling = Literal["cls", "mean", "last"]
"""A sequence's vector is its first token's state, the mean of all, or its last token's."""


def pooled_rows(batch: PackedBatch, pooling: Pooling) -> Tensor | None:
    """Return the places of the tokens whose states become the vectors, one per sequence.

    Args:
        batch: where the sequences begin and end.
        pooling: how a sequence's states become one vector.

    Returns:
        int64 [B], places among the N packed tokens; None with the mean, which takes all tokens.
    """
    if pooling == "cls":
        return batch.cu_seqlens[:-1].long()
    if pooling == "last":
        return batch.cu_seqlens[1:].long() - 1
    return None


def pool(hidden: Tensor, batch: PackedBatch, pooling: Pooling) -> Tensor:
    """Reduce the hidden states of each sequence to one vector.

    Args:
        hidden: [N, hidden], the encoder's output.
        batch: where the sequences begin and end.
        pooling: how a sequence's states become one vector.

    Returns:
        float32 [B, hidden], not normalised.
    """
    rows = pooled_rows(batch, pooling)
    if rows is not None:
        return hidden[rows].float()
    if cpu.is_tracing():
        return cpu.traceable_mean(hidden, batch.cu_seqlens)
    means = [
        hidden[run.start : run.end].view(run.count, -1, hidden.shape[1]).float().mean(dim=1)
        for run in batch.runs
    ]
    return torch.cat(means)


def normalize(vectors: Tensor) -> Tensor:
    """Scale each vector [B, dim] to length 1 (L2); a zero vector stays zero."""
    return functional.normalize(vectors, dim=-1)
