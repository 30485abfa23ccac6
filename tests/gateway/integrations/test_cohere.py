"""Cohere's own clients, of both versions."""

from pathlib import Path

import cohere
import pytest

from tests.gateway.harness import gateway
from tests.service.harness import running
from tests.tiny_model import make_tiny_reranker

TEXTS = ["bread", "the ferry leaves", "a b c"]


def test_both_versions_order_texts(index: Path, tmp_path: Path) -> None:
    model = str(make_tiny_reranker(tmp_path / "reranker"))
    with (
        running({"default": index}, reranker=model) as server,
        gateway(server.target) as http,
    ):
        address = f"http://127.0.0.1:{http.port}"
        orders = []
        for kind in (cohere.Client, cohere.ClientV2):
            client = kind(api_key="unused", base_url=address)
            made = client.rerank(model="any", query="ferry", documents=TEXTS, top_n=2)
            orders.append([(one.index, one.relevance_score) for one in made.results])
        assert orders[0] == orders[1]
        assert len(orders[0]) == 2
        with pytest.raises(cohere.BadRequestError):
            client.rerank(model="any", query=" ", documents=TEXTS)
