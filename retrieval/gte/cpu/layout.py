"""How the weights of the layers lie in memory: chosen once, when a model is loaded.

What is fastest depends on the processor and on what the model is for. All choices give the same
vectors within rounding. ``benchmarks/encoder/products.py`` times them beside each other.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from retrieval.gte.cpu.int8_linear import Int8Linear, OneDnnProduct
from retrieval.gte.cpu.prepacked_linear import PackedLinear, can_prepack

Workload = Literal["throughput", "latency"]
"""What a model is for: batches of a thousand tokens, or one short query at a time."""

MakeLinear = Callable[[Tensor, Tensor | None], nn.Module]


def lay_out(
    module: nn.Module, *, dtype: torch.dtype, device: torch.device | str, workload: Workload
) -> bool:
    """Replace every ``nn.Linear`` inside a module by what is fastest, freeing its weight.

    Args:
        module: with its weights in; float32 if ``dtype`` is ``torch.int8``.
        dtype: what the weights are to be.
        device: where they are.
        workload: what the model is for.

    Returns:
        whether products are oneDNN's, for which batches should be of few sizes.
    """
    make = _choose(dtype, torch.device(device).type, workload)
    if make is not None:
        _replace(module, make)
    return any(isinstance(part, PackedLinear | OneDnnProduct) for part in module.modules())


def _choose(dtype: torch.dtype, device: str, workload: Workload) -> MakeLinear | None:
    """The layer to put in place of ``nn.Linear``; None: it stays."""
    if dtype == torch.int8:
        return lambda weight, bias: Int8Linear(weight, bias, few_rows=workload == "latency")
    if dtype != torch.float32 or device != "cpu" or not can_prepack():
        return None
    return None if workload == "throughput" and _plain_is_faster() else PackedLinear


def _plain_is_faster() -> bool:
    """Whether many rows go faster through torch's own product, which is MKL's.

    With AVX2 by 15–20 % from about 100 rows on; with AVX-512 oneDNN's is the faster one.
    """
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def _replace(module: nn.Module, make: MakeLinear) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            setattr(module, name, make(child.weight, child.bias))
        else:
            _replace(child, make)
