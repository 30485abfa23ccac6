"""Fewer neurons in the MLPs of a BERT encoder, at little cost.

A gated MLP has a third matrix, so that an encoder with as many neurons has a third more to compute.
Taken out are the neurons that add least to what comes out; what they added is made up for by those
that stay, as far as these tell it (least squares over a sample of texts): the remaining columns of
``down`` and its bias change, nothing else.
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
"""Of the least squares, as a share of the neurons' mean variance."""


def shrink(bert: GteModel, sample: PackedBatch, neurons: int) -> GteModel:
    """A BERT encoder with fewer neurons.

    Args:
        bert: with plain MLPs, trainable (so nothing of it is repacked).
        sample: texts, to see what the neurons do; better many tokens for each neuron.
        neurons: how many stay in each layer.

    Returns:
        a new encoder; the old one is as it was.

    Raises:
        InvalidArgument: it has fewer neurons already.
    """
    if not 0 < neurons <= bert.config.intermediate_size:
        raise InvalidArgument(
            f"the encoder has {bert.config.intermediate_size} neurons a layer; {neurons} can't stay"
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
    """Choose neurons, and have them stand in for the others.

    Returns:
        int64 [neurons] those that stay; their columns of ``down``; its bias.
    """
    order = (seen.var(dim=0) * down.pow(2).sum(dim=0)).argsort(descending=True)
    kept, gone = order[:neurons].sort().values, order[neurons:]
    mean = seen.mean(dim=0)
    centred = (seen - mean).double()
    moments = centred[:, kept].T @ centred[:, kept]
    moments += _DAMPING * moments.diagonal().mean() * torch.eye(neurons, dtype=moments.dtype)
    # [kept, gone]: how much of each that is gone each that stays can tell
    told = torch.linalg.solve(moments, centred[:, kept].T @ centred[:, gone]).to(down.dtype)
    constant = mean[gone] - mean[kept] @ told
    return kept, down[:, kept] + down[:, gone] @ told.T, bias + down[:, gone] @ constant
