"""The writer process: what is put is found, with all that was said of it; errors are clean."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.store import open_reader, verify
from tests.indexer.ingest.writer_process import WriterProcess, create, reason, writing


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WriterProcess]:
    with writing(tmp_path_factory.mktemp("data")) as process:
        yield process


@pytest.fixture
def index(writer: WriterProcess, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty collection ``notes``; whole at the end."""
    folder = create(writer)
    yield folder
    assert not list(verify(folder))
    writer.stub.DeleteCollection(pb.DeleteCollectionRequest(collection="collections/notes"))
    assert not folder.exists()


def test_a_text_is_put_found_and_deleted(writer: WriterProcess, index: Path) -> None:
    put = writer.put("a/bread.md", text="# Bread\n\nKnead the dough for ten minutes.\n")
    [document] = put.documents
    assert (document.uri, document.change, document.title) == (
        "a/bread.md",
        pb.CHANGE_CREATED,
        "Bread",
    )
    assert (document.format, document.encoding, document.passage_count) == ("markdown", "utf-8", 1)
    assert put.token_count > 5
    with open_reader(index) as reader:
        assert reader.info.generation == put.generation
        row = reader.document_by_uri("a/bread.md")
        assert document.name == f"collections/notes/documents/{row.id}"
        assert reader.document_text(row.id) == "# Bread\n\nKnead the dough for ten minutes.\n"
    assert writer.delete("a/bread.md") == ["a/bread.md"]
    with open_reader(index) as reader:
        assert reader.info.documents == 0
    with pytest.raises(grpc.RpcError) as raised:
        writer.delete("a/bread.md")
    assert reason(raised.value) == ("NOT_FOUND", "NOT_FOUND")


def test_the_same_put_changes_nothing(writer: WriterProcess, index: Path) -> None:
    first = writer.put("a/1", text="one", metadata={"year": 2024})
    again = writer.put("a/1", text="one", metadata={"year": 2024})
    assert again.documents[0].change == pb.CHANGE_UNCHANGED
    assert again.documents[0].sha256 == first.documents[0].sha256
    assert (again.generation, again.token_count) == (first.generation, 0)
    other = writer.put("a/1", text="one", metadata={"year": 2025})
    assert other.documents[0].change == pb.CHANGE_UPDATED
    assert other.documents[0].name == first.documents[0].name
    assert other.documents[0].sha256 != first.documents[0].sha256
    assert (other.generation, other.token_count) == (first.generation + 1, 0)


def test_a_process_ends_with_its_input(tmp_path: Path) -> None:
    with writing(tmp_path) as process:
        assert process.close() == 0
