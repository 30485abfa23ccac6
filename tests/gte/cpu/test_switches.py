"""Every CPU optimisation can be turned off, and the vectors stay the same within rounding."""

import re
from pathlib import Path

import pytest
import torch

import retrieval
from retrieval.errors import InvalidArgument
from retrieval.gte import GteModel, ShortTexts, has_exact_int8, load_model, pack
from retrieval.gte.cpu import host
from retrieval.gte.cpu.int8_linear import Float32Product, OneDnnProduct, pair_limit
from retrieval.gte.cpu.layout import GeluInPlace
from retrieval.gte.cpu.prepacked_linear import PackedLinear, can_prepack
from retrieval.gte.cpu.switches import VARIABLE
from tests.conftest import GOLDEN

FOLDER = GOLDEN / "base_ntk_short"
BATCH = [[5, 6, 7], [8, 9, 10], [11], list(range(100, 160))]


def load(dtype: torch.dtype) -> GteModel:
    return load_model(FOLDER, dtype=dtype, workload="latency")


def vectors(model: GteModel) -> torch.Tensor:
    with torch.inference_mode():
        return model.embed(pack(BATCH), "cls")


def has(model: GteModel, part: type[torch.nn.Module]) -> bool:
    return any(isinstance(module, part) for module in model.modules())


@pytest.mark.parametrize("off", ["prepack", "all", " gelu , prepack"])
def test_plain_linear_layers_compute_the_same(off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = load(torch.float32)
    if not can_prepack():
        pytest.skip("this build of torch lacks the operators")
    monkeypatch.setenv(VARIABLE, off)
    plain = load(torch.float32)
    assert has(fast, PackedLinear) and not has(plain, PackedLinear)
    assert fast.wants_few_sizes and not plain.wants_few_sizes
    torch.testing.assert_close(vectors(plain), vectors(fast), atol=2e-6, rtol=0)


@pytest.mark.parametrize("off", ["gelu", "all"])
def test_gelu_to_new_memory_computes_the_same(off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = load(torch.float32)
    monkeypatch.setenv(VARIABLE, off)
    plain = load(torch.float32)
    assert has(fast, GeluInPlace) and not has(plain, GeluInPlace)
    torch.testing.assert_close(vectors(plain), vectors(fast), atol=2e-6, rtol=0)


@pytest.mark.parametrize("off", ["int8", "all"])
def test_int8_in_float32_sums_the_same_integers(off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if pair_limit() is None:
        pytest.skip("this build of torch lacks the operators")
    exact, fast = has_exact_int8(), load(torch.int8)
    monkeypatch.setenv(VARIABLE, off)
    assert not has_exact_int8()
    plain = load(torch.int8)
    assert has(plain, Float32Product) and not has(plain, OneDnnProduct)
    # Without VNNI the scales differ: only the operators need room for two products in 16 bits.
    least = 0.99999 if exact else 0.99
    assert torch.cosine_similarity(vectors(plain), vectors(fast)).min() > least


@pytest.mark.parametrize("off", ["trace", "all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_without_a_trace_the_model_itself_takes_short_texts(
    off: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = load(dtype), pack(BATCH)
    fast = ShortTexts(model, "cls")
    with torch.inference_mode():
        traced = fast.embed(batch)
    monkeypatch.setenv(VARIABLE, off)
    assert fast.takes(batch) and not ShortTexts(model, "cls").takes(batch)
    torch.testing.assert_close(traced, vectors(model), atol=2e-6, rtol=0)


@pytest.mark.parametrize(("off", "kept"), [("", 1), ("trace", 1), ("malloc", 0), ("all", 0)])
def test_malloc_is_left_alone(off: str, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    monkeypatch.setenv(VARIABLE, off)
    monkeypatch.setattr(host, "keep_freed_memory", lambda: calls.append(None))
    host.tune_process("cpu")
    host.tune_process("cuda")
    assert len(calls) == kept


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "int8,jit")
    with pytest.raises(InvalidArgument, match="RETRIEVAL_CPU_OFF names jit; it may name int8, "):
        load(torch.int8)


def test_nothing_else_uses_what_torch_does_not_promise() -> None:
    """Private operators, TorchScript and the C library's allocator are behind the door."""
    root = Path(retrieval.__file__).parent
    trimmer = root / "service" / "limits" / "memory.py"  # the server's, and of no model
    hidden = re.compile(r"\btorch\.(?:_|ops\b|jit\b)|\bctypes\b|\bmallopt\b")
    found = [
        str(path.relative_to(root))
        for path in sorted(root.rglob("*.py"))
        if path != trimmer and hidden.search(path.read_text(encoding="utf-8"))
    ]
    assert found and all(path.startswith("gte/cpu/") for path in found)
