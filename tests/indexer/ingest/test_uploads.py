"""Uploads of any content, names and metadata: an answer or a clean refusal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.files.media_types import MEDIA_TYPES
from indexer.ingest.writer.uploads.passages import BETWEEN, chunks_of, document_of
from indexer.ingest.writer.uploads.upload import PassageText, upload_of
from indexer.parse.formats import FORMATS, format_of
from retrieval.domain.metadata import leaves
from retrieval.encoding.encoder import Encoder
from retrieval.errors import InvalidArgument
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.store import open_reader, verify
from tests.indexer.ingest.writer_process import WriterProcess, create, reason, writing

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
EXTENSIONS = st.sampled_from([end for one in FORMATS for end in one.extensions])
NAMES = st.one_of(TEXT, st.builds(str.__add__, TEXT, EXTENSIONS))
URIS = st.one_of(NAMES, st.builds("{}/{}".format, TEXT, NAMES), st.sampled_from(["", "/", "../.."]))
SCALARS = st.one_of(TEXT, st.floats(), st.booleans(), st.none(), st.integers(-(2**53), 2**53))
VALUES = st.recursive(
    SCALARS,
    lambda parts: st.one_of(st.lists(parts, max_size=3), st.dictionaries(TEXT, parts, max_size=3)),
    max_leaves=9,
)
METADATA = st.dictionaries(TEXT, VALUES, max_size=5)
PASSAGES = st.lists(
    st.builds(
        pb.PassageText,
        text=TEXT,
        heading_path=st.lists(TEXT, max_size=3),
        page=st.integers(-1, 9),
    ),
    max_size=5,
)
CUT = st.builds(PassageText, TEXT, st.lists(TEXT, max_size=3).map(tuple), st.integers(0, 9))
CONTENT = st.one_of(
    st.fixed_dictionaries({"data": st.binary(max_size=200)}),
    st.fixed_dictionaries({"text": TEXT}),
    st.fixed_dictionaries({"passages": st.builds(pb.PassageTexts, passages=PASSAGES)}),
)
MEDIA = st.one_of(
    st.just(""), TEXT, st.sampled_from(sorted(MEDIA_TYPES)), st.just("text/plain; charset=koi8-r")
)
REQUESTS = st.builds(
    lambda content, metadata, **fields: pb.PutDocumentRequest(
        collection="collections/notes", metadata=struct_of(metadata), **fields, **content
    ),
    content=CONTENT,
    metadata=METADATA,
    uri=URIS,
    file_name=st.one_of(st.just(""), NAMES),
    media_type=MEDIA,
    title=TEXT,
    language=st.one_of(st.just(""), st.just("de"), TEXT),
    if_absent=st.booleans(),
)


def struct_of(fields: dict[str, Any]) -> Struct:
    message = Struct()
    message.update(fields)
    return message


def test_each_media_type_names_a_format() -> None:
    assert {end for end in MEDIA_TYPES.values() if format_of(f"x{end}") is None} == set()
    assert [name for name in MEDIA_TYPES if name != name.lower()] == []


@given(REQUESTS)
def test_an_upload_is_taken_or_refused(request: pb.PutDocumentRequest) -> None:
    try:
        upload = upload_of(request)
    except InvalidArgument as error:
        assert error.metadata["field"]
        return
    assert upload.read_as.startswith(request.uri)
    assert len(upload.sha256) == 64
    assert upload_of(request).sha256 == upload.sha256
    assert len(list(leaves(upload.fields))) < 1_000  # type: ignore[arg-type]


@given(
    st.lists(st.builds(PassageText, TEXT, st.lists(TEXT, max_size=3).map(tuple), st.integers(0, 9)))
)
def test_passages_lie_where_they_say(encoder: Encoder, passages: list[PassageText]) -> None:
    try:
        document = document_of("a/b", passages)
    except InvalidArgument:
        return
    chunks = chunks_of(passages, encoder.tokenizer)
    assert [chunk.text for chunk in chunks] == [one.text for one in passages]
    assert document.text == BETWEEN.join(one.text for one in passages)
    starts = [section.char_start for section in document.sections]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    for chunk, one in zip(chunks, passages, strict=True):
        assert document.text[chunk.char_start : chunk.char_end] == chunk.text
        assert chunk.line_start == document.text.count("\n", 0, chunk.char_start) + 1
        assert chunk.line_end == document.text.count("\n", 0, chunk.char_end) + 1
        assert (chunk.page_start, chunk.page_end) == (one.page, one.page)
        if one.page:
            page = sum(start <= chunk.char_start for start in document.page_starts)
            assert page == one.page
        section = [part for part in document.sections if part.char_start <= chunk.char_start][-1]
        assert section.heading_path == chunk.heading_path


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WriterProcess]:
    with writing(tmp_path_factory.mktemp("data")) as process:
        create(process)
        yield process


@settings(max_examples=60)
@given(REQUESTS)
def test_any_put_is_answered_or_cleanly_refused(
    writer: WriterProcess, request: pb.PutDocumentRequest
) -> None:
    try:
        put = writer.stub.PutDocument(request, timeout=60)
    except grpc.RpcError as error:
        assert reason(error) in {
            ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
            ("INVALID_ARGUMENT", "UNREADABLE_DOCUMENT"),
            ("ALREADY_EXISTS", "ALREADY_EXISTS"),
        }
    else:
        assert put.documents
        assert put.generation


def test_what_was_put_is_whole(writer: WriterProcess) -> None:
    assert writer.settings.data is not None
    folder: Path = writer.settings.data / "notes"
    assert not list(verify(folder))
    with open_reader(folder) as reader:
        for row in reader.documents(1_000):
            assert reader.document_text(row.id)
