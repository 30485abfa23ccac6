"""Results about a server and its collections: documents, skipped files, fields and limits."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from grpc_health.v1 import health_pb2

from retrieval.client.results.passages import metadata_from, passage_from
from retrieval.client.results.texts import ModelInfo
from retrieval.client.results.times import to_datetime
from retrieval.domain.metadata import Metadata
from retrieval.domain.passages import Passage
from retrieval.domain.records import DocumentCounts, FieldInfo, FieldValue
from retrieval.errors import ServiceError
from retrieval.v1 import collection_pb2, document_pb2, index_service_pb2


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection as of one generation; the fields are those of ``retrieval.v1.Collection``."""

    name: str
    generation: int
    model: ModelInfo
    chunk_tokens: int
    chunk_overlap: int
    document_count: int
    passage_count: int
    token_count: int
    vector_count: int
    created_at: datetime
    updated_at: datetime
    index_id: str = ""
    """Empty if the server is older than this field."""

    @classmethod
    def from_message(cls, message: collection_pb2.Collection) -> "CollectionInfo":
        """Return the record of a message."""
        return cls(
            name=message.name,
            generation=message.generation,
            model=ModelInfo.from_message(message.model),
            chunk_tokens=message.chunking.chunk_tokens,
            chunk_overlap=message.chunking.chunk_overlap,
            document_count=message.document_count,
            passage_count=message.passage_count,
            token_count=message.token_count,
            vector_count=message.vector_count,
            created_at=to_datetime(message.create_time),
            updated_at=to_datetime(message.update_time),
            index_id=message.index_id,
        )


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """A document; the fields are those of ``retrieval.v1.Document``."""

    name: str
    uri: str
    title: str
    metadata: Metadata
    format: str
    encoding: str
    size_bytes: int
    modified_at: datetime
    char_count: int
    passage_count: int
    text: str | None
    """The whole text or a part of it; None if it was not asked for."""
    media_type: str = ""
    """Empty if the server does not know the format."""
    sha256: str = ""
    """Changes with the content, and tells whether two parts are of the same text."""
    char_start: int | None = None
    """Position of the first character of ``text`` in the whole text; None without a text."""
    char_end: int | None = None
    """Position after the last character of ``text``."""
    line_start: int | None = None
    """Line of the first character of ``text``, from 1; None if it is empty."""
    line_end: int | None = None
    """Line of the last character of ``text``."""
    line_count: int | None = None
    """Number of lines of the whole text; None without a text."""

    @classmethod
    def from_message(
        cls, message: document_pb2.Document, *, with_text: bool = False
    ) -> "DocumentInfo":
        """Return the record of a message.

        Args:
            message: the document.
            with_text: whether its text was asked for; the message alone can't tell.
        """
        return cls(
            name=message.name,
            uri=message.uri,
            title=message.title,
            metadata=metadata_from(message),
            format=message.format,
            encoding=message.encoding,
            size_bytes=message.size_bytes,
            modified_at=to_datetime(message.modify_time),
            char_count=message.char_count,
            passage_count=message.passage_count,
            text=message.text if with_text else None,
            media_type=message.media_type,
            sha256=message.sha256,
        )

    @classmethod
    def from_answer(
        cls, message: index_service_pb2.GetDocumentResponse, *, with_text: bool
    ) -> "DocumentInfo":
        """Return the record of an answer, with its text if one was asked for.

        Args:
            message: the answer.
            with_text: whether the whole text was asked for: older servers don't say so.
        """
        if not message.HasField("text_range"):
            return cls.from_message(message.document, with_text=with_text)
        part = message.text_range
        return replace(
            cls.from_message(message.document, with_text=True),
            char_start=part.char_start,
            char_end=part.char_end,
            line_start=part.line_start or None,
            line_end=part.line_end or None,
            line_count=message.line_count,
        )


def counts_from(message: index_service_pb2.ListDocumentsResponse) -> DocumentCounts:
    """Return the counts of an answer that was asked for them.

    Raises:
        ServiceError: the server is older than counts, and gives none.
    """
    if not message.HasField("total"):
        raise ServiceError(
            "the server does not count documents: it is older than this client",
            status="UNIMPLEMENTED",
        )
    return DocumentCounts(message.total.document_count, message.total.passage_count)


@dataclass(frozen=True, slots=True)
class PassageContext:
    """A passage and its neighbours, in the document's order, without scores (NaN)."""

    passage: Passage
    before: tuple[Passage, ...]
    after: tuple[Passage, ...]
    generation: int

    @classmethod
    def from_message(cls, message: index_service_pb2.GetPassageResponse) -> "PassageContext":
        """Return the record of a message."""
        return cls(
            passage=passage_from(message.passage),
            before=tuple(map(passage_from, message.before)),
            after=tuple(map(passage_from, message.after)),
            generation=message.generation,
        )


class SkippedFile(NamedTuple):
    """A file that is not indexed; the fields are those of ``retrieval.v1.SkippedFile``."""

    uri: str
    reason: str
    detail: str

    @classmethod
    def from_message(cls, message: index_service_pb2.SkippedFile) -> "SkippedFile":
        """Return the record of a message."""
        return cls(message.uri, message.reason, message.detail)


def fields_from(message: index_service_pb2.ListFieldsResponse) -> list[FieldInfo]:
    """Return the fields of a message."""
    return [FieldInfo(one.name, one.built_in, one.has_values) for one in message.fields]


def field_values_from(message: index_service_pb2.ListFieldValuesResponse) -> list[FieldValue]:
    """Return the values of a message."""
    return [FieldValue(one.text, one.document_count, one.filter) for one in message.values]


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The largest requests; the fields are those of ``retrieval.v1.ServerLimits``."""

    max_page_size: int
    max_offset: int
    max_stream_limit: int
    max_query_chars: int
    max_batch_size: int
    max_text_chars: int
    max_neighbours: int
    max_message_bytes: int
    max_batch_passages: int
    max_section_chars: int
    max_group_size: int
    max_rerank_top: int
    max_context: int
    max_document_bytes: int = 0
    """0 if the server takes no documents."""
    max_range_chars: int = 0
    """0 if the server is older than ranges of documents."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A running server."""

    version: str
    started_at: datetime
    limits: ServerLimits
    writable: bool = False
    """Whether the server takes documents."""

    @classmethod
    def from_message(cls, message: index_service_pb2.ServerInfo) -> "ServerInfo":
        """Return the record of a message."""
        limits = {
            field: getattr(message.limits, field) for field in ServerLimits.__dataclass_fields__
        }
        return cls(
            message.version,
            to_datetime(message.start_time),
            ServerLimits(**limits),
            message.writable,
        )


def is_serving(message: health_pb2.HealthCheckResponse) -> bool:
    """Return whether a server said that it answers requests."""
    return bool(message.status == health_pb2.HealthCheckResponse.SERVING)
