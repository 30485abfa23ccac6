"""Training objectives: each adds up the gradients of one update, some texts at a time."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from retrieval.encoding.batching import batches_by_length
from retrieval.errors import InvalidArgument
from retrieval.gte import GteModel, pack
from training.data.batches import Batches, mask
from training.models.activations import HiddenStates
from training.models.precision import mixed_precision
from training.models.student import embed
from training.models.teacher import Teacher
from training.stages import Stage

Figures = dict[str, float]
"""Means over the update's texts (or tokens), by name."""


class Learning(Protocol):
    """The objective of a stage."""

    def learn(self, update: int, /) -> Figures:
        """Add the gradients of one update to the model's parameters.

        Args:
            update: number of the update, from 0; it seeds all randomness, with the stage's seed.

        Returns:
            ``loss``, other figures to plot, and ``tokens``, which is a sum.
        """
        ...


class MaskedTokens:
    """Predicting masked tokens (MLM)."""

    def __init__(self, model: GteModel, batches: Batches, stage: Stage, device: str) -> None:
        """Bind a model with a head for masked tokens."""
        self._model, self._batches, self._stage, self._device = model, batches, stage, device

    def learn(self, update: int) -> Figures:
        """See ``Learning``; ``loss`` is in nats per masked token."""
        stage = self._stage
        texts = self._batches.texts()
        parts = [
            mask(part, stage.mask_share, self._batches.special, (stage.seed, update, number))
            for number, part in enumerate(_micro_batches(texts, stage))
        ]
        count = sum(len(hidden) for _, _, hidden in parts)
        loss = 0.0
        for masked, places, hidden in parts:
            if hidden:
                one = self._loss(masked, places, hidden) / count
                torch.autograd.backward(one)
                loss += one.item()
        return {"loss": loss, "tokens": float(sum(map(len, texts)))}

    def _loss(self, texts: Sequence[Sequence[int]], places: list[int], wanted: list[int]) -> Tensor:
        """Return the sum of the losses of masked tokens."""
        batch = pack(texts, device=self._device)
        with mixed_precision(self._device):
            states = self._model(batch)[torch.tensor(places, device=self._device)]
            scores = self._model.logits(states, batch)
        target = torch.tensor(wanted, device=self._device)
        return functional.cross_entropy(scores.float(), target, reduction="sum")


class Pairs:
    """Matching the texts of pairs among all texts of the update (InfoNCE).

    The vectors of all texts are computed first, without gradients. The loss then gives the gradient
    of each vector, and the texts go through the model again, some at a time, to propagate it
    (GradCache, https://arxiv.org/abs/2101.06983). So an update may have any number of texts.
    """

    def __init__(self, model: GteModel, batches: Batches, stage: Stage, device: str) -> None:
        """Bind a model."""
        self._model, self._batches, self._stage, self._device = model, batches, stage, device

    def learn(self, _update: int, /) -> Figures:
        """See ``Learning``; ``right`` is the fraction of pairs that are matched correctly."""
        pairs = self._batches.pairs()
        texts = [pair.left for pair in pairs] + [pair.right for pair in pairs]
        texts += [text for pair in pairs for text in pair.negatives]
        vectors = embed(self._model, texts, self._stage.micro_tokens, self._device)
        loss, right = info_nce(vectors.requires_grad_(), len(pairs), self._stage.temperature)
        (gradient,) = torch.autograd.grad(loss, vectors)
        for rows in batches_by_length([len(text) for text in texts], self._stage.micro_tokens):
            again = self._embed([texts[row] for row in rows])
            torch.autograd.backward((again * gradient[rows]).sum())
        return {"loss": loss.item(), "right": right, "tokens": float(sum(map(len, texts)))}

    def _embed(self, texts: Sequence[Sequence[int]]) -> Tensor:
        with mixed_precision(self._device):
            return self._model.embed(pack(texts, device=self._device), "cls")


