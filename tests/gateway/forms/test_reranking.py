"""Reranking of the caller's own texts, in the forms of Cohere, Jina and TEI."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.gateway.schemas import reranking as schemas
from tests.gateway.harness import Http, gateway
from tests.service.harness import running
from tests.tiny_model import make_tiny_reranker

TEXTS = ["bread", "the ferry leaves", "a b c"]


@pytest.fixture(scope="module")
def reranking(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    model = make_tiny_reranker(tmp_path_factory.mktemp("reranker"))
    with (
        running({"default": index}, reranker=str(model)) as server,
        gateway(server.target) as http,
    ):
        yield http


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_the_form_of_cohere(reranking: Http, path: str) -> None:
    body = {"model": "any", "query": "ferry", "documents": [*TEXTS[:2], {"text": TEXTS[2]}]}
    answer = reranking("POST", path, body)
    assert answer.status == 200, answer.body
    schemas.RerankAnswer.model_validate_json(answer.body)
    results = answer.json["results"]
    scores = [one["relevance_score"] for one in results]
    assert sorted(one["index"] for one in results) == [0, 1, 2]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    best = reranking("POST", path, {**body, "top_n": 1, "return_documents": True}).json["results"]
    assert best == [{**results[0], "document": {"text": TEXTS[results[0]["index"]]}}]


def test_the_form_of_tei_has_the_same_scores(reranking: Http) -> None:
    answer = reranking("POST", "/rerank", {"query": "ferry", "texts": TEXTS, "return_text": True})
    body = {"query": "ferry", "documents": TEXTS}
    expected = reranking("POST", "/v1/rerank", body).json["results"]
    assert [(one["index"], one["score"]) for one in answer.json] == [
        (one["index"], one["relevance_score"]) for one in expected
    ]
    assert all(one["text"] == TEXTS[one["index"]] for one in answer.json)
    raw = reranking("POST", "/rerank", {"query": "a", "texts": ["b"], "raw_scores": True})
    assert raw.problem == (400, "INVALID_ARGUMENT")
    assert raw.json["error_type"] == "Validation"
    long = {"query": "a", "texts": ["bread " * 500], "truncate": False}
    assert reranking("POST", "/rerank", long).problem == (413, "TEXT_TOO_LONG")


@pytest.mark.parametrize(
    "changed", [{"documents": []}, {"query": " "}, {"top_n": 0}, {"query": "\ud800"}]
)
def test_mistakes_are_problems(reranking: Http, changed: dict[str, object]) -> None:
    answer = reranking("POST", "/v2/rerank", {"query": "a", "documents": ["b"], **changed})
    assert answer.problem == (400, "INVALID_ARGUMENT")
    assert answer.json["message"] == answer.json["detail"]


def test_a_server_without_a_reranker_says_so(http: Http) -> None:
    answer = http("POST", "/v1/rerank", {"query": "a", "documents": ["b"]})
    assert answer.problem == (409, "NO_RERANKER")


def test_what_open_webui_sends(reranking: Http) -> None:
    """Its external reranking engine, which reads the scores in the order of the documents."""
    body = (
        b'{"model": "reranker", "query": "ferry", "documents": ["bread", "the ferry"], "top_n": 2}'
    )
    headers = {"content_type": "application/json", "authorization": "Bearer "}
    results = reranking("POST", "/v1/rerank", data=body, **headers).json["results"]
    ordered = sorted(results, key=lambda one: one["index"])
    assert [type(one["relevance_score"]) for one in ordered] == [float, float]
