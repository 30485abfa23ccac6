"""What the contract says of zero, empty and unset fields, and what a client of ours never sends."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from retrieval.client import RetrievalClient
from retrieval.v1 import (
    document_pb2,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    index_service_pb2,
    index_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
)
from tests.indexer.make_files import make_pdf
from tests.service.harness import build_index, running, wait_until

DOCUMENTS = 60


class Stubs(NamedTuple):
    """The generated stubs, as any client has them."""

    search: search_service_pb2_grpc.SearchServiceStub
    index: index_service_pb2_grpc.IndexServiceStub
    embedding: embedding_service_pb2_grpc.EmbeddingServiceStub


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of more documents than fit a page, and a PDF."""
    folder = tmp_path_factory.mktemp("wire")
    (folder / "docs").mkdir()
    for number in range(DOCUMENTS):
        (folder / "docs" / f"{number:02}.txt").write_text(f"duck number {number}")
    (folder / "docs" / "care.pdf").write_bytes(make_pdf())
    return build_index(folder / "docs", folder / "index")


@pytest.fixture(scope="module")
def stubs(many: Path) -> Iterator[Stubs]:
    with running({"default": many}) as server, grpc.insecure_channel(server.target) as channel:
        yield Stubs(
            search_service_pb2_grpc.SearchServiceStub(channel),
            index_service_pb2_grpc.IndexServiceStub(channel),
            embedding_service_pb2_grpc.EmbeddingServiceStub(channel),
        )


def test_zero_and_empty_mean_the_default(stubs: Stubs) -> None:
    pb = search_service_pb2
    found = stubs.search.Search(pb.SearchRequest(text="duck"))
    assert len(found.passages) == 10
    assert found.mode == pb.SEARCH_MODE_HYBRID
    assert found.passages[0].score_kind == document_pb2.SCORE_KIND_WEIGHTED
    assert found.passages[0].name.startswith("collections/default/")
    said = pb.SearchRequest(
        collection="collections/default",
        text="duck",
        page_size=10,
        mode=pb.SEARCH_MODE_HYBRID,
        fusion=pb.FUSION_WEIGHTED,
        dense_weight=0.6,
    )
    again = stubs.search.Search(said)
    assert [one.name for one in again.passages] == [one.name for one in found.passages]
    scores = [one.score for one in found.passages]
    assert [one.score for one in again.passages] == pytest.approx(scores, abs=1e-6)
    grouped = pb.SearchRequest(text="duck", group_by_document=True, group_size=1)
    without = pb.SearchRequest(text="duck", group_by_document=True)
    assert stubs.search.Search(grouped).passages == stubs.search.Search(without).passages
    vector = stubs.embedding.BatchEmbed(
        embedding_service_pb2.BatchEmbedRequest(
            texts=["duck"], kind=embedding_service_pb2.TEXT_KIND_QUERY
        )
    )
    by_vector = stubs.search.Search(pb.SearchRequest(vector=vector.embeddings[0].vector))
    assert by_vector.mode == pb.SEARCH_MODE_DENSE
    collection = stubs.index.GetCollection(index_service_pb2.GetCollectionRequest())
    assert collection.collection.name == "collections/default"
    reloaded = stubs.index.ReloadCollection(index_service_pb2.ReloadCollectionRequest())
    assert reloaded.previous_generation == reloaded.collection.generation > 0


def test_a_page_of_a_list_has_fifty_unless_told(stubs: Stubs) -> None:
    pb = index_service_pb2
    first = stubs.index.ListDocuments(pb.ListDocumentsRequest())
    assert len(first.documents) == 50
    rest = stubs.index.ListDocuments(pb.ListDocumentsRequest(page_token=first.next_page_token))
    assert len(rest.documents) == DOCUMENTS + 1 - 50
    assert not rest.next_page_token
    uris = [document.uri for document in (*first.documents, *rest.documents)]
    assert uris == sorted(uris)
    assert not any(document.text for document in first.documents)


def test_a_stream_has_one_header_and_ends_at_the_maximum(stubs: Stubs) -> None:
    events = [*stubs.search.StreamSearch(search_service_pb2.StreamSearchRequest(text="duck"))]
    assert [event.WhichOneof("event") for event in events] == [
        "header",
        *["passage"] * (len(events) - 1),
    ]
    collection = stubs.index.GetCollection(index_service_pb2.GetCollectionRequest()).collection
    assert len(events) - 1 == collection.passage_count
    assert events[0].header.generation == collection.generation
    assert events[0].header.model_fingerprint == collection.model.fingerprint


def test_a_pages_number_arrives(stubs: Stubs) -> None:
    request = search_service_pb2.SearchRequest(text="grain and greens", filter="format=pdf")
    best = stubs.search.Search(request).passages[0]
    assert (best.page_start, best.page_end) == (3, 3)
    assert best.document.title == "Duck Manual"
    text = search_service_pb2.SearchRequest(text="duck", filter="path=00.txt")
    (plain,) = stubs.search.Search(text).passages
    assert (plain.page_start, plain.page_end) == (0, 0)
    assert (plain.line_start, plain.line_end) == (1, 1)


