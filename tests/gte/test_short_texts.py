"""Short texts through the trace: the same vectors as through the model itself."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import InvalidArgument
from retrieval.gte import GteModel, Pooling, ShortTexts, load_model, pack
from retrieval.gte.cpu import int8_linear
from retrieval.gte.short_texts import MAX_TOKENS
from tests.conftest import GOLDEN

MODELS = ("base_ntk_short", "large_tt2", "plain_rope_tt0", "ntk_mixed_b", "multi_tt1_prefixed")


@cache
def loaded(name: str, dtype: torch.dtype, pooling: Pooling) -> tuple[GteModel, ShortTexts]:
    model = load_model(GOLDEN / name, dtype=dtype, workload="latency")
    return model, ShortTexts(model, pooling)


@pytest.fixture(scope="module", autouse=True)
def models_let_go() -> Iterator[None]:
    yield
    loaded.cache_clear()


def tokens(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 1000, (length,), generator=generator).tolist()


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(MODELS),
    dtype=st.sampled_from([torch.float32, torch.int8]),
    pooling=st.sampled_from(["cls", "mean", "last"]),
    lengths=st.one_of(
        st.lists(st.integers(1, 300), min_size=1, max_size=1),
        # Few lengths, so that neighbours often have the same.
        st.lists(st.integers(1, 12), min_size=2, max_size=40),
        st.lists(st.integers(1, 200), min_size=2, max_size=5),
    ),
    seed=st.integers(0, 1000),
)
def test_a_trace_gives_the_same_vectors(
    name: str, dtype: torch.dtype, pooling: Pooling, lengths: list[int], seed: int
) -> None:
    model, short = loaded(name, dtype, pooling)
    rows = [tokens(length, seed + place) for place, length in enumerate(lengths)]
    batch = pack(rows)
    with torch.inference_mode():
        wanted = model.embed(batch, pooling)
        for given_batch in (batch, pack(rows, few_sizes=True)):
            assert short.takes(given_batch)
            torch.testing.assert_close(short.embed(given_batch), wanted, atol=2e-6, rtol=0)


@pytest.fixture
def onednn_int8(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The product that a processor with VNNI gets."""
    monkeypatch.setattr(int8_linear, "_choose", lambda *_: int8_linear.OneDnnProduct)
    yield


@pytest.mark.usefixtures("onednn_int8")
def test_both_int8_products_can_be_traced() -> None:
    if int8_linear.pair_limit() is None:
        pytest.skip("this build of torch lacks the operators")
    model = load_model(GOLDEN / "base_ntk_short", dtype=torch.int8, workload="latency")
    short, batch = ShortTexts(model, "cls"), pack([tokens(20, 0)])
    assert short.takes(batch)
    with torch.inference_mode():
        torch.testing.assert_close(short.embed(batch), model.embed(batch, "cls"), atol=2e-6, rtol=0)


def test_a_trace_takes_the_largest_batch_that_it_may() -> None:
    model, short = loaded("base_ntk_short", torch.float32, "mean")
    batch = pack([tokens(200, number) for number in range(5)] + [tokens(MAX_TOKENS - 1000, 5)])
    assert short.takes(batch)
    with torch.inference_mode():
        wanted = model.embed(batch, "mean")
        torch.testing.assert_close(short.embed(batch), wanted, atol=2e-6, rtol=0)


def test_what_goes_the_long_way() -> None:
    _, short = loaded("large_tt2", torch.float32, "cls")
    assert not short.takes(pack([[1, 2]], [[0, 1]]))
    assert not short.takes(pack([[1] * (MAX_TOKENS + 1)]))


def test_a_token_out_of_range_is_refused() -> None:
    _, short = loaded("base_ntk_short", torch.float32, "cls")
    with pytest.raises(InvalidArgument, match="token ids must lie in"):
        short.embed(pack([[1, 1000]]))


class Wrong(torch.nn.Module):
    """Stands for a trace that computes something else."""

    def forward(self, *_: object) -> torch.Tensor:
        return torch.ones(1, 64)


@pytest.mark.parametrize("failure", ["missing", "refused", "wrong"])
def test_where_tracing_fails_nothing_is_taken(
    monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    def trace(*_: object, **__: object) -> object:
        if failure == "wrong":
            return Wrong()
        raise AttributeError if failure == "missing" else RuntimeError

    monkeypatch.setattr(torch.jit, "trace", trace)
    short = ShortTexts(load_model(GOLDEN / "base_ntk_short"), "cls")
    assert not short.takes(pack([[1, 2, 3]]))


def test_many_threads_may_share_a_trace() -> None:
    model, short = loaded("plain_rope_tt0", torch.float32, "mean")
    batches = [pack([tokens(1 + number, number)]) for number in range(40)]

    def embed(number: int) -> torch.Tensor:
        with torch.inference_mode():
            return short.embed(batches[number])

    with ThreadPoolExecutor(4) as pool:
        for number, vector in enumerate(pool.map(embed, range(40))):
            wanted = model.embed(batches[number], "mean")
            torch.testing.assert_close(vector, wanted, atol=2e-6, rtol=0)
