"""Batches of short texts, embedded without Python between the operators.

An operator on the dozen tokens of a query takes a few microseconds, less than Python needs to call
the next one. A trace of the model calls them all from C++: one query is 2 to 3 times as fast. The
trace also holds no lock of Python's, so batches on several cores, and a server around them, don't
wait for each other at every operator. One trace serves all batches up to its size, because what
depends on their lengths is computed inside it (``cpu/torchscript.py``).
"""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from retrieval.gte.cpu import Traced, trace
from retrieval.gte.model import GteModel
from retrieval.gte.packing import PackedBatch, pack
from retrieval.gte.pooling import Pooling

MAX_TOKENS = 1024
"""Tokens of the largest batch: above it arithmetic takes the time, and the model splits its MLP."""

_EXAMPLES = ((7, 5), (1,), (2,), (12,), (100,), (3, 3, 3), (9, 4, 4, 1))
"""Lengths of the texts of a batch. The first is traced, the others check the trace: one text and
several, of equal and of different lengths."""


class ShortTexts:
    """``GteModel.embed`` for small batches of short texts."""

    def __init__(self, model: GteModel, pooling: Pooling) -> None:
        """Trace a model that is prepared for inference on the CPU.

        If there is no trace (see ``cpu.trace``), ``takes`` returns False for every batch.
        """
        self._model = model
        limit = model.config.position_limit or MAX_TOKENS
        vocabulary = model.config.vocab_size
        batches = [
            pack([[token % vocabulary for token in range(length)] for length in lengths])
            for lengths in _EXAMPLES
            if max(lengths) <= limit
        ]
        with torch.inference_mode():
            expected = [model.embed(batch, pooling) for batch in batches]
        examples = [(batch.token_ids, batch.positions, batch.cu_seqlens) for batch in batches]
        self._traced = trace(_Embed(model, pooling, batches[0]).eval(), examples, expected)

    def takes(self, batch: PackedBatch) -> bool:
        """Return whether ``embed`` can take a batch."""
        return (
            self._traced is not None and sum(batch.lengths) <= MAX_TOKENS and batch.type_ids is None
        )

    def embed(self, batch: PackedBatch) -> Tensor:
        """Embed a batch that ``takes`` accepts; see ``GteModel.embed``."""
        self._model.check(batch)
        traced = cast(Traced, self._traced)
        return traced(batch.token_ids, batch.positions, batch.cu_seqlens)


class _Embed(nn.Module):
    """``GteModel.embed`` as a function of tensors alone, to be traced.

    What a batch has beside tensors comes from the example; a trace does not use it.
    """

    def __init__(self, model: GteModel, pooling: Pooling, example: PackedBatch) -> None:
        super().__init__()
        self.model = model
        self._pooling: Pooling = pooling
        self._example = example

    def forward(self, token_ids: Tensor, positions: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Embed int64 [N] token ids, with int64 [N] and int32 [B + 1] as in ``PackedBatch``."""
        batch = replace(
            self._example, token_ids=token_ids, positions=positions, cu_seqlens=cu_seqlens
        )
        return self.model.embed(batch, self._pooling)
