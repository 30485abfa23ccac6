"""Cohere's own clients, of both versions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohere
import pytest

from retrieval.client import RetrievalClient
from retrieval.service.access.token_file import create_token
from tests.gateway.harness import gateway
from tests.service.harness import running
from tests.tiny_model import make_tiny_reranker

TEXTS = ["bread", "the ferry leaves", "a b c"]
CLIENTS = [cohere.Client, cohere.ClientV2]


@pytest.fixture(scope="module")
def reranking(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A gateway's address, its server's, and tokens by what they are for."""
    folder = tmp_path_factory.mktemp("cohere")
    file = folder / "tokens.json"
    keys = {
        "search": create_token(file, "search", scopes=("search",)),
        "embed": create_token(file, "embed", scopes=("embed",)),
        "slow": create_token(file, "slow", rate=0.001),
    }
    model = str(make_tiny_reranker(folder / "reranker"))
    with (
        running({"default": index}, reranker=model, token_file=file) as server,
        gateway(server.target) as http,
    ):
        yield {"address": f"http://127.0.0.1:{http.port}", "target": server.target, **keys}


@pytest.mark.parametrize("kind", CLIENTS)
def test_texts_are_ordered_as_over_grpc(reranking: dict[str, Any], kind: Any) -> None:
    client = kind(api_key=reranking["search"], base_url=reranking["address"])
    made = client.rerank(model="any", query="ferry", documents=TEXTS, top_n=2)
    with RetrievalClient(reranking["target"], token=reranking["search"]) as grpc:
        expected = [(one.index, one.score) for one in grpc.rerank("ferry", TEXTS, top_n=2)]
    assert [(one.index, one.relevance_score) for one in made.results] == expected
    with pytest.raises(cohere.BadRequestError):
        client.rerank(model="any", query=" ", documents=TEXTS)


@pytest.mark.parametrize("kind", CLIENTS)
def test_keys_are_the_tokens_of_the_server(reranking: dict[str, Any], kind: Any) -> None:
    def rerank(key: str) -> None:
        client = kind(api_key=key, base_url=reranking["address"])
        client.rerank(model="any", query="a", documents=TEXTS, request_options={"max_retries": 0})

    with pytest.raises(cohere.UnauthorizedError):
        rerank("nonsense")
    with pytest.raises(cohere.ForbiddenError):
        rerank(reranking["embed"])
    with pytest.raises(cohere.TooManyRequestsError):
        for _ in range(2):
            rerank(reranking["slow"])
