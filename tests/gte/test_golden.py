"""The core against the reference's own outputs, packed and one at a time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from retrieval.gte import load_model
from retrieval.gte.__main__ import main, run
from retrieval.gte.encoder_config import RopeConfig
from retrieval.gte.rotary import inverse_frequencies
from tests.conftest import GOLDEN_FOLDERS

TOLERANCES = {"last_hidden_state": 5e-5, "cls_embedding": 5e-6, "lengths": 0, "logits": 2e-5}
MLM_LOGITS_TOLERANCE = 5e-4


@pytest.mark.parametrize("single", [False, True], ids=["packed", "single"])
@pytest.mark.parametrize("name", GOLDEN_FOLDERS)
def test_matches_the_reference(golden: Path, name: str, single: bool) -> None:
    model = load_model(golden / name)
    inputs = json.loads((golden / name / "inputs.json").read_text())
    expected = load_file(golden / name / "expected.safetensors")
    outputs = run(model, inputs["input_ids"], inputs["token_type_ids"], single=single)
    assert set(outputs) == set(expected) - {"cu_seqlens", "inv_freq"}
    for key, value in outputs.items():
        atol = MLM_LOGITS_TOLERANCE if (key, model.head) == ("logits", "mlm") else TOLERANCES[key]
        torch.testing.assert_close(value, expected[key], atol=atol, rtol=0)
    assert model.inv_freq is not None
    torch.testing.assert_close(model.inv_freq, expected["inv_freq"], atol=0, rtol=1e-6)


def test_golden_folders_are_all_there() -> None:
    assert len(GOLDEN_FOLDERS) == 7


def test_command_writes_the_outputs(golden: Path, tmp_path: Path) -> None:
    folder = golden / "reranker_tt1"
    output = tmp_path / "new" / "out.safetensors"
    command = [sys.executable, "-m", "retrieval.gte", folder, folder / "inputs.json", output]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert str(output) in result.stdout
    outputs, expected = load_file(output), load_file(folder / "expected.safetensors")
    assert set(outputs) == {"last_hidden_state", "cls_embedding", "lengths", "logits"}
    torch.testing.assert_close(outputs["logits"], expected["logits"], atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"input_ids": [1, 2]},
        {"input_ids": [["a"]]},
        {"input_ids": [[1], []]},
        {"input_ids": [[5000]]},
        {"input_ids": [[-1]]},
        {"input_ids": [[1, 2]], "token_type_ids": [[0]]},
        {"input_ids": [[1, 2]], "token_type_ids": [[0, 2]]},
        {"input_ids": []},
    ],
    ids=str,
)
def test_command_refuses_bad_inputs(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], inputs: dict[str, object]
) -> None:
    path = tmp_path / "inputs.json"
    path.write_text(json.dumps(inputs))
    assert main([str(golden / "large_tt2"), str(path), str(tmp_path / "out.safetensors")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_both_config_forms_give_the_same_frequencies() -> None:
    """The native form folds fixed NTK into theta and a linear factor."""
    factor, theta, head_dim = 2.0, 160_000.0, 64
    hub = RopeConfig(theta, ntk_factor=factor)
    native = RopeConfig(theta * factor, linear_factor=factor ** (2 / head_dim))
    torch.testing.assert_close(
        inverse_frequencies(hub, head_dim), inverse_frequencies(native, head_dim)
    )
