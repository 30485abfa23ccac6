"""Biases where a gated MLP has none: a vector whose product with every token's state is 1.

A LayerNorm's output x has sum(x / gamma) = sum(beta / gamma), since what it scales and shifts sums
to zero. So with u = (1 / gamma) / sum(beta / gamma), u·x = 1 for every token, and W + b uᵀ does
what W with a bias b does. Where that sum is small, though, u is large (171 long in MiniLM's fourth
layer), its products with x are small differences of large numbers, and int8 can't hold them. States
of real texts vary little along many directions, so that among the vectors with a product of 1, to
about a percent, is one that is not longer than 1 to 4: it is the one to take.

    python -m training.from_bert.biases RUN/model --data DATA --out OUT

exchanges u for it in an encoder that was trained already.
"""

import sys
from pathlib import Path
from typing import Final, cast

import click
import torch
from torch import Tensor

from retrieval.commands import program
from retrieval.gte import GteModel, PackedBatch, load_model, pack
from retrieval.gte.model import GatedMLP, Layer
from training.data.batches import sample_texts
from training.export import export
from training.models.activations import inputs_of

_SAMPLE_TOKENS: Final = 32_768
_DAMPING: Final = 1e-5
"""Square of a length against the mean square of what the product misses of 1."""
_LEAST_TOTAL: Final = 0.1
"""Of sum(beta / gamma), by which a vector is divided."""


def exact_one(gamma: Tensor, beta: Tensor) -> Tensor | None:
    """The vector whose product with a LayerNorm's outputs is 1, whatever goes in.

    Args:
        gamma: [hidden], the norm's weight.
        beta: [hidden], its bias.

    Returns:
        [hidden]; None where the shifts sum to nearly nothing.
    """
    total = (beta / gamma).sum()
    if not torch.isfinite(total) or total.abs() < _LEAST_TOTAL:
        return None
    return (1 / gamma) / total


def short_one(states: Tensor) -> Tensor:
    """A short vector whose product with a sample of states is nearly 1 (ridge regression).

    Args:
        states: float [N, hidden], many more than they are wide.

    Returns:
        float64 [hidden]; its products are 1 on average.
    """
    states = states.double()
    moment = states.T @ states / len(states)
    damped = moment + _DAMPING * torch.eye(len(moment), dtype=moment.dtype)
    one = torch.linalg.solve(damped, states.mean(dim=0))
    scaled: Tensor = one / (states @ one).mean()
    return scaled


@torch.no_grad()
def ease(model: GteModel, sample: PackedBatch) -> None:
    """Exchange ``exact_one`` for ``short_one`` in all gated MLPs, in place.

    Args:
        model: trainable.
        sample: texts, of many more tokens than the model is wide.
    """
    layers = [cast(Layer, layer) for layer in model.encoder.layer]
    mlps = [cast(GatedMLP, layer.mlp).up_gate_proj for layer in layers]
    for layer, mlp, states in zip(layers, mlps, inputs_of(mlps, model, sample), strict=True):
        exact = exact_one(layer.attn_ln.weight.double(), layer.attn_ln.bias.double())
        if exact is not None:  # else nothing can have been carried by it
            bias = mlp.weight.double() @ exact / exact.dot(exact)
            mlp.weight += torch.outer(bias, short_one(states) - exact)


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Texts to look at.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(model: Path, data: Path, out: Path) -> None:
    """Write MODEL, a GTE encoder made of a BERT one, such that int8 does it less harm."""
    encoder = load_model(model, trainable=True)
    ease(encoder, pack(sample_texts(data, model, length=256, tokens=_SAMPLE_TOKENS)))
    export(encoder, model, out, max_tokens=encoder.config.max_positions, dtype="float32")
    click.echo(f"{out}")


if __name__ == "__main__":
    sys.exit(program.run(main, "training.from_bert.biases"))
