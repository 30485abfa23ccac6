"""Removal of neurons from the MLPs of a BERT encoder, at little loss.

A gated MLP has a third matrix, so an encoder with as many neurons has a third more to compute. The
neurons that contribute least to the output are removed. The others compensate for them as far as
they predict them (least squares over a sample of texts): their columns of ``down`` and its bias
change, and nothing else.
"""

from dataclasses import replace
from typing import Final, cast

import torch
from torch import Tensor

from retrieval.errors import InvalidArgument
from retrieval.gte import GteModel, PackedBatch
from retrieval.gte.model import Layer, PlainMLP
from training.models.activations import inputs_of

_DAMPING: Final = 1e-2
"""Damping of the least squares, as a fraction of the neurons' mean variance."""


def shrink(bert: GteModel, sample: PackedBatch, neurons: int) -> GteModel:
    """Return a BERT encoder with fewer neurons.

    Args:
        bert: an encoder with plain MLPs, trainable (so its weights are not repacked).
        sample: texts to run, preferably with many tokens per neuron.
        neurons: number of neurons to keep in each layer.

    Returns:
        a new encoder; the old one does not change.

    Raises:
        InvalidArgument: the encoder has fewer neurons.
    """
    if not 0 < neurons <= bert.config.intermediate_size:
        raise InvalidArgument(
            f"the encoder has {bert.config.intermediate_size} neurons per layer; "
            f"it can't keep {neurons}"
        )
    smaller = GteModel(replace(bert.config, intermediate_size=neurons))
    state = {key: value.detach().clone() for key, value in bert.state_dict().items()}
    downs = [cast(PlainMLP, cast(Layer, layer).mlp).down_proj for layer in bert.encoder.layer]
    for number, seen in enumerate(inputs_of(downs, bert, sample)):
        mlp = f"encoder.layer.{number}.mlp."
        down, bias = state[f"{mlp}down_proj.weight"], state[f"{mlp}down_proj.bias"]
        kept, down, bias = _without_the_least(seen, down, bias, neurons)
        state[f"{mlp}down_proj.weight"], state[f"{mlp}down_proj.bias"] = down, bias
        for kind in ("weight", "bias"):
            state[f"{mlp}up_proj.{kind}"] = state[f"{mlp}up_proj.{kind}"][kept]
    smaller.load_state_dict(state)
    smaller.prepare_training(device="cpu")
    return smaller


def _without_the_least(
    seen: Tensor, down: Tensor, bias: Tensor, neurons: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the neurons to keep, and let them compensate for the others.

    Returns:
        the neurons to keep, int64 [neurons]; their columns of ``down``; its bias.
    """
    order = (seen.var(dim=0) * down.pow(2).sum(dim=0)).argsort(descending=True)
    kept, gone = order[:neurons].sort().values, order[neurons:]
    mean = seen.mean(dim=0)
    centred = (seen - mean).double()
    moments = centred[:, kept].T @ centred[:, kept]
    moments += _DAMPING * moments.diagonal().mean() * torch.eye(neurons, dtype=moments.dtype)
    # [kept, gone]: coefficients that predict each removed neuron from those kept
    told = torch.linalg.solve(moments, centred[:, kept].T @ centred[:, gone]).to(down.dtype)
    constant = mean[gone] - mean[kept] @ told
    return kept, down[:, kept] + down[:, gone] @ told.T, bias + down[:, gone] @ constant
