"""Conversion of a BERT encoder into a GTE-v1.5 encoder that computes nearly the same.

    python -m training.convert all-minilm-l6-v2 --data DATA --out START

Some parts are converted exactly: the weights of attention and norms; BERT's plain MLP, as a gated
one; token types and the mean of the positions, folded into the word embeddings. Positions are not:
they turn from a table into rotations, and training must make up for the difference.

**The gated MLP.** There is a vector u with u·x = 1 for every output x of a LayerNorm
(``from_bert.biases``). Hence ``down(gelu(W1 x + b1))`` equals ``down(up · gelu(gate))`` with
gate = W1 + b1 uᵀ and up = 1 uᵀ, which needs no biases.

**Positions** turn from a table into rotations: see ``from_bert.heads``.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import click
import torch
from torch import Tensor

from retrieval.commands import program
from retrieval.encoding.model_folders import find_model
from retrieval.errors import CheckpointError, InvalidArgument
from retrieval.gte import EncoderConfig, GteModel, PackedBatch, load_model, pack
from retrieval.gte.encoder_config import RopeConfig
from retrieval.gte.model import Layer
from retrieval.gte.rotary import inverse_frequencies
from training.data.batches import sample_texts
from training.export import export
from training.from_bert.biases import ease, exact_one
from training.from_bert.heads import Heads, balanced_basis, position_offsets
from training.from_bert.pooling_layer import pooling_weights
from training.from_bert.shrink import shrink
from training.models.activations import inputs_of

_SAMPLE_LENGTH: Final = 128
"""Tokens of a text in the sample: enough positions for offsets, few enough for many texts."""
_SAMPLE_TOKENS: Final = 49_152
"""Tokens of the sample: at least 384 texts, as the statistics of each position need a hundred."""


def gte_weights(bert: GteModel, sample: PackedBatch, *, rope_theta: float) -> dict[str, Tensor]:
    """Return the weights of the GTE encoder without token types, under the hub's keys.

    Args:
        bert: an encoder with absolute positions and plain MLPs, trainable (so its weights are not
            repacked).
        sample: some hundred texts, from which the variation of queries and keys is computed.
        rope_theta: base of the rotary frequencies.

    Raises:
        CheckpointError: the shifts of a norm sum to nearly nothing.
    """
    config, state = bert.config, {k: v.detach() for k, v in bert.state_dict().items()}
    weights = {
        "embeddings.word_embeddings.weight": _fold_embeddings(config, state),
        "embeddings.LayerNorm.weight": state["embeddings.LayerNorm.weight"],
        "embeddings.LayerNorm.bias": state["embeddings.LayerNorm.bias"],
    }
    frequencies = inverse_frequencies(RopeConfig(rope_theta), config.head_dim)
    for number, projected in enumerate(_projections(bert, sample)):
        layer = f"encoder.layer.{number}."
        for name in ("attention.o_proj", "attn_ln", "mlp_ln", "mlp.down_proj"):
            for kind in ("weight", "bias"):
                weights[f"{layer}{name}.{kind}"] = state[f"{layer}{name}.{kind}"]
        weight, bias = _rotated_heads(
            state[f"{layer}attention.qkv_proj.weight"],
            state[f"{layer}attention.qkv_proj.bias"],
            Heads.of(projected, sample, config.num_heads),
            frequencies,
        )
        weights[f"{layer}attention.qkv_proj.weight"] = weight
        weights[f"{layer}attention.qkv_proj.bias"] = bias
        weights[f"{layer}mlp.up_gate_proj.weight"] = _gate(state, layer)
    return {name: weight.contiguous() for name, weight in weights.items()}


def gte_config(bert: EncoderConfig, *, rope_theta: float, max_positions: int) -> EncoderConfig:
    """Return the configuration of the encoder that ``gte_weights`` are for."""
    return replace(
        bert,
        model_type="gte",
        max_positions=max_positions,
        type_vocab_size=0,
        rope=RopeConfig(rope_theta),
        position_offset=0,
        gated_mlp=True,
    )


def _fold_embeddings(config: EncoderConfig, state: dict[str, Tensor]) -> Tensor:
    """Return word embeddings, float32 [vocab, hidden], with positions and types folded in."""
    words = state["embeddings.word_embeddings.weight"]
    positions = state["embeddings.position_embeddings.weight"][config.position_offset :]
    folded = words + positions.mean(dim=0)
    if config.type_vocab_size:
        folded = folded + state["embeddings.token_type_embeddings.weight"][0]
    return folded


def _gate(state: dict[str, Tensor], layer: str) -> Tensor:
    """Return the gated MLP's first matrix, float32 [2 * intermediate, hidden]: up, then gate."""
    gamma, beta = state[f"{layer}attn_ln.weight"], state[f"{layer}attn_ln.bias"]
    one = exact_one(gamma, beta)
    if one is None:
        raise CheckpointError(
            f"{layer}attn_ln shifts its outputs too little to make biases of them"
        )
    weight, bias = state[f"{layer}mlp.up_proj.weight"], state[f"{layer}mlp.up_proj.bias"]
    return torch.cat([one.expand_as(weight), weight + bias[:, None] * one])


