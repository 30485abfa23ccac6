"""Linear layers whose weights lie in memory as the CPU's matrix multiply wants them.

oneDNN reads a weight in blocks that suit the processor. Laid out so once, at loading, products are
faster by a fifth for large batches and several times for a short query, which is bound by reading
the weights. The operators are those that torch.compile uses for the same purpose.
"""

from functools import cache

import torch
from torch import Tensor, nn

from retrieval.gte.cpu.onednn import linear

_TYPICAL_ROWS = 256
"""The block layout is chosen for so many rows; it serves one row and thousands as well."""


class PackedLinear(nn.Module):
    """``nn.Linear`` over a prepacked float32 weight, for inference on the CPU."""

    _weight: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Lay out a weight; it is copied.

        Args:
            weight: float32 [out, in].
            bias: float32 [out], or None.
        """
        super().__init__()
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _TYPICAL_ROWS)
        # A buffer, as a trace wants it; but it can't be saved, moved or trained.
        self.register_buffer("_weight", packed, persistent=False)
        self._bias = None if bias is None else bias.detach().clone()

    def forward(self, rows: Tensor) -> Tensor:
        """[n, in] → [n, out]."""
        return linear(rows, self._weight, self._bias)


@cache
def can_prepack() -> bool:
    """Whether this build of torch has the operators.

    Found by trying a small product: they are torch's own, but not part of its interface.
    """
    weight, rows = torch.arange(48.0).view(6, 8), torch.arange(24.0).view(3, 8)
    bias = torch.arange(6.0)
    try:
        with torch.inference_mode():
            product = PackedLinear(weight, bias)(rows)
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(product, rows @ weight.T + bias)
