"""Rotary position embedding (RoPE, https://arxiv.org/abs/2104.09864) as pure functions.

GTE-v1.5 extends its context with a fixed (not dynamic) NTK-aware scaling: the same frequencies at
every length. The "mixed" variant is from https://kexue.fm/archives/9706, equation 10.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from retrieval.gte.config import RopeConfig


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> Tensor:
    """Radians a position adds to each pair of a head's dimensions.

    Plain: ``theta^(-2i/d)``; NTK with factor s: ``(theta·s)^(-2i/d) / s^(2/d)``; linear: divided
    by its factor; mixed NTK: ``theta^(-2i/d) / exp(a·(i+1)^b)`` with ``a = ln s / (d/2)^b``.

    Args:
        rope: base angle and scaling.
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
    # In the reference's own order: the last bit of a frequency shows at far positions.
    frequencies = torch.pow(rope.theta * scale, exponents).reciprocal()
    return frequencies / math.pow(scale, 2 / head_dim) / rope.linear_factor


class Rotation(Protocol):
    """Turns queries and keys by their tokens' positions."""

    def turn(self, states: Tensor, /) -> Tensor:
        """[N, heads, head_dim] → the same shape and dtype; the states themselves may change."""
        ...

    def of(self, rows: Tensor, /) -> "Rotation":
        """For some of the tokens; ``rows`` is int64 [B]."""
        ...


@dataclass(frozen=True, slots=True)
class HalvesRotation:
    """Dimension i of a head pairs with i + d/2 ("rotate half"), as checkpoints have it."""

    cos: Tensor
    """[N, 1, head_dim]."""
    sin: Tensor

    @classmethod
    def at(cls, positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> "HalvesRotation":
        """Compute angles in float32.

        Args:
            positions: int64 [N], each sequence restarting at 0.
            frequencies: float32 [head_dim / 2].
            dtype: of the states to turn.
        """
        angles = positions[:, None].float() * frequencies  # [N, d/2]
        angles = torch.cat((angles, angles), dim=-1)[:, None, :]  # [N, 1, d]
        return cls(angles.cos().to(dtype), angles.sin().to(dtype))

    def turn(self, states: Tensor) -> Tensor:
        """See ``Rotation``; the states stay as they are."""
        first, second = states.chunk(2, dim=-1)
        return states * self.cos + torch.cat((-second, first), dim=-1) * self.sin

    def of(self, rows: Tensor) -> "HalvesRotation":
        """See ``Rotation``."""
        return HalvesRotation(self.cos[rows], self.sin[rows])


@dataclass(frozen=True, slots=True)
class PairsRotation:
    """Dimension 2i of a head pairs with 2i + 1: a pair is a complex number, turned by a product.

    That is one pass over the states, in place, where turning halves takes five: several times as
    fast on a CPU. Scores are the same when queries and keys are laid out so alike; see
    ``neighbours``.
    """

    factors: Tensor
    """complex64 [N, 1, head_dim / 2], of length 1."""

    @classmethod
    def at(cls, positions: Tensor, frequencies: Tensor) -> "PairsRotation":
        """As ``HalvesRotation.at``, for float32 states."""
        angles = (positions[:, None].float() * frequencies)[:, None, :]
        return cls(torch.polar(torch.ones_like(angles), angles))

    def turn(self, states: Tensor) -> Tensor:
        """See ``Rotation``; the states are turned in place."""
        _, heads, head_dim = states.shape
        torch.view_as_complex(states.view(-1, heads, head_dim // 2, 2)).mul_(self.factors)
        return states

    def of(self, rows: Tensor) -> "PairsRotation":
        """See ``Rotation``."""
        return PairsRotation(self.factors[rows])


def neighbours(head_dim: int) -> Tensor:
    """The order of a head's dimensions in which those that pair as halves are neighbours.

    Args:
        head_dim: d, even.

    Returns:
        int64 [head_dim]: 0, d/2, 1, d/2 + 1, …
    """
    return torch.arange(head_dim).view(2, -1).T.flatten()
