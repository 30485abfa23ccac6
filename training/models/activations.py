"""Activations inside a model while it encodes a batch, recorded by hooks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from retrieval.gte import GteModel, PackedBatch


class HiddenStates:
    """Records the outputs of a model's first layers, within a ``with`` statement."""

    def __init__(self, model: GteModel, layers: int) -> None:
        """Hook into the first ``layers`` layers of a model."""
        self._states: list[Tensor] | None = None
        for layer in list(model.encoder.layer)[:layers]:
            layer.register_forward_hook(self._record)

    def _record(self, _layer: nn.Module, _arguments: tuple[Any, ...], output: Tensor) -> None:
        if self._states is not None:
            self._states.append(output)

    def __enter__(self) -> list[Tensor]:
        """Record the next batch, [N, hidden] of each layer."""
        self._states = []
        return self._states

    def __exit__(self, *_error: object) -> None:
        """Stop recording."""
        self._states = None


@torch.no_grad()
def inputs_of(modules: Sequence[nn.Module], model: GteModel, batch: PackedBatch) -> list[Tensor]:
    """Return the inputs [N, width] of some modules of a model while it encodes a batch."""
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
    return [torch.cat(parts) for parts in seen]  # an MLP processes its tokens in parts
