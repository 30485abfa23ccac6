"""Products of oneDNN, and the conversion of their inputs, in a form that a trace can hold.

``torch.jit.trace`` can't record calls that take a list of optional numbers, as these operators do
for operations to apply after the product. So each call is written out as a graph, once.
"""

from collections.abc import Callable
from functools import cache
from typing import cast

import torch
from torch import Tensor

from retrieval.gte.cpu import torchscript

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
    """Multiply float32 rows [n, in] by a weight in oneDNN's layout; returns float32 [n, out].

    Raises:
        AttributeError, RuntimeError: this build of torch has no such operator.
    """
    return _function(_LINEAR)(rows, weight, bias)


def int8_linear(
    rows: Tensor, zero_point: int, weight: Tensor, scales: Tensor, points: Tensor
) -> Tensor:
    """Multiply uint8 rows [n, in] by an int8 weight in oneDNN's layout; returns float32 [n, out].

    Args:
        rows: the integers.
        zero_point: the integer in ``rows`` that stands for zero.
        weight: from ``onednn.qlinear_prepack``.
        scales: float32 [out], of the weight's channels.
        points: int64 [out], the integers in the weight's channels that stand for zero.

    Raises:
        AttributeError, RuntimeError: this build of torch has no such operator.
    """
    return _function(_INT8_LINEAR)(rows, zero_point, weight, scales, points)


def to_bytes(rows: Tensor, zero_point: int) -> Tensor:
    """Convert whole numbers within ±127, in float32, to uint8, shifted by a zero point of 128.

    The input is overwritten. The conversion goes through int8, whose bytes wrap around to the right
    ones: torch takes several times as long to convert many float32 numbers to uint8 directly.
    """
    if torchscript.is_tracing():
        return torchscript.script(_to_bytes)(rows, zero_point)
    return rows.to(torch.int8).view(torch.uint8).add_(zero_point)


@cache
def _function(graph: str) -> Callable[..., Tensor]:
    return cast(
        Callable[..., Tensor],
        torch._C._create_function_from_graph("product", torch._C.parse_ir(graph)),
    )


# Compiled by TorchScript, which understands only a part of Python: not that view, for instance.


def _to_bytes(rows: Tensor, zero_point: int) -> Tensor:
    few = 32768  # fewer numbers are converted directly sooner than by way of int8
    if rows.numel() < few:
        return rows.add_(zero_point).to(torch.uint8)
    return rows.to(torch.int8).to(torch.uint8).add_(zero_point)
