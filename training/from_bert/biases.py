"""Biases for a gated MLP, which has none: a vector whose product with every token's state is 1.

For the output x of a LayerNorm, sum(x / gamma) = sum(beta / gamma), because the values that it
scales and shifts sum to zero. So with u = (1 / gamma) / sum(beta / gamma), u·x = 1 for every token,
and the matrix W + b uᵀ computes what W with a bias b does. If that sum is small, however, u is long
(171 in MiniLM's fourth layer). Its products with x are then small differences of large numbers,
which int8 can't represent. States of real texts vary little along many directions, so there is also
a vector of length 1 to 4 whose products are 1 within about a percent. That one is used.

    python -m training.from_bert.biases RUN/model --data DATA --out OUT

replaces u by the short vector in an encoder that is already trained.
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
"""Tokens of the sample: 85 for each of the 384 dimensions of a small model."""
_DAMPING: Final = 1e-5
"""Weight of the squared length of the vector beside the mean squared error of its products."""
_LEAST_TOTAL: Final = 0.1
"""Smallest sum(beta / gamma) that a vector is divided by; a smaller one is rounding noise."""


def exact_one(gamma: Tensor, beta: Tensor) -> Tensor | None:
    """Return the vector whose product with any output of a LayerNorm is 1.

    Args:
        gamma: [hidden], the norm's weight.
        beta: [hidden], the norm's bias.

    Returns:
        [hidden]; None if the shifts sum to nearly nothing.
    """
    total = (beta / gamma).sum()
    if not torch.isfinite(total) or total.abs() < _LEAST_TOTAL:
        return None
    return (1 / gamma) / total


def short_one(states: Tensor) -> Tensor:
    """Return a short vector whose product with sampled states is nearly 1 (ridge regression).

    Args:
        states: float [N, hidden], with N much larger than hidden.

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
    """Replace ``exact_one`` by ``short_one`` in all gated MLPs, in place.

    Args:
        model: a trainable encoder.
        sample: texts with many more tokens than the model is wide.
    """
    layers = [cast(Layer, layer) for layer in model.encoder.layer]
    mlps = [cast(GatedMLP, layer.mlp).up_gate_proj for layer in layers]
    for layer, mlp, states in zip(layers, mlps, inputs_of(mlps, model, sample), strict=True):
        exact = exact_one(layer.attn_ln.weight.double(), layer.attn_ln.bias.double())
        if exact is not None:  # otherwise the conversion has not used it
            bias = mlp.weight.double() @ exact / exact.dot(exact)
            mlp.weight += torch.outer(bias, short_one(states) - exact)


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Data folder, for a sample of texts.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(model: Path, data: Path, out: Path) -> None:
    """Write a version of MODEL, a GTE encoder converted from BERT, that int8 harms less."""
    encoder = load_model(model, trainable=True)
    ease(encoder, pack(sample_texts(data, model, length=256, tokens=_SAMPLE_TOKENS)))
    export(encoder, model, out, max_tokens=encoder.config.max_positions, dtype="float32")
    click.echo(f"{out}")


if __name__ == "__main__":
    sys.exit(program.run(main, "training.from_bert.biases"))
