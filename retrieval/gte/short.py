"""One short text at a time, without Python between the operators.

A query of a dozen tokens costs a few microseconds an operator, less than Python takes to call the
next one. A trace (``torch.jit.trace``) of one text's way through the model calls them all from
C++: 2 to 3 times as fast. It serves every length, since nothing in that way depends on it.
"""

import warnings
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from retrieval.gte.model import GteModel
from retrieval.gte.packing import PackedBatch, pack
from retrieval.gte.pooling import Pooling

MAX_TOKENS = 256
"""Longer texts are bound by arithmetic, and gain nothing."""

_EXAMPLE_LENGTH = 7
_TRIED_LENGTHS = (1, 2, 12, 100)
_WARM_UP = 3
"""Runs after which the trace is as fast as it gets."""


class ShortTexts:
    """A model's ``embed`` for batches of one short text."""

    def __init__(self, model: GteModel, pooling: Pooling) -> None:
        """Trace a model that is ready for inference on the CPU.

        Where tracing fails, or gives other vectors, ``takes`` is False for every batch.
        """
        self._model = model
        self._traced = _trace(model, pooling)

    def takes(self, batch: PackedBatch) -> bool:
        """Whether a batch can go this way."""
        return (
            self._traced is not None
            and len(batch.lengths) == 1
            and batch.lengths[0] <= MAX_TOKENS
            and batch.type_ids is None
        )

    def embed(self, batch: PackedBatch) -> Tensor:
        """As ``GteModel.embed``, for a batch that ``takes`` is True for."""
        self._model.check(batch)
        traced = cast(torch.jit.ScriptModule, self._traced)
        vector: Tensor = traced(batch.token_ids, batch.positions, batch.cu_seqlens)
        return vector


class _OneText(nn.Module):
    """A model as a function of tensors alone."""

    def __init__(self, model: GteModel, pooling: Pooling, example: PackedBatch) -> None:
        super().__init__()
        self.model = model
        self._pooling: Pooling = pooling
        self._example = example

    def forward(self, token_ids: Tensor, positions: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Int64 [n] twice, int32 [2] → float32 [1, hidden_size]."""
        batch = replace(
            self._example, token_ids=token_ids, positions=positions, cu_seqlens=cu_seqlens
        )
        return self.model.embed(batch, self._pooling)


def _trace(model: GteModel, pooling: Pooling) -> torch.jit.ScriptModule | None:
    limit = min(model.config.position_limit or MAX_TOKENS, MAX_TOKENS)
    examples = [
        pack([[token % model.config.vocab_size for token in range(length)]])
        for length in (_EXAMPLE_LENGTH, *_TRIED_LENGTHS)
        if length <= limit
    ]
    tensors = [(batch.token_ids, batch.positions, batch.cu_seqlens) for batch in examples]
    one_text = _OneText(model, pooling, examples[0]).eval()
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            # That it is old, and that lengths become constants: whether they do is tried below.
            warnings.simplefilter("ignore")
            trace: Any = torch.jit.trace
            traced: torch.jit.ScriptModule = trace(one_text, tensors[0], check_trace=False)
            for _ in range(_WARM_UP):
                same = all(
                    torch.allclose(traced(*given), model.embed(batch, pooling), atol=1e-3)
                    for given, batch in zip(tensors, examples, strict=True)
                )
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return None
    return traced if same else None
