"""Linear layers in 8-bit integers, for inference on the CPU.

A weight has one scale for each output channel. An activation has one for each token, computed as
the token passes (symmetric, as in section 2 of LLM.int8(), https://arxiv.org/abs/2208.07339,
without its outlier columns). Since a token's scale depends on no other token, a text has the same
vector alone and in any batch; one scale for a whole batch would not give that.

Sums are exact integers if the processor has VNNI or AMX. Older processors first add the products of
two neighbours in 16 bits, which can overflow. For them a channel's scale is chosen such that no two
neighbouring weights are too large together.
"""

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from retrieval.gte.cpu.onednn import int8_linear, to_bytes
from retrieval.gte.cpu.switches import is_on

_TYPICAL_ROWS = 256
"""Number of rows that the block layout is chosen for; one row and thousands work as well."""

_LIMIT = 127
"""The largest integer of an activation or a weight."""

_ANY_PAIR = 2 * _LIMIT
"""Limit on the sizes of two neighbouring weights together if sums can't overflow: none."""
_SAFE_PAIR = 128
"""The same if they can: times an unsigned 8-bit activation, 128 · 255 still fits into 16 bits."""

_ZERO_POINT = 128
"""Added to activations for products that take unsigned integers."""

_SMALLEST_PEAK = 1e-30
"""Replaces the peak of a row of zeros, so that a division by its scale is defined."""

MakeProduct = Callable[[Tensor, Tensor], nn.Module]
"""Makes a product of a weight, int8 [out, in], and its channels' scales, float32 [out].

The product is a module. It takes float32 rows [n, in] within ±127, which it rounds and overwrites,
and returns their products with the weight times the channels' scales, float32 [n, out]."""


class Int8Linear(nn.Module):
    """``nn.Linear`` over an int8 weight, with float32 input and output."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, few_rows: bool = False) -> None:
        """Quantise a copy of a weight.

        Args:
            weight: float32 [out, in].
            bias: float32 [out], or None.
            few_rows: whether to be fast for a short query rather than for a large batch.
        """
        super().__init__()
        weight = weight.detach()
        limit = pair_limit()
        scales = _scales(weight, limit or _ANY_PAIR)
        integers = (weight / scales[:, None]).round_().to(torch.int8)
        # A packed weight can't be saved, moved or trained.
        self._product = _choose(few_rows, limit)(integers, scales / _LIMIT)
        self._bias = None if bias is None else bias.detach().clone()

    def forward(self, rows: Tensor) -> Tensor:
        """Map float32 rows [n, in] to float32 [n, out]."""
        # Two passes that only read are faster than one that writes absolute values.
        most, least = rows.amax(dim=1, keepdim=True), rows.amin(dim=1, keepdim=True)
        peaks = torch.maximum(most, least.neg_()).clamp_min_(_SMALLEST_PEAK)  # [n, 1]
        product: Tensor = self._product(rows * (_LIMIT / peaks))
        if self._bias is None:
            return product.mul_(peaks)
        return torch.addcmul(self._bias, product, peaks, out=product)


def pair_limit() -> int | None:
    """Return the largest sum of two neighbouring weights' sizes with exact sums: 254 or 128.

    Returns:
        None if this build of torch lacks the operators or they are turned off: int8 then computes
        the same sums in float32, correctly but slowly.
    """
    return _tried_pair_limit() if is_on("int8") else None


@cache
def _tried_pair_limit() -> int | None:
    """Try the operators: torch does not say how they sum, nor whether a build has them."""
    return next(
        (limit for limit in (_ANY_PAIR, _SAFE_PAIR) if _is_exact(OneDnnProduct, limit)), None
    )


def has_exact_int8() -> bool:
    """Return whether this processor sums int8 products exactly, and therefore at full speed."""
    return pair_limit() == _ANY_PAIR


@cache
def _choose(few_rows: bool, limit: int | None) -> MakeProduct:
    """Return the fastest product that this processor computes exactly."""
    if limit is None:
        return Float32Product
    # Without VNNI, oneDNN takes three times as long as FBGEMM for 12 rows, and FBGEMM a tenth
    # longer than oneDNN for 1000.
    if few_rows and limit < _ANY_PAIR and _is_exact(FbgemmProduct, limit):
        return FbgemmProduct
    return OneDnnProduct


def _is_exact(make: MakeProduct, limit: int) -> bool:
    """Return whether a product exists and computes the largest sums of such pairs correctly."""
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
    """Return each channel's scale, [out]: the smallest that makes no weight and no pair too large.

    A pair is an even column and the next one, as the processor multiplies them.
    """
    sizes = weight.abs()
    peaks = sizes.amax(dim=1) / _LIMIT
    if pair < _ANY_PAIR:
        even = functional.pad(sizes, (0, sizes.shape[1] % 2))
        pairs = even.reshape(len(even), -1, 2).sum(dim=2).amax(dim=1)
        peaks = torch.maximum(peaks, pairs / (pair - 1))  # rounding may add 1/2 to each
    return peaks.clamp_min_(_SMALLEST_PEAK)


class OneDnnProduct(nn.Module):
    """Product of oneDNN: uses VNNI and AMX if the processor has them; fastest for large batches."""

    packed: Tensor

    def __init__(self, weight: Tensor, scales: Tensor) -> None:
        super().__init__()
        shape = [_TYPICAL_ROWS, weight.shape[1]]
        packed = torch.ops.onednn.qlinear_prepack(weight, shape)
        self.register_buffer("packed", packed, persistent=False)  # a trace needs a buffer
        self.scales = scales
        self.no_points = torch.zeros(len(scales), dtype=torch.int64)

    def forward(self, scaled: Tensor) -> Tensor:
        """Multiply; see ``MakeProduct``."""
        unsigned = to_bytes(scaled.round_(), _ZERO_POINT)
        return int8_linear(unsigned, _ZERO_POINT, self.packed, self.scales, self.no_points)


class FbgemmProduct(nn.Module):
    """Product of FBGEMM, which rounds as it reads: fastest for a few rows without VNNI."""

    def __init__(self, weight: Tensor, scales: Tensor) -> None:
        super().__init__()
        no_points = torch.zeros(len(scales), dtype=torch.int64)
        with warnings.catch_warnings():
            # torch announces the end of tensors that carry their scales. Without them, making this
            # product fails, and ``_choose`` takes the other one.
            warnings.simplefilter("ignore", UserWarning)
            with_scales = torch._make_per_channel_quantized_tensor(weight, scales, no_points, 0)
        self.packed = torch.ops.quantized.linear_prepack(with_scales, None)

    def forward(self, scaled: Tensor) -> Tensor:
        """Multiply; see ``MakeProduct``."""
        multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        sums: Tensor = multiply(scaled, 1.0, _ZERO_POINT, self.packed)
        return sums


class Float32Product(nn.Module):
    """The same sums in float32, up to its rounding: right everywhere, slower than plain float32."""

    def __init__(self, weight: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.weight = weight
        self.scales = scales

    def forward(self, scaled: Tensor) -> Tensor:
        """Multiply; see ``MakeProduct``."""
        return (scaled.round_() @ self.weight.float().T).mul_(self.scales)
