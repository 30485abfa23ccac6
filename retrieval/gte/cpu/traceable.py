"""What depends on where sequences end, in a form that a trace can hold.

A trace (``torch.jit.trace``) records the operators of one run, so a Python loop over a batch's runs
would be frozen at the example's. These functions find the runs themselves, in TorchScript, and stay
functions inside of a trace. They do what their namesakes in ``attention`` and ``pooling`` do.
"""

from collections.abc import Callable
from functools import cache
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def is_tracing() -> bool:
    """Whether operators are being recorded."""
    tracing: bool = torch._C._get_tracing_state() is not None
    return tracing


def packed_attention(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor) -> Tensor:
    """Attention within each sequence: three of [N, heads, head_dim], int32 [B + 1] → the same."""
    return script(_attention)(query, key, value, bounds, False)


def pooled_attention(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor) -> Tensor:
    """The same for one token of each sequence: ``query`` and the result [B, heads, head_dim]."""
    return script(_attention)(query, key, value, bounds, True)


def mean(hidden: Tensor, bounds: Tensor) -> Tensor:
    """Each sequence's mean: [N, hidden], int32 [B + 1] → float32 [B, hidden]."""
    return script(_mean)(hidden, bounds)


@cache
def script(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function as TorchScript's compiler understands it: a trace can hold it as it is."""
    compile_: Callable[[Callable[..., Tensor]], object] = torch.jit.script
    return cast(Callable[..., Tensor], compile_(function))


# Written for TorchScript's compiler, which knows a part of Python.


def _attention(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, one_each: bool) -> Tensor:
    ends: list[int] = bounds.long().tolist()
    output = torch.empty_like(query)
    if not one_each and ends[-1] < len(query):
        output[ends[-1] :] = 0
    heads, head_dim = key.size(1), key.size(2)
    first = 0
    while first < len(ends) - 1:
        count, length = _run(ends, first)
        start, end = ends[first], ends[first + count]
        asks, until = (first, first + count) if one_each else (start, end)
        q = query[asks:until].view([count, -1, heads, head_dim]).transpose(1, 2)
        k = key[start:end].view([count, length, heads, head_dim]).transpose(1, 2)
        v = value[start:end].view([count, length, heads, head_dim]).transpose(1, 2)
        attended = scaled_dot_product_attention(q, k, v)
        output[asks:until] = attended.transpose(1, 2).reshape(until - asks, heads, head_dim)
        first += count
    return output


def _mean(hidden: Tensor, bounds: Tensor) -> Tensor:
    ends: list[int] = bounds.long().tolist()
    means: list[Tensor] = []
    first = 0
    while first < len(ends) - 1:
        count, length = _run(ends, first)
        run = hidden[ends[first] : ends[first + count]].view([count, length, hidden.size(1)])
        means.append(run.float().mean(dim=1))
        first += count
    return torch.cat(means)


def _run(ends: list[int], first: int) -> tuple[int, int]:
    """Neighbouring sequences of one length, from the ``first`` on: how many, and how long."""
    length = ends[first + 1] - ends[first]
    count = 1
    while first + count < len(ends) - 1 and ends[first + count + 1] - ends[first + count] == length:
        count += 1
    return count, length
