"""Long texts: stretches of documents, and what a teacher wants of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.errors import InvalidArgument
from training.data.batches import Batches, SpecialTokens, pieces
from training.learning.discriminant import Discriminant
from training.models.teacher import OfPieces, Teacher
from training.stages import Stage

MakeBatches = Callable[[Stage], Batches]

STAGE = Stage(
    "distil",
    steps=1,
    learning_rate=1e-3,
    max_length=100,
    batch_tokens=300,
    whole_documents=True,
    stretches=True,
    discriminant=0.01,
)


def test_a_long_text_is_taught_by_its_pieces(teacher_folder: Path) -> None:
    teacher = Teacher(str(teacher_folder), "cpu")
    special = SpecialTokens(first=2, last=3, mask=4, vocabulary=90)
    inner = np.random.default_rng(5).integers(10, 60, teacher.piece_tokens + 9).tolist()
    long, short = [2, *inner, 3], [2, 11, 12, 3]
    taught = teacher.teach([short, long], special)
    parts = [teacher.teach([part], special) for part in pieces(long, special, teacher.piece_tokens)]
    assert len(parts) == 2
    alone = teacher.teach([short], special)
    for layer, states in enumerate(taught.hidden):
        first, second = (part.hidden[layer] for part in parts)
        wanted = torch.cat([alone.hidden[layer], first[:-1], second[1:]])
        torch.testing.assert_close(states, wanted, atol=1e-5, rtol=0)
    mean = teacher.piece_tokens * parts[0].vectors + 13 * parts[1].vectors  # 11 and special ones
    torch.testing.assert_close(
        taught.vectors[1], torch.nn.functional.normalize(mean[0], dim=0), atol=1e-5, rtol=0
    )


def test_stretches_are_of_any_length_and_place(make_batches: MakeBatches) -> None:
    stage = replace(STAGE, max_length=110, batch_tokens=60_000)
    drawn = make_batches(stage)
    data, special = drawn.data, drawn.special
    whole = [data.document(number) for number in data.whole(held=False).tolist()]
    assert max(map(len, whole)) > 110
    lengths, firsts = set(), set()
    for text in drawn.texts():
        assert (text[0], text[-1]) == (special.first, special.last)
        inner = text[1:-1]
        places = [
            (number, first)
            for number, ids in enumerate(whole)
            for first in range(len(ids) - len(inner) + 1)
            if ids[first : first + len(inner)] == inner
        ]
        assert places, "a stretch is one piece of one document"
        lengths.add(len(inner))
        firsts.update(places)
    assert min(lengths) < 70
    assert 100 < max(lengths) <= 108
    assert {number for number, _ in firsts} == set(range(len(whole)))
    assert len({first for _, first in firsts}) > 30


def test_long_documents_are_drawn_as_often_as_they_are_long(make_batches: MakeBatches) -> None:
    batches = make_batches(STAGE)
    drawn = np.bincount(batches._numbers)
    lengths = np.array([len(batches.data.document(number)) for number in range(len(drawn))])
    mean = 36 / np.log(100 / 64)  # of lengths whose logarithms are even, from 64 to 100
    learned = drawn > 0
    assert learned.tolist() == (~batches.data.held)[: len(drawn)].tolist()
    assert np.all(drawn[learned] - lengths[learned] / mean >= 0)
    assert np.all(drawn[learned] - lengths[learned] / mean < 1)


def test_a_discriminant_is_taken_from_long_texts(
    make_batches: MakeBatches, teacher_folder: Path
) -> None:
    with pytest.raises(InvalidArgument, match="documents of 256 tokens or more"):
        Discriminant.learn(Teacher(str(teacher_folder), "cpu"), make_batches(STAGE), 0.01)


@pytest.fixture(scope="module")
def texts() -> list[torch.Tensor]:
    """13 pieces of each of 60 texts.

    What they are about lies in the first 8 of 24 dimensions; the others, in which pieces differ far
    more, say nothing of them.
    """
    random = torch.Generator().manual_seed(11)
    about = torch.zeros(60, 24)
    about[:, :8] = torch.randn(60, 8, generator=random)
    noise = torch.randn(60, 13, 24, generator=random)
    noise[:, :, 8:] *= 5.0
    return list(torch.nn.functional.normalize(about[:, None] + noise, dim=2))


def test_a_discriminant_tells_texts_apart_that_a_mean_does_not(texts: list[torch.Tensor]) -> None:
    known, unseen = texts[:40], texts[40:]
    queries = torch.stack([pieces[-1] for pieces in unseen])
    shares = torch.full((12,), 1 / 12)

    def rank(of_pieces: OfPieces) -> float:
        vectors = torch.stack([of_pieces(shares, pieces[:12]) for pieces in unseen])
        scores = queries @ torch.nn.functional.normalize(vectors, dim=1).T
        return (scores > scores.diagonal()[:, None]).sum(dim=1).float().mean().item()

    by_mean, by_discriminant = rank(torch.matmul), rank(Discriminant(known, variance=1e-3))
    assert by_mean > 6
    assert by_discriminant < 3


def test_a_discriminant_is_fishers_and_leaves_single_pieces(
    texts: list[torch.Tensor],
) -> None:
    variance = 0.02
    discriminant = Discriminant(texts[:5], variance)  # all of them are near
    around = np.concatenate([(one - one.mean(dim=0)).double().numpy() for one in texts[:5]])
    within = around.T @ around / (5 * 13 - 5) * (1 - 1 / 2)
    shares = torch.tensor([0.25, 0.75])
    wanted = (
        np.linalg.inv(within + variance * np.eye(24)) @ (shares @ texts[7][:2]).double().numpy()
    )
    ours = discriminant(shares, texts[7][:2])
    np.testing.assert_allclose(ours.numpy(), wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
    assert torch.equal(discriminant(torch.ones(1), texts[7][:1]), texts[7][0])
    far = Discriminant(texts[:5], variance=1e6)(shares, texts[7][:2])
    cosine = torch.nn.functional.cosine_similarity(far, shares @ texts[7][:2], dim=0)
    assert cosine.item() == pytest.approx(1, abs=1e-4)
