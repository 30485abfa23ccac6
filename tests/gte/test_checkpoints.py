"""Checkpoint folders: shards, prefixes, and what is refused by name."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from retrieval.errors import CheckpointError
from retrieval.gte import load_model, pack
from retrieval.gte.encoder_config import EncoderConfig


@pytest.fixture
def checkpoint(golden: Path, tmp_path: Path) -> Path:
    """A copy of a golden checkpoint, to be changed."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(golden / "plain_rope_tt0" / name, folder)
    return folder


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    state = load_file(folder / "model.safetensors") | changes
    save_file({k: v for k, v in state.items() if v is not None}, folder / "model.safetensors")


def hidden(folder: Path) -> torch.Tensor:
    with torch.inference_mode():
        return load_model(folder)(pack([[1, 2, 3], [4]]))


def test_shards_load_as_one_file(checkpoint: Path) -> None:
    expected = hidden(checkpoint)
    state = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    names = [f"model-0000{part}-of-00003.safetensors" for part in (1, 2, 3)]
    weight_map = {key: names[number % 3] for number, key in enumerate(state)}
    for name in names:
        save_file({k: v for k, v in state.items() if weight_map[k] == name}, checkpoint / name)
    index = checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    torch.testing.assert_close(hidden(checkpoint), expected, atol=0, rtol=0)
    (checkpoint / names[1]).unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00003"):
        load_model(checkpoint)
    index.write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    with pytest.raises(CheckpointError, match="unusable files: ../model.safetensors"):
        load_model(checkpoint)


def test_prefix_makes_no_difference(checkpoint: Path) -> None:
    expected = hidden(checkpoint)
    state = load_file(checkpoint / "model.safetensors")
    save_file({f"new.{k}": v for k, v in state.items()}, checkpoint / "model.safetensors")
    torch.testing.assert_close(hidden(checkpoint), expected, atol=0, rtol=0)


def test_half_precision_checkpoint(checkpoint: Path) -> None:
    expected = hidden(checkpoint)
    state = load_file(checkpoint / "model.safetensors")
    save_file({k: v.half() for k, v in state.items()}, checkpoint / "model.safetensors")
    torch.testing.assert_close(hidden(checkpoint), expected, atol=0.05, rtol=0)


def test_every_wrong_key_is_named(checkpoint: Path) -> None:
    change_weights(
        checkpoint,
        **{
            "embeddings.LayerNorm.weight": None,
            "encoder.layer.1.attention.o_proj.bias": None,
            "encoder.layer.9.attn_ln.weight": torch.ones(64),
            "surprise": torch.ones(1),
            "encoder.layer.2.mlp.down_proj.bias": torch.ones(63),
        },
    )
    with pytest.raises(CheckpointError) as caught:
        load_model(checkpoint)
    message = str(caught.value)
    assert "missing: embeddings.LayerNorm.weight, encoder.layer.1.attention.o_proj.bias" in message
    assert "surprise" in message
    assert "encoder.layer.9.attn_ln.weight" in message
    assert "encoder.layer.2.mlp.down_proj.bias is [63], not [64]" in message
    assert "\n" not in message


def test_a_missing_part_of_a_fused_projection_is_named(minilm_folder: Path, tmp_path: Path) -> None:
    shutil.copy(minilm_folder / "config.json", tmp_path)
    shutil.copy(minilm_folder / "model.safetensors", tmp_path)
    change_weights(tmp_path, **{"encoder.layer.3.attention.self.key.bias": None})
    with pytest.raises(CheckpointError, match=r"layer\.3\.attention\.qkv_proj\.bias \(a part"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "unknown model_type 'llama'; known: new, gte, bert, xlm-roberta"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "unknown rope type 'yarn'"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "unknown rope type"),
        ({"rope_scaling": {"type": "ntk"}}, "rope factor must be a number"),
        ({"rope_scaling": "ntk"}, "must be an object"),
        ({"rope_theta": float("inf")}, "rope_theta must be above 0"),
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not supported"),
        ({"layer_norm_type": "rms_norm"}, "layer_norm_type 'rms_norm'"),
        ({"position_embedding_type": "absolute"}, "position_embedding_type 'absolute'"),
        ({"logn_attention_scale": True}, "logn_attention_scale True"),
        ({"is_decoder": True}, "is_decoder True"),
        ({"add_cross_attention": True}, "add_cross_attention True"),
        ({"hidden_size": 63}, "does not split into 4 heads"),
        ({"hidden_size": "64"}, "hidden_size must be a whole number"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be a whole number from 1 to 512"),
        ({"vocab_size": -1}, "vocab_size must be a whole number"),
    ],
    ids=str,
)
def test_settings_that_are_not_run_are_refused(
    checkpoint: Path, changes: dict[str, object], message: str
) -> None:
    change_config(checkpoint, **changes)
    with pytest.raises(CheckpointError, match=message):
        EncoderConfig.from_folder(checkpoint)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_config_that_is_no_json_object(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="config.json"):
        load_model(checkpoint)


@pytest.mark.parametrize("keep", [0, 7, 100, 5000, 750_000])
def test_cut_off_weights(checkpoint: Path, keep: int) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_model(checkpoint)


def test_pickled_weights_are_never_loaded(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="never loaded"):
        load_model(checkpoint)


def test_core_needs_torch_and_safetensors_only(golden: Path) -> None:
    """And nothing of torch's compiler, whose import takes longer than that of torch."""
    code = (
        "import sys; from pathlib import Path; from retrieval.gte import load_model, pack; "
        "load_model(Path(sys.argv[1]), workload='latency')(pack([[1, 2]])); "
        "others = {'transformers', 'tokenizers', 'grpc', 'faiss', 'huggingface_hub', "
        "'sympy', 'torch._dynamo', 'torch._inductor'}; "
        "print(sorted(others & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(golden / "plain_rope_tt0")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "[]"
