"""Models by name: of a server without an index, and beside collections."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.build.build import build
from indexer.build.progress import SilentProgress
from indexer.build.settings import BuildOptions
from retrieval.client import AsyncRetrievalClient, RetrievalClient
from retrieval.client.results import check_obeyed
from retrieval.encoding.encoder import Encoder
from retrieval.errors import InvalidArgument, ModelMismatch, ServiceError
from retrieval.search import EmbeddedText
from retrieval.service.access.callers import EVERYONE
from retrieval.service.access.token_file import create_token
from retrieval.service.config import ServiceConfig, Writing
from retrieval.v1 import embedding_service_pb2 as pb
from tests.service.harness import Program, running, word_model
from tests.tiny_model import DIM, make_tiny_model, make_tiny_reranker

TEXTS = ["a ferry", "Äpfel 🍐"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model with prompts that is trained for shorter vectors, a plain one, and a reranker."""
    folder = tmp_path_factory.mktemp("models")
    nested = make_tiny_model(folder / "Nested")
    config = json.loads((nested / "config.json").read_text())
    config["matryoshka_dimensions"] = [32, 16, DIM, 4096]
    (nested / "config.json").write_text(json.dumps(config))
    prompts = {"prompts": {"query": "find: ", "document": "text: "}}
    (nested / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return {
        "nested": nested,
        "plain": make_tiny_model(folder / "plain"),
        "reranker": make_tiny_reranker(folder / "ranker"),
    }


@pytest.fixture(scope="module")
def alone(folders: dict[str, Path]) -> Iterator[RetrievalClient]:
    """A client of a server without any index."""
    models = (str(folders["nested"]), str(folders["plain"]))
    with (
        running({}, models=models, reranker=str(folders["reranker"])) as server,
        RetrievalClient(server.target) as client,
    ):
        yield client


def reason_of(caught: pytest.ExceptionInfo[ServiceError]) -> tuple[str, str]:
    return caught.value.status, caught.value.service_reason


def test_a_server_without_an_index_lists_its_models(
    alone: RetrievalClient, folders: dict[str, Path]
) -> None:
    nested, plain = models = alone.models()
    assert nested.names == ("Nested",)
    assert nested.dimensions == (16, 32, DIM)
    assert (nested.query_prompt, nested.passage_prompt) == ("find: ", "text: ")
    assert nested.collections == ()
    encoder = Encoder.load(str(folders["plain"]), device="cpu")
    assert plain.model.fingerprint == encoder.identity.fingerprint
    assert plain.model.max_tokens == encoder.max_tokens
    assert plain.dimensions == (plain.model.dimension,) == (DIM,)
    assert (plain.query_prompt, plain.passage_prompt) == ("", "")
    assert models.reranker is not None
    assert (models.reranker.name, models.reranker.max_tokens) == ("ranker", 64)
    assert alone.health()


@pytest.mark.parametrize("kind", ["query", "passage"])
def test_embedding_by_name(alone: RetrievalClient, folders: dict[str, Path], kind: Any) -> None:
    for name in ("nested", "plain"):
        encoder = Encoder.load(str(folders[name]), device="cpu")
        expected = encoder.encode(TEXTS, kind)
        for called in (name, name.upper(), encoder.identity.fingerprint):
            made = alone.embed_detailed(TEXTS, kind, model=called)
            np.testing.assert_allclose(made.vectors, expected, atol=1e-5)
            assert made.model_fingerprint == encoder.identity.fingerprint
            assert made.model == encoder.identity.name
        counts = encoder.tokenizer.count(TEXTS)
        assert alone.count_tokens(TEXTS, model=name) == counts
    # The first model is that of requests that name none.
    first = alone.embed_detailed(TEXTS, kind)
    assert (first.vectors == alone.embed(TEXTS, kind, model="nested")).all()


def test_reranking_without_an_index(alone: RetrievalClient) -> None:
    assert len(alone.rerank("a boat", TEXTS)) == 2


def test_shorter_vectors(alone: RetrievalClient) -> None:
    whole = alone.embed(TEXTS, "query", model="nested")
    assert (alone.embed(TEXTS, "query", model="nested", dimensions=DIM) == whole).all()
    for length in (16, 32):
        short = alone.embed(TEXTS, "query", model="nested", dimensions=length)
        cut = whole[:, :length]
        expected = cut / np.linalg.norm(cut, axis=1, keepdims=True)
        np.testing.assert_allclose(short, expected, atol=1e-6)
    assert alone.embed("a ferry", "query", dimensions=16).shape == (16,)


def test_a_vector_that_begins_with_zeros_stays_finite() -> None:
    vector = np.array([0, 0, 0.6, 0.8], dtype=np.float32)
    short = EmbeddedText(vector, 1, truncated=False).shortened(2).vector
    assert short.tolist() == [0, 0]
    assert EmbeddedText(vector, 1, truncated=False).shortened(3).vector.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("model", "dimensions", "words"),
    [
        ("nested", 17, "vectors of Nested have 16, 32 or 64"),
        ("nested", 4096, "vectors of Nested have 16, 32 or 64"),
        ("plain", 32, "vectors of plain have 64, because the model was not trained for shorter"),
    ],
)
def test_other_lengths_are_refused(
    alone: RetrievalClient, model: str, dimensions: int, words: str
) -> None:
    with pytest.raises(ServiceError, match=words) as caught:
        alone.embed(TEXTS, "query", model=model, dimensions=dimensions)
    assert reason_of(caught) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert caught.value.metadata["field"] == "dimensions"


