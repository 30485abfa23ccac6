"""Fingerprints: an index accepts its model only while they stay the same."""

import json
import shutil
from pathlib import Path

import pytest

from retrieval.encoder import Encoder
from retrieval.encoding.model_cards import OFFLINE_MODEL, OWN_MODEL
from retrieval.encoding.model_folders import find_model
from retrieval.errors import ModelNotFound

# Written as text, since a release of the library may write the same tokenizer differently.
TOKENIZER = json.dumps(
    {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4},
        },
    }
)


def fingerprint(model: str, dtype: str = "float32") -> str:
    return Encoder.load(model, device="cpu", dtype=dtype).identity.fingerprint


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", "5f3b3398070e889dd39562a1359c4a5c5306ff445818c9fefc11b058eea98993"),
        ("int8", "3379f0450b705d8e305e719e5c14071f806a9b8690c4d4c6e57170346dcb3f1b"),
    ],
)
def test_fingerprint_of_the_shipped_model(dtype: str, expected: str) -> None:
    assert fingerprint(OWN_MODEL, dtype) == expected


def test_fingerprint_of_a_bert_model() -> None:
    try:
        find_model(OFFLINE_MODEL)
    except ModelNotFound:
        pytest.skip(f"{OFFLINE_MODEL} is not installed")
    expected = "350e4411c47d1d1120119096a611d2afb9580c508ba92bde868e22d756adc57e"
    assert fingerprint(OFFLINE_MODEL) == expected


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        ("plain_rope_tt0", "fd8f627d946b5a0ff7154066f9609983c3068a43686d46d70ec08896f14a0f12"),
        ("base_ntk_short", "b065ba1e89b47b3b8a1884fdf34663f5d2ee8a005fc80da0f4a006a3b6497a51"),
        ("ntk_mixed_b", "4fe92e09789f698e971f1c68d19858b1987885ccf7b01b35dfe5022654891584"),
        ("large_tt2", "0fdf7f0934339221c3a1cd6004d8925cdd3ba35ba0c956d1d1cdbb8a0f2d6574"),
    ],
)
def test_fingerprint_of_each_kind_of_rope(
    checkpoint: str, expected: str, golden: Path, tmp_path: Path
) -> None:
    assert fingerprint(str(write_model(golden / checkpoint, tmp_path))) == expected


def test_fingerprint_of_a_model_with_settings_of_its_own(golden: Path, tmp_path: Path) -> None:
    folder = write_model(golden / "plain_rope_tt0", tmp_path)
    files = {
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": 48, "do_lower_case": True},
        "config_sentence_transformers.json": {
            "prompts": {"query": "query: ", "passage": "passage: "}
        },
        "tokenizer_config.json": {"add_eos_token": True, "eos_token": "[SEP]"},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    expected = "adf86bebff396d1580791672688e1f838d9a7b5abf823f324cefeb3bacf0f505"
    assert fingerprint(str(folder)) == expected


def write_model(checkpoint: Path, folder: Path) -> Path:
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(checkpoint / name, folder / name)
    (folder / "tokenizer.json").write_text(TOKENIZER, encoding="utf-8")
    return folder
