"""What runs a model over token ids: the GTE core, or (in ``decoder``) transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from retrieval.gte import EncoderConfig, Pooling, load_model, pack

# GTE's rotary positions have no end; its card promises quality up to here.
_GTE_POSITION_LIMIT = 8192

CPU_BATCH_TOKENS = 1024
"""Tokens of one packed batch: enough to fill the matrix units, little enough to stay in cache."""
CUDA_BATCH_TOKENS = 16_384
"""A GPU needs more rows at a time to be busy."""


class Backend(Protocol):
    """What runs a model over token ids."""

    dim: int
    position_limit: int
    batch_tokens: int
    """Tokens of a batch, if nothing else is asked for."""
    uses_cores: bool
    """Whether batches go faster side by side, each on one core, than one after the other."""

    def embed(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Token ids → float32 [B, dim], L2-normalised, on the model's device.

        May be called from several threads. On a GPU the result may still be under way.
        """
        ...


class CoreBackend:
    """The GTE core as an embedding function over token ids."""

    def __init__(self, folder: Path, pooling: Pooling, *, dtype: torch.dtype, device: str) -> None:
        """Load a checkpoint; see ``retrieval.gte.load_model`` for the errors."""
        self._model = load_model(folder, dtype=dtype, device=device)
        self._pooling: Pooling = pooling
        self._device = device
        config = self._model.config
        self.uses_cores = device == "cpu"
        self.batch_tokens = CPU_BATCH_TOKENS if device == "cpu" else CUDA_BATCH_TOKENS
        self.dim = config.hidden_size
        self.position_limit = position_limit(config)

    def embed(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Token ids → float32 [B, dim], L2-normalised; one packed batch, best sorted by length."""
        batch = pack(sequences, device=self._device)
        return self._model.embed(batch, self._pooling)


def position_limit(config: EncoderConfig) -> int:
    """Most tokens of one sequence that a network takes."""
    if config.position_limit is not None:
        return config.position_limit
    return max(_GTE_POSITION_LIMIT, config.max_positions)
