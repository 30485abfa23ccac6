"""The products of oneDNN, and what they read, as functions that a trace can hold.

``torch.jit.trace`` can't record a call with a list of optional numbers, which these operators take
for what they could do after the product. So the calls are written out as graphs, once.
"""

from collections.abc import Callable
from functools import cache
from typing import cast

import torch
from torch import Tensor

from retrieval.gte.cpu import traceable

_LINEAR = """
graph(%rows : Tensor, %weight : Tensor, %bias : Tensor?):
  %then : str = prim::Constant[value="none"]()
  %how : str = prim::Constant[value=""]()
  %numbers : Scalar?[] = prim::ListConstruct()
  %product : Tensor = mkldnn::_linear_pointwise(%rows, %weight, %bias, %then, %numbers, %how)
  return (%product)
"""

_INT8_LINEAR = """
graph(%rows : Tensor, %zero_point : int, %weight : Tensor, %scales : Tensor, %points : Tensor):
  %one : float = prim::Constant[value=1.]()
  %zero : int = prim::Constant[value=0]()
  %no_bias : NoneType = prim::Constant()
  %float32 : int = prim::Constant[value=6]()
  %then : str = prim::Constant[value="none"]()
  %how : str = prim::Constant[value=""]()
  %numbers : Scalar?[] = prim::ListConstruct()
  %product : Tensor = onednn::qlinear_pointwise(%rows, %one, %zero_point, %weight, %scales,
    %points, %no_bias, %one, %zero, %float32, %then, %numbers, %how)
  return (%product)
"""


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply float32 rows [n, in] with a weight that oneDNN has laid out.

    Raises:
        AttributeError, RuntimeError: this build of torch has no such operator.
    """
    return _function(_LINEAR)(rows, weight, bias)


def int8_linear(
    rows: Tensor, zero_point: int, weight: Tensor, scales: Tensor, points: Tensor
) -> Tensor:
    """Multiply uint8 rows [n, in] with an int8 weight that oneDNN has laid out → float32 [n, out].

    Args:
        rows: the integers.
        zero_point: what stands for zero in them.
        weight: from ``onednn.qlinear_prepack``.
        scales: float32 [out], of the weight's channels.
        points: int64 [out], what stands for zero in the weight's channels.

    Raises:
        AttributeError, RuntimeError: this build of torch has no such operator.
    """
    return _function(_INT8_LINEAR)(rows, zero_point, weight, scales, points)


def to_bytes(rows: Tensor, zero_point: int) -> Tensor:
    """Whole numbers within ±127 in float32, which it changes → uint8, moved by 128, the zero point.

    By way of int8, whose bytes wrap around into the right ones: from float32 to uint8 itself takes
    torch several times as long, unless there are few.
    """
    if traceable.is_tracing():
        return traceable.script(_to_bytes)(rows, zero_point)
    return rows.to(torch.int8).view(torch.uint8).add_(zero_point)


@cache
def _function(graph: str) -> Callable[..., Tensor]:
    return cast(
        Callable[..., Tensor],
        torch._C._create_function_from_graph("product", torch._C.parse_ir(graph)),
    )


# Written for TorchScript's compiler, which knows a part of Python, and not that view.


def _to_bytes(rows: Tensor, zero_point: int) -> Tensor:
    few = 32768
    if rows.numel() < few:
        return rows.add_(zero_point).to(torch.uint8)
    return rows.to(torch.int8).to(torch.uint8).add_(zero_point)
