"""One change at a time: what is sent, returned, repeated and refused."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict

from retrieval.client import AsyncRetrievalClient, DeleteResult, PutPassage, RetrievalClient
from retrieval.errors import InvalidArgument, ServiceError, ServiceUnavailable
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from tests.client.writing.dictionary_server import DictionaryServer, DictionaryService
from tests.service.harness import RunningServer

UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "")


def test_a_text_with_everything(writer: RetrievalClient, service: DictionaryService) -> None:
    result = writer.put(
        "notes/a.md",
        text="# Grüße",
        file_name="a.md",
        media_type="text/markdown",
        title="A",
        metadata={
            "tags": ["x", None, "y"],
            "year": 2024,
            "big": 2**60,
            "share": np.float32(0.5),
            "day": date(2024, 5, 1),
            "draft": False,
            "author": {"name": "Kim", "age": None},
            "nothing": None,
        },
        language="de",
        modified=datetime(2024, 5, 1, 10, tzinfo=UTC),
        if_absent=True,
        wait=True,
        collection="docs",
    )
    assert result.document.uri == "notes/a.md"
    assert (result.document.change, result.document.passage_count) == ("created", 1)
    assert (result.generation, result.token_count, result.skipped) == (1, 3, ())
    sent = MessageToDict(service.requests[0], preserving_proto_field_name=True)
    assert sent == {
        "collection": "collections/docs",
        "uri": "notes/a.md",
        "text": "# Grüße",
        "file_name": "a.md",
        "media_type": "text/markdown",
        "title": "A",
        "metadata": {
            "tags": ["x", "y"],
            "year": 2024.0,
            "big": str(2**60),
            "share": 0.5,
            "day": "2024-05-01",
            "draft": False,
            "author": {"name": "Kim"},
        },
        "language": "de",
        "modify_time": "2024-05-01T10:00:00Z",
        "if_absent": True,
        "wait_for_visibility": True,
    }


def test_the_three_kinds_of_content(writer: RetrievalClient, service: DictionaryService) -> None:
    writer.put("a", text="")
    writer.put("b", data=bytearray(b"%PDF"))
    writer.put("c", passages=["one", PutPassage("two", ("Part", "Chapter"), page=3)])
    text, data, passages = service.requests
    assert text.WhichOneof("content") == "text"
    assert data.data == b"%PDF"
    assert passages.passages == pb.PassageTexts(
        passages=[
            pb.PassageText(text="one"),
            pb.PassageText(text="two", heading_path=["Part", "Chapter"], page=3),
        ]
    )


def test_changes_and_conditions(writer: RetrievalClient) -> None:
    first = writer.put("a", text="one").document
    assert writer.put("a", text="one").document.change == "unchanged"
    second = writer.put("a", text="two", if_sha256=first.sha256).document
    assert second.change == "updated"
    with pytest.raises(ServiceError) as caught:
        writer.put("a", text="three", if_sha256=first.sha256)
    assert (caught.value.status, caught.value.service_reason) == ("ABORTED", "CONFLICT")
    assert caught.value.exit_code == 2
    with pytest.raises(ServiceError) as caught:
        writer.put("a", text="three", if_absent=True)
    assert caught.value.service_reason == "ALREADY_EXISTS"


class TestFiles:
    def test_a_file(
        self, writer: RetrievalClient, service: DictionaryService, tmp_path: Path
    ) -> None:
        path = tmp_path / "notes" / "a.md"
        path.parent.mkdir()
        path.write_bytes(b"# A\xff")
        writer.put_file(path)
        writer.put_file(str(path), root=tmp_path, title="T", metadata={"n": 1})
        writer.put_file(
            path, "other/b", file_name="b.txt", modified=datetime(2020, 1, 1, tzinfo=UTC)
        )
        name, below, given = service.requests
        assert [one.uri for one in service.requests] == ["a.md", "notes/a.md", "other/b"]
        assert (name.data, name.file_name) == (b"# A\xff", "a.md")
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        assert abs(name.modify_time.ToDatetime(UTC) - modified) < timedelta(milliseconds=1)
        assert (below.title, below.metadata["n"]) == ("T", 1.0)
        assert (given.file_name, given.modify_time.seconds) == ("b.txt", 1_577_836_800)

    def test_a_path_with_a_step_back(
        self, writer: RetrievalClient, service: DictionaryService, tmp_path: Path
    ) -> None:
        (tmp_path / "x").mkdir()
        (tmp_path / "a.md").write_text("A")
        writer.put_file(tmp_path / "x" / ".." / "a.md", root=tmp_path)
        assert service.requests[0].uri == "a.md"
        with pytest.raises(InvalidArgument, match="is not below root"):
            writer.put_file(tmp_path / "a.md", root=tmp_path / "x")

    def test_what_can_not_be_read(self, writer: RetrievalClient, tmp_path: Path) -> None:
        with pytest.raises(InvalidArgument, match=r"can't read .*none\.md: No such file"):
            writer.put_file(tmp_path / "none.md")
        with pytest.raises(InvalidArgument, match="is a folder; put its files"):
            writer.put_file(tmp_path)
        with pytest.raises(InvalidArgument, match="is not a regular file"):
            writer.put_file("/dev/zero")
        with pytest.raises(InvalidArgument, match="can't read"):
            writer.put_file("a\0b")
        wrong: Any = 3
        with pytest.raises(InvalidArgument, match="path is of type int"):
            writer.put_file(wrong)
        with pytest.raises(InvalidArgument, match="put_file has no option 'text'"):
            writer.put_file(tmp_path, **{"text": "x"})  # type: ignore[arg-type]

    def test_a_file_that_is_too_large_is_not_read(
        self, server: RunningServer, tmp_path: Path
    ) -> None:
        limit = server.config.limits.message_bytes
        huge = tmp_path / "huge.txt"
        with huge.open("wb") as file:
            file.truncate(40 * limit)
        message = f"has {40 * limit} bytes, and the server takes messages of at most {limit}"
        with RetrievalClient(server.target) as client:
            with pytest.raises(InvalidArgument, match=message):
                client.put_file(huge)
            with pytest.raises(InvalidArgument, match=f"messages of at most {limit}"):
                client.put("a", text="x" * limit)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "there is none; give the content as one of text, data, passages, path"),
        ({"text": "a", "data": b"b"}, "there are text and data; give the content as one of"),
        ({"text": b"a"}, "text is of type bytes"),
        ({"text": "a\udcff"}, "text is not valid Unicode"),
        ({"data": "a"}, "data is of type str, not bytes; give a text as text="),
        ({"data": 3}, "data is of type int, not bytes"),
        ({"passages": "a"}, "passages is one text; give a list of texts"),
        ({"passages": 3}, "passages is of type int"),
        ({"passages": ["a", 3]}, "passages[1] is of type int; give a text or a PutPassage"),
        ({"passages": [PutPassage("a", page=-1)]}, "passages[0].page is -1"),
        ({"passages": [PutPassage("a", "H")]}, "passages[0].heading_path is one text"),
        ({"text": "a", "metadata": ["b"]}, "metadata is of type list; give a dictionary"),
        ({"text": "a", "metadata": {3: "b"}}, "a name in metadata is of type int"),
        ({"text": "a", "metadata": {"b": float("nan")}}, "metadata.b is nan"),
        ({"text": "a", "metadata": {"b": [{"c": {1}}]}}, "metadata.b[0].c is of type set"),
        ({"text": "a", "metadata": {"b": "\udcff"}}, "metadata.b is not valid Unicode"),
        ({"text": "a", "modified": datetime(2024, 1, 1)}, "modified has no time zone"),
        ({"text": "a", "modified": "2024"}, "modified is of type str, not a datetime"),
        ({"text": "a", "if_absent": 1}, "if_absent is 1; it must be True or False"),
        ({"text": "a", "wait": "no"}, "wait is 'no'"),
        ({"text": "a", "timeout": 0}, "timeout is 0"),
        ({"text": "a", "titel": "b"}, "put has no option 'titel'; did you mean 'title'?"),
        ({"path": "a"}, "put has no option 'path'"),
    ],
)
def test_what_can_not_be_put(
    writer: RetrievalClient, service: DictionaryService, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        writer.put("a", **options)
    assert service.requests == []


def test_metadata_that_contains_itself(writer: RetrievalClient) -> None:
    circle: dict[str, Any] = {}
    circle["again"] = [circle]
    with pytest.raises(InvalidArgument, match="is nested too deeply"):
        writer.put("a", text="a", metadata=circle)
    deep: dict[str, Any] = {"leaf": 1}
    for _ in range(15):
        deep = {"in": deep}
    assert writer.put("a", text="a", metadata=deep)


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_changes_are_tried_again(
    writer: RetrievalClient, service: DictionaryService, size: int
) -> None:
    service.fail_unary.extend([UNAVAILABLE] * 2)
    assert writer.put("a", data=b"x" * size).document.change == "created"
    service.fail_unary.extend([UNAVAILABLE] * 2)
    assert writer.delete("a").uris == ("a",)
    assert len(service.requests) == 6
    service.fail_unary.extend([UNAVAILABLE] * 9)
    with pytest.raises(ServiceUnavailable):
        writer.put("a", text="x")
    service.fail_unary.clear()


def test_a_writing_process_that_starts_is_waited_for(
    dictionary: DictionaryServer, service: DictionaryService
) -> None:
    starting = (grpc.StatusCode.UNAVAILABLE, "NOT_SERVING")
    service.fail_unary.extend([starting] * 5)  # gRPC itself sends a request four times
    with RetrievalClient(dictionary.target) as client:
        assert client.put("a", text="x").document.change == "created"

    async def use() -> None:
        async with AsyncRetrievalClient(dictionary.target) as client:
            assert (await client.delete("a")).uris == ("a",)

    service.fail_unary.extend([starting] * 5)
    asyncio.run(use())
    service.fail_unary.extend([starting] * 50)
    with (
        RetrievalClient(dictionary.target, timeout=1) as client,
        pytest.raises(ServiceUnavailable, match="NOT_SERVING"),
    ):
        client.put("a", text="x")


def test_deletions(writer: RetrievalClient, service: DictionaryService) -> None:
    for uri in ("t/1", "t/2", "u/1"):
        writer.put(uri, text=uri)
    assert writer.delete("u/1", if_sha256="f" * 64, wait=True) == DeleteResult(("u/1",), 4)
    assert service.requests[-1].if_sha256 == "f" * 64
    assert service.requests[-1].wait_for_visibility
    with pytest.raises(ServiceError) as caught:
        writer.delete("u/1")
    assert caught.value.service_reason == "NOT_FOUND"
    assert writer.delete("u/1", missing_ok=True) == DeleteResult((), 0)
    with pytest.raises(ServiceError, match="NOT_FOUND"):
        writer.delete("u/1", missing_ok=True, collection="misspelt")
    would = writer.delete_where(prefix="t/", dry_run=True)
    assert (would.document_count, would.uris, would.foreign_count) == (2, ("t/1", "t/2"), 2)
    assert set(service.documents) == {"t/1", "t/2"}
    assert writer.delete_where(prefix="t/").generation == 7
    assert not service.documents
    writer.delete_where("year<2000", collection="docs", wait=True)
    assert service.requests[-1] == pb.DeleteDocumentsRequest(
        collection="collections/docs", filter="year<2000", wait_for_visibility=True
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give a filter or a prefix: none is given"),
        ({"filter": "a=b", "prefix": "c"}, "give a filter or a prefix: both are given"),
        ({"prefix": ""}, "prefix is empty, which would be every document"),
        ({"filter": " "}, "filter is empty, which would be every document"),
        ({"filter": 3}, "filter is of type int"),
        ({"prefix": "a", "dry_run": "yes"}, "dry_run is 'yes'"),
    ],
)
def test_deletions_that_can_not_be_meant(
    writer: RetrievalClient, service: DictionaryService, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        writer.delete_where(**options)
    assert service.requests == []


def test_collections(writer: RetrievalClient, service: DictionaryService) -> None:
    created = writer.create_collection(
        "docs",
        model="m",
        chunk_tokens=0,
        chunk_overlap=3,
        language="de",
        index_type="hnsw",
        target_recall=0.9,
    )
    assert created.name == "collections/docs"
    writer.create_collection("bare")
    assert writer.update_collection("docs", language="en").name == "collections/docs"
    writer.delete_collection("docs")
    every, bare, update, delete = service.requests
    settings = pb.CollectionSettings(language="de", index_type="hnsw", target_recall=0.9)
    assert every == pb.CreateCollectionRequest(
        collection_id="docs", model="m", chunk_tokens=0, chunk_overlap=3, settings=settings
    )
    assert bare.collection_id == "bare"
    assert not bare.HasField("chunk_tokens")
    assert update == pb.UpdateCollectionRequest(
        collection="collections/docs", settings=pb.CollectionSettings(language="en")
    )
    assert delete.collection == "collections/docs"
    with pytest.raises(InvalidArgument, match="no setting to change"):
        writer.update_collection("docs")
    with pytest.raises(InvalidArgument, match="target_recall is 0"):
        writer.update_collection("docs", target_recall=0)
    service.fail_unary.extend([(grpc.StatusCode.NOT_FOUND, "NOT_FOUND")] * 2)
    writer.delete_collection("docs", missing_ok=True)
    with pytest.raises(ServiceError, match="NOT_FOUND"):
        writer.delete_collection("docs")


def test_a_server_that_takes_no_changes(server: RunningServer, client: RetrievalClient) -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: client.put("a", text="b"),
        lambda: client.put_many([{"uri": "a", "text": "b"}]).finish(),
        lambda: client.delete("a"),
        lambda: client.delete_where(prefix="a"),
        lambda: client.create_collection("a"),
    )
    for call in calls:
        with pytest.raises(
            ServiceError, match="start it with `retrieval serve --writable`"
        ) as caught:
            call()
        assert caught.value.exit_code == 2

    async def check() -> None:
        async with AsyncRetrievalClient(server.target) as other:
            with pytest.raises(ServiceError, match="does not take changes"):
                await other.put("a", text="b")
            with pytest.raises(ServiceError, match="does not take changes"):
                await other.put_many([{"uri": "a", "text": "b"}]).finish()

    asyncio.run(check())


def test_the_async_client_does_the_same(
    dictionary: DictionaryServer, service: DictionaryService, tmp_path: Path
) -> None:
    path = tmp_path / "a.md"
    path.write_text("# A")

    async def use() -> list[Any]:
        async with AsyncRetrievalClient(dictionary.target) as client:
            calls: list[Awaitable[Any]] = [
                client.put("a", text="b", title="T"),
                client.put_file(path, root=tmp_path),
                client.delete("a", if_sha256="x"),
                client.delete("a", missing_ok=True),
                client.delete_where(prefix="a.", dry_run=True),
                client.create_collection("c", chunk_tokens=3),
                client.update_collection("c", target_recall=0.5),
                client.delete_collection("c"),
            ]
            return [await call for call in calls]

    def use_other() -> list[Any]:
        with RetrievalClient(dictionary.target) as client:
            return [
                client.put("a", text="b", title="T"),
                client.put_file(path, root=tmp_path),
                client.delete("a", if_sha256="x"),
                client.delete("a", missing_ok=True),
                client.delete_where(prefix="a.", dry_run=True),
                client.create_collection("c", chunk_tokens=3),
                client.update_collection("c", target_recall=0.5),
                client.delete_collection("c"),
            ]

    results = asyncio.run(use())
    requests = service.requests[:]
    service.requests.clear()
    service.documents.clear()
    service.generation = 0
    assert use_other() == results
    assert service.requests == requests