@torch.no_grad()
def _projections(bert: GteModel, sample: PackedBatch) -> Iterator[Tensor]:
    """Yield queries, keys and values of a sample, float32 [N, 3 * hidden], layer by layer."""
    modules = [cast(Layer, layer).attention.qkv_proj for layer in bert.encoder.layer]
    for module, states in zip(modules, inputs_of(modules, bert, sample), strict=True):
        yield module(states).detach()


def _rotated_heads(
    weight: Tensor, bias: Tensor, heads: Heads, frequencies: Tensor
) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the projection to queries, keys and values for rotation."""
    basis = balanced_basis(heads)
    _, count, _, width = heads.moments.shape
    both = torch.cat([weight, bias[:, None]], dim=1).double()  # [3 * hidden, hidden + 1]
    by_head = both.view(3, count, width, -1)
    by_head[:2] = basis @ by_head[:2]
    by_head[:2, :, :, -1] += position_offsets(heads.changed(basis), frequencies)
    return both[:, :-1].to(weight.dtype), both[:, -1].to(bias.dtype)


def convert(
    name: str,
    data: Path,
    out: Path,
    *,
    rope_theta: float,
    max_positions: int,
    neurons: int | None = None,
    pool_layer: bool = False,
) -> None:
    """Convert a BERT encoder and write the GTE encoder.

    Args:
        name: name, hub id or folder of the BERT encoder.
        data: data folder, for a sample of texts.
        out: folder to write: configuration, weights, tokenizer.
        rope_theta: base of the rotary frequencies.
        max_positions: maximum tokens of a text, special tokens included.
        neurons: neurons to keep in each MLP (see ``from_bert.shrink``); None for all.
        pool_layer: whether to add a layer that takes the mean (``from_bert.pooling_layer``).

    Raises:
        ModelNotFound, CheckpointError, InvalidArgument: the model or the data can't be used.
    """
    folder = find_model(name).path
    bert = load_model(folder, trainable=True)
    if bert.config.rope is not None or bert.config.gated_mlp:
        raise InvalidArgument(f"{name} is not a BERT encoder")
    sample = pack(sample_texts(data, folder, length=_SAMPLE_LENGTH, tokens=_SAMPLE_TOKENS))
    if neurons is not None:
        bert = shrink(bert, sample, neurons)
    config = gte_config(bert.config, rope_theta=rope_theta, max_positions=max_positions)
    weights = gte_weights(bert, sample, rope_theta=rope_theta)
    if pool_layer:
        weights |= pooling_weights(config)
        config = replace(config, num_layers=config.num_layers + 1)
    student = GteModel(config)
    student.load_state_dict(weights)
    student.prepare_training(device="cpu")
    ease(student, sample)
    export(student, folder, out, max_tokens=max_positions, dtype="float32")


@click.command()
@click.argument("name")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Data folder, for a sample of texts.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--rope-theta", type=float, default=160_000.0, show_default=True)
@click.option("--max-positions", type=int, default=8192, show_default=True)
@click.option(
    "--neurons", type=click.IntRange(1), help="Neurons to keep in each MLP; all by default."
)
@click.option("--pool-layer", is_flag=True, help="Add a layer that takes the tokens' mean.")
def main(name: str, data: Path, out: Path, **shape: Any) -> None:  # noqa: ANN401  (click's)
    """Convert the BERT encoder NAME into a GTE encoder."""
    convert(name, data, out, **shape)
    click.echo(f"{out}")


if __name__ == "__main__":
    sys.exit(program.run(main, "training.convert"))