def info_nce(vectors: Tensor, pairs: int, temperature: float) -> tuple[Tensor, float]:
    """Compute the contrastive loss in both directions.

    Args:
        vectors: float32 [2 * pairs + n, dim]: left sides, right sides, hard negatives.
        pairs: number of pairs.
        temperature: divisor of the cosines.

    Returns:
        the mean loss; the fraction of left sides whose own right side is the nearest.
    """
    left, passages = vectors[:pairs], vectors[pairs:]
    scores = left @ passages.T / temperature  # [pairs, pairs + n]
    target = torch.arange(pairs, device=vectors.device)
    forward = functional.cross_entropy(scores, target)
    backward = functional.cross_entropy(scores[:, :pairs].T, target)
    right = (scores.argmax(dim=1) == target).float().mean().item()
    return (forward + backward) / 2, right


class Distillation:
    """Reproducing a teacher's vectors and hidden states."""

    def __init__(
        self, model: GteModel, batches: Batches, stage: Stage, device: str, teacher: Teacher
    ) -> None:
        """Bind a model and its teacher.

        Raises:
            InvalidArgument: hidden states are to be compared, but their shapes differ.
        """
        ours, theirs = model.config, teacher.config
        more = ours.num_layers - theirs.num_layers
        if stage.hidden_weight and (more not in (0, 1) or ours.hidden_size != theirs.hidden_size):
            raise InvalidArgument(
                "the teacher's layers differ from the model's: set hidden_weight = 0"
            )
        self._model, self._batches, self._stage, self._device = model, batches, stage, device
        self._teacher = teacher
        # The last layer is left out: with CLS pooling it computes the first tokens only.
        self._shared = ours.num_layers - 1
        self._states = HiddenStates(model, self._shared)

    def learn(self, _update: int, /) -> Figures:
        """See ``Learning``; ``cosine`` is the mean cosine with the teacher's vectors."""
        texts = self._batches.texts()
        sums = {"loss": 0.0, "cosine": 0.0, "hidden": 0.0, "similarity": 0.0}
        for part in _micro_batches(texts, self._stage):
            figures = self._step(part, share=len(part) / len(texts))
            for name, value in figures.items():
                sums[name] += value * len(part) / len(texts)
        return {**sums, "tokens": float(sum(map(len, texts)))}

    def _step(self, texts: Sequence[Sequence[int]], share: float) -> Figures:
        batch = pack(texts, device=self._device)
        taught = self._teacher.teach(texts, self._batches.special)
        with mixed_precision(self._device), self._states as states:
            vectors = self._model.embed(batch, "cls")
        cosine = (vectors * taught.vectors).sum(dim=1).mean()
        hidden = cosine.new_zeros(())
        if self._stage.hidden_weight:
            hidden = hidden_loss(states, taught.hidden[: self._shared])
        similarity = similarity_loss(vectors, taught.vectors)
        loss = (
            (1 - cosine)
            + self._stage.hidden_weight * hidden
            + self._stage.similarity_weight * similarity
        )
        torch.autograd.backward(loss * share)
        return {
            "loss": loss.item(),
            "cosine": cosine.item(),
            "hidden": hidden.item(),
            "similarity": similarity.item(),
        }


def _micro_batches(texts: Sequence[Sequence[int]], stage: Stage) -> Iterator[list[Sequence[int]]]:
    """Yield groups of texts of similar length that go through the model together."""
    for rows in batches_by_length([len(text) for text in texts], stage.micro_tokens):
        yield [texts[row] for row in rows]


def hidden_loss(states: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Return the squared error of hidden states relative to the teacher's, averaged over layers.

    Args:
        states: [N, hidden] of each layer.
        wanted: the teacher's, of the same shapes.
    """
    shares = [
        functional.mse_loss(ours.float(), theirs.float()) / theirs.float().pow(2).mean()
        for ours, theirs in zip(states, wanted, strict=True)
    ]
    return torch.stack(shares).mean()


def similarity_loss(vectors: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared error of the cosines between texts, against the teacher's.

    Args:
        vectors: float32 [B, dim], L2-normalised.
        wanted: the teacher's, of any width.
    """
    return functional.mse_loss(vectors @ vectors.T, wanted @ wanted.T)
