"""Backend for Qwen2 decoders (gte-Qwen1.5-7B-instruct), run by transformers.

transformers' native class runs them, without remote code and from safetensors only. Sequences of
equal length form a batch, so there is no padding here either.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from retrieval.errors import CheckpointError
from retrieval.gte.packing import pack
from retrieval.gte.pooling import Pooling, normalize, pool
from retrieval.gte.weights import weight_files

DECODER_TYPES = ("qwen2",)
"""Values of ``model_type`` that transformers runs."""

_BATCH_TOKENS = 1024
"""Tokens of one batch, few because the weights take most of the memory."""


class DecoderBackend:
    """A Qwen2 model as an embedding function over token ids."""

    def __init__(
        self, folder: Path, pooling: Pooling, *, causal: bool, dtype: torch.dtype, device: str
    ) -> None:
        """Load the model.

        Args:
            folder: config.json and safetensors files.
            pooling: ``"last"`` for the GTE decoders.
            causal: whether a token attends only to those before it.
            dtype: type of the weights in memory.
            device: ``"cpu"`` or ``"cuda"``.

        Raises:
            CheckpointError: the folder can't be loaded as a Qwen2 model.
        """
        from transformers import AutoModel  # slow to import, so only when it is needed

        weight_files(folder)
        try:
            with _no_progress_bar():
                self._model = AutoModel.from_pretrained(
                    folder,
                    dtype=dtype,
                    trust_remote_code=False,
                    use_safetensors=True,
                    local_files_only=True,
                    attn_implementation="sdpa",
                )
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            raise CheckpointError(f"transformers can't load {folder}: {error}") from error
        self._model = self._model.to(device).eval().requires_grad_(requires_grad=False)
        self._pooling: Pooling = pooling
        self._causal = causal
        self._device = device
        self.batch_tokens = _BATCH_TOKENS
        self.query_on_one_core = False
        self.side_by_side = False  # one batch uses all memory bandwidth, for the weights
        self.dim = int(self._model.config.hidden_size)
        self.position_limit = int(self._model.config.max_position_embeddings)

    def embed(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Embed token ids.

        Args:
            sequences: B lists of token ids, best sorted by length.

        Returns:
            float32 [B, dim], L2-normalised.
        """
        vectors = [self._embed_rectangle(list(run)) for _, run in groupby(sequences, key=len)]
        return torch.cat(vectors)

    def _embed_rectangle(self, rows: list[Sequence[int]]) -> Tensor:
        token_ids = torch.tensor(rows, device=self._device)  # [count, length]
        count, length = token_ids.shape
        # transformers uses a mask of four dimensions as it is; zeros let all tokens see each other.
        mask = (
            None
            if self._causal
            else torch.zeros(count, 1, length, length, dtype=self._model.dtype, device=self._device)
        )
        hidden = self._model(
            input_ids=token_ids, attention_mask=mask, use_cache=False
        ).last_hidden_state
        batch = pack(rows, device=self._device)
        return normalize(pool(hidden.flatten(0, 1), batch, self._pooling))


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Hide transformers' progress bars; the caller's setting is restored afterwards."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