def test_a_document_says_how_its_file_was(stubs: Stubs, many: Path) -> None:
    request = search_service_pb2.SearchRequest(text="duck", filter="path=07.txt")
    name = stubs.search.Search(request).passages[0].document.name
    pb = index_service_pb2
    document = stubs.index.GetDocument(pb.GetDocumentRequest(name=name)).document
    file = many.parent / "docs" / "07.txt"
    assert document.modify_time.ToNanoseconds() // 10**9 == int(file.stat().st_mtime)
    assert document.size_bytes == document.char_count == file.stat().st_size
    assert not document.HasField("typed_metadata")
    assert document.text == ""
    view = pb.GetDocumentRequest(name=name, view=document_pb2.DOCUMENT_VIEW_FULL)
    assert stubs.index.GetDocument(view).document.text == file.read_text()


def test_counting_tokens_names_the_model(stubs: Stubs) -> None:
    model = stubs.index.GetCollection(index_service_pb2.GetCollectionRequest()).collection.model
    counted = stubs.embedding.CountTokens(
        embedding_service_pb2.CountTokensRequest(texts=["boulders " * 400])
    )
    assert list(counted.token_counts) == [400]
    assert counted.max_tokens == model.max_tokens == 256
    assert counted.model_fingerprint == model.fingerprint


def test_times_of_a_batch_are_of_the_whole(stubs: Stubs) -> None:
    pb = search_service_pb2
    requests = [pb.SearchRequest(text=f"duck {number}") for number in range(3)]
    answers = stubs.search.BatchSearch(pb.BatchSearchRequest(requests=requests)).responses
    for stage in ("embed", "total"):
        assert len({getattr(one.timings, stage).ToNanoseconds() for one in answers}) == 1


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        (
            "embedding.BatchEmbed",
            embedding_service_pb2.BatchEmbedRequest(texts=["x"]),
            "kind",
        ),
        (
            "search.Search",
            search_service_pb2.SearchRequest(),
            "query",
        ),
        (
            "search.Search",
            search_service_pb2.SearchRequest(text="x", page_size=-1),
            "page_size",
        ),
        (
            "search.Search",
            search_service_pb2.SearchRequest(text="x", group_by_document=True, group_size=21),
            "group_size",
        ),
        (
            "search.Search",
            search_service_pb2.SearchRequest(text="x", rerank_top=201),
            "rerank_top",
        ),
        (
            "index.ListCollections",
            index_service_pb2.ListCollectionsRequest(page_size=1001),
            "page_size",
        ),
        (
            "index.ListCollections",
            index_service_pb2.ListCollectionsRequest(page_token="x"),
            "page_token",
        ),
        (
            "index.GetCollection",
            index_service_pb2.GetCollectionRequest(name="default"),
            "name",
        ),
    ],
)
def test_what_is_refused_names_its_field(
    stubs: Stubs, method: str, request_: Any, field: str
) -> None:
    service, _, name = method.partition(".")
    with pytest.raises(grpc.RpcError) as caught:
        getattr(getattr(stubs, service), name)(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    trailers = dict(caught.value.trailing_metadata())
    details = status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert any(detail.Unpack(info) for detail in details)
    assert any(detail.Unpack(bad) for detail in details)
    assert (info.domain, info.reason) == ("retrieval.v1", "INVALID_ARGUMENT")
    assert [violation.field for violation in bad.field_violations] == [field]


def test_an_index_that_could_not_be_opened_had_no_generation(
    index: Path, many: Path, tmp_path: Path
) -> None:
    late = tmp_path / "late"
    with (
        running({"default": index, "late": late}) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        shutil.copytree(many, late, symlinks=True)
        pb = index_service_pb2
        stub = index_service_pb2_grpc.IndexServiceStub(channel)
        answer = stub.ReloadCollection(pb.ReloadCollectionRequest(name="collections/late"))
        assert answer.previous_generation == 0
        assert answer.collection.document_count == DOCUMENTS + 1


def test_the_index_keeps_the_time_of_its_making(tmp_path: Path) -> None:
    docs, index = tmp_path / "docs", tmp_path / "index"
    docs.mkdir()
    (docs / "a.txt").write_text("one duck")
    build_index(docs, index)
    with running({"default": index}) as server, RetrievalClient(server.target) as client:
        before = client.collection()
        document = client.search("duck")[0].document_id
        wait_until(lambda: client.server_info().started_at > before.updated_at)
        (docs / "a.txt").write_text("two ducks")
        build_index(docs, index)
        after = client.reload()
        assert after.created_at == before.created_at
        assert after.updated_at >= before.updated_at
        assert after.generation > before.generation
        assert (len(after.index_id), after.index_id) == (32, before.index_id)
        assert client.search("ducks")[0].document_id == document