def test_an_unknown_name_tells_the_known_ones(alone: RetrievalClient) -> None:
    for call in (
        lambda name: alone.embed(TEXTS, "query", model=name),
        lambda name: alone.count_tokens(TEXTS, model=name),
    ):
        with pytest.raises(
            ServiceError, match=r"did you mean 'Nested'\? This server has: Nested, plain"
        ) as caught:
            call("nestled")
        assert reason_of(caught) == ("NOT_FOUND", "UNKNOWN_MODEL")
        assert caught.value.metadata["models"] == "Nested, plain"


def test_searching_says_that_there_is_no_collection(alone: RetrievalClient) -> None:
    for call in (
        lambda: alone.search("ferry"),
        lambda: alone.search_batch(["ferry"]),
        lambda: alone.stream_search("ferry"),
        lambda: alone.search("ferry", collection="docs"),
        lambda: list(alone.documents()),
        lambda: alone.embed("ferry", "query", collection="docs"),
    ):
        with pytest.raises(
            ServiceError, match="no collection to search; `retrieval serve"
        ) as caught:
            call()
        assert reason_of(caught) == ("NOT_FOUND", "NOT_FOUND")
    assert list(alone.collections()) == []


def test_arguments_that_contradict(alone: RetrievalClient) -> None:
    with pytest.raises(InvalidArgument, match="a collection or a model, not both"):
        alone.embed("a", "query", collection="default", model="plain")
    with pytest.raises(InvalidArgument, match="model's name is empty"):
        alone.count_tokens(["a"], model="")
    with pytest.raises(InvalidArgument, match="dimensions"):
        alone.embed("a", "query", dimensions=0)
    request = pb.BatchEmbedRequest(
        collection="collections/default", model="plain", texts=["a"], kind=pb.TEXT_KIND_QUERY
    )
    with pytest.raises(ServiceError, match="a collection or a model, not both"):
        alone._connection.call(alone._embedding.BatchEmbed, request)


def test_an_old_server_does_not_answer_for_another_model() -> None:
    old = pb.BatchEmbedResponse(model_fingerprint="f")
    assert check_obeyed(pb.BatchEmbedRequest(collection="collections/a"), old) is old
    for asked in (pb.BatchEmbedRequest(model="x"), pb.BatchEmbedRequest(dimensions=3)):
        with pytest.raises(ServiceError, match="too old") as caught:
            check_obeyed(asked, old)
        assert caught.value.status == "UNIMPLEMENTED"
    with pytest.raises(ServiceError, match="too old"):
        check_obeyed(pb.CountTokensRequest(model="x"), pb.CountTokensResponse())


def test_the_async_client_has_the_same(alone: RetrievalClient) -> None:
    async def ask() -> None:
        async with AsyncRetrievalClient(alone._connection.target) as client:
            assert await client.models() == alone.models()
            made = await client.embed(TEXTS, "query", model="nested", dimensions=16)
            assert (made == alone.embed(TEXTS, "query", model="nested", dimensions=16)).all()
            counts = await client.count_tokens(TEXTS, model="plain")
            assert counts == alone.count_tokens(TEXTS, model="plain")

    asyncio.run(ask())


def test_the_models_of_collections_have_names_too(client: RetrievalClient) -> None:
    (only,) = client.models()
    assert only.names == (word_model().name,)
    assert only.collections == ("collections/default", "collections/tea")
    assert only.model == client.collection().model
    assert client.models().reranker is None
    by_name = client.embed(TEXTS, "query", model=word_model().name)
    assert (by_name == client.embed(TEXTS, "query", collection="tea")).all()
    with pytest.raises(ServiceError, match="no collection 'nope'; this server has: default, tea"):
        client.embed(TEXTS, "query", collection="nope")


def test_a_collection_and_the_command_line_share_a_model(
    index: Path, folders: dict[str, Path]
) -> None:
    models = (str(folders["plain"]), str(word_model()))
    with running({"docs": index}, models=models) as server:
        collections = server.server._collections
        with collections.use("docs", EVERYONE) as opened:
            assert opened.model is collections._models.given[1]
        with RetrievalClient(server.target) as client:
            plain, words = client.models()
            assert (plain.names, plain.collections) == (("plain",), ())
            assert words.collections == ("collections/docs",)
            # Without a collection "default", the first model answers.
            assert client.embed_detailed(["a"], "query").model == "plain"
            assert client.search("ferry", collection="docs", k=1)[0].uri == "notes/ferry.md"
            client.reload("docs")
            assert len(client.models()) == 2


