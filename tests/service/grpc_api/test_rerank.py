"""Reranking over the wire: with a model, and on a server that has none."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from retrieval.client import RetrievalClient
from retrieval.encoding.reranker import PairScores, Reranker
from retrieval.errors import InvalidArgument, ServiceError
from retrieval.v1 import rerank_service_pb2
from retrieval.v1.rerank_service_pb2_grpc import RerankServiceStub
from tests.service.harness import running, wait_until
from tests.tiny_model import make_tiny_reranker


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_reranker(tmp_path_factory.mktemp("reranker"))


@pytest.fixture(scope="module")
def reranking(index: Path, model: Path) -> Iterator[RetrievalClient]:
    with (
        running({"default": index}, reranker=str(model)) as server,
        RetrievalClient(server.target) as client,
    ):
        yield client


def test_the_best_come_in_the_models_order(reranking: RetrievalClient, model: Path) -> None:
    query = "when does the boat leave?"
    first = reranking.search(query, k=8)
    assert first.timings.rerank == 0
    results = reranking.search(query, k=20, rerank_top=8)
    assert {p.name for p in results} == {p.name for p in first}
    expected = Reranker.load(str(model)).score(query, [p.text for p in results])
    assert [p.score for p in results] == pytest.approx(expected.probabilities.tolist(), abs=1e-5)
    assert results.rerank_truncated_count == expected.truncated > 0
    assert results.mode == "hybrid"
    assert 0 < results.timings.rerank <= results.timings.search
    best = results[0].scores
    assert best is not None
    assert best.kind == "rerank"
    assert best.rerank == results[0].score
    assert best.fused is not None
    assert not results.next_page_token


def test_a_server_without_a_model_says_so(client: RetrievalClient) -> None:
    with pytest.raises(ServiceError, match="--reranker") as caught:
        client.search("boat", rerank_top=5)
    assert caught.value.status == "FAILED_PRECONDITION"
    assert caught.value.service_reason == "NO_RERANKER"
    with pytest.raises(ServiceError) as caught:
        client.search("boat", rerank_top=10_000)
    assert caught.value.metadata["field"] == "rerank_top"


NOON = "the boat leaves at noon"
TEXTS = ["a lamp at dusk", "", NOON, "boulders " * 400, NOON]


def test_a_stream_ends_with_what_is_reranked(reranking: RetrievalClient) -> None:
    query = "when does the boat leave?"
    results = reranking.search(query, k=20, rerank_top=8)
    stream = reranking.stream_search(query, rerank_top=8)
    assert stream.rerank_truncated_count == results.rerank_truncated_count
    assert tuple(stream) == results.passages
    assert tuple(reranking.stream_search(query, rerank_top=8, limit=2)) == results[:2]


def test_texts_of_the_callers_own(reranking: RetrievalClient, model: Path) -> None:
    query = "when does the boat leave?"
    found = reranking.rerank(query, TEXTS)
    expected = Reranker.load(str(model)).score(query, TEXTS)
    assert [one.index for one in found] == sorted(
        range(len(TEXTS)), key=lambda index: -expected.probabilities[index]
    )
    for one in found:
        assert one.score == pytest.approx(expected.probabilities[one.index], abs=1e-6)
    assert found.truncated_count == expected.truncated == 1
    assert found.model == Reranker.load(str(model)).name
    assert reranking.rerank(query, TEXTS, top_n=2).texts == found[:2]


@pytest.mark.parametrize(
    ("query", "texts", "top_n", "field"),
    [
        (" ", ["a"], None, "query"),
        ("x" * 100_000, ["a"], None, "query"),
        ("boat", [], None, "texts"),
        ("boat", ["a"] * 257, None, "texts"),
        ("boat", ["a", "x" * 262_145], None, "texts[1]"),
    ],
)
def test_what_cannot_be_reranked(
    reranking: RetrievalClient, query: str, texts: list[str], top_n: int | None, field: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        reranking.rerank(query, texts, top_n=top_n)
    assert caught.value.status == "INVALID_ARGUMENT"
    assert caught.value.metadata["field"] == field


def test_a_negative_number_of_texts_is_refused(reranking: RetrievalClient) -> None:
    stub = RerankServiceStub(reranking._connection.channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Rerank(rerank_service_pb2.RerankRequest(query="boat", texts=["a"], top_n=-1))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(InvalidArgument):
        reranking.rerank("boat", ["a"], top_n=0)


def test_texts_need_a_model_too(client: RetrievalClient) -> None:
    with pytest.raises(ServiceError, match="--reranker") as caught:
        client.rerank("boat", ["a"])
    assert caught.value.service_reason == "NO_RERANKER"


def test_no_other_search_waits_for_the_model(
    index: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    score = Reranker.score

    def wait(self: Reranker, query: str, passages: Iterable[str]) -> PairScores:
        assert gate.wait(60)
        return score(self, query, passages)

    monkeypatch.setattr(Reranker, "score", wait)
    with (
        running({"default": index}, reranker=str(model)) as server,
        RetrievalClient(server.target, timeout=60) as client,
        RetrievalClient(server.target, timeout=30) as other,
        ThreadPoolExecutor(24) as pool,
    ):
        reranked = [pool.submit(client.search, f"boat {n}", rerank_top=8) for n in range(24)]
        wait_until(lambda: len(server.server._pools.rerank._waiting) >= 20)
        for number in range(5):
            assert len(other.search(f"ferry {number}")) > 0
        gate.set()
        assert all(len(one.result()) == 8 for one in reranked)
