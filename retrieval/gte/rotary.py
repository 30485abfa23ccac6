"""Rotary position embedding (RoPE, https://arxiv.org/abs/2104.09864) as pure functions.

GTE-v1.5 extends its context with a fixed (not dynamic) NTK-aware scaling: the same frequencies at
every length. The "mixed" variant is from https://kexue.fm/archives/9706, equation 10.
"""

import math

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


def cos_sin(positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every token's angles; angles are computed in float32.

    Args:
        positions: int64 [N], each sequence restarting at 0.
        frequencies: float32 [head_dim / 2].
        dtype: of the result.

    Returns:
        two tensors [N, 1, head_dim], ready to multiply [N, heads, head_dim].
    """
    angles = positions[:, None].float() * frequencies  # [N, d/2]
    angles = torch.cat((angles, angles), dim=-1)[:, None, :]  # [N, 1, d]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each head's vector by its position ("rotate half": dimension i pairs with i + d/2).

    Args:
        states: [N, heads, head_dim], queries or keys.
        cos: [N, 1, head_dim].
        sin: [N, 1, head_dim].

    Returns:
        [N, heads, head_dim], of the same dtype.
    """
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat((-second, first), dim=-1) * sin
