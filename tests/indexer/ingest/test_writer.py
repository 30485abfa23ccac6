"""The writer process: what is put is found, with all that was said of it; errors are clean."""

import io
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from retrieval.domain.records import RootInfo
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.store import open_reader, open_writer, read_info, verify
from tests.indexer import make_files
from tests.indexer.ingest.writer_process import WriterProcess, create, reason, writing
from tests.service.harness import word_model


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WriterProcess]:
    with writing(tmp_path_factory.mktemp("data")) as process:
        yield process


@pytest.fixture
def index(writer: WriterProcess) -> Iterator[Path]:
    """An empty collection ``notes``; whole at the end."""
    folder = create(writer)
    yield folder
    assert not list(verify(folder))
    writer.stub.DeleteCollection(pb.DeleteCollectionRequest(collection="collections/notes"))
    assert not folder.exists()


def uris(index: Path) -> list[str]:
    with open_reader(index) as reader:
        return [row.uri for row in reader.documents(1_000)]


def refusal(writer: WriterProcess, uri: str, **fields: Any) -> tuple[str, str, str]:
    """The status, the reason and the message that a put ends with."""
    with pytest.raises(grpc.RpcError) as raised:
        writer.put(uri, **fields)
    return (*reason(raised.value), raised.value.details())  # type: ignore[attr-defined]


def zipped(**members: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), text)
    return file.getvalue()


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
    assert uris(index) == []
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
    with open_reader(index) as reader:
        assert reader.document_by_uri("a/1").metadata == {"year": 2025}


def test_only_the_time_changes(writer: WriterProcess, index: Path) -> None:
    first = writer.put("a/1", text="one", modify_time=Timestamp(seconds=86_400))
    later = writer.put("a/1", text="one", modify_time=Timestamp(seconds=2 * 86_400))
    assert later.documents[0].change == pb.CHANGE_UNCHANGED
    assert later.documents[0].sha256 == first.documents[0].sha256
    assert later.generation == first.generation + 1
    same = writer.put("a/1", text="one", modify_time=Timestamp(seconds=2 * 86_400))
    assert same.generation == later.generation
    with open_reader(index) as reader:
        assert reader.document_by_uri("a/1").modified_at == "1970-01-03T00:00:00Z"


@pytest.mark.parametrize(
    ("fields", "format", "title"),
    [
        ({"text": "# Head"}, "text", "4711"),
        ({"text": "# Head", "media_type": "text/markdown"}, "markdown", "Head"),
        ({"text": "# Head", "file_name": "x.md"}, "markdown", "Head"),
        ({"data": b"<title>T</title><p>b", "media_type": "Text/HTML; charset=UTF-8"}, "html", "T"),
        ({"data": b"<title>T</title><p>b", "file_name": "a/../x.html"}, "html", "T"),
        ({"data": b"all: build", "file_name": "Makefile"}, "code", "4711"),
        ({"data": b"plain", "media_type": "application/octet-stream"}, "text", "4711"),
        ({"text": "# Head", "title": "  My   own "}, "text", "My own"),
        ({"text": "# Head", "metadata": {"title": "Own"}}, "text", "Own"),
    ],
)
def test_the_format_is_what_the_client_says(
    writer: WriterProcess, index: Path, fields: dict[str, Any], format: str, title: str
) -> None:
    [document] = writer.put("tickets/4711", **fields).documents
    assert (document.uri, document.format, document.title) == ("tickets/4711", format, title)


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (make_files.make_pdf(), "pdf"),
        (make_files.make_docx(), "docx"),
        (b"<!doctype html><title>A</title><p>One.", "html"),
        (b"one two", "text"),
    ],
)
def test_content_tells_the_format_if_nothing_else_does(
    writer: WriterProcess, index: Path, data: bytes, format: str
) -> None:
    for fields in ({}, {"media_type": "application/octet-stream"}, {"file_name": "upload.4711"}):
        [document] = writer.put("https://example.com/4711", data=data, **fields).documents
        assert document.format == format


@pytest.mark.parametrize(
    ("uri", "format"),
    [
        ("notes/a.md", "markdown"),
        ("notes/a.py", "code"),
        ("notes/a.pdf", "text"),
        ("notes/a.html", "text"),
        ("https://example.com/a.md", "text"),
    ],
)
def test_a_text_has_the_format_of_its_uri_if_people_write_it(
    writer: WriterProcess, index: Path, uri: str, format: str
) -> None:
    assert writer.put(uri, text="a = 1").documents[0].format == format


