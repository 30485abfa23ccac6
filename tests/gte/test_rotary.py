"""Queries and keys turned as halves, and as pairs of neighbours: the same scores."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from retrieval.gte.encoder_config import RopeConfig
from retrieval.gte.rotary import (
    HalvesRotation,
    PairsRotation,
    inverse_frequencies,
    neighbours,
)


@given(
    tokens=st.integers(1, 40),
    heads=st.integers(1, 4),
    half=st.integers(1, 32),
    start=st.integers(0, 8000),
    seed=st.integers(0, 99),
)
def test_pairs_turn_as_halves_do(tokens: int, heads: int, half: int, start: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(tokens, heads, 2 * half, generator=generator)
    positions = torch.arange(start, start + tokens)
    frequencies = inverse_frequencies(RopeConfig(10_000.0), 2 * half)
    order = neighbours(2 * half)

    halves = HalvesRotation.at(positions, frequencies, torch.float32)
    pairs = PairsRotation.at(positions, frequencies)
    wanted = halves.turn(states)
    got = pairs.turn(states[:, :, order])

    assert torch.allclose(got, wanted[:, :, order], atol=1e-5)
    rows = torch.tensor([tokens - 1, 0])
    some = pairs.of(rows).turn(states[rows][:, :, order])
    assert torch.allclose(some, halves.of(rows).turn(states[rows])[:, :, order], atol=1e-5)
    assert torch.allclose(some, got[rows], atol=1e-5)


def test_states_inside_of_a_wider_tensor_are_turned_in_place() -> None:
    all_three = torch.randn(5, 3, 8)
    before = all_three.clone()
    rotation = PairsRotation.at(torch.arange(5), inverse_frequencies(RopeConfig(100.0), 8))
    turned = rotation.turn(all_three[:, :2])
    assert turned.data_ptr() == all_three.data_ptr()
    assert torch.equal(all_three[:, 2], before[:, 2])
    assert not torch.allclose(all_three[1:, :2], before[1:, :2])


def test_neighbours() -> None:
    assert neighbours(6).tolist() == [0, 3, 1, 4, 2, 5]
