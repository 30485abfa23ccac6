"""Choice of the fastest modules for the layers, made once, when a model is loaded.

It depends on the processor and on what the model is for. All choices compute the same vectors
within rounding. ``benchmarks/encoder/products.py`` times them beside each other.
"""

from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn

from retrieval.gte.cpu.int8_linear import Int8Linear, OneDnnProduct
from retrieval.gte.cpu.prepacked_linear import PackedLinear, can_prepack
from retrieval.gte.cpu.switches import is_on

Workload = Literal["throughput", "latency"]
"""What a model is for: batches of a thousand tokens, or one short query at a time."""

MakeLinear = Callable[[Tensor, Tensor | None], nn.Module]


def lay_out(
    module: nn.Module, *, dtype: torch.dtype, device: torch.device | str, workload: Workload
) -> bool:
    """Replace the linear layers and GELUs inside a module by the fastest for inference.

    The replaced layers' weights are freed.

    Args:
        module: with its weights loaded; float32 if ``dtype`` is ``torch.int8``.
        dtype: the type that the weights are to have.
        device: where they are.
        workload: what the model is for.

    Returns:
        whether oneDNN computes the products, which prefers batches of few distinct sizes.
    """
    make_linear = _choose_linear(dtype, torch.device(device).type, workload)
    _replace(module, make_linear, gelu_in_place=is_on("gelu"))
    return any(isinstance(part, PackedLinear | OneDnnProduct) for part in module.modules())


class GeluInPlace(nn.Module):
    """Exact (erf) GELU that overwrites its input, which saves allocating the result."""

    def forward(self, inner: Tensor) -> Tensor:
        """Return the input itself, changed."""
        return cast(Tensor, torch.ops.aten.gelu_(inner))


def _choose_linear(dtype: torch.dtype, device: str, workload: Workload) -> MakeLinear | None:
    """Return what makes the replacement of an ``nn.Linear``, or None to keep it."""
    if dtype == torch.int8:
        return lambda weight, bias: Int8Linear(weight, bias, few_rows=workload == "latency")
    if dtype != torch.float32 or device != "cpu" or not can_prepack():
        return None
    return None if workload == "throughput" and _plain_is_faster() else PackedLinear


def _plain_is_faster() -> bool:
    """Return whether torch's own product, which is MKL's, is the faster one for many rows.

    With AVX2 it is, by 15–20 % above about 100 rows; with AVX-512 oneDNN is faster.
    """
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def _replace(module: nn.Module, make_linear: MakeLinear | None, *, gelu_in_place: bool) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            if make_linear is not None:
                setattr(module, name, make_linear(child.weight, child.bias))
        elif isinstance(child, nn.GELU):
            if gelu_in_place:
                setattr(module, name, GeluInPlace())
        else:
            _replace(child, make_linear, gelu_in_place=gelu_in_place)