@pytest.fixture(scope="module")
def two_of_a_name(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two indexes whose models have one name and are not the same."""
    folder = tmp_path_factory.mktemp("indexes")
    (folder / "notes").mkdir()
    (folder / "notes" / "ferry.md").write_text("The ferry leaves the harbour every hour.")
    indexes = {}
    for name, most in (("one", 98), ("two", 99)):
        model = make_tiny_model(folder / name / "model")
        (model / "sentence_bert_config.json").write_text(f'{{"max_seq_length": {most}}}')
        index = folder / name / "index"
        build(BuildOptions([folder / "notes"], index, str(model), device="cpu"), SilentProgress())
        indexes[name] = index
    return indexes


def test_an_ambiguous_name_is_refused(two_of_a_name: dict[str, Path]) -> None:
    with running(two_of_a_name) as server, RetrievalClient(server.target) as client:
        one, two = client.models()
        assert one.names == two.names == ("model",)
        with pytest.raises(ServiceError, match="one, two have different models") as caught:
            client.embed("a", "query", model="model")
        assert reason_of(caught) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
        for each in (one, two):
            made = client.embed_detailed(["a"], "query", model=each.model.fingerprint)
            assert made.model_fingerprint == each.model.fingerprint
    first, second = (str(index.parent / "model") for index in two_of_a_name.values())
    with (
        running(two_of_a_name, models=(second,)) as server,
        RetrievalClient(server.target) as client,
    ):
        made = client.embed_detailed(["a"], "query", model="model")
        assert made.model_fingerprint == two.model.fingerprint
    with (
        pytest.raises(InvalidArgument, match="two models given with --model"),
        running({}, models=(first, second)),
    ):
        pass


def test_tokens_see_the_models_of_their_collections(
    two_of_a_name: dict[str, Path], folders: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    everything = create_token(file, "everything")
    token = create_token(file, "one", scopes=("embed",), collections=("one",))
    searcher = create_token(file, "search", scopes=("search",))
    settings: dict[str, Any] = {"models": (str(folders["plain"]),), "token_file": file}
    with running(two_of_a_name, **settings) as server:
        with RetrievalClient(server.target, token=everything) as client:
            all_models = client.models()
            assert [each.names for each in all_models] == [("plain",), ("model",), ("model",)]
        with RetrievalClient(server.target, token=token) as client:
            plain, one = client.models()
            assert (plain.names, plain.collections) == (("plain",), ())
            assert one.collections == ("collections/one",)
            assert client.embed_detailed(["a"], "query", model="model").model == "model"
            hidden = all_models[-1].model.fingerprint
            with pytest.raises(ServiceError, match="this server has: plain, model") as caught:
                client.embed("a", "query", model=hidden)
            assert reason_of(caught) == ("NOT_FOUND", "UNKNOWN_MODEL")
        with (
            RetrievalClient(server.target, token=searcher) as client,
            pytest.raises(ServiceError, match="lacks the scope embed"),
        ):
            client.models()


def test_the_model_of_an_index_may_have_moved(two_of_a_name: dict[str, Path]) -> None:
    index, other = two_of_a_name.values()
    moved = (index.parent / "model").rename(index.parent / "moved")
    try:
        with (
            running({"default": index}, models=(str(moved),)) as server,
            RetrievalClient(server.target) as client,
        ):
            (only,) = client.models()
            assert only.names == ("moved", "model")
            assert client.search("ferry", k=1)
            by_name = client.embed("a", "query", model="moved")
            assert (by_name == client.embed("a", "query")).all()
        with (
            pytest.raises(ModelMismatch, match="which is not .*model, and is not where"),
            running({"default": index}, models=(str(other.parent / "model"),)),
        ):
            pass
    finally:
        moved.rename(index.parent / "model")


def test_a_server_needs_something_to_serve(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="--index DIR, or --model NAME"):
        ServiceConfig({})
    with pytest.raises(InvalidArgument, match="nothing to write to"):
        ServiceConfig({}, models=("plain",), writing=Writing())
    ServiceConfig({}, models=("plain",), writing=Writing(tmp_path))


def test_the_program_serves_a_model(folders: dict[str, Path]) -> None:
    program = Program("--listen", "127.0.0.1:0", "--model", str(folders["plain"]))
    try:
        ready = program.wait_ready()
        assert ready.endswith(f"· model plain: {DIM} dimensions, 8192 tokens\n"), ready
        with RetrievalClient(program.target) as client:
            assert client.embed("a", "query", model="plain").shape == (DIM,)
    finally:
        program.process.terminate()
        assert program.finish()[0] == 0