def test_a_charset_decodes(writer: WriterProcess, index: Path) -> None:
    text = "Привет, мир. Это обычный текст."
    for number, charset in enumerate(("windows-1251", "koi8-r", "utf-16le", "iso-8859-5")):
        put = writer.put(
            f"a/{number}.txt",
            data=text.encode(charset),
            media_type=f"text/plain; charset={charset}",
        )
        with open_reader(index) as reader:
            row = reader.document_by_uri(put.documents[0].uri)
            assert reader.document_text(row.id) == text
    page = '<meta charset="iso-8859-1"><title>Größe</title><p>Übergröße'
    [document] = writer.put("a/p", text=page, media_type="text/html").documents
    assert (document.title, document.encoding) == ("Größe", "utf-8")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "needs data, text or passages"),
        ({"text": "a", "media_type": "audio/mpeg"}, "'audio/mpeg' is not supported"),
        ({"data": b"a", "media_type": "text/plain; charset=nonsense"}, "charset 'nonsense'"),
        ({"text": "a", "language": "not a language"}, "give a tag such as en"),
        ({"text": "a", "title": "x" * 501}, "501 characters"),
        ({"text": "a", "metadata": {"a": "x" * 501}}, "metadata has field 'a' of more than 500"),
        ({"text": "a", "metadata": {str(n): n for n in range(65)}}, "more than 64 fields"),
        ({"text": "a", "metadata": {"a": float("nan")}}, "metadata has a value"),
        ({"text": "a", "file_name": "x" * 256}, "file_name has 256 characters"),
        ({"passages": {"passages": []}}, "give at least one"),
        ({"passages": {"passages": [{"text": " \n"}]}}, "passages[0].text is blank"),
        ({"passages": {"passages": [{"text": "a\0"}]}}, "passages[0].text has a NUL"),
        (
            {"passages": {"passages": [{"text": "a", "page": 2}, {"text": "b", "page": 1}]}},
            "passages[1].page is 1 after page 2",
        ),
        ({"passages": {"passages": [{"text": "a", "page": 2**31 - 1}]}}, "from 1 to 100000"),
    ],
)
def test_a_malformed_field_is_refused(
    writer: WriterProcess, index: Path, fields: dict[str, Any], said: str
) -> None:
    status, why, message = refusal(writer, "a/1", **fields)
    assert (status, why) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert said in message
    assert read_info(index).generation == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"data": b""}, "a/1: empty"),
        ({"text": " \n "}, "a/1: no text"),
        ({"data": b"%PDF-1.7 cut", "file_name": "x.pdf"}, "a/1: damaged"),
        ({"data": b"\0\1\2", "file_name": "x.txt"}, "a/1: binary"),
        ({"data": b"MZ\0", "file_name": "x.exe"}, "a/1: unsupported format (.exe)"),
        ({"data": bytes(range(256))}, "a/1: unsupported format"),
        ({"data": zipped(a_exe="x", b_pdf="y"), "file_name": "x.zip"}, "a/1/a.exe: unsupported"),
        ({"data": b"PK damaged", "file_name": "x.zip"}, "a/1: damaged"),
    ],
)
def test_a_document_that_cannot_be_read_is_refused_with_the_reason(
    writer: WriterProcess, index: Path, fields: dict[str, Any], said: str
) -> None:
    status, why, message = refusal(writer, "a/1", **fields)
    assert (status, why) == ("INVALID_ARGUMENT", "UNREADABLE_DOCUMENT")
    assert said in message
    assert read_info(index).generation == 1


def test_metadata_is_merged_as_that_of_a_sidecar(writer: WriterProcess, index: Path) -> None:
    text = "---\nteam: old\nkept: yes\n---\n\n# Head\n\nbody\n"
    fields = {"Team": "search", "score": 2.5, "n": 3, "tags": ["a", "b"], "none": None}
    writer.put("a/1.md", text=text, metadata=fields, language="de")
    with open_reader(index) as reader:
        assert reader.document_by_uri("a/1.md").metadata == {
            "team": "search",
            "score": 2.5,
            "n": 3,
            "tags": ["a", "b"],
            "language": "de",
            "kept": "yes",
        }


def test_passages_stay_as_they_are(writer: WriterProcess, index: Path) -> None:
    parts = [
        {"text": "One.\nTwo.", "heading_path": ["A", "B"], "page": 1},
        {"text": "  Ünï 𝒳 three.\n", "heading_path": ["A"], "page": 3},
        {"text": "word " * 400, "page": 3},
    ]
    put = writer.put("a/cut", passages={"passages": parts}, title="Cut")
    [document] = put.documents
    assert (document.passage_count, document.truncated_count, document.title) == (3, 1, "Cut")
    with open_reader(index) as reader:
        row = reader.document_by_uri("a/cut")
        text = reader.document_text(row.id)
        assert text == "\n\n".join(str(part["text"]) for part in parts)
        passages = [reader.passage(row.id, number) for number in range(3)]
    for passage, part in zip(passages, parts, strict=True):
        assert text[passage.char_start : passage.char_end] == passage.text == part["text"]
        assert list(passage.heading_path) == part.get("heading_path", [])
        assert (passage.page_start, passage.page_end) == (part["page"], part["page"])
    assert [(one.line_start, one.line_end) for one in passages] == [(1, 2), (4, 5), (7, 7)]


