"""From an upload to documents with chunks, ready to be embedded and committed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.build.settings import FILE_MEMORY_BYTES, FILE_SECONDS, FILE_SECONDS_PER_MB
from indexer.files.sidecar import with_fields
from indexer.ingest.writer.commits.operations import root_of
from indexer.ingest.writer.uploads.passages import chunks_of, document_of
from indexer.ingest.writer.uploads.upload import Upload
from indexer.parse.base.outline import title_of
from indexer.parse.formats import is_container
from indexer.readers.messages import Job, Outcome, Parsed, Setup
from indexer.readers.on_demand import OnDemandReaders
from indexer.skip import SkipReason
from indexer.staging import Prepared, prepare
from retrieval.domain.records import (
    DEFAULT_READING,
    ChunkSettings,
    Document,
    ReadSettings,
    Skipped,
    SourceFile,
)
from retrieval.errors import NotServing, UnreadableDocument
from retrieval.service.observability.request_log import request_id

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Encoder

_SHOWN_SKIPS = 3
"""Number of parts that an error names if nothing in a container can be indexed."""


@dataclass(frozen=True, slots=True)
class ReadUpload:
    """The documents of an upload."""

    documents: Sequence[Prepared]
    """At least one."""
    skipped: Sequence[Skipped]
    holds_files: bool
    """Whether the upload is a container, or a message with attachments."""

    @property
    def chars(self) -> int:
        """Length of all texts."""
        return sum(len(one.document.text) for one in self.documents)


class UploadReader:
    """Reads what is put into one collection."""

    def __init__(
        self, readers: OnDemandReaders, encoder: "Encoder", chunking: ChunkSettings
    ) -> None:
        """Combine the parts.

        Args:
            readers: processes that read files.
            encoder: the collection's model.
            chunking: the collection's settings.
        """
        self._readers = readers
        self._encoder = encoder
        self._chunking = chunking

    async def read(self, upload: Upload) -> ReadUpload:
        """Read an upload, and cut its documents into chunks.

        Raises:
            InvalidArgument: a passage is malformed.
            UnreadableDocument: nothing in it can be indexed.
            NotServing: the process is ending.
        """
        if not isinstance(upload.content, bytes):
            return await asyncio.to_thread(self._passages, upload)
        source = SourceFile(
            Path(), upload.read_as, root_of(upload.read_as), upload.size, upload.mtime_ns
        )
        job = Job(source, {}, data=upload.content)
        reading = self._readers.read(job, self._setup(upload.reading), request_id.get())
        try:
            outcomes = await asyncio.wrap_future(reading)
        except asyncio.CancelledError:
            if not reading.cancelled() or _is_wanted():
                raise
            raise NotServing("the server is shutting down") from None
        return await asyncio.to_thread(self._documents, upload, outcomes)

    async def warm(self) -> None:
        """Start a reader process, and load the tokenizer there."""
        job = Job(SourceFile(Path(), "warm.txt", "", 1, 0), {}, data=b"a")
        await asyncio.wrap_future(self._readers.read(job, self._setup(DEFAULT_READING)))

    def _setup(self, reading: ReadSettings) -> Setup:
        return Setup(
            model_folder=self._encoder.folder,
            max_tokens=self._encoder.max_tokens,
            settings=self._chunking,
            include=(),
            exclude=(),
            reading=reading,
            memory_bytes=FILE_MEMORY_BYTES,
            seconds=FILE_SECONDS,
            seconds_per_mb=FILE_SECONDS_PER_MB,
        )

    def _passages(self, upload: Upload) -> ReadUpload:
        if isinstance(upload.content, bytes):
            raise TypeError("not passages")
        document = _with_own(document_of(upload.uri, upload.content), upload)
        chunks = chunks_of(upload.content, self._encoder.tokenizer)
        source = SourceFile(Path(), upload.uri, root_of(upload.uri), upload.size, upload.mtime_ns)
        one = prepare(document, source, upload.sha256, chunks, context=self._chunking.context)
        return ReadUpload([one], [], holds_files=False)

    def _documents(self, upload: Upload, outcomes: Sequence[Outcome]) -> ReadUpload:
        parsed: dict[str, Prepared] = {}
        skipped: list[Skipped] = []
        for outcome in outcomes:
            if isinstance(outcome, Skipped):
                skipped.append(_renamed_skip(outcome, upload))
            elif isinstance(outcome, Parsed):
                one = self._prepared(outcome, upload)
                parsed[one.document.uri] = one
        if not parsed:
            raise _unreadable(upload.uri, skipped)
        uris = {*parsed, *(skip.uri for skip in skipped)}
        return ReadUpload(
            list(parsed.values()),
            skipped,
            holds_files=is_container(upload.read_as) or uris != {upload.uri},
        )

    def _prepared(self, parsed: Parsed, upload: Upload) -> Prepared:
        uri = _renamed(parsed.document.uri, upload)
        title = parsed.document.title
        if title == title_of(parsed.document.uri):
            title = title_of(uri)
        encoding = "utf-8" if upload.is_text else parsed.document.encoding
        document = replace(parsed.document, uri=uri, title=title, encoding=encoding)
        source = replace(parsed.source, path=Path(), uri=uri, root=root_of(uri), container="")
        return prepare(
            _with_own(document, upload),
            source,
            upload.sha256,
            parsed.chunks,
            context=self._chunking.context,
        )


def _is_wanted() -> bool:
    """Whether the present task was cancelled, because the client went away."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _with_own(document: Document, upload: Upload) -> Document:
    """Return a document with the title and fields that the client gave."""
    fields: Mapping[str, object] = upload.fields
    if upload.title and document.uri == upload.uri:
        fields = {**fields, "title": upload.title}
    return with_fields(document, fields) if fields else document


def _renamed(uri: str, upload: Upload) -> str:
    """Return the URI of a document that was read under another name.

    Raises:
        UnreadableDocument: the reader names a document that is no part of the upload.
    """
    rest = uri.removeprefix(upload.read_as)
    if not uri.startswith(upload.read_as) or (rest and not rest.startswith("/")):
        raise UnreadableDocument(f"{upload.uri}: its reader made a document of another name")
    return upload.uri + rest


def _renamed_skip(skip: Skipped, upload: Upload) -> Skipped:
    return replace(skip, uri=_renamed(skip.uri, upload), root=root_of(upload.uri))


def _unreadable(uri: str, skipped: Sequence[Skipped]) -> UnreadableDocument:
    """Return the error for an upload in which nothing can be indexed."""
    if not skipped:
        return UnreadableDocument(f"{uri} holds no documents", skip_reason=SkipReason.EMPTY)
    own = [skip for skip in skipped if skip.uri == uri] or skipped
    first = own[0]
    shown = "; ".join(
        f"{skip.uri}: {skip.reason}" + (f" ({skip.detail})" if skip.detail else "")
        for skip in own[:_SHOWN_SKIPS]
    )
    return UnreadableDocument(
        f"nothing to index in {shown}", skip_reason=first.reason, detail=first.detail
    )
