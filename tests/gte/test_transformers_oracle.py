"""The core against transformers' native ``gte``, BERT and XLM-R: second oracles."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    GteConfig,
    GteForSequenceClassification,
    GteModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from retrieval.gte import load_model, pack

LENGTHS = (1, 7, 7, 33, 2, 60)
SHAPE = {
    "vocab_size": 1000,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}


def random_rows() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(5, 1000, (length,), generator=generator).tolist() for length in LENGTHS]


def assert_same(folder: Path, oracle: torch.nn.Module) -> None:
    """Our core on the saved folder gives what the oracle gives, one sequence at a time."""
    rows = random_rows()
    model = load_model(folder)
    with torch.inference_mode():
        hidden = model(pack(rows))
        expected = torch.cat([oracle(torch.tensor([row])).last_hidden_state[0] for row in rows])
    torch.testing.assert_close(hidden, expected, atol=2e-5, rtol=0)


def native_config(golden_config: dict[str, object]) -> GteConfig:
    """The hub's config in the native form: fixed NTK is theta·s with a linear factor s^(2/d)."""
    scaling = golden_config["rope_scaling"]
    theta = golden_config["rope_theta"]
    if scaling is None:
        rope: dict[str, object] = {"rope_type": "default", "rope_theta": theta}
    else:
        factor, head_dim = scaling["factor"], 16
        rope = {
            "rope_type": "linear",
            "rope_theta": theta * factor,
            "factor": factor ** (2 / head_dim),
        }
    return GteConfig(
        **SHAPE,
        type_vocab_size=golden_config["type_vocab_size"],
        layer_norm_eps=golden_config["layer_norm_eps"],
        rope_parameters=rope,
    )


def native_state(folder: Path) -> dict[str, torch.Tensor]:
    """A golden checkpoint's weights under the names of transformers' native ``gte``."""
    state = {}
    for key, value in load_file(folder / "model.safetensors").items():
        name = (
            key.removeprefix("new.")
            .replace("encoder.layer.", "layers.")
            .replace("attention.o_proj", "self_attn.o_proj")
            .replace("attn_ln", "post_attention_layernorm")
            .replace("mlp_ln", "post_mlp_layernorm")
        )
        if "qkv_proj" in name:
            for part, letter in zip(value.chunk(3), "qkv", strict=True):
                state[name.replace("attention.qkv_proj", f"self_attn.{letter}_proj")] = part
        elif "up_gate_proj" in name:
            for part, side in zip(value.chunk(2), ("up", "gate"), strict=True):
                state[name.replace("up_gate_proj", f"{side}_proj")] = part
        else:
            state[name] = value
    return state


@pytest.mark.parametrize("name", ["base_ntk_short", "large_tt2", "plain_rope_tt0"])
def test_native_gte_with_converted_weights(golden: Path, name: str) -> None:
    config = json.loads((golden / name / "config.json").read_text())
    oracle = GteModel(native_config(config)).eval()
    oracle.load_state_dict(native_state(golden / name))
    assert_same(golden / name, oracle)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_folder_that_native_gte_saves(tmp_path: Path, attention: str) -> None:
    torch.manual_seed(1)
    config = GteConfig(
        **SHAPE,
        type_vocab_size=2,
        rope_parameters={"rope_type": "linear", "rope_theta": 50_000.0, "factor": 1.5},
        attn_implementation=attention,
    )
    oracle = GteModel(config).eval()
    oracle.save_pretrained(tmp_path)
    assert_same(tmp_path, oracle)


def test_folder_with_native_keys(golden: Path, tmp_path: Path) -> None:
    """The native layout itself: ``layers.N.self_attn.q_proj`` and so on, under ``gte.``."""
    raw = json.loads((golden / "base_ntk_short" / "config.json").read_text())
    config = native_config(raw)
    oracle = GteModel(config).eval()
    oracle.load_state_dict(native_state(golden / "base_ntk_short"))
    (tmp_path / "config.json").write_text(config.to_json_string())
    state = native_state(golden / "base_ntk_short")
    save_file(
        {f"gte.{key}": v.contiguous() for key, v in state.items()}, tmp_path / "model.safetensors"
    )
    assert_same(tmp_path, oracle)


def test_native_sequence_classifier(tmp_path: Path) -> None:
    torch.manual_seed(2)
    config = GteConfig(
        **SHAPE, num_labels=1, rope_parameters={"rope_type": "default", "rope_theta": 10_000.0}
    )
    oracle = GteForSequenceClassification(config).eval()
    oracle.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert model.head == "sequence_classification"
    rows = random_rows()
    batch = pack(rows)
    with torch.inference_mode():
        logits = model.logits(model(batch), batch)
        expected = torch.cat([oracle(torch.tensor([row])).logits for row in rows])
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("pooler", [True, False])
def test_bert(tmp_path: Path, pooler: bool) -> None:
    torch.manual_seed(3)
    oracle = BertModel(BertConfig(**SHAPE, hidden_act="gelu"), add_pooling_layer=pooler).eval()
    oracle.save_pretrained(tmp_path)
    assert_same(tmp_path, oracle)


def test_xlm_roberta_positions_start_after_padding(tmp_path: Path) -> None:
    torch.manual_seed(4)
    config = XLMRobertaConfig(
        **SHAPE, type_vocab_size=1, pad_token_id=1, max_position_embeddings=130
    )
    oracle = XLMRobertaModel(config, add_pooling_layer=False).eval()
    oracle.save_pretrained(tmp_path)
    assert_same(tmp_path, oracle)
