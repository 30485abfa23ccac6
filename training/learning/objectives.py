"""What a model learns from a batch: each adds up gradients for one update, some texts at a time."""

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
"""Name → mean over the update's texts (or tokens)."""


class Learning(Protocol):
    """One kind of stage."""

    def learn(self, update: int, /) -> Figures:
        """Add the gradients of one update to the model's parameters.

        Args:
            update: its number, from 0; with the stage's seed it decides all that is random.

        Returns:
            ``loss``, what else there is to plot, and ``tokens``, which is a sum.
        """
        ...


class MaskedTokens:
    """Guess the tokens that were hidden (MLM)."""

    def __init__(self, model: GteModel, batches: Batches, stage: Stage, device: str) -> None:
        """Bind a model with a head for masked tokens."""
        self._model, self._batches, self._stage, self._device = model, batches, stage, device

    def learn(self, update: int) -> Figures:
        """See ``Learning``; ``loss`` is nats a token."""
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
        """Sum over the hidden tokens."""
        batch = pack(texts, device=self._device)
        with mixed_precision(self._device):
            states = self._model(batch)[torch.tensor(places, device=self._device)]
            scores = self._model.logits(states, batch)
        target = torch.tensor(wanted, device=self._device)
        return functional.cross_entropy(scores.float(), target, reduction="sum")


class Pairs:
    """Know which text of a pair belongs to which, among all of the update's (InfoNCE).

    The vectors of all texts are made first, without gradients; then the loss gives each vector's
    gradient, and the texts go through the model again, some at a time, to pass it on (GradCache,
    https://arxiv.org/abs/2101.06983): so that a batch may have any number of texts.
    """

    def __init__(self, model: GteModel, batches: Batches, stage: Stage, device: str) -> None:
        """Bind a model."""
        self._model, self._batches, self._stage, self._device = model, batches, stage, device

    def learn(self, _update: int, /) -> Figures:
        """See ``Learning``; ``right`` is the share of pairs that are told from all others."""
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
    """The contrastive loss, from left to right and back.

    Args:
        vectors: float32 [2 * pairs + n, dim]: left sides, right sides, further passages.
        pairs: how many.
        temperature: cosines are divided by it.

    Returns:
        the mean loss; the share of left sides whose own right side is the nearest of all.
    """
    left, passages = vectors[:pairs], vectors[pairs:]
    scores = left @ passages.T / temperature  # [pairs, pairs + n]
    target = torch.arange(pairs, device=vectors.device)
    forward = functional.cross_entropy(scores, target)
    backward = functional.cross_entropy(scores[:, :pairs].T, target)
    right = (scores.argmax(dim=1) == target).float().mean().item()
    return (forward + backward) / 2, right


class Distillation:
    """Make the vectors, and inside the hidden states, that a teacher makes."""

    def __init__(
        self, model: GteModel, batches: Batches, stage: Stage, device: str, teacher: Teacher
    ) -> None:
        """Bind a model and its teacher.

        Raises:
            InvalidArgument: hidden states are to be compared, and the two have other shapes.
        """
        ours, theirs = model.config, teacher.config
        more = ours.num_layers - theirs.num_layers
        if stage.hidden_weight and (more not in (0, 1) or ours.hidden_size != theirs.hidden_size):
            raise InvalidArgument(
                "the teacher has other layers than the model: set hidden_weight = 0"
            )
        self._model, self._batches, self._stage, self._device = model, batches, stage, device
        self._teacher = teacher
        # The last layer's are not compared: most of them a model with CLS pooling never computes.
        self._shared = ours.num_layers - 1
        self._states = HiddenStates(model, self._shared)

    def learn(self, _update: int, /) -> Figures:
        """See ``Learning``; ``cosine`` is of the texts' vectors with the teacher's."""
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
    """Texts of similar length, as many as go through the model at a time."""
    for rows in batches_by_length([len(text) for text in texts], stage.micro_tokens):
        yield [texts[row] for row in rows]


def hidden_loss(states: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """How far the tokens' states are from the teacher's, as a share of these; mean over layers.

    Args:
        states: [N, hidden] of each layer.
        wanted: the teacher's, as many and as large.
    """
    shares = [
        functional.mse_loss(ours.float(), theirs.float()) / theirs.float().pow(2).mean()
        for ours, theirs in zip(states, wanted, strict=True)
    ]
    return torch.stack(shares).mean()


def similarity_loss(vectors: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference of the texts' cosines with each other from the teacher's.

    Args:
        vectors: float32 [B, dim], L2-normalised.
        wanted: the teacher's, of any width.
    """
    return functional.mse_loss(vectors @ vectors.T, wanted @ wanted.T)
