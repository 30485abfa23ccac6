"""Rotary position embedding (RoPE, https://arxiv.org/abs/2104.09864).

Each pair of a head's dimensions is turned by an angle proportional to the token's position.
GTE-v1.5 extends its context with an NTK-aware scaling that is fixed, not dynamic: the frequencies
are the same for texts of every length. The "mixed" variant is equation 10 of
https://kexue.fm/archives/9706.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from retrieval.gte.encoder_config import RopeConfig


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> Tensor:
    """Return the radians that one position adds to the angle of each pair of dimensions.

    For pair i of a head with d dimensions:

    - plain: ``theta^(-2i/d)``;
    - linear: the same, divided by the linear factor;
    - NTK with factor s: ``(theta·s)^(-2i/d) / s^(2/d)``;
    - mixed NTK: ``theta^(-2i/d) / exp(a·(i+1)^b)``, where ``a = ln s / (d/2)^b``.

    Args:
        rope: base and scaling.
        head_dim: d, even.

    Returns:
        float32 [head_dim / 2].
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    scale = rope.ntk_factor
    if rope.ntk_mixed_b is not None:
        half = head_dim // 2
        growth = torch.tensor(scale).log() / math.pow(half, rope.ntk_mixed_b)
        ramp = torch.arange(1, half + 1, dtype=torch.float32) ** rope.ntk_mixed_b
        return torch.pow(rope.theta, exponents).reciprocal() / (growth * ramp).exp()
    # The operations are in the reference's order: far positions magnify a frequency's last bit.
    frequencies = torch.pow(rope.theta * scale, exponents).reciprocal()
    return frequencies / math.pow(scale, 2 / head_dim) / rope.linear_factor


class Rotation(Protocol):
    """Rotation of queries and keys by the positions of their tokens."""

    def turn(self, states: Tensor, /) -> Tensor:
        """Return states [N, heads, head_dim] turned, of the same shape and type.

        The states passed in may be overwritten.
        """
        ...

    def of(self, rows: Tensor, /) -> "Rotation":
        """Return the rotation of some of the tokens; ``rows`` is int64 [B]."""
        ...


@dataclass(frozen=True, slots=True)
class HalvesRotation:
    """Rotation that pairs dimension i of a head with i + d/2 ("rotate half"), as checkpoints do."""

    cos: Tensor
    """[N, 1, head_dim]."""
    sin: Tensor

    @classmethod
    def at(cls, positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> "HalvesRotation":
        """Compute the rotation of tokens; the angles are computed in float32.

        Args:
            positions: int64 [N], restarting at 0 with each sequence.
            frequencies: float32 [head_dim / 2].
            dtype: type of the states to turn.
        """
        angles = positions[:, None].float() * frequencies  # [N, d/2]
        angles = torch.cat((angles, angles), dim=-1)[:, None, :]  # [N, 1, d]
        return cls(angles.cos().to(dtype), angles.sin().to(dtype))

    def turn(self, states: Tensor) -> Tensor:
        """Turn a copy of the states; see ``Rotation``."""
        first, second = states.chunk(2, dim=-1)
        return states * self.cos + torch.cat((-second, first), dim=-1) * self.sin

    def of(self, rows: Tensor) -> "HalvesRotation":
        """Return the rotation of some of the tokens; see ``Rotation``."""
        return HalvesRotation(self.cos[rows], self.sin[rows])


@dataclass(frozen=True, slots=True)
class PairsRotation:
    """Rotation that pairs dimension 2i of a head with 2i + 1, as one complex number.

    One complex product turns a pair. That is a single pass over the states, in place, where turning
    halves takes five; on a CPU it is several times as fast. Attention scores stay the same if
    the dimensions of both queries and keys are reordered by ``neighbours``.
    """

    factors: Tensor
    """complex64 [N, 1, head_dim / 2], of absolute value 1."""

    @classmethod
    def at(cls, positions: Tensor, frequencies: Tensor) -> "PairsRotation":
        """Compute the rotation for float32 states; see ``HalvesRotation.at``."""
        angles = (positions[:, None].float() * frequencies)[:, None, :]
        return cls(torch.polar(torch.ones_like(angles), angles))

    def turn(self, states: Tensor) -> Tensor:
        """Turn the states in place; see ``Rotation``."""
        _, heads, head_dim = states.shape
        torch.view_as_complex(states.view(-1, heads, head_dim // 2, 2)).mul_(self.factors)
        return states

    def of(self, rows: Tensor) -> "PairsRotation":
        """Return the rotation of some of the tokens; see ``Rotation``."""
        return PairsRotation(self.factors[rows])


def neighbours(head_dim: int) -> Tensor:
    """Return the order of a head's dimensions that makes neighbours of i and i + d/2.

    Args:
        head_dim: d, even.

    Returns:
        int64 [head_dim]: 0, d/2, 1, d/2 + 1 and so on.
    """
    return torch.arange(head_dim).view(2, -1).T.flatten()
