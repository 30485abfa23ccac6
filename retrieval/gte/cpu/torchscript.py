"""Traces of a model (``torch.jit.trace``), and the functions that a trace needs to be general.

A trace records the operators of one run, so a Python loop over a batch's runs would be frozen as
the example had it. The ``traceable_…`` functions find the runs themselves, in TorchScript, and stay
functions inside the trace. They compute what their namesakes in ``attention`` and ``pooling`` do.

A trace is freed with the model it belongs to. Left to itself, torch registers each trace in a
compilation unit of the process and keeps it until the process ends
(https://github.com/pytorch/pytorch/issues/35600).
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from retrieval.gte.cpu.switches import is_on

Traced = Callable[..., Tensor]

_WARM_UP = 3
"""Runs after which a trace is as fast as it gets: TorchScript optimises it during the first two."""

_TOLERANCE = 1e-3
"""Largest difference from the model's own vectors, which are of length 1. Rounding makes 1e-6 of
it; a trace that ran over the wrong tokens would differ by 0.1 and more."""


def trace(
    function: nn.Module, examples: Sequence[tuple[Tensor, ...]], expected: Sequence[Tensor]
) -> Traced | None:
    """Trace a module, and check the trace.

    Args:
        function: takes the tensors of an example and returns one tensor.
        examples: the first is traced, all of them are checked.
        expected: the result that each example must have.

    Returns:
        the trace, which any thread may call; None if traces are turned off, if this build of torch
        has none, or if the trace computes something else.
    """
    if not is_on("trace"):
        return None
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            # The warnings say that TorchScript is old and that sizes may have become constants;
            # the examples of other sizes show whether they have.
            warnings.simplefilter("ignore")
            traced = _trace_to_be_freed(function, examples[0])
            for _ in range(_WARM_UP):
                results = [traced(*example) for example in examples]
            same = all(
                torch.allclose(result, wanted, atol=_TOLERANCE)
                for result, wanted in zip(results, expected, strict=True)
            )
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return None
    return traced if same else None


def _trace_to_be_freed(function: nn.Module, example: tuple[Tensor, ...]) -> Traced:
    """Trace a module into a compilation unit of its own, which the trace alone keeps alive.

    If another thread compiles a function meanwhile, torch may have to compile it once more later.
    """
    make: Any = torch.jit.trace
    with _one_at_a_time:
        _process_unit()  # looked up before the first trace replaces it
        with _compile_into(torch._C.CompilationUnit()):
            traced = make(function, example, check_trace=False)
    # torch notes here which types are compiled, to compile none twice. No other module shares one.
    compiled = torch.jit._recursive.concrete_type_store.methods_compiled
    for module in traced.modules():
        compiled.discard(getattr(module, "_concrete_type", None))
    return cast(Traced, traced)


_one_at_a_time = Lock()
"""Held while the process's compilation unit is replaced."""


@contextmanager
def _compile_into(unit: torch._C.CompilationUnit) -> Iterator[None]:
    """Have torch register functions and types in a compilation unit other than the process's."""
    state: Any = torch.jit._state
    replaced, state._python_cu = state._python_cu, unit
    try:
        yield
    finally:
        state._python_cu = replaced


@cache
def _process_unit() -> torch._C.CompilationUnit:
    """Return the compilation unit of the process: it keeps what it holds until the process ends."""
    return torch.jit._state._python_cu


def is_tracing() -> bool:
    """Return whether operators are being recorded."""
    tracing: bool = torch._C._get_tracing_state() is not None
    return tracing


def traceable_attention(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor) -> Tensor:
    """Attend within each sequence.

    Args:
        query: [N, heads, head_dim], as are ``key`` and ``value``.
        key: see ``query``.
        value: see ``query``.
        bounds: int32 [B + 1], ``PackedBatch.cu_seqlens``.

    Returns:
        [N, heads, head_dim].
    """
    return script(_attention)(query, key, value, bounds, False)


def traceable_pooled_attention(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor) -> Tensor:
    """Attend from one token of each sequence: ``query`` and the result are [B, heads, head_dim]."""
    return script(_attention)(query, key, value, bounds, True)


def traceable_mean(hidden: Tensor, bounds: Tensor) -> Tensor:
    """Return each sequence's mean, float32 [B, hidden], of states [N, hidden]."""
    return script(_mean)(hidden, bounds)


@cache
def script(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compile a function with TorchScript, so that a trace can hold it as a function.

    It is shared by all traces, so it does not belong to the one that is being made.
    """
    compile_: Callable[[Callable[..., Tensor]], object] = torch.jit.script
    with _compile_into(_process_unit()):
        return cast(Callable[..., Tensor], compile_(function))


# The functions below are compiled by TorchScript, which understands only a part of Python.


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
    """Return how many neighbouring sequences from ``first`` on have the same length; the length."""
    length = ends[first + 1] - ends[first]
    count = 1
    while first + count < len(ends) - 1 and ends[first + count + 1] - ends[first + count] == length:
        count += 1
    return count, length