def test_an_archive_is_put_as_a_whole(writer: WriterProcess, index: Path) -> None:
    data = zipped(x__one_md="# One", two_txt="two", bad_pdf="bad")
    put = writer.put("a/box.zip", data=data, metadata={"team": "search"})
    assert [one.uri for one in put.documents] == ["a/box.zip/x/one.md", "a/box.zip/two.txt"]
    assert [(one.uri, one.reason) for one in put.skipped] == [("a/box.zip/bad.pdf", "damaged")]
    again = writer.put("a/box.zip", data=data, metadata={"team": "search"})
    assert again.generation == put.generation
    assert {one.uri for one in again.documents} == {one.uri for one in put.documents}
    assert {one.change for one in again.documents} == {pb.CHANGE_UNCHANGED}
    assert list(again.skipped) == list(put.skipped)
    with open_reader(index) as reader:
        assert all(row.metadata == {"team": "search"} for row in reader.documents(9))
    inside = refusal(writer, "a/box.zip/two.txt", text="mine")
    assert inside[0] == "INVALID_ARGUMENT"
    assert "lies in a/box.zip" in inside[2]
    assert writer.delete("a/box.zip/two.txt") == ["a/box.zip/two.txt"]
    back = writer.put("a/box.zip", data=data, metadata={"team": "search"})
    assert {one.uri: one.change for one in back.documents} == {
        "a/box.zip/x/one.md": pb.CHANGE_UPDATED,
        "a/box.zip/two.txt": pb.CHANGE_CREATED,
    }
    sha256 = back.documents[0].sha256
    less = writer.put("a/box.zip", data=zipped(three_txt="three"), if_sha256=sha256)
    assert [one.uri for one in less.documents] == uris(index) == ["a/box.zip/three.txt"]
    plain = writer.put("a/box.zip", text="now a note", file_name="x.txt")
    assert [one.uri for one in plain.documents] == uris(index) == ["a/box.zip"]
    writer.put("a/box.zip/two.txt", text="mine")
    crowded = refusal(writer, "a/box.zip", data=data)
    assert "were put one by one" in crowded[2]
    assert writer.delete("a/box.zip") == ["a/box.zip"]
    assert uris(index) == ["a/box.zip/two.txt"]


def test_a_message_is_put_with_what_is_attached(writer: WriterProcess, index: Path) -> None:
    mail = EmailMessage()
    mail["Subject"] = "Bread"
    mail.set_content("The recipe is attached.")
    mail.add_attachment("Knead the dough.", filename="recipe.txt")
    put = writer.put("mail/1", data=bytes(mail), media_type="message/rfc822", title="Own")
    assert [(one.uri, one.title) for one in put.documents] == [
        ("mail/1", "Own"),
        ("mail/1/recipe.txt", "recipe"),
    ]
    assert writer.delete("mail/1") == ["mail/1", "mail/1/recipe.txt"]
    assert uris(index) == []


def test_conditions_are_kept(writer: WriterProcess, index: Path) -> None:
    one = writer.put("a/1", text="one", if_absent=True).documents[0].sha256
    assert refusal(writer, "a/1", text="two", if_absent=True)[:2] == (
        "ALREADY_EXISTS",
        "ALREADY_EXISTS",
    )
    assert refusal(writer, "a/1", text="two", if_sha256="0" * 64)[:2] == ("ABORTED", "CONFLICT")
    assert refusal(writer, "a/2", text="two", if_sha256=one)[:2] == ("ABORTED", "CONFLICT")
    two = writer.put("a/1", text="two", if_sha256=one).documents[0].sha256
    with pytest.raises(grpc.RpcError) as raised:
        writer.delete("a/1", if_sha256=one)
    assert reason(raised.value) == ("ABORTED", "CONFLICT")
    assert writer.delete("a/1", if_sha256=two) == ["a/1"]


def test_one_of_many_racing_puts_wins(writer: WriterProcess, index: Path) -> None:
    def put(number: int) -> str:
        try:
            return writer.put("a/1", text=f"number {number}", if_absent=True).documents[0].uri
        except grpc.RpcError as error:
            return reason(error)[1]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(put, range(16)))
    assert sorted(answers) == ["ALREADY_EXISTS"] * 15 + ["a/1"]
    assert uris(index) == ["a/1"]


def test_documents_of_builds_are_left_alone(writer: WriterProcess, index: Path) -> None:
    with open_writer(index, shared=True) as other, other.commit() as commit:
        commit.set_root(RootInfo("docs", "/home/docs"), [], {})
    status = refusal(writer, "docs/1", text="one")
    assert status[:2] == ("FAILED_PRECONDITION", "FOREIGN_ROOT")
    writer.put("docs", text="in no folder")
    assert uris(index) == ["docs"]


