"""Absolute positions that turn into rotations."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from retrieval.gte import GteModel, load_model, pack
from retrieval.gte.encoder_config import RopeConfig
from retrieval.gte.rotary import HalvesRotation, inverse_frequencies
from training.convert import gte_config, gte_weights
from training.from_bert.heads import Heads, balanced_basis, position_offsets
from training.from_bert.pooling_layer import pooling_weights

THETA = 160_000.0
WIDTH, PLACES = 16, 64
DOCS = Path(__file__).parents[2] / "docs"


def _heads(means: torch.Tensor) -> Heads:
    """One head whose queries and keys vary little but for their positions."""
    little = torch.eye(WIDTH, dtype=torch.float64).expand(2, 1, -1, -1) * 0.01
    return Heads(little, means, little)


def test_offsets_make_a_head_look_where_positions_made_it_look() -> None:
    frequencies = inverse_frequencies(RopeConfig(THETA), WIDTH)
    angles = torch.arange(PLACES, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.4, 0.15])
    for distance in (-1, 0, 2):
        query, key = (
            torch.cat([turned.cos(), turned.sin()], dim=1) * 4
            for turned in (angles, angles - distance * torch.tensor([1.0, 0.4, 0.15]))
        )
        means = torch.zeros(2, 1, PLACES, WIDTH, dtype=torch.float64)
        means[0, 0, :, :6], means[1, 0, :, :6] = query, key
        offsets = position_offsets(_heads(means), frequencies)
        rotation = HalvesRotation.at(torch.arange(PLACES), frequencies, torch.float64)
        asked, found = (
            rotation.turn(offset.expand(PLACES, 1, -1)).squeeze(1) for offset in offsets[:, 0]
        )
        scores = asked @ found.T / WIDTH**0.5
        inner = torch.arange(8, PLACES - 8)
        assert (scores[inner].argmax(dim=1) == inner + distance).all()


def test_too_few_texts_tell_nothing_of_positions() -> None:
    batch = pack([[2, *range(10, 40), 3]] * 3)
    projected = torch.randn(len(batch.token_ids), 3 * 2 * WIDTH)
    heads = Heads.of(projected, batch, 2)
    assert heads.means.shape[2] == 0
    frequencies = inverse_frequencies(RopeConfig(THETA), WIDTH)
    assert not position_offsets(heads, frequencies).any()


def test_scores_are_the_same_in_the_balanced_basis() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = pack([[2, *range(10, 60), 3]] * 4)
    projected = torch.randn(len(batch.token_ids), 3 * WIDTH, generator=generator)
    heads = Heads.of(projected, batch, 1)
    basis = balanced_basis(heads)
    query, key = projected.double()[:, :WIDTH], projected.double()[:, WIDTH : 2 * WIDTH]
    torch.testing.assert_close(
        (query @ basis[0, 0].T) @ (key @ basis[1, 0].T).T, query @ key.T, atol=1e-6, rtol=0
    )
    moments = heads.changed(basis).moments
    torch.testing.assert_close(moments[0], moments[1], atol=1e-3, rtol=0)


@pytest.mark.slow
def test_a_bert_is_closer_to_what_it_was_with_its_positions(minilm_folder: Path) -> None:
    bert = load_model(minilm_folder, trainable=True)
    tokenizer = Tokenizer.from_file(str(minilm_folder / "tokenizer.json"))
    tokenizer.no_truncation()
    pages = [tokenizer.encode(page.read_text()).ids[1:-1] for page in sorted(DOCS.glob("*.md"))]
    rows = [
        [101, *page[at : at + 62], 102] for page in pages for at in range(0, len(page) - 62, 62)
    ]
    sample, few = pack(rows[::2][:200]), pack(rows[1::20])  # few: too few to see positions
    with torch.no_grad():
        wanted = bert(few)
        cosines = []
        for seen in (sample, few):
            student = GteModel(gte_config(bert.config, rope_theta=THETA, max_positions=8192))
            student.load_state_dict(gte_weights(bert, seen, rope_theta=THETA))
            student.prepare_training(device="cpu")
            cosines.append(torch.cosine_similarity(student(few), wanted).mean().item())
    assert cosines[0] > cosines[1] + 0.03


def test_the_pooling_layer_takes_the_mean(minilm_folder: Path) -> None:
    bert = load_model(minilm_folder, trainable=True)
    config = gte_config(bert.config, rope_theta=THETA, max_positions=8192)
    batch = pack([[101, *range(3000, 3040), 102], [101, 7592, 102], [101, *range(900, 1300), 102]])
    weights = gte_weights(bert, batch, rope_theta=THETA)
    with torch.no_grad():
        student = GteModel(config)
        student.load_state_dict(weights)
        student.prepare_training(device="cpu")
        mean = student.embed(batch, "mean")
        pooled = GteModel(replace(config, num_layers=config.num_layers + 1))
        pooled.load_state_dict(weights | pooling_weights(config))
        pooled.prepare_training(device="cpu")
        assert (pooled.embed(batch, "cls") * mean).sum(dim=1).min() > 0.97
