"""EmbeddingService: vectors and token counts."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.client import RetrievalClient
from retrieval.encoding.encoder import Encoder, load_for_index
from retrieval.errors import InvalidArgument, ServiceError
from retrieval.service.config import Limits
from tests.service.harness import running
from tests.tiny_model import DIM

TEXTS = ["a lamp at dusk", "", "Äpfel und Birnen 🍐", "boulders " * 400]


def test_vectors_are_the_models(client: RetrievalClient, encoder: Encoder) -> None:
    embeddings = client.embed_detailed(TEXTS, "passage")
    expected = encoder.embed(TEXTS, "passage")
    np.testing.assert_allclose(embeddings.vectors, expected.vectors, atol=1e-5)
    assert embeddings.vectors.dtype == np.float32
    assert list(embeddings.token_counts) == expected.token_counts
    assert list(embeddings.truncated) == [False, False, False, True]
    assert embeddings.model_fingerprint == encoder.identity.fingerprint


@pytest.mark.parametrize("query_dtype", ["auto", "int8", "index"])
def test_passages_are_embedded_as_the_index_is(
    index: Path, encoder: Encoder, query_dtype: str
) -> None:
    queries = load_for_index(encoder.identity, device="cpu", dtype=query_dtype, workload="latency")
    with (
        running({"default": index}, query_dtype=query_dtype) as server,
        RetrievalClient(server.target) as client,
    ):
        asked = client.embed(TEXTS, "query")
        np.testing.assert_allclose(asked, queries.encode(TEXTS, "query"), atol=2e-6)
        given = client.embed(TEXTS, "passage")
        np.testing.assert_allclose(given, encoder.encode(TEXTS, "passage"), atol=2e-6)


def test_any_number_of_texts(client: RetrievalClient) -> None:
    texts = [f"text {number}" for number in range(150)]
    vectors = client.embed(texts, "query")
    assert vectors.shape == (150, DIM)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[149], client.embed(texts[149:], "query")[0], atol=1e-5)


def test_token_counts(client: RetrievalClient, encoder: Encoder) -> None:
    assert client.count_tokens(TEXTS) == encoder.tokenizer.count(TEXTS)
    assert len(client.count_tokens(["x"] * 150)) == 150


def test_refused_texts(client: RetrievalClient) -> None:
    too_long = "x" * (Limits().text_chars + 1)
    for call in (lambda texts: client.embed(texts, "query"), client.count_tokens):
        with pytest.raises(ServiceError, match="it may have at most 262144") as caught:
            call(["fine", too_long])
        assert caught.value.metadata["field"] == "texts[1]"
        with pytest.raises(ServiceError, match="texts has 0 items"):
            call([])
        with pytest.raises(InvalidArgument, match="not valid Unicode"):
            call(["\ud800"])
    with pytest.raises(InvalidArgument, match="kind must be"):
        client.embed(["x"], "document")  # type: ignore[arg-type]
    with pytest.raises(ServiceError) as caught:
        client.embed(["x"], "query", collection="nope")
    assert caught.value.status == "NOT_FOUND"
