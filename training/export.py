"""Export of a trained encoder to a folder for our loader, transformers and sentence-transformers.

    python -m training.export RUN/model --out mini-gte-en-v1 --dtype float16

Given several encoders, one of which was trained from the other, it writes their mean, which can do
most of what each of them can (https://arxiv.org/abs/2203.05482).
Configuration and weights are in the form of transformers' native ``gte``, which needs no remote
code. The other files are those of sentence-transformers: CLS pooling, vectors of length 1.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from retrieval.commands import program
from retrieval.errors import CheckpointError, InvalidArgument
from retrieval.gte import GteModel, load_model

DTYPES = {"float32": torch.float32, "float16": torch.float16}

_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {
        "idx": 2,
        "name": "2",
        "path": "2_Normalize",
        "type": "sentence_transformers.models.Normalize",
    },
]
_RENAMED = {
    "attention.o_proj": "self_attn.o_proj",
    "attn_ln": "post_attention_layernorm",
    "mlp_ln": "post_mlp_layernorm",
    "mlp.down_proj": "mlp.down_proj",
}


def export(model: GteModel, tokenizer: Path, out: Path, *, max_tokens: int, dtype: str) -> None:
    """Write a model folder.

    Args:
        model: a trainable encoder (so its weights are not repacked); a head is left out.
        tokenizer: folder of the tokenizer.
        out: folder to write; existing files are replaced.
        max_tokens: maximum tokens of one text, special tokens included.
        dtype: type of the weights, a key of ``DTYPES``.
    """
    (out / "1_Pooling").mkdir(parents=True, exist_ok=True)
    weights = {
        name: weight.to(DTYPES[dtype]).cpu().contiguous()
        for name, weight in native_weights(model).items()
    }
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    _write(out / "config.json", native_config(model, max_tokens, dtype))
    _write(out / "modules.json", _MODULES)
    _write(
        out / "1_Pooling" / "config.json",
        {"word_embedding_dimension": model.config.hidden_size, "pooling_mode_cls_token": True},
    )
    _write(
        out / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False}
    )
    _write_tokenizer(tokenizer, out, max_tokens)


def _write_tokenizer(folder: Path, out: Path, max_tokens: int) -> None:
    """Write a BERT tokenizer that neither truncates nor pads."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(out / "tokenizer.json"))
    names = {f"{name.lower()}_token": f"[{name}]" for name in ("CLS", "SEP", "PAD", "UNK", "MASK")}
    _write(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_tokens,
            "model_input_names": ["input_ids", "attention_mask"],
            **names,
        },
    )


@torch.no_grad()
def mean_of(models: Sequence[GteModel]) -> GteModel:
    """Average the weights of encoders into the first of them.

    Args:
        models: at least one; all of the same shape.

    Raises:
        InvalidArgument: they differ in shape.
    """
    first, *others = models
    if any(other.config != first.config for other in others):
        raise InvalidArgument("encoders of different shapes have no mean")
    weights = [model.state_dict() for model in models]
    for name, weight in weights[0].items():
        weight.copy_(torch.stack([one[name] for one in weights]).mean(dim=0))
    return first


def native_config(model: GteModel, max_tokens: int, dtype: str) -> dict[str, object]:
    """Return ``config.json`` in the form of transformers' ``GteConfig``."""
    config = model.config
    if config.rope is None:
        raise CheckpointError("only encoders with rotary positions can be exported")
    return {
        "architectures": ["GteModel"],
        "model_type": "gte",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": max_tokens,
        "type_vocab_size": config.type_vocab_size,
        "layer_norm_eps": config.layer_norm_eps,
        "pad_token_id": 0,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope.theta},
        "dtype": dtype,
    }


def native_weights(model: GteModel) -> dict[str, Tensor]:
    """Return the encoder's weights under the names of transformers' ``gte``."""
    weights: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        if not key.startswith("encoder.layer."):
            if key.startswith("embeddings."):
                weights[key] = value
            continue
        _, _, number, rest = key.split(".", 3)
        name, _, kind = rest.rpartition(".")
        layer = f"layers.{number}."
        if name == "attention.qkv_proj":
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                weights[f"{layer}self_attn.{letter}_proj.{kind}"] = part
        elif name == "mlp.up_gate_proj":
            for what, part in zip(("up", "gate"), value.chunk(2), strict=True):
                weights[f"{layer}mlp.{what}_proj.{kind}"] = part
        else:
            weights[f"{layer}{_RENAMED[name]}.{kind}"] = value
    return weights


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@click.command()
@click.argument("models", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="float16", show_default=True)
@click.option("--max-tokens", type=click.IntRange(8), default=8192, show_default=True)
def main(models: tuple[Path, ...], out: Path, dtype: str, max_tokens: int) -> None:
    """Export the encoder in the folder MODELS, or the mean of those in several folders."""
    mean = mean_of([load_model(model, trainable=True) for model in models])
    export(mean, models[0], out, max_tokens=max_tokens, dtype=dtype)
    size = (out / "model.safetensors").stat().st_size
    click.echo(f"{out}: {size / 1e6:.1f} MB of weights in {dtype}")


if __name__ == "__main__":
    sys.exit(program.run(main, "training.export"))
