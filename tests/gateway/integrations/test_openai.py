"""OpenAI's own client, as people use it: a base address and a key."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from retrieval.client import RetrievalClient
from retrieval.service.access.token_file import create_token
from tests.gateway.harness import Http, gateway
from tests.service.harness import running, word_model

TEXTS = ["the harbour at night", "bread", "Äpfel and 🍎"]


def connect(http: Http, key: str = "unused", **settings: Any) -> openai.OpenAI:
    base_url = f"http://127.0.0.1:{http.port}/v1"
    return openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, **settings)


@pytest.fixture
def asking(http: Http) -> Iterator[openai.OpenAI]:
    with connect(http) as client:
        yield client


@pytest.mark.parametrize("encoding", ["default", "float", "base64"])
def test_vectors_are_those_of_grpc(
    asking: openai.OpenAI, client: RetrievalClient, encoding: Any
) -> None:
    chosen = {} if encoding == "default" else {"encoding_format": encoding}
    made = asking.embeddings.create(model="default", input=TEXTS, **chosen)
    expected = client.embed_detailed(TEXTS, "passage")
    vectors = [one.embedding for one in made.data]
    if encoding == "base64":  # asked for by name, the client leaves it as it is
        import base64

        decoded = [np.frombuffer(base64.b64decode(str(one)), np.float32) for one in vectors]
        vectors = [one.tolist() for one in decoded]
    assert (np.array(vectors, np.float32) == expected.vectors).all()
    assert made.usage.total_tokens == sum(expected.token_counts)
    one = asking.embeddings.create(model=word_model().name, input=TEXTS[0], **chosen)
    assert one.data[0].embedding == made.data[0].embedding


def test_queries_are_asked_for_in_the_body(asking: openai.OpenAI, client: RetrievalClient) -> None:
    made = asking.embeddings.create(
        model="default", input="harbour", extra_body={"input_type": "query"}
    )
    assert (np.array(made.data[0].embedding, np.float32) == client.embed("harbour", "query")).all()


def test_models(asking: openai.OpenAI) -> None:
    assert [one.id for one in asking.models.list()] == [word_model().name, "default", "tea"]
    assert asking.models.retrieve("tea").owned_by == "gte-retrieval"
    with pytest.raises(openai.NotFoundError, match="did you mean 'tea'"):
        asking.models.retrieve("teas")


def test_errors_are_those_that_the_client_knows(asking: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        asking.embeddings.create(model="defoult", input="a")
    assert (missing.value.code, missing.value.param) == ("MODEL_NOT_FOUND", "model")
    assert missing.value.type == "invalid_request_error"
    assert "did you mean 'default'?" in missing.value.message
    for wrong, words in (
        ({"input": [1, 2, 3]}, "check_embedding_ctx_length=False"),
        ({"input": "a", "dimensions": 8}, "not trained for shorter ones"),
        ({"input": ""}, "empty text"),
    ):
        with pytest.raises(openai.BadRequestError, match=words):
            asking.embeddings.create(model="default", **wrong)


def test_keys_are_the_tokens_of_the_server(index: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    keys = {
        "embed": create_token(file, "embed", scopes=("embed",)),
        "search": create_token(file, "search", scopes=("search",)),
        "slow": create_token(file, "slow", rate=0.001),
    }
    with running({"default": index}, token_file=file) as server, gateway(server.target) as http:
        made = connect(http, keys["embed"]).embeddings.create(model="default", input="a")
        assert len(made.data) == 1
        with pytest.raises(openai.PermissionDeniedError):
            connect(http, keys["search"]).embeddings.create(model="default", input="a")
        with pytest.raises(openai.AuthenticationError):
            connect(http, "sk-nonsense").embeddings.create(model="default", input="a")
        slow = connect(http, keys["slow"])
        with pytest.raises(openai.RateLimitError) as limited:
            for _ in range(3):
                slow.embeddings.create(model="default", input="a")
        assert int(limited.value.response.headers["retry-after"]) >= 1


async def embed_at_once(http: Http, count: int) -> list[Any]:
    import asyncio

    base_url = f"http://127.0.0.1:{http.port}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key="unused") as client:
        calls = [
            client.embeddings.create(model="default", input=f"bread {n}") for n in range(count)
        ]
        return await asyncio.gather(*calls)


def test_many_at_once_with_the_asynchronous_client(http: Http, client: RetrievalClient) -> None:
    import asyncio

    made = asyncio.run(embed_at_once(http, 40))
    vectors = np.array([one.data[0].embedding for one in made], np.float32)
    expected = client.embed([f"bread {n}" for n in range(40)], "passage")
    assert np.allclose(vectors, expected, atol=1e-5)
