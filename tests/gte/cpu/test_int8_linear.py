"""int8 products: exact sums, one scale a token, and vectors that do not depend on the batch."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.gte import GteModel, load_model, pack
from retrieval.gte.cpu import int8_linear
from retrieval.gte.cpu.int8_linear import Int8Linear, pair_limit
from retrieval.gte.cpu.onednn import to_bytes
from tests.conftest import GOLDEN, GOLDEN_FOLDERS


@pytest.fixture
def without_operators(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A build of torch that lacks the int8 operators."""

    def refuse(*_: object) -> torch.Tensor:
        raise AttributeError

    monkeypatch.setattr(int8_linear, "OneDnnProduct", refuse)
    _forget_what_was_tried()
    yield
    monkeypatch.undo()
    _forget_what_was_tried()


def _forget_what_was_tried() -> None:
    int8_linear._tried_pair_limit.cache_clear()
    int8_linear._choose.cache_clear()


def layer_and_rows(
    n: int, width: int, out: int, seed: int, *, few_rows: bool = False
) -> tuple[Int8Linear, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, width, generator=generator)
    bias = torch.randn(out, generator=generator)
    # Tokens of very different size: one scale for all of them would lose the small ones.
    sizes = 10.0 ** torch.randint(-4, 4, (n, 1), generator=generator)
    rows = torch.randn(n, width, generator=generator) * sizes
    return Int8Linear(weight, bias, few_rows=few_rows), rows


