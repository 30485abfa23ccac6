"""Embeddings in the forms of OpenAI and TEI: the vectors that gRPC returns."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.client import RetrievalClient
from retrieval.gateway.schemas import embeddings as schemas
from retrieval.service.access.token_file import create_token
from tests.gateway.harness import Http, gateway
from tests.service.harness import build_index, running, word_model, write_documents
from tests.tiny_model import DIM, make_tiny_model, make_tiny_reranker

TEXTS = ["the harbour at night", "bread"]


def vectors_of(answer: Any) -> np.ndarray[Any, Any]:
    return np.array([one["embedding"] for one in answer["data"]], dtype=np.float32)


@pytest.mark.parametrize("kind", ["query", "passage"])
def test_floats_are_those_of_grpc(http: Http, client: RetrievalClient, kind: Any) -> None:
    body = {"model": "default", "input": TEXTS, "input_type": kind, "encoding_format": "float"}
    made = http("POST", "/v1/embeddings", body)
    schemas.Embeddings.model_validate_json(made.body)
    expected = client.embed_detailed(TEXTS, kind)
    assert (vectors_of(made.json) == expected.vectors).all()
    assert [one["index"] for one in made.json["data"]] == [0, 1]
    assert made.json["usage"]["prompt_tokens"] == sum(expected.token_counts)
    # A float32 in the fewest digits, not as a double.
    assert all(len(str(value)) < 16 for value in made.json["data"][0]["embedding"])


def test_base64_is_the_same(http: Http, client: RetrievalClient) -> None:
    body = {"model": "default", "input": TEXTS, "encoding_format": "base64"}
    data = http("POST", "/v1/embeddings", body).json["data"]
    made = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in data]
    assert (np.array(made) == client.embed(TEXTS, "passage")).all()


def test_more_texts_than_a_message_takes(http: Http, client: RetrievalClient) -> None:
    texts = [f"harbour {number}" for number in range(150)]
    made = http("POST", "/v1/embeddings", {"model": "default", "input": texts}).json
    assert (vectors_of(made) == client.embed(texts, "passage")).all()
    assert len(made["data"]) == 150


def test_a_model_is_a_collection_or_its_model(http: Http, client: RetrievalClient) -> None:
    models = http("GET", "/v1/models")
    schemas.OfferedModels.model_validate_json(models.body)
    names = [one["id"] for one in models.json["data"]]
    assert names == [word_model().name, "default", "tea"]
    expected = client.embed("tea", "passage")
    for name in names * 2:
        made = http("POST", "/v1/embeddings", {"model": name, "input": "tea"}).json
        assert (vectors_of(made)[0] == expected).all()
        assert made["model"] == name
    one = http("GET", f"/v1/models/{names[0]}").json
    assert one == models.json["data"][0]
    assert (one["dimension"], one["root"]) == (DIM, word_model().name)


def test_a_model_that_another_build_replaced_is_noticed(tmp_path: Path) -> None:
    write_documents(tmp_path / "notes")
    first = build_index(tmp_path / "notes", tmp_path / "one")
    body = {"model": word_model().name, "input": "harbour"}
    other = make_tiny_model(tmp_path / "other-model")
    from indexer.build.build import build
    from indexer.build.progress import SilentProgress
    from indexer.build.settings import BuildOptions

    options = BuildOptions([tmp_path / "notes"], tmp_path / "two", str(other), device="cpu")
    build(options, SilentProgress())
    with running({"one": first}) as server, gateway(server.target) as http:
        before = vectors_of(http("POST", "/v1/embeddings", body).json)
        first.rename(tmp_path / "old")
        (tmp_path / "two").rename(first)
        assert http("POST", "/v1/collections/one/reload").status == 200
        gone = http("POST", "/v1/embeddings", body)
        assert gone.problem == (404, "MODEL_NOT_FOUND")
        after = vectors_of(http("POST", "/v1/embeddings", {**body, "model": "other-model"}).json)
        assert (before != after).any()


def test_a_token_for_embedding_alone(index: Path, other_index: Path, tmp_path: Path) -> None:
    token = create_token(tmp_path / "tokens.json", "embedder", scopes=("embed",))
    indexes = {"default": index, "tea": other_index}
    with (
        running(indexes, token_file=tmp_path / "tokens.json") as server,
        gateway(server.target) as http,
    ):
        bearer = {"authorization": f"Bearer {token}"}
        body = {"model": "default", "input": "a"}
        assert http("POST", "/v1/embeddings", body, **bearer).status == 200
        assert http("POST", "/embed", {"inputs": "a"}, **bearer).status == 200
        for name in ("nope", "No.pe"):
            body["model"] = name
            refused = http("POST", "/v1/embeddings", body, **bearer)
            assert refused.problem == (404, "MODEL_NOT_FOUND")
        assert http("GET", "/v1/models", **bearer).status == 200
        body["model"] = "default"
        refused = http("POST", "/v1/embeddings", body)
        assert refused.problem == (401, "UNAUTHENTICATED")
        assert refused.json["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("changed", "problem", "words"),
    [
        ({"input": [1, 2]}, (400, "INVALID_ARGUMENT"), "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]]}, (400, "INVALID_ARGUMENT"), "check_embedding_ctx_length=False"),
        ({"input": []}, (400, "INVALID_ARGUMENT"), "input is empty"),
        ({"input": ""}, (400, "INVALID_ARGUMENT"), "empty text"),
        ({"input": ["a", ""]}, (400, "INVALID_ARGUMENT"), "empty text"),
        ({"input": "a\ud800"}, (400, "INVALID_ARGUMENT"), "not valid Unicode"),
        ({"input": {"text": "a"}}, (422, "INVALID_ARGUMENT"), "input"),
        ({"dimensions": 32}, (400, "INVALID_ARGUMENT"), "have 64"),
        ({"dimensions": 0}, (400, "INVALID_ARGUMENT"), "must be 1 or more"),
        ({"model": "defoult"}, (404, "MODEL_NOT_FOUND"), "did you mean 'default'?"),
        ({"model": ""}, (404, "MODEL_NOT_FOUND"), "named ''"),
        ({"encoding_format": "int8"}, (422, "INVALID_ARGUMENT"), "encoding_format"),
        ({"input_type": "search_query"}, (422, "INVALID_ARGUMENT"), "input_type"),
    ],
)
def test_mistakes_have_the_form_of_openai_as_well(
    http: Http, changed: dict[str, Any], problem: tuple[int, str], words: str
) -> None:
    answered = http("POST", "/v1/embeddings", {"model": "default", "input": "a", **changed})
    assert answered.problem == problem, answered.json
    error = answered.json["error"]
    assert words in error["message"] == answered.json["detail"]
    assert error["type"] == "invalid_request_error"
    assert error["code"] == problem[1]


def test_dimensions_may_be_those_of_the_model(http: Http) -> None:
    body = {"model": "default", "input": "a", "dimensions": DIM}
    assert http("POST", "/v1/embeddings", body).status == 200


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Http, RetrievalClient]]:
    """A gateway to a server without any index, and a client of that server."""
    folder = tmp_path_factory.mktemp("models")
    nested = make_tiny_model(folder / "Nested")
    config = json.loads((nested / "config.json").read_text())
    (nested / "config.json").write_text(json.dumps({**config, "matryoshka_dimensions": [16]}))
    paths = (str(nested), str(word_model()))
    ranker = str(make_tiny_reranker(folder / "ranker"))
    with (
        running({}, models=paths, reranker=ranker) as server,
        gateway(server.target) as http,
        RetrievalClient(server.target) as client,
    ):
        yield http, client


def test_a_server_without_an_index(models: tuple[Http, RetrievalClient]) -> None:
    http, client = models
    listed = http("GET", "/v1/models")
    schemas.OfferedModels.model_validate_json(listed.body)
    assert [one["id"] for one in listed.json["data"]] == ["Nested", word_model().name]
    assert listed.json["data"][0]["dimensions"] == [16, DIM]
    for name in ("Nested", word_model().name):
        expected = client.embed(TEXTS, "query", model=name)
        for _ in range(2):  # looked up, and remembered
            body = {"model": name, "input": TEXTS, "input_type": "query"}
            assert (vectors_of(http("POST", "/v1/embeddings", body).json) == expected).all()
        assert http("GET", f"/v1/models/{name}").json["root"] == name
        made = http("POST", f"/embed?model={name}", {"inputs": TEXTS, "prompt_name": "query"})
        assert (np.array(made.json, np.float32) == expected).all()
    made = http("POST", "/embed", {"inputs": TEXTS})
    assert (np.array(made.json, np.float32) == client.embed(TEXTS, "passage")).all()
    assert http("POST", "/rerank", {"query": "a", "texts": TEXTS}).status == 200
    assert http("GET", "/readyz").status == 200
    found = http("POST", "/v1/search", {"query": "harbour"})
    assert found.problem == (404, "NOT_FOUND")
    assert "no collection to search" in found.json["detail"]
    missing = http("POST", "/v1/embeddings", {"model": "nestled", "input": "a"})
    assert missing.problem == (404, "MODEL_NOT_FOUND")
    assert "did you mean 'Nested'" in missing.json["detail"]
    assert http("POST", "/embed?model=no", {"inputs": "a"}).problem == (404, "UNKNOWN_MODEL")
    both = http("POST", "/embed?model=Nested&collection=default", {"inputs": "a"})
    assert both.problem == (400, "INVALID_ARGUMENT")


def test_shorter_vectors_where_the_model_is_trained_for_it(
    models: tuple[Http, RetrievalClient],
) -> None:
    http, client = models
    body = {"model": "Nested", "input": TEXTS, "dimensions": 16}
    made = http("POST", "/v1/embeddings", body)
    expected = client.embed(TEXTS, "passage", model="Nested", dimensions=16)
    assert (vectors_of(made.json) == expected).all()
    short = http("POST", "/embed?model=Nested", {"inputs": TEXTS, "dimensions": 16})
    assert (np.array(short.json, np.float32) == expected).all()
    body["dimensions"] = 17
    refused = http("POST", "/v1/embeddings", body)
    assert refused.problem == (400, "INVALID_ARGUMENT")
    assert refused.json["error"]["param"] == "dimensions"


def test_a_text_that_is_cut_off_is_marked(http: Http) -> None:
    made = http("POST", "/v1/embeddings", {"model": "default", "input": ["bread " * 500, "a"]})
    assert [one["truncated"] for one in made.json["data"]] == [True, False]


def test_the_form_of_tei(http: Http, client: RetrievalClient) -> None:
    made = http("POST", "/embed", {"inputs": TEXTS, "truncate": True, "normalize": True})
    assert (np.array(made.json, np.float32) == client.embed(TEXTS, "passage")).all()
    made = http("POST", "/embed?collection=tea", {"inputs": "tea", "prompt_name": "query"})
    assert (np.array(made.json[0], np.float32) == client.embed("tea", "query")).all()
    long = {"inputs": ["a", "bread " * 500], "truncate": False}
    refused = http("POST", "/embed", long)
    assert refused.problem == (413, "TEXT_TOO_LONG")
    assert refused.json["error_type"] == "Validation"
    assert "inputs[1] is longer" in refused.json["error"]
    assert http("POST", "/embed", {**long, "truncate": True}).status == 200
    for wrong in ({"normalize": False}, {"truncation_direction": "Left"}):
        assert http("POST", "/embed", {"inputs": "a", **wrong}).problem[0] == 422
