"""A few short texts at a time, without Python between the operators.

A query of a dozen tokens costs a few microseconds an operator, less than Python takes to call the
next one. A trace (``torch.jit.trace``) of a batch's way through the model calls them all from C++:
2 to 3 times as fast for one query. It also holds no lock of Python's meanwhile, so that batches on
several cores, and a server around them, do not wait for each other at every operator. It serves
all batches up to its size, since what depends on their lengths finds them by itself
(``traceable``).
"""

import warnings
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from retrieval.gte.model import GteModel
from retrieval.gte.packing import PackedBatch, pack
from retrieval.gte.pooling import Pooling

MAX_TOKENS = 1024
"""Of a batch; larger ones are bound by arithmetic, and their MLP goes in parts."""

_EXAMPLE = (7, 5)
_TRIED = ((1,), (2,), (12,), (100,), (3, 3, 3), (9, 4, 4, 1))
"""Lengths of the texts of a batch."""
_WARM_UP = 3
"""Runs after which the trace is as fast as it gets."""


class ShortTexts:
    """A model's ``embed`` for small batches of short texts."""

    def __init__(self, model: GteModel, pooling: Pooling) -> None:
        """Trace a model that is ready for inference on the CPU.

        Where tracing fails, or gives other vectors, ``takes`` is False for every batch.
        """
        self._model = model
        self._traced = _trace(model, pooling)

    def takes(self, batch: PackedBatch) -> bool:
        """Whether a batch can go this way."""
        return (
            self._traced is not None and sum(batch.lengths) <= MAX_TOKENS and batch.type_ids is None
        )

    def embed(self, batch: PackedBatch) -> Tensor:
        """As ``GteModel.embed``, for a batch that ``takes`` is True for."""
        self._model.check(batch)
        traced = cast(torch.jit.ScriptModule, self._traced)
        vector: Tensor = traced(batch.token_ids, batch.positions, batch.cu_seqlens)
        return vector


class _Function(nn.Module):
    """A model as a function of tensors alone."""

    def __init__(self, model: GteModel, pooling: Pooling, example: PackedBatch) -> None:
        super().__init__()
        self.model = model
        self._pooling: Pooling = pooling
        self._example = example

    def forward(self, token_ids: Tensor, positions: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Int64 [N] twice, int32 [B + 1] → float32 [B, hidden_size]."""
        batch = replace(
            self._example, token_ids=token_ids, positions=positions, cu_seqlens=cu_seqlens
        )
        return self.model.embed(batch, self._pooling)


def _trace(model: GteModel, pooling: Pooling) -> torch.jit.ScriptModule | None:
    limit = model.config.position_limit or MAX_TOKENS
    examples = [
        pack([[token % model.config.vocab_size for token in range(length)] for length in lengths])
        for lengths in (_EXAMPLE, *_TRIED)
        if max(lengths) <= limit
    ]
    tensors = [(batch.token_ids, batch.positions, batch.cu_seqlens) for batch in examples]
    function = _Function(model, pooling, examples[0]).eval()
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            # That it is old, and that sizes become constants: whether they do is tried below.
            warnings.simplefilter("ignore")
            trace: Any = torch.jit.trace
            traced: torch.jit.ScriptModule = trace(function, tensors[0], check_trace=False)
            for _ in range(_WARM_UP):
                vectors = [traced(*given) for given in tensors]
            same = all(
                torch.allclose(vector, model.embed(batch, pooling), atol=1e-3)
                for vector, batch in zip(vectors, examples, strict=True)
            )
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return None
    return traced if same else None
