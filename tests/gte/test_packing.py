"""Packed equals single, whatever the neighbours and their order; attention equals its oracle."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import InvalidArgument
from retrieval.gte import GteModel, Pooling, Workload, load_model, normalize, pack, pool
from retrieval.gte.attention import packed_attention, reference_attention
from retrieval.gte.cpu import int8_linear, layout, prepacked_linear
from retrieval.gte.cpu.prepacked_linear import PackedLinear
from tests.conftest import GOLDEN

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@pytest.fixture(scope="module", autouse=True)
def models_let_go() -> Iterator[None]:
    yield
    loaded.cache_clear()


@pytest.fixture(scope="module")
def model() -> GteModel:
    return load_model(GOLDEN / "large_tt2")


@given(lengths=LENGTHS, seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_packed_attention_equals_the_reference(lengths: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch = pack([[0] * length for length in lengths])
    q, k, v = torch.randn(3, sum(lengths), 4, 16, generator=generator)
    torch.testing.assert_close(
        packed_attention(q, k, v, batch), reference_attention(q, k, v, batch), atol=2e-6, rtol=0
    )


def test_memory_grows_linearly_with_the_length_of_a_text() -> None:
    def largest(length: int) -> int:
        """Bytes of the largest block that attention over one text takes."""
        q, k, v = torch.randn(3, length, 4, 16)
        batch = pack([[0] * length])
        with torch.profiler.profile(profile_memory=True) as profiler:
            packed_attention(q, k, v, batch)
        return max(event.cpu_memory_usage for event in profiler.events())

    assert largest(8192) <= 2.5 * largest(4096)


def test_a_batch_is_what_is_said_of_its_parts() -> None:
    batch = pack([[5, 6, 7], [8], [9, 10, 11]])
    assert batch.token_ids.tolist() == [5, 6, 7, 8, 9, 10, 11]
    assert batch.positions.tolist() == [0, 1, 2, 0, 0, 1, 2]
    assert batch.cu_seqlens.tolist() == [0, 3, 4, 7]
    assert batch.lengths == (3, 1, 3)
    assert batch.type_ids is None


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 2e-6), (torch.bfloat16, 0.02)])
@given(lengths=LENGTHS, seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_its_gradients_equal_the_reference(
    dtype: torch.dtype, most: float, lengths: list[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch = pack([[0] * length for length in lengths])
    given = [torch.randn(sum(lengths), 4, 16, generator=generator) for _ in range(3)]
    ours = [part.to(dtype).requires_grad_() for part in given]
    exact = [part.to(dtype).float().requires_grad_() for part in given]
    weights = torch.randn(given[0].shape, generator=generator).to(dtype)
    (packed_attention(*ours, batch) * weights).sum().backward()
    (reference_attention(*exact, batch) * weights.float()).sum().backward()
    for mine, wanted in zip(ours, exact, strict=True):
        away = torch.linalg.vector_norm(mine.grad.float() - wanted.grad)
        assert away <= most * max(1.0, torch.linalg.vector_norm(wanted.grad))


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@given(lengths=LENGTHS, seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_an_embedding_does_not_depend_on_its_neighbours(
    model: GteModel, pooling: str, lengths: list[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(0, 1000, (length,), generator=generator).tolist() for length in lengths]
    together = embed(model, rows, pooling)
    alone = torch.cat([embed(model, [row], pooling) for row in rows])
    torch.testing.assert_close(together, alone, atol=5e-6, rtol=0)


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
@given(lengths=LENGTHS, seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_spare_rows_change_no_vector(
    dtype: torch.dtype, pooling: Pooling, lengths: list[int], seed: int
) -> None:
    model = loaded("large_tt2", dtype)
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(0, 1000, (length,), generator=generator).tolist() for length in lengths]
    types = [[1] * length for length in lengths]
    few, exact = (pack(rows, types, few_sizes=few_sizes) for few_sizes in (True, False))
    with torch.inference_mode():
        torch.testing.assert_close(
            model.embed(few, pooling), model.embed(exact, pooling), atol=2e-6, rtol=0
        )


def test_batches_are_of_few_sizes() -> None:
    sizes = {}
    for tokens in range(1, 4097):
        batch = pack([[5] * tokens], few_sizes=True)
        sizes[tokens] = len(batch.token_ids)
        assert len(batch.positions) == sizes[tokens]
        assert batch.lengths == (tokens,)
        assert tokens <= sizes[tokens] < tokens + max(4, tokens / 16)
    assert len(set(sizes.values())) <= 130
    assert all(len(pack([[5] * tokens]).token_ids) == tokens for tokens in (17, 1001))


@pytest.mark.parametrize(
    ("dtype", "workload", "products", "wanted"),
    [
        (torch.float32, "latency", "any", True),
        (torch.int8, "throughput", "OneDnnProduct", True),
        (torch.int8, "latency", "FbgemmProduct", False),
        (torch.bfloat16, "latency", "any", False),
    ],
)
def test_few_sizes_are_for_the_products_that_keep_them(
    dtype: torch.dtype,
    workload: Workload,
    products: str,
    wanted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if int8_linear.pair_limit() is None or not prepacked_linear.can_prepack():
        pytest.skip("this build of torch lacks the operators")
    if products != "any":
        product = getattr(int8_linear, products)
        monkeypatch.setattr(int8_linear, "_choose", lambda *_: product)
    model = load_model(GOLDEN / "base_ntk_short", dtype=dtype, workload=workload)
    assert model.wants_few_sizes == wanted


@pytest.mark.parametrize("pooling", ["cls", "last", "mean"])
@pytest.mark.parametrize("name", ["base_ntk_short", "large_tt2"])
@given(lengths=LENGTHS, seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_pooled_tokens_alone_give_the_same_vectors(
    name: str, pooling: Pooling, lengths: list[int], seed: int
) -> None:
    """The last layer computes only what is pooled; the vectors are those of computing it all."""
    model = loaded(name)
    generator = torch.Generator().manual_seed(seed)
    batch = pack(
        [torch.randint(0, 1000, (length,), generator=generator).tolist() for length in lengths]
    )
    with torch.inference_mode():
        whole = normalize(pool(model(batch), batch, pooling))
        torch.testing.assert_close(model.embed(batch, pooling), whole, atol=2e-6, rtol=0)


def test_all_layouts_of_weights_give_the_same_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a single token, a short query and a large batch: one block layout serves them all."""
    prepacked = load_model(GOLDEN / "base_ntk_short", workload="latency")
    assert any(isinstance(module, PackedLinear) for module in prepacked.modules())
    monkeypatch.setattr(layout, "_plain_is_faster", lambda: True)
    plain = load_model(GOLDEN / "base_ntk_short", workload="throughput")
    assert not any(isinstance(module, PackedLinear) for module in plain.modules())
    generator = torch.Generator().manual_seed(0)
    for lengths in ([1], [12], [300] * 10):
        batch = pack(
            [torch.randint(0, 1000, (length,), generator=generator).tolist() for length in lengths]
        )
        with torch.inference_mode():
            torch.testing.assert_close(
                prepacked.embed(batch, "cls"), plain.embed(batch, "cls"), atol=2e-6, rtol=0
            )


