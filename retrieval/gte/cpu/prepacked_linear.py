"""Linear layers whose float32 weights lie in memory as oneDNN's matrix product reads them.

oneDNN reads a weight in blocks that suit the processor. Laid out that way once, at loading, a
product of a large batch is a fifth faster, and that of a short query, which is bound by reading the
weights, several times. torch.compile uses the same operators for the same purpose.
"""

from functools import cache

import torch
from torch import Tensor, nn

from retrieval.gte.cpu.onednn import linear
from retrieval.gte.cpu.switches import is_on

_TYPICAL_ROWS = 256
"""Number of rows that the block layout is chosen for; one row and thousands work as well."""


class PackedLinear(nn.Module):
    """``nn.Linear`` over a prepacked float32 weight, for inference on the CPU."""

    _weight: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Copy a weight into the layout of oneDNN.

        Args:
            weight: float32 [out, in].
            bias: float32 [out], or None.
        """
        super().__init__()
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _TYPICAL_ROWS)
        # A trace needs it to be a buffer, although it can't be saved, moved or trained.
        self.register_buffer("_weight", packed, persistent=False)
        self._bias = None if bias is None else bias.detach().clone()

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows [n, in] to [n, out]."""
        return linear(rows, self._weight, self._bias)


def can_prepack() -> bool:
    """Return whether to prepack weights: it is not turned off, and torch has the operators."""
    return is_on("prepack") and _has_operators()


@cache
def _has_operators() -> bool:
    """Try a small product: the operators are torch's, but not part of its public interface."""
    weight, rows = torch.arange(48.0).view(6, 8), torch.arange(24.0).view(3, 8)
    bias = torch.arange(6.0)
    try:
        with torch.inference_mode():
            product = PackedLinear(weight, bias)(rows)
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(product, rows @ weight.T + bias)
