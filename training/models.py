"""The model that learns, and the one it learns from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retrieval.encoding.backend import position_limit
from retrieval.encoding.batching import batches_by_length
from retrieval.encoding.model_folders import ModelFolder, find_model
from retrieval.encoding.model_settings import ModelSettings, read_settings
from retrieval.gte import (
    EncoderConfig,
    GteModel,
    PackedBatch,
    Pooling,
    load_model,
    normalize,
    pack,
    pool,
)
from retrieval.gte.config import RopeConfig
from training.batches import SpecialTokens, pieces
from training.config import Stage

_INITIAL_RANGE = 0.02
"""Standard deviation of new weights, as in BERT."""


def read_encoder(folder: ModelFolder) -> tuple[EncoderConfig, ModelSettings]:
    """What an encoder's files say of its shape, and of what it is to be given.

    Raises:
        CheckpointError: they can't be used.
    """
    config = EncoderConfig.from_folder(folder.path)
    limit = position_limit(config)
    return config, read_settings(folder.path, folder.card, position_limit=limit)


def load_student(folder: Path, stage: Stage, device: str) -> GteModel:
    """The encoder to train, with the stage's rotary base, and a head for masked tokens if need be.

    Args:
        folder: a GTE checkpoint.
        stage: what it is trained for.
        device: where to.

    Raises:
        CheckpointError: the checkpoint can't be used, or has no rotary positions.
    """
    start = load_model(folder, trainable=True)
    config = replace(start.config, rope=RopeConfig(stage.rope_theta))
    student = GteModel(config, "mlm" if stage.objective == "mlm" else "none")
    torch.manual_seed(stage.seed)
    if student.lm_head is not None:
        nn.init.normal_(student.lm_head.dense.weight, std=_INITIAL_RANGE)
        nn.init.zeros_(student.lm_head.dense.bias)
    known = start.state_dict()
    wanted = student.state_dict()
    student.load_state_dict({name: known.get(name, value) for name, value in wanted.items()})
    student.to(device).prepare_training(device=device)
    return student


class HiddenStates:
    """Records what the first layers of a model put out, within a ``with``."""

    def __init__(self, model: GteModel, layers: int) -> None:
        """Listen to so many layers of a model."""
        self._states: list[Tensor] | None = None
        for layer in list(model.encoder.layer)[:layers]:
            layer.register_forward_hook(self._record)

    def _record(self, _layer: nn.Module, _arguments: tuple[Any, ...], output: Tensor) -> None:
        if self._states is not None:
            self._states.append(output)

    def __enter__(self) -> list[Tensor]:
        """Record the next batch: [N, hidden] of each layer."""
        self._states = []
        return self._states

    def __exit__(self, *_error: object) -> None:
        """Record no more."""
        self._states = None


OfPieces = Callable[[Tensor, Tensor], Tensor]
"""Shares of a text's pieces [k], their vectors [k, dim] → the text's own [dim], of any length."""


@dataclass(frozen=True, slots=True)
class Taught:
    """What a teacher makes of a batch."""

    vectors: Tensor
    """float32 [B, dim], L2-normalised."""
    hidden: list[Tensor]
    """[N, hidden] of each layer."""


class Teacher:
    """A model to learn from: any that the GTE core runs."""

    def __init__(self, name: str, device: str) -> None:
        """Load it.

        Args:
            name: registry name, hub id or folder.
            device: where to; it runs in bfloat16 where that is fast.

        Raises:
            ModelNotFound, CheckpointError: it can't be used.
        """
        folder = find_model(name)
        self.config, settings = read_encoder(folder)
        self.pooling: Pooling = settings.pooling
        self.piece_tokens = settings.max_tokens
        self.of_pieces: OfPieces = torch.matmul
        self._device = device
        dtype = torch.bfloat16 if _has_fast_bfloat16(device) else torch.float32
        self._model = load_model(folder.path, dtype=dtype, device=device)
        self._states = HiddenStates(self._model, self.config.num_layers)

    def teach(self, texts: Sequence[Sequence[int]], special: SpecialTokens) -> Taught:
        """Embed texts; of one that is too long to be embedded whole ``of_pieces`` makes a vector.

        That is the mean, unless it is set. The states of its tokens are those in their pieces.

        Args:
            texts: token ids with special tokens.
            special: these.
        """
        if max(map(len, texts)) <= self.piece_tokens:
            return self._embed(texts)
        vectors, hidden = [], []
        for text in texts:
            parts = pieces(text, special, self.piece_tokens)
            taught = self._embed(parts)
            lengths = torch.tensor([float(len(part)) for part in parts], device=self._device)
            vectors.append(self.of_pieces(lengths / lengths.sum(), taught.vectors))
            rows = _rows_of_text([len(part) for part in parts])
            hidden.append([states[rows] for states in taught.hidden])
        layers = [torch.cat(states) for states in zip(*hidden, strict=True)]
        return Taught(normalize(torch.stack(vectors)), layers)

    def pieces_of(self, text: Sequence[int], special: SpecialTokens) -> Tensor:
        """The vectors of a text's pieces, float32 [k, dim]."""
        return self._embed(pieces(text, special, self.piece_tokens)).vectors

    @torch.no_grad()
    def _embed(self, texts: Sequence[Sequence[int]]) -> Taught:
        batch = pack(texts, device=self._device)
        with self._states as states:
            hidden = self._model(batch)
        return Taught(normalize(pool(hidden, batch, self.pooling)), states)


def _rows_of_text(lengths: Sequence[int]) -> list[int]:
    """Of a text's pieces, one after the other, the tokens that the text has.

    Left out are the special tokens around the pieces, but for the text's first and last.
    """
    ends = list(accumulate(lengths))
    inner = (range(end - length + 1, end - 1) for end, length in zip(ends, lengths, strict=True))
    return [0, *chain.from_iterable(inner), ends[-1] - 1]


def mixed_precision(device: str) -> torch.autocast:
    """Products in bfloat16 where that is fast; weights, sums and norms stay in float32."""
    return torch.autocast(device, torch.bfloat16, enabled=_has_fast_bfloat16(device))


def _has_fast_bfloat16(device: str) -> bool:
    """On GPUs, and on CPUs with instructions for it (1.4 times as fast as float32)."""
    return device == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))


@torch.no_grad()
def embed(
    model: GteModel, texts: Sequence[Sequence[int]], micro_tokens: int, device: str
) -> Tensor:
    """Token ids → float32 [n, dim], in the order given."""
    vectors = torch.empty(len(texts), model.config.hidden_size, device=device)
    for rows in batches_by_length([len(text) for text in texts], micro_tokens):
        with mixed_precision(device):
            batch = pack([texts[row] for row in rows], device=device)
            vectors[rows] = model.embed(batch, "cls")
    return vectors


@torch.no_grad()
def inputs_of(modules: Sequence[nn.Module], model: GteModel, batch: PackedBatch) -> list[Tensor]:
    """What goes into some modules of a model while it encodes a batch: [N, width] of each."""
    seen: list[list[Tensor]] = [[] for _ in modules]
    hooks = [
        module.register_forward_pre_hook(
            lambda _module, arguments, into=into: into.append(arguments[0])
        )
        for module, into in zip(modules, seen, strict=True)
    ]
    model(batch)
    for hook in hooks:
        hook.remove()
    return [torch.cat(parts) for parts in seen]  # an MLP may take its tokens in parts