def expected(weight: torch.Tensor, bias: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The definition, in float64."""
    sizes = weight.double().abs()
    weight_scales = sizes.amax(1, keepdim=True) / 127
    if pair_limit() == 128:
        pairs = sizes[:, ::2] + sizes[:, 1::2]
        weight_scales = weight_scales.maximum(pairs.amax(1, keepdim=True) / 127)
    row_scales = rows.double().abs().amax(1, keepdim=True) / 127
    return (rows / row_scales).round() @ (weight / weight_scales).round().T * (
        row_scales * weight_scales.T
    ) + bias


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 40),
    width=st.sampled_from([8, 64, 100, 384]),
    out=st.sampled_from([1, 24, 96]),
    seed=st.integers(0, 1000),
    few_rows=st.booleans(),
)
def test_the_product_is_what_its_definition_says(
    n: int, width: int, out: int, seed: int, few_rows: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, width, generator=generator)
    bias = torch.randn(out, generator=generator)
    layer, rows = layer_and_rows(n, width, out, seed, few_rows=few_rows)
    result = layer(rows)
    # A value that lies half-way between two integers may be rounded to either; a weight's integer
    # stands for up to twice its peak's share, where pairs count.
    step = rows.abs().amax(1, keepdim=True) / 127 * weight.abs().amax(1) * 2
    assert ((result - expected(weight, bias, rows)).abs() <= step + 1e-4).all()
    exact = rows @ weight.T + bias
    error = (result - exact).abs() / (rows.norm(dim=1, keepdim=True) * weight.norm(dim=1) + 1e-9)
    assert error.max() < 0.05
    for row in range(n):
        assert torch.equal(layer(rows[row : row + 1])[0], result[row])


@pytest.mark.parametrize("make", [int8_linear.FbgemmProduct, int8_linear.Float32Product])
def test_all_products_sum_the_same_integers(make: int8_linear.MakeProduct) -> None:
    """So that a query and the passages may go through different ones."""
    limit = pair_limit()
    if limit is None or (limit == 254 and make is int8_linear.FbgemmProduct):
        pytest.skip("this build of torch lacks the operators")
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-limit // 2, limit // 2, (96, 384), generator=generator).to(torch.int8)
    scales = torch.rand(96, generator=generator) + 0.01
    rows = (torch.rand(20, 384, generator=generator) * 2 - 1) * 127
    wanted = int8_linear.OneDnnProduct(weight, scales)(rows.clone())
    torch.testing.assert_close(make(weight, scales)(rows), wanted, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("few_rows", [False, True])
def test_a_row_of_zeros_gives_the_bias(few_rows: bool) -> None:
    layer = Int8Linear(torch.randn(8, 64), torch.arange(8.0), few_rows=few_rows)
    assert torch.equal(layer(torch.zeros(2, 64)), torch.arange(8.0).expand(2, 8))
    zero = Int8Linear(torch.zeros(8, 64), None, few_rows=few_rows)
    assert torch.equal(zero(torch.randn(2, 64)), torch.zeros(2, 8))


@pytest.mark.usefixtures("without_operators")
def test_without_the_operators_int8_is_right_all_the_same() -> None:
    assert pair_limit() is None
    plain, rows = layer_and_rows(20, 384, 96, 0)
    result = plain(rows)
    exact = expected(*_parameters(96, 384, 0), rows)
    assert ((result - exact).abs() <= rows.abs().amax(1, keepdim=True) * 0.05).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("rows", [1, 128, 200])  # a few, as many, and many
def test_a_trace_makes_the_same_bytes(rows: int) -> None:
    whole = torch.arange(-127.0, 128.0).repeat(rows, 1)
    wanted = (whole + 128).to(torch.uint8)

    def make(numbers: torch.Tensor) -> torch.Tensor:
        return to_bytes(numbers * 1, 128)

    traced = torch.jit.trace(make, whole[:1], check_trace=False)  # type: ignore[no-untyped-call]
    assert torch.equal(make(whole), wanted)
    assert torch.equal(traced(whole), wanted)


def _parameters(out: int, width: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(out, width, generator=generator), torch.randn(out, generator=generator)


@pytest.mark.parametrize(
    "isa",
    [
        *("AVX2", "AVX512_CORE"),
        *(pytest.param(isa, marks=pytest.mark.slow) for isa in ("AVX2_VNNI", "AVX512_CORE_VNNI")),
    ],
)
def test_sums_are_exact_on_older_processors(isa: str) -> None:
    """Where two products are added in 16 bits, activations are kept small enough for it."""
    program = (
        "import torch; from retrieval.gte.cpu.int8_linear import Int8Linear, pair_limit\n"
        "rows = torch.full((3, 512), 1.0); rows[1] = -1.0\n"
        "for few in (False, True):\n"
        "    layer = Int8Linear(torch.full((8, 512), 1.0), None, few_rows=few)\n"
        "    wanted = rows.sum(1, keepdim=True).expand(3, 8)\n"
        "    assert torch.allclose(layer(rows), wanted, rtol=0.01)\n"
        "assert pair_limit() in (None, 128, 254)\n"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": isa}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def loaded(name: str) -> tuple[GteModel, GteModel]:
    return load_model(GOLDEN / name), load_model(GOLDEN / name, dtype=torch.int8)


@pytest.mark.parametrize("name", [n for n in GOLDEN_FOLDERS if n != "mlm_tt0"])
def test_int8_stays_close_to_float32_and_to_itself(name: str) -> None:
    exact, quantized = loaded(name)
    assert any(isinstance(module, Int8Linear) for module in quantized.modules())
    generator = torch.Generator().manual_seed(0)
    rows = [
        torch.randint(0, exact.config.vocab_size, (length,), generator=generator).tolist()
        for length in (1, 3, 12, 60, 60, 200)
    ]
    with torch.inference_mode():
        wanted = exact.embed(pack(rows), "cls")
        batched = quantized.embed(pack(rows), "cls")
        single = torch.cat([quantized.embed(pack([row]), "cls") for row in rows])
    assert torch.cosine_similarity(wanted, batched).min() > 0.99
    # Rounding in attention can turn an integer over, no more.
    assert torch.cosine_similarity(single, batched).min() > 0.9995


def test_the_float32_weights_are_freed(minilm_folder: Path) -> None:
    model = load_model(minilm_folder, dtype=torch.int8)
    names = {name for name, _ in model.named_parameters()}
    assert not any(name.endswith("_proj.weight") for name in names)
