"""Linear layers in 8-bit integers, for inference on the CPU.

A weight gets one scale for each output channel, an activation one for each token, found as it comes
(symmetric; as in LLM.int8(), https://arxiv.org/abs/2208.07339, section 2, without its outlier
columns). Since no token's scale depends on another token, a text has the same vector alone and in
any batch, which one scale for a whole batch would not give.

Sums are exact integers where the processor has VNNI or AMX. Older ones add the products of two
neighbours in 16 bits first, which can overflow: there a channel's scale is such that no two
neighbouring weights are too large together.
"""

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from retrieval.gte.cpu.onednn import int8_linear, to_bytes

_TYPICAL_ROWS = 256
"""The weight's block layout is chosen for so many rows; it serves one row and thousands as well."""

_LIMIT = 127
"""The largest integer of an activation or a weight."""

_ANY_PAIR = 2 * _LIMIT
_SAFE_PAIR = 128
"""Most that the sizes of two weights may add up to so that, times unsigned 8 bits, they fit 16."""

_ZERO_POINT = 128
"""Added to activations where a product wants them unsigned."""

_SMALLEST_PEAK = 1e-30
"""Stands for the peak of a row of zeros, so that its scale can be divided by."""

MakeProduct = Callable[[Tensor, Tensor], nn.Module]
"""Weight int8 [out, in] and scales float32 [out] → the product: a module that takes float32 [n, in]
within ±127, which it changes, and gives its integers times the weight's, each output channel in its
own scale: float32 [n, out]."""


class Int8Linear(nn.Module):
    """``nn.Linear`` over an int8 weight: float32 in, float32 out."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, few_rows: bool = False) -> None:
        """Quantise a weight; it is copied.

        Args:
            weight: float32 [out, in].
            bias: float32 [out], or None.
            few_rows: whether to be fast for a short query rather than for a large batch.
        """
        super().__init__()
        weight = weight.detach()
        scales = _scales(weight, pair_limit() or _ANY_PAIR)
        integers = (weight / scales[:, None]).round_().to(torch.int8)
        # A packed weight can't be saved, moved or trained.
        self._product = _choose(few_rows)(integers, scales / _LIMIT)
        self._bias = None if bias is None else bias.detach().clone()

    def forward(self, rows: Tensor) -> Tensor:
        """[n, in] → [n, out], both float32."""
        # Reading twice is faster than writing sizes down to read them.
        most, least = rows.amax(dim=1, keepdim=True), rows.amin(dim=1, keepdim=True)
        peaks = torch.maximum(most, least.neg_()).clamp_min_(_SMALLEST_PEAK)  # [n, 1]
        product: Tensor = self._product(rows * (_LIMIT / peaks))
        if self._bias is None:
            return product.mul_(peaks)
        return torch.addcmul(self._bias, product, peaks, out=product)


@cache
def pair_limit() -> int | None:
    """The most that two neighbouring weights' sizes may add up to for exact sums: 254 or 128.

    Found by trying: the operators are torch's own, but not part of its interface, and how they sum
    is not to be asked. None: this build of torch lacks them; int8 is then right, but not fast.
    """
    return next(
        (limit for limit in (_ANY_PAIR, _SAFE_PAIR) if _is_exact(OneDnnProduct, limit)), None
    )


def has_exact_int8() -> bool:
    """Whether this processor sums products of two 8-bit integers exactly, and so at full speed."""
    return pair_limit() == _ANY_PAIR


@cache
def _choose(few_rows: bool) -> MakeProduct:
    """The fastest product that this processor computes exactly."""
    limit = pair_limit()
    if limit is None:
        return Float32Product
    # Without VNNI, oneDNN takes 12 rows 3 times as long as FBGEMM does, and FBGEMM 1000 rows a
    # tenth longer than oneDNN.
    if few_rows and limit < _ANY_PAIR and _is_exact(FbgemmProduct, limit):
        return FbgemmProduct
    return OneDnnProduct


def _is_exact(make: MakeProduct, limit: int) -> bool:
    """Whether a product exists, and the largest sums of weights in such pairs come out right."""
    small = limit - _LIMIT
    pairs = [(_LIMIT, small), (small, _LIMIT), (limit // 2, limit // 2)]
    pairs += [(-first, -second) for first, second in pairs]
    weight = torch.tensor(pairs, dtype=torch.int8).repeat(1, 32)  # [6, 64]
    rows = torch.tensor([[_LIMIT], [-_LIMIT]]).repeat(1, 64).float()
    try:
        return torch.equal(make(weight, torch.ones(6))(rows.clone()), rows @ weight.float().T)
    except (AttributeError, RuntimeError):
        return False


def _scales(weight: Tensor, pair: int) -> Tensor:
    """Each channel's, [out]: the smallest with which no weight and no pair of weights is too large.

    A pair is an even column and the next one, as the processor takes them.
    """
    sizes = weight.abs()
    peaks = sizes.amax(dim=1) / _LIMIT
    if pair < _ANY_PAIR:
        even = functional.pad(sizes, (0, sizes.shape[1] % 2))
        pairs = even.reshape(len(even), -1, 2).sum(dim=2).amax(dim=1)
        peaks = torch.maximum(peaks, pairs / (pair - 1))  # rounding may add 1/2 to each
    return peaks.clamp_min_(_SMALLEST_PEAK)


class OneDnnProduct(nn.Module):
    """The product of oneDNN: VNNI and AMX where there are, and the fastest for large batches."""

    packed: Tensor

    def __init__(self, weight: Tensor, scales: Tensor) -> None:
        super().__init__()
        shape = [_TYPICAL_ROWS, weight.shape[1]]
        packed = torch.ops.onednn.qlinear_prepack(weight, shape)
        self.register_buffer("packed", packed, persistent=False)  # as a trace wants it
        self.scales = scales
        self.no_points = torch.zeros(len(scales), dtype=torch.int64)

    def forward(self, scaled: Tensor) -> Tensor:
        """See ``MakeProduct``."""
        unsigned = to_bytes(scaled.round_(), _ZERO_POINT)
        return int8_linear(unsigned, _ZERO_POINT, self.packed, self.scales, self.no_points)


class FbgemmProduct(nn.Module):
    """The product of FBGEMM, which rounds as it reads: the fastest for a few rows without VNNI."""

    def __init__(self, weight: Tensor, scales: Tensor) -> None:
        super().__init__()
        no_points = torch.zeros(len(scales), dtype=torch.int64)
        with warnings.catch_warnings():
            # Tensors that carry their scales will go from torch some day; then this is not chosen.
            warnings.simplefilter("ignore", UserWarning)
            with_scales = torch._make_per_channel_quantized_tensor(weight, scales, no_points, 0)
        self.packed = torch.ops.quantized.linear_prepack(with_scales, None)

    def forward(self, scaled: Tensor) -> Tensor:
        """See ``MakeProduct``."""
        multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        sums: Tensor = multiply(scaled, 1.0, _ZERO_POINT, self.packed)
        return sums


class Float32Product(nn.Module):
    """The same sums up to float32's rounding, at less than float32's speed."""

    def __init__(self, weight: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.weight = weight
        self.scales = scales

    def forward(self, scaled: Tensor) -> Tensor:
        """See ``MakeProduct``."""
        return (scaled.round_() @ self.weight.float().T).mul_(self.scales)