def test_documents_are_deleted_by_condition(writer: WriterProcess, index: Path) -> None:
    for number in range(6):
        writer.put(f"a/{number}", text=f"number {number}", metadata={"n": number})
    request = pb.DeleteDocumentsRequest(
        collection="collections/notes", filter="n >= 4", dry_run=True
    )
    assert list(writer.stub.DeleteDocuments(request).uris) == ["a/4", "a/5"]
    assert len(uris(index)) == 6
    request.dry_run = False
    done = writer.stub.DeleteDocuments(request)
    assert (done.document_count, list(done.uris)) == (2, ["a/4", "a/5"])
    done = writer.stub.DeleteDocuments(
        pb.DeleteDocumentsRequest(collection="collections/notes", uri_prefix="a/1")
    )
    assert list(done.uris) == ["a/1"]
    assert uris(index) == ["a/0", "a/2", "a/3"]
    # Maintenance may have made further generations.
    assert done.generation <= read_info(index).generation
    with pytest.raises(grpc.RpcError) as raised:
        writer.stub.DeleteDocuments(
            pb.DeleteDocumentsRequest(collection="collections/notes", filter="n >=")
        )
    assert reason(raised.value)[0] == "INVALID_ARGUMENT"


def test_what_comes_together_is_committed_together(writer: WriterProcess, index: Path) -> None:
    writer.put("a/first", text="warm")
    before = read_info(index).generation
    with ThreadPoolExecutor(40) as pool:
        puts = list(pool.map(lambda n: writer.put(f"a/{n}", text=f"number {n}"), range(200)))
    assert read_info(index).generation - before < 150
    assert len(uris(index)) == 201
    assert max(put.generation for put in puts) <= read_info(index).generation


def test_a_long_document_holds_up_no_other(writer: WriterProcess, index: Path) -> None:
    long = "\n\n".join(f"Paragraph {n}. " + "word " * 60 for n in range(800))
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(writer.put, "a/long.txt", text=long)
        times = []
        while not slow.done():
            started = time.monotonic()
            writer.put(f"a/{len(times)}", text=f"number {len(times)}")
            times.append(time.monotonic() - started)
        assert slow.result().documents[0].passage_count > 200
    assert len(times) > 5
    assert sorted(times)[len(times) // 2] < 3.0


def test_collections_are_created_and_changed(writer: WriterProcess, tmp_path: Path) -> None:
    folder = create(writer, "made", chunk_tokens=20, chunk_overlap=5, settings={"language": "de"})
    info = read_info(folder)
    assert (info.chunking.chunk_tokens, info.chunking.chunk_overlap) == (20, 5)
    assert (info.language, info.generation, info.documents) == ("de", 1, 0)
    for name, status in (("made", "ALREADY_EXISTS"), ("../x", "INVALID_ARGUMENT")):
        with pytest.raises(grpc.RpcError) as raised:
            create(writer, name)
        assert reason(raised.value)[0] == status
    for number, model in enumerate((word_model().name.upper(), str(word_model()), "")):
        assert read_info(create(writer, f"made-{number}", model=model)).model == info.model
    for model in ("no-such-model", "/etc", "../..", "no/such", "~", "a" * 1000):
        with pytest.raises(grpc.RpcError) as raised:
            create(writer, "other", model=model)
        assert reason(raised.value)[0] == "INVALID_ARGUMENT"
    changed = writer.stub.UpdateCollection(
        pb.UpdateCollectionRequest(
            collection="collections/made",
            settings={"language": "none", "index_type": "hnsw", "target_recall": 0.9},
        )
    )
    assert changed.collection.generation == 2
    info = read_info(folder)
    assert (info.language, info.index_type, info.target_recall) == ("none", "hnsw", 0.9)
    for settings in ({"language": "xx"}, {"index_type": "magic"}, {"target_recall": 1.5}):
        with pytest.raises(grpc.RpcError) as raised:
            writer.stub.UpdateCollection(
                pb.UpdateCollectionRequest(collection="collections/made", settings=settings)
            )
        assert reason(raised.value)[0] == "INVALID_ARGUMENT"
    delete = pb.DeleteCollectionRequest(collection="collections/made")
    writer.stub.DeleteCollection(delete)
    with pytest.raises(grpc.RpcError) as raised:
        writer.stub.DeleteCollection(delete)
    assert reason(raised.value)[0] == "NOT_FOUND"
    assert refusal(writer, "a/1", collection="made", text="a")[:2] == ("NOT_FOUND", "NOT_FOUND")
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_a_process_ends_with_its_input(tmp_path: Path) -> None:
    with writing(tmp_path) as process:
        assert process.close() == 0
