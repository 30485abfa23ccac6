"""Documents over the wire: parts of texts, lists by filter, counts, and what is said of each."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.client import AsyncRetrievalClient, DocumentInfo, RetrievalClient
from retrieval.client.requests import Range
from retrieval.errors import InvalidArgument, ServiceError
from retrieval.service.config import Limits
from retrieval.v1 import document_pb2
from retrieval.v1 import index_service_pb2 as pb
from tests.service.harness import SECTIONS, SUBJECTS, RunningServer, build_index, running

TEXT = "# Käse 🧀\r\n\r\n" + "Auf dem 𝔅rot\r\nliegt Käse 🧀.\r\n\r\n" * 40 + "Ende"


@pytest.fixture(scope="module")
def unicode_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("unicode")
    (folder / "notes").mkdir()
    (folder / "notes" / "cheese.md").write_bytes(TEXT.encode())
    index = build_index(folder / "notes", folder / "index")
    # A part has at most 512 characters.
    limits = Limits(message_bytes=4096, message_budget=1 << 20)
    with running({"default": index}, limits=limits) as server:
        yield server


@pytest.fixture(scope="module")
def cheese(unicode_server: RunningServer) -> Iterator[RetrievalClient]:
    with RetrievalClient(unicode_server.target) as client:
        yield client


def get(
    client: RetrievalClient, *, chars: Range | None = None, lines: Range | None = None
) -> DocumentInfo:
    return client.document(uri="notes/cheese.md", chars=chars, lines=lines)


@given(st.integers(0, 1200), st.none() | st.integers(0, 1200))
def test_characters_are_code_points(
    cheese: RetrievalClient, start: int, length: int | None
) -> None:
    found = get(cheese, chars=(start, None if length is None else start + length))
    begin = min(start, len(TEXT))
    end = min(len(TEXT) if length is None else start + length, len(TEXT), begin + 512)
    end = max(begin, end)
    assert found.text == TEXT[begin:end]
    assert (found.char_start, found.char_end) == (begin, end)
    assert found.char_count == len(TEXT)
    assert found.line_count == TEXT.count("\n") + 1
    if begin < end:
        assert found.line_start == 1 + TEXT.count("\n", 0, begin)
        assert found.line_end == 1 + TEXT.count("\n", 0, end - 1)
    else:
        assert found.line_start is found.line_end is None


@given(st.integers(1, 150), st.none() | st.integers(0, 150))
def test_lines_are_whole(cheese: RetrievalClient, start: int, more: int | None) -> None:
    lines = TEXT.splitlines(keepends=True)
    last = None if more is None else start + more
    wanted, found = lines[start - 1 : last], get(cheese, lines=(start, last))
    while sum(map(len, wanted)) > 512:
        wanted.pop()
    assert found.text == "".join(wanted)
    assert found.line_start == (start if wanted else None)
    assert found.line_end == (start + len(wanted) - 1 if wanted else None)


def test_a_long_text_is_read_part_by_part(cheese: RetrievalClient) -> None:
    assert cheese.server_info().limits.max_range_chars == 512
    text, part = "", get(cheese, chars=(0, None))
    with pytest.raises(InvalidArgument, match="not both"):
        cheese.document(uri="notes/cheese.md", chars=(0, 1), lines=(1, 1))
    parts = 0
    while part.text:
        text, parts = text + part.text, parts + 1
        assert part.char_end == len(text)
        part = get(cheese, chars=(len(text), None))
    assert text == TEXT
    assert parts == -(-len(TEXT) // 512)
    assert cheese.document(uri="notes/cheese.md").text is None
    assert cheese.document(uri="notes/cheese.md", with_text=True).text == TEXT


def test_the_place_of_a_part_is_that_of_passages(cheese: RetrievalClient) -> None:
    found = list(cheese.stream_search("Käse"))
    assert len(found) > 1
    for passage in found:
        chars = (passage.char_start, passage.char_end)
        part = get(cheese, chars=chars)
        assert part.text == passage.text
        assert (part.char_start, part.char_end) == chars
        assert (part.line_start, part.line_end) == (passage.line_start, passage.line_end)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.GetDocumentRequest(chars=pb.CharRange(start=3, end=2)), "chars.end"),
        (pb.GetDocumentRequest(chars=pb.CharRange(start=-1)), "chars.start"),
        (pb.GetDocumentRequest(lines=pb.LineRange(start=3, end=2)), "lines.end"),
        (pb.GetDocumentRequest(lines=pb.LineRange(end=0)), "lines.end"),
        (pb.GetDocumentRequest(lines=pb.LineRange(start=-2)), "lines.start"),
    ],
)
def test_ranges_that_are_none(
    cheese: RetrievalClient, request_: pb.GetDocumentRequest, field: str
) -> None:
    request_.uri = "notes/cheese.md"
    with pytest.raises(ServiceError) as caught:
        cheese._connection.call(cheese._index.GetDocument, request_)
    assert caught.value.status == "INVALID_ARGUMENT"
    assert caught.value.metadata["field"] == field


@pytest.mark.parametrize("chars", ["ab", (1,), (1, 2, 3), 5, ("a", 1), (-1, 2), (0, True)])
def test_ranges_that_are_not_sent(cheese: RetrievalClient, chars: object) -> None:
    with pytest.raises(InvalidArgument, match="chars"):
        get(cheese, chars=chars)  # type: ignore[arg-type]


def test_empty_ranges_on_the_wire(cheese: RetrievalClient) -> None:
    def ask(**fields: object) -> pb.GetDocumentResponse:
        request = pb.GetDocumentRequest(uri="notes/cheese.md", **fields)  # type: ignore[arg-type]
        return cheese._connection.call(cheese._index.GetDocument, request)

    answer = ask(chars=pb.CharRange(end=0))
    assert answer.document.text == ""
    assert answer.HasField("text_range")
    assert answer.generation == cheese.collection().generation
    assert ask(lines=pb.LineRange(end=1)).document.text == "# Käse 🧀\r\n"
    assert ask(chars=pb.CharRange()).document.text == TEXT[:512]
    view = document_pb2.DOCUMENT_VIEW_BASIC
    assert ask(view=view, chars=pb.CharRange(end=3)).document.text == TEXT[:3]
    assert not ask(view=view).HasField("text_range")


def test_documents_by_filter(client: RetrievalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.client.client.ITEMS_PER_PAGE", 1)
    every = [row.uri for row in client.documents()]
    assert len(every) == len(SUBJECTS)
    some = [row.uri for row in client.documents(filter="path:b* OR path:violin.md")]
    assert some == ["notes/beehive.md", "notes/bread.md", "notes/violin.md"]
    assert list(client.documents("tea", filter="path:b*")) == []


def test_documents_are_counted(client: RetrievalClient) -> None:
    assert client.count_documents() == (len(SUBJECTS), len(SUBJECTS) * len(SECTIONS))
    assert client.count_documents(filter="path:b*") == (2, 2 * len(SECTIONS))
    assert client.count_documents(filter="path:nothing") == (0, 0)
    assert client.count_documents("tea").documents == 1

    async def ask() -> object:
        async with AsyncRetrievalClient(client._connection.target) as other:
            rows = [row.uri async for row in other.documents(filter="path:b*")]
            part = await other.document(uri=rows[0], chars=(2, 5))
            return rows, part.text, await other.count_documents(filter="path:b*")

    rows, text, counts = asyncio.run(ask())  # type: ignore[misc]
    assert rows == ["notes/beehive.md", "notes/bread.md"]
    assert text == "The"
    assert counts.documents == 2


def test_what_is_not_indexed_and_what_a_filter_can_say(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("---\ntag: [x, y]\n---\nText.\n")
    (tmp_path / "notes" / "b.md").write_text("---\ntag: x\n---\nText.\n")
    (tmp_path / "notes" / "empty.md").write_text("")
    index = build_index(tmp_path / "notes", tmp_path / "index")

    async def ask(target: str) -> tuple[object, ...]:
        async with AsyncRetrievalClient(target) as client:
            skipped = [one async for one in client.skipped_files()]
            return skipped, await client.fields(), await client.field_values("tag", "X")

    with running({"default": index}) as server, RetrievalClient(server.target) as client:
        skipped = list(client.skipped_files())
        assert [(one.uri, one.reason) for one in skipped] == [("notes/empty.md", "empty")]
        tag = next(one for one in client.fields() if one.name == "tag")
        assert (tag.built_in, tag.has_values) == (False, True)
        values = client.field_values("tag")
        assert [(one.text, one.document_count) for one in values] == [("x", 2), ("y", 1)]
        assert [one.uri for one in client.documents(filter=values[1].filter)] == ["notes/a.md"]
        assert client.field_values("tag", limit=1) == client.field_values("tag", "X") == values[:1]
        assert asyncio.run(ask(server.target)) == (skipped, client.fields(), values[:1])
        with pytest.raises(ServiceError, match="values of size are not listed"):
            client.field_values("size")


def test_a_count_is_of_all_pages_and_only_on_request(client: RetrievalClient) -> None:
    def ask(**fields: object) -> pb.ListDocumentsResponse:
        request = pb.ListDocumentsRequest(**fields)  # type: ignore[arg-type]
        return client._connection.call(client._index.ListDocuments, request)

    first = ask(page_size=1, filter="path:b*", count=True)
    assert (first.total.document_count, first.total.passage_count) == (2, 10)
    second = ask(page_size=1, filter="path:b*", page_token=first.next_page_token)
    assert not second.HasField("total")
    assert [row.uri for row in second.documents] == ["notes/bread.md"]
    assert second.next_page_token == ""
    with pytest.raises(ServiceError, match="another request"):
        ask(page_size=1, page_token=first.next_page_token)
    assert ask(filter="path:x", count=True).HasField("total")


def test_mistakes_in_a_filter(client: RetrievalClient) -> None:
    request = pb.ListDocumentsRequest(filter="tittle=bread")
    answer = client._connection.call(client._index.ListDocuments, request)
    assert not answer.documents
    (warning,) = answer.warnings
    assert "'tittle', a field that no document has; did you mean 'title'?" in warning
    with pytest.raises(ServiceError, match="expected a value") as caught:
        list(client.documents(filter="path:"))
    assert caught.value.metadata["field"] == "filter"


def test_what_is_said_of_a_document_is_said_of_its_passages(
    client: RetrievalClient, index: Path
) -> None:
    document = client.document(uri="notes/ferry.md")
    path = index.parent / "notes" / "ferry.md"
    assert (document.format, document.media_type) == ("markdown", "text/markdown")
    assert document.size_bytes == path.stat().st_size
    assert document.modified_at == datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
    assert len(document.sha256) == 64
    passage = client.search("harbour", k=1)[0]
    streamed = next(client.stream_search("harbour"))
    around = client.passage(passage.name).passage
    for one in (passage, streamed, around):
        assert one.uri == document.uri
        assert (one.format, one.media_type) == (document.format, document.media_type)
        assert (one.size_bytes, one.modified_at) == (document.size_bytes, document.modified_at)
