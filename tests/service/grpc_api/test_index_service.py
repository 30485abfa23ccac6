"""IndexService: collections, documents and passages; reloading."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

import retrieval
from retrieval.client import RetrievalClient
from retrieval.errors import InvalidArgument, ServiceError
from retrieval.search import MAX_K
from retrieval.store import open_reader, read_info
from retrieval.v1 import index_service_pb2
from tests.service.harness import (
    SECTIONS,
    SUBJECTS,
    build_index,
    running,
    wait_until,
    word_model,
    write_documents,
)
from tests.tiny_model import DIM


def test_collections(client: RetrievalClient, index: Path) -> None:
    with open_reader(index) as reader:
        info = reader.info
    collection = client.collection()
    assert collection.name == "collections/default"
    assert collection.generation == info.generation
    assert collection.document_count == len(SUBJECTS)
    assert collection.passage_count == len(SUBJECTS) * len(SECTIONS) == info.chunks
    assert (collection.token_count, collection.vector_count) == (info.tokens, info.vectors)
    assert (collection.chunk_tokens, collection.chunk_overlap) == (40, 5)
    assert collection.model.name == word_model().name
    assert (collection.model.dimension, collection.model.max_tokens) == (DIM, 256)
    assert collection.model.fingerprint == info.model.fingerprint
    assert collection.created_at <= collection.updated_at <= datetime.now(UTC)
    assert [one.name for one in client.collections()] == ["collections/default", "collections/tea"]


def test_collections_by_pages(client: RetrievalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.client.client.ITEMS_PER_PAGE", 1)
    assert [one.name for one in client.collections()] == ["collections/default", "collections/tea"]


def test_documents(client: RetrievalClient, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = list(client.documents())
    assert [one.uri for one in documents] == [f"notes/{name}.md" for name in sorted(SUBJECTS)]
    monkeypatch.setattr("retrieval.client.client.ITEMS_PER_PAGE", 3)
    assert list(client.documents()) == documents
    document = documents[0]
    assert (document.title, document.format, document.encoding) == (
        "The beehive",
        "markdown",
        "utf-8",
    )
    assert document.passage_count == len(SECTIONS)
    assert document.text is None
    assert client.document(document.name) == document
    with open_reader(index) as reader:
        text = reader.document_text(reader.document_by_uri(document.uri).id)
    full = client.document(document.name, with_text=True)
    assert full.text == text
    assert full.char_count == len(text)
    assert full.size_bytes == len(text.encode())


def test_a_document_by_its_uri(client: RetrievalClient) -> None:
    from retrieval.v1 import document_pb2
    from retrieval.v1 import index_service_pb2 as pb

    get = client._index.GetDocument
    for collection, uri in (("", "notes/ferry.md"), ("collections/tea", "tea/tea.md")):
        request = pb.GetDocumentRequest(
            collection=collection, uri=uri, view=document_pb2.DOCUMENT_VIEW_FULL
        )
        found = client._connection.call(get, request).document
        assert found.uri == uri
        assert (
            found
            == client._connection.call(
                get, pb.GetDocumentRequest(name=found.name, view=request.view)
            ).document
        )
        assert len(found.text) == found.char_count > 0
    for request, status in (
        (pb.GetDocumentRequest(uri="notes/nothing.md"), "NOT_FOUND"),
        (pb.GetDocumentRequest(uri="notes/ferry.md", collection="ferry"), "INVALID_ARGUMENT"),
        (pb.GetDocumentRequest(uri="notes/ferry.md", name=found.name), "INVALID_ARGUMENT"),
        (pb.GetDocumentRequest(), "INVALID_ARGUMENT"),
    ):
        with pytest.raises(ServiceError) as refused:
            client._connection.call(get, request)
        assert refused.value.status == status


def test_a_document_page_token_is_for_its_collection_only(client: RetrievalClient) -> None:
    from retrieval.v1 import index_service_pb2 as pb

    list_documents = client._index.ListDocuments
    first = list_documents(pb.ListDocumentsRequest(page_size=2))
    with pytest.raises(ServiceError, match="another request"):
        client._connection.call(
            list_documents,
            pb.ListDocumentsRequest(parent="collections/tea", page_token=first.next_page_token),
        )
    with pytest.raises(ServiceError, match="from 1 to 1000"):
        client._connection.call(list_documents, pb.ListDocumentsRequest(page_size=MAX_K + 1))


def test_passages_and_their_neighbours(client: RetrievalClient) -> None:
    found = client.search("steeped tea", collection="tea")[0]
    context = client.passage(found.name, before=3, after=3)
    assert context.passage.text == found.text
    assert context.passage.score != context.passage.score  # NaN: it was not scored
    name = client.search("harbour")[0].name.rsplit("/", 1)[0]
    context = client.passage(f"{name}/2", before=1, after=9)
    assert [p.ordinal for p in context.before] == [1]
    assert [p.ordinal for p in context.after] == [3, 4]
    assert context.passage.heading_path == ("The ferry", "In practice")
    assert client.passage(f"{name}/0", before=1).before == ()


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("collections/default/documents/999", "NOT_FOUND"),
        ("collections/nope/documents/1", "NOT_FOUND"),
        ("documents/1", "INVALID_ARGUMENT"),
        ("", "INVALID_ARGUMENT"),
        ("collections/default/documents/1; DROP TABLE documents", "INVALID_ARGUMENT"),
        ("x" * 100_000, "INVALID_ARGUMENT"),
    ],
)
def test_names_that_name_nothing(client: RetrievalClient, name: str, status: str) -> None:
    with pytest.raises(ServiceError) as caught:
        client.document(name)
    assert caught.value.status == status
    with pytest.raises(ServiceError) as caught:
        client.passage(f"{name}/passages/1")
    assert caught.value.status == status


def test_numbers_of_neighbours(client: RetrievalClient) -> None:
    name = client.search("harbour")[0].name
    with pytest.raises(ServiceError, match="before is 101; it must be from 0 to 100"):
        client.passage(name, before=101)
    with pytest.raises(InvalidArgument, match="after is -1"):
        client.passage(name, after=-1)


def test_server_info(client: RetrievalClient) -> None:
    info = client.server_info()
    assert info.version == retrieval.__version__
    assert info.started_at <= datetime.now(UTC)
    assert info.limits.max_page_size == MAX_K
    assert info.limits.max_batch_size == 256


def test_reload(tmp_path: Path) -> None:
    documents, index = tmp_path / "notes", tmp_path / "index"
    write_documents(documents)
    build_index(documents, index)
    with running({"default": index}) as server, RetrievalClient(server.target) as client:
        before = client.collection()
        first = client.search("bread", k=2)
        listing = index_service_pb2.ListDocumentsRequest(page_size=2)
        listed = client._connection.call(client._index.ListDocuments, listing)
        stream = client.stream_search("bread")
        (documents / "cheese.md").write_text("# Cheese\n\nMilk curdles when rennet is stirred in.")
        build_index(documents, index)
        assert client.collection() == before, "nothing changes before the reload"
        after = client.reload()
        assert after.generation > before.generation
        assert after.document_count == before.document_count + 1
        assert client.search("rennet")[0].uri == "notes/cheese.md"
        assert "notes/cheese.md" not in {p.uri for p in stream}, "it began before the reload"
        second = client.search("bread", k=100, page_token=first.next_page_token)
        assert (first.generation, second.generation) == (before.generation, after.generation)
        whole = [p.name for p in client.search("bread", k=100)]
        seen = {p.name for p in first}
        assert [p.name for p in second] == [name for name in whole if name not in seen]
        listing.page_size, listing.page_token = 100, listed.next_page_token
        rest = client._connection.call(client._index.ListDocuments, listing)
        uris = [row.uri for row in (*listed.documents, *rest.documents)]
        assert uris == sorted({row.uri for row in client.documents()})
        assert (listed.generation, rest.generation) == (before.generation, after.generation)
        assert client.reload() == after


def test_reload_that_fails_changes_nothing(tmp_path: Path, index: Path) -> None:
    copy = tmp_path / "index"
    shutil.copytree(index, copy)
    with running({"default": copy}) as server, RetrievalClient(server.target) as client:
        expected = client.search("bread").passages
        for file in copy.glob("vectors-*"):
            file.unlink()
        with pytest.raises(ServiceError, match=r"vectors-.*faiss.*damaged") as caught:
            client.reload()
        assert (caught.value.status, caught.value.service_reason) == ("DATA_LOSS", "INDEX_DAMAGED")
        assert client.search("bread").passages == expected
        shutil.rmtree(copy, ignore_errors=True)
        with pytest.raises(ServiceError) as caught:
            client.reload()
        assert caught.value.service_reason == "NOT_AN_INDEX"
        assert caught.value.status == "FAILED_PRECONDITION"
        with pytest.raises(ServiceError) as caught:
            client.reload("nope")
        assert caught.value.status == "NOT_FOUND"


def test_a_new_generation_is_noticed_without_a_dropped_request(tmp_path: Path) -> None:
    documents, index = tmp_path / "notes", tmp_path / "index"
    write_documents(documents)
    build_index(documents, index)
    stop = threading.Event()

    def ask(target: str) -> list[int]:
        answers: list[int] = []
        with RetrievalClient(target) as client:
            while not stop.is_set():
                answers.append(client.search("bread", k=1).generation)
        return answers

    with (
        running({"default": index}, reload_seconds=0.05) as server,
        ThreadPoolExecutor(2) as pool,
        RetrievalClient(server.target) as client,
    ):
        asking = [pool.submit(ask, server.target) for _ in range(2)]
        try:
            for number in range(3):
                text = f"# Cheese {number}\n\nMilk curdles when rennet {number} is stirred in."
                (documents / f"cheese{number}.md").write_text(text)
                build_index(documents, index)
                newest = read_info(index).generation
                wait_until(lambda newest=newest: client.collection().generation == newest)
                found = client.search(f"cheese and rennet {number}", k=3)
                assert f"notes/cheese{number}.md" in {passage.uri for passage in found}
        finally:
            stop.set()
        for future in asking:
            answers = future.result()  # raises what a request raised
            assert answers == sorted(answers)
            assert len(set(answers)) >= 2


def test_an_index_that_breaks_is_served_on(
    tmp_path: Path, index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "index"
    shutil.copytree(index, copy)
    with (
        running({"default": copy}, reload_seconds=0.02) as server,
        RetrievalClient(server.target) as client,
    ):
        expected = client.search("bread").passages
        copy.rename(tmp_path / "away")  # a look that is just under way may fail in its own way
        wait_until(lambda: "is not an index" in caplog.text)
        assert client.search("bread").passages == expected
        time.sleep(0.2)
    assert caplog.text.count("is not an index") == 1  # told once, not at each look


def test_filters_and_exact_search(client: RetrievalClient) -> None:
    every = client.search("bread", k=40)
    some = client.search("bread", k=40, filter="path:b*.md AND title:*bee*", exact=True)
    assert 0 < len(some) < len(every)
    assert {passage.uri for passage in some} == {"notes/beehive.md"}
    kept = [passage for passage in every if passage.uri == "notes/beehive.md"]
    assert [passage.name for passage in some] == [passage.name for passage in kept]
    (batch,) = client.search_batch(["bread"], k=40, filter="path:bread.md")
    assert {passage.uri for passage in batch} == {"notes/bread.md"}
    stream = client.stream_search("bread", filter="path:bread.md")
    assert {passage.uri for passage in stream} == {"notes/bread.md"}
    with pytest.raises(ServiceError, match="at character 6: expected a value") as caught:
        client.search("bread", filter="path:")
    assert caught.value.status == "INVALID_ARGUMENT"
    assert caught.value.metadata["field"] == "filter"
    page = client.search("bread", k=2, filter="path:bread.md")
    with pytest.raises(ServiceError, match="another request"):
        client.search("bread", k=2, page_token=page.next_page_token)
    rest = client.search("bread", k=9, filter="path:bread.md", page_token=page.next_page_token)
    assert len(page) + len(rest) == len(batch)