@pytest.mark.parametrize(("capability", "prepacked"), [("AVX2", False), ("AVX512", True)])
def test_the_layout_for_large_batches_depends_on_the_processor(
    monkeypatch: pytest.MonkeyPatch, capability: str, prepacked: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    model = load_model(GOLDEN / "base_ntk_short")
    assert prepacked == any(isinstance(module, PackedLinear) for module in model.modules())


@pytest.mark.parametrize("failure", ["missing", "refused", "wrong"])
def test_without_the_operators_the_plain_layers_stay(
    monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    def operator(*_: object) -> torch.Tensor:
        if failure == "wrong":
            return torch.zeros(3, 6)
        raise AttributeError if failure == "missing" else RuntimeError

    monkeypatch.setattr(PackedLinear, "forward", operator)
    prepacked_linear._has_operators.cache_clear()
    try:
        model = load_model(GOLDEN / "plain_rope_tt0", workload="latency")
        assert not any(isinstance(module, PackedLinear) for module in model.modules())
        assert embed(model, [[1, 2, 3]], "cls").shape == (1, 64)
    finally:
        prepacked_linear._has_operators.cache_clear()


@cache
def loaded(name: str, dtype: torch.dtype = torch.float32) -> GteModel:
    return load_model(GOLDEN / name, dtype=dtype)


def embed(model: GteModel, rows: list[list[int]], pooling: str) -> torch.Tensor:
    batch = pack(rows)
    with torch.inference_mode():
        return normalize(pool(model(batch), batch, pooling))


def test_packed_equals_padded(golden: Path) -> None:
    """The same weights run by transformers on a padded batch with a mask."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
    )
    oracle = BertModel(config, add_pooling_layer=False).eval()
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        oracle.save_pretrained(folder)
        model = load_model(Path(folder))
    rows = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15]]
    longest = max(map(len, rows))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    with torch.inference_mode():
        expected = oracle(padded, attention_mask=mask).last_hidden_state[mask.bool()]
        hidden = model(pack(rows))
    torch.testing.assert_close(hidden, expected, atol=5e-6, rtol=0)


@pytest.mark.parametrize(("dtype", "least"), [(torch.bfloat16, 0.995), (torch.float16, 0.99999)])
def test_half_precision_stays_close_to_float32(dtype: torch.dtype, least: float) -> None:
    rows = [[7] * 5, [9] * 60, list(range(100, 200))]
    exact = embed(load_model(GOLDEN / "plain_rope_tt0"), rows, "cls")
    half = embed(load_model(GOLDEN / "plain_rope_tt0", dtype=dtype), rows, "cls")
    assert torch.cosine_similarity(exact, half).min() > least


@pytest.mark.parametrize(
    ("rows", "types"), [([], None), ([[1], []], None), ([[1, 2]], [[0]]), ([[1]], [])]
)
def test_pack_refuses(rows: list[list[int]], types: list[list[int]] | None) -> None:
    with pytest.raises(InvalidArgument):
        pack(rows, types)


def test_absolute_positions_have_an_end(minilm_folder: Path) -> None:
    model = load_model(minilm_folder)
    with pytest.raises(InvalidArgument, match="513 tokens is longer than the model's 512"):
        model(pack([[1] * 513]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_a_batch_wider_than_one_slice_of_the_mlp(dtype: torch.dtype) -> None:
    model = load_model(GOLDEN / "plain_rope_tt0", dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, 1000, (size,), generator=generator).tolist() for size in (900, 700, 5)]
    together = embed(model, rows, "mean")
    alone = torch.cat([embed(model, [row], "mean") for row in rows])
    tolerance = 2e-6 if dtype == torch.float32 else 5e-3  # an integer may be rounded over
    torch.testing.assert_close(together, alone, atol=tolerance, rtol=0)
