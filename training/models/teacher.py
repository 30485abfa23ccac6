"""The teacher: a finished encoder whose vectors and hidden states a student learns to reproduce."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import torch
from torch import Tensor

from retrieval.encoding.backend import position_limit
from retrieval.encoding.model_folders import ModelFolder, find_model
from retrieval.encoding.model_settings import ModelSettings, read_settings
from retrieval.gte import EncoderConfig, Pooling, load_model, normalize, pack, pool
from training.data.batches import SpecialTokens, pieces
from training.models.activations import HiddenStates
from training.models.precision import has_fast_bfloat16


def read_encoder(folder: ModelFolder) -> tuple[EncoderConfig, ModelSettings]:
    """Read an encoder's configuration and settings.

    Raises:
        CheckpointError: its files can't be used.
    """
    config = EncoderConfig.from_folder(folder.path)
    limit = position_limit(config)
    return config, read_settings(folder.path, folder.card, position_limit=limit)


OfPieces = Callable[[Tensor, Tensor], Tensor]
"""Computes a text's vector [dim], of any length, from shares [k] and vectors [k, dim] of pieces."""


@dataclass(frozen=True, slots=True)
class Taught:
    """A teacher's output for a batch."""

    vectors: Tensor
    """float32 [B, dim], L2-normalised."""
    hidden: list[Tensor]
    """[N, hidden] of each layer."""


class Teacher:
    """A model to learn from: any encoder that the GTE core runs."""

    def __init__(self, name: str, device: str) -> None:
        """Load the model.

        Args:
            name: name, hub id or folder.
            device: where to put it; it runs in bfloat16 if that is fast.

        Raises:
            ModelNotFound, CheckpointError: the model can't be used.
        """
        folder = find_model(name)
        self.config, settings = read_encoder(folder)
        self.pooling: Pooling = settings.pooling
        self.piece_tokens = settings.max_tokens
        self.of_pieces: OfPieces = torch.matmul
        self._device = device
        dtype = torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
        self._model = load_model(folder.path, dtype=dtype, device=device)
        self._states = HiddenStates(self._model, self.config.num_layers)

    def teach(self, texts: Sequence[Sequence[int]], special: SpecialTokens) -> Taught:
        """Embed texts.

        The vector of a text that is too long for the model is computed from its pieces by
        ``of_pieces``, which by default is their mean. The states of its tokens are those in the
        pieces.

        Args:
            texts: token ids with special tokens.
            special: the ids of the special tokens.
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
        """Return the vectors of a text's pieces, float32 [k, dim]."""
        return self._embed(pieces(text, special, self.piece_tokens)).vectors

    @torch.no_grad()
    def _embed(self, texts: Sequence[Sequence[int]]) -> Taught:
        batch = pack(texts, device=self._device)
        with self._states as states:
            hidden = self._model(batch)
        return Taught(normalize(pool(hidden, batch, self.pooling)), states)


def _rows_of_text(lengths: Sequence[int]) -> list[int]:
    """Return the places of the text's own tokens in the concatenation of its pieces.

    The special tokens around the pieces are left out, except the text's first and last.
    """
    ends = list(accumulate(lengths))
    inner = (range(end - length + 1, end - 1) for end, length in zip(ends, lengths, strict=True))
    return [0, *chain.from_iterable(inner), ends[-1] - 1]
