"""Linear layers in 8-bit integers, for inference on the CPU.

A weight gets one scale for each output channel, an activation one for each token, found as it comes
(symmetric; as in LLM.int8(), https://arxiv.org/abs/2208.07339, section 2, without its outlier
columns). Since no token's scale depends on another token, a text has the same vector alone and in
any batch, which one scale for a whole batch would not give.

Sums are exact integers where the processor has VNNI or AMX. Older ones add two products in 16 bits
first, which can overflow: there activations get 7 bits, so that no sum does.
"""

from functools import cache

import torch
from torch import Tensor, nn

_TYPICAL_ROWS = 256
"""The weight's block layout is chosen for so many rows; it serves one row and thousands as well."""

_WEIGHT_LIMIT = 127
_SMALLEST_PEAK = 1e-30
"""Stands for the peak of a row of zeros, so that its scale can be divided by."""


class Int8Linear(nn.Module):
    """``nn.Linear`` over an int8 weight: float32 in, float32 out."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Quantise a weight; it is copied.

        Args:
            weight: float32 [out, in].
            bias: float32 [out], or None.
        """
        super().__init__()
        weight = weight.detach()
        scales = weight.abs().amax(dim=1).clamp_min_(_SMALLEST_PEAK) / _WEIGHT_LIMIT  # [out]
        integers = (weight / scales[:, None]).round_().to(torch.int8)
        limit = activation_limit()
        self._native = limit is not None
        self._limit = limit or _WEIGHT_LIMIT
        # No parameters: a packed weight can't be saved, moved or trained.
        self._weight = _onednn_pack(integers) if self._native else integers
        self._scales = scales / self._limit
        self._bias = None if bias is None else bias.detach().clone()

    def forward(self, rows: Tensor) -> Tensor:
        """[n, in] → [n, out], both float32."""
        scaled = rows.abs()
        peaks = scaled.amax(dim=1, keepdim=True).clamp_min_(_SMALLEST_PEAK)  # [n, 1]
        torch.mul(rows, self._limit / peaks, out=scaled)
        integers = scaled.round_().to(torch.int8)
        product = self._product(integers)
        if self._bias is None:
            return product.mul_(peaks)
        return torch.addcmul(self._bias, product, peaks, out=product)

    def _product(self, integers: Tensor) -> Tensor:
        """Int8 [n, in] → float32 [n, out], each output channel in its own scale."""
        if self._native:
            return _onednn_product(integers, self._limit, self._weight, self._scales)
        # The same sums up to float32's rounding, at less than float32's speed.
        return (integers.float() @ self._weight.float().T).mul_(self._scales)


def quantize(module: nn.Module) -> None:
    """Replace every ``nn.Linear`` inside a module by an ``Int8Linear``, freeing its weight."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child.weight, child.bias))
        else:
            quantize(child)


@cache
def activation_limit() -> int | None:
    """The largest integer for an activation with which this processor's sums are exact: 127 or 63.

    Found by trying: the operators are torch's own, but not part of its interface, and how they sum
    is not to be asked. None: this build of torch lacks them; int8 is then right, but not fast.
    """
    try:
        return next((limit for limit in (127, 63) if _sums_exactly(limit)), None)
    except (AttributeError, RuntimeError):
        return None


def has_exact_int8() -> bool:
    """Whether this processor sums products of two 8-bit integers exactly, and so at full speed."""
    return activation_limit() == _WEIGHT_LIMIT


def _sums_exactly(limit: int) -> bool:
    """Whether the largest products of all signs come out right."""
    ones = torch.ones(8)
    for activation in (limit, -limit):
        for weight in (_WEIGHT_LIMIT, -_WEIGHT_LIMIT):
            packed = _onednn_pack(torch.full((8, 64), weight, dtype=torch.int8))
            integers = torch.full((2, 64), activation, dtype=torch.int8)
            expected = torch.full((2, 8), 64.0 * activation * weight)
            if not torch.equal(_onednn_product(integers, limit, packed, ones), expected):
                return False
    return True


def _onednn_pack(integers: Tensor) -> Tensor:
    """Lay out an int8 weight [out, in] as the processor's products want it."""
    packed: Tensor = torch.ops.onednn.qlinear_prepack(integers, [_TYPICAL_ROWS, integers.shape[1]])
    return packed


def _onednn_product(integers: Tensor, limit: int, packed: Tensor, scales: Tensor) -> Tensor:
    """The product with a packed weight; changes ``integers`` in place."""
    # The operator wants unsigned activations; negative ones come out right as bytes wrap around.
    zero_point = limit + 1
    unsigned = integers.view(torch.uint8).add_(zero_point)
    product: Tensor = torch.ops.onednn.qlinear_pointwise(
        unsigned,
        1.0,
        zero_point,
        packed,
        scales,
        torch.zeros(len(scales), dtype=torch.int64),
        None,  # the bias comes after the tokens' scales
        1.0,
        0,
        torch.float32,
        "none",
        [],
        "",
    )
    return product
