"""Attention over a packed batch: no token is padding, none attends outside its own sequence."""

import torch
from torch import Tensor
from torch.nn import functional

from retrieval.gte.packing import PackedBatch


def packed_attention(query: Tensor, key: Tensor, value: Tensor, batch: PackedBatch) -> Tensor:
    """Scaled dot-product attention within each sequence.

    Neighbouring sequences of one length form a rectangle and share one call of torch's fused
    attention, which works block by block: memory is linear in the length.

    Args:
        query: [N, heads, head_dim].
        key: [N, heads, head_dim].
        value: [N, heads, head_dim].
        batch: where the sequences begin and end.

    Returns:
        [N, heads, head_dim].
    """
    output = torch.empty_like(value)
    for run in batch.runs:
        shape = (run.count, run.length, *query.shape[1:])
        tokens = slice(run.start, run.end)
        # [count, heads, length, head_dim], views of the packed tensors
        q, k, v = (part[tokens].view(shape).transpose(1, 2) for part in (query, key, value))
        attended = functional.scaled_dot_product_attention(q, k, v)
        output[tokens].view(shape).copy_(attended.transpose(1, 2))
    return output


def pooled_attention(query: Tensor, key: Tensor, value: Tensor, batch: PackedBatch) -> Tensor:
    """The same for one token of each sequence: the one that is pooled.

    Args:
        query: [B, heads, head_dim], of one token a sequence.
        key: [N, heads, head_dim].
        value: [N, heads, head_dim].
        batch: where the sequences begin and end.

    Returns:
        [B, heads, head_dim].
    """
    output = torch.empty_like(query)
    for run in batch.runs:
        shape = (run.count, run.length, *key.shape[1:])
        sequences = slice(run.first, run.first + run.count)
        k, v = (part[run.start : run.end].view(shape).transpose(1, 2) for part in (key, value))
        q = query[sequences, :, None]  # [count, heads, 1, head_dim]
        output[sequences] = functional.scaled_dot_product_attention(q, k, v).squeeze(2)
    return output


def reference_attention(query: Tensor, key: Tensor, value: Tensor, batch: PackedBatch) -> Tensor:
    """The same, written out one sequence at a time: the oracle for ``packed_attention``.

    Args and result as there.
    """
    outputs = []
    for start, length in zip(batch.cu_seqlens.tolist(), batch.lengths, strict=False):
        q, k, v = (part[start : start + length] for part in (query, key, value))
        scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(dim=-1), v))
    return torch.cat(outputs)
