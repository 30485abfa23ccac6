"""Attention over a packed batch: each token attends to the tokens of its own sequence, no others.

There is no padding to mask out. ``reference_attention`` at the end is the definition; the other
functions compute the same, faster.
"""

from functools import cache
from importlib.util import find_spec
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from retrieval.gte import cpu
from retrieval.gte.packing import PackedBatch

_WIDEST_HEAD = 256
"""Largest ``head_dim`` that FlashAttention supports."""
_SHORT = 512
"""Tokens up to which a sequence's scores may lie in memory: 6 MiB in bfloat16 with 12 heads."""


def packed_attention(query: Tensor, key: Tensor, value: Tensor, batch: PackedBatch) -> Tensor:
    """Compute scaled dot-product attention within each sequence.

    Neighbouring sequences of equal length form a rectangle and share one call of torch's fused
    attention, which works block by block: memory is linear in the length. On a GPU in half
    precision all sequences share one call of FlashAttention-2 (https://arxiv.org/abs/2307.08691)
    with variable lengths.

    Args:
        query: [N, heads, head_dim].
        key: [N, heads, head_dim].
        value: [N, heads, head_dim].
        batch: where the sequences begin and end.

    Returns:
        [N, heads, head_dim]; zeros in spare rows, which belong to no sequence.
    """
    if cpu.is_tracing():
        return cpu.traceable_attention(query, key, value, batch.cu_seqlens)
    if takes_varlen(query):
        longest = batch.max_seqlen
        bounds = batch.cu_seqlens
        return _varlen(query, key, value, (bounds, bounds), (longest, longest))
    rows, end = len(query), batch.runs[-1].end
    if len(batch.runs) == 1 and rows == end:
        return _rectangle_attention(query, key, value, batch.runs[0].count)
    # One split of the whole tensor returns its gradient in one piece, instead of one per run.
    sizes = [run.end - run.start for run in batch.runs] + [rows - end]
    parts = zip(*(torch.split(part, sizes) for part in (query, key, value)), strict=True)
    attended = [
        _rectangle_attention(q, k, v, run.count)
        for run, (q, k, v) in zip(batch.runs, parts, strict=False)
    ]
    return torch.cat([*attended, value.new_zeros(rows - end, *value.shape[1:])])


def _rectangle_attention(query: Tensor, key: Tensor, value: Tensor, count: int) -> Tensor:
    """Attend within ``count`` sequences of equal length; all tensors are [n, heads, head_dim]."""
    # [count, heads, length, head_dim], views of the packed tensors
    q, k, v = (
        part.view(count, -1, *part.shape[1:]).transpose(1, 2) for part in (query, key, value)
    )
    if _is_slow_fused(q):
        scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5  # [count, heads, length, length]
        attended: Tensor = scores.softmax(dim=-1) @ v
    else:
        attended = functional.scaled_dot_product_attention(q, k, v)
    return attended.transpose(1, 2).reshape(query.shape)


def _is_slow_fused(query: Tensor) -> bool:
    """Return whether torch's fused attention is slower than its parts; query [*, length, head_dim].

    Training in bfloat16 on a CPU, it takes up to 2.4 times as long at 254 tokens.
    """
    trained = query.requires_grad and query.dtype == torch.bfloat16
    return trained and query.device.type == "cpu" and query.shape[-2] <= _SHORT


def pooled_attention(query: Tensor, key: Tensor, value: Tensor, batch: PackedBatch) -> Tensor:
    """Compute the attention of one token of each sequence, the one that is pooled.

    Args:
        query: [B, heads, head_dim], of one token per sequence.
        key: [N, heads, head_dim].
        value: [N, heads, head_dim].
        batch: where the sequences begin and end.

    Returns:
        [B, heads, head_dim].
    """
    if cpu.is_tracing():
        return cpu.traceable_pooled_attention(query, key, value, batch.cu_seqlens)
    if takes_varlen(query):
        each = torch.arange(len(query) + 1, dtype=torch.int32, device=query.device)
        return _varlen(query, key, value, (each, batch.cu_seqlens), (1, batch.max_seqlen))
    output = torch.empty_like(query)
    for run in batch.runs:
        sequences = slice(run.first, run.first + run.count)
        tokens = slice(run.start, run.end)
        k, v = (  # [count, heads, length, head_dim]
            part[tokens].view(run.count, -1, *part.shape[1:]).transpose(1, 2)
            for part in (key, value)
        )
        q = query[sequences, :, None]  # [count, heads, 1, head_dim]
        output[sequences] = functional.scaled_dot_product_attention(q, k, v).squeeze(2)
    return output


def takes_varlen(query: Tensor) -> bool:
    """Return whether torch's variable-length attention supports these queries [*, head_dim]."""
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= _WIDEST_HEAD
        and _has_varlen(query.device)
    )


@cache
def _has_varlen(device: torch.device) -> bool:
    """FlashAttention-2 needs an Ampere GPU or newer; torch has it as a function since 2.10."""
    has_function = find_spec("torch.nn.attention.varlen") is not None
    return has_function and torch.cuda.get_device_capability(device) >= (8, 0)


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: tuple[Tensor, Tensor],
    longest: tuple[int, int],
) -> Tensor:
    """Call torch's variable-length attention.

    Args:
        query: [rows, heads, head_dim].
        key: [N, heads, head_dim].
        value: [N, heads, head_dim].
        bounds: int32 [B + 1], where sequences begin and end in the queries, and in the keys.
        longest: rows of the longest sequence in the queries, and in the keys.
    """
    from torch.nn.attention.varlen import varlen_attn

    return cast(Tensor, varlen_attn(query, key, value, *bounds, *longest))


def reference_attention(query: Tensor, key: Tensor, value: Tensor, batch: PackedBatch) -> Tensor:
    """Compute ``packed_attention`` by its definition, one sequence at a time: the tests' oracle."""
    outputs = []
    for start, length in zip(batch.cu_seqlens.tolist(), batch.lengths, strict=False):
        q, k, v = (part[start : start + length] for part in (query, key, value))
        scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(dim=-1), v))
    return torch.cat(outputs)
