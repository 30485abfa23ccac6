"""The models that ``benchmarks.encoder`` measures, their work, and the limit of the machine."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModel, GteConfig, GteModel

from benchmarks.encoder.peers import TOKENIZER_FILES
from retrieval.encoding.model_cards import OFFLINE_MODEL
from retrieval.encoding.model_folders import find_model
from retrieval.gte import EncoderConfig, Pooling
from retrieval.gte.cpu.prepacked_linear import PackedLinear

SHAPES = {
    "gte-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "gte-large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
}
MAX_TOKENS = 512
"""Maximum tokens of a text, for shapes that could read more."""


def make_shape(name: str, folder: Path) -> tuple[Path, torch.nn.Module, Pooling]:
    """Make a folder with weights and tokenizer, transformers' model of it, and the pooling."""
    offline = find_model(OFFLINE_MODEL).path
    if name == "minilm":
        return offline, AutoModel.from_pretrained(offline, dtype=torch.float32).eval(), "mean"
    hidden = SHAPES[name]["hidden_size"]
    config = GteConfig(
        **SHAPES[name],
        vocab_size=30528,
        intermediate_size=4 * hidden,
        type_vocab_size=0,
        rope_parameters={"rope_type": "default", "rope_theta": 160_000.0},
    )
    torch.manual_seed(0)
    peer = GteModel(config).eval()
    peer.save_pretrained(folder)
    for file in TOKENIZER_FILES:
        shutil.copyfile(offline / file, folder / file)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["model_max_length"] = MAX_TOKENS
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder, peer, "cls"


def flops(folder: Path, rows: Sequence[Sequence[int]]) -> float:
    """Count the operations of all matrix products, attention included; a multiply-add is 2."""
    config = EncoderConfig.from_dict(json.loads((folder / "config.json").read_text()), where="")
    hidden, inner = config.hidden_size, config.intermediate_size
    per_token = 2 * hidden * (4 * hidden + (3 if config.gated_mlp else 2) * inner)
    attention = 4 * hidden
    return config.num_layers * sum(len(row) * (per_token + attention * len(row)) for row in rows)


def gemm_limit(size: int = 1024, repeat: int = 8) -> float:
    """Measure GFLOP/s of a large float32 product: the better of torch's own and a prepacked one."""
    rows = torch.randn(size, size)
    best = 0.0
    for layer in (torch.nn.Linear(size, size), PackedLinear(torch.randn(size, size), None)):
        layer(rows)
        started = time.perf_counter()
        for _ in range(repeat):
            layer(rows)
        best = max(best, repeat * 2 * size**3 / (time.perf_counter() - started) / 1e9)
    return best
