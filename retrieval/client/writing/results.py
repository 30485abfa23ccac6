"""Results of changes: frozen records made from messages."""

from dataclasses import dataclass

import grpc

from retrieval.client.writing.documents import PutItem
from retrieval.errors import RetrievalError, ServiceError, ServiceUnavailable
from retrieval.indexer_v1 import ingest_service_pb2 as pb

_STATUS_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
"""Names of gRPC's statuses by their numbers."""


@dataclass(frozen=True, slots=True)
class PutDocument:
    """A document as it was put; the fields are those of ``indexer.v1.PutDocument``."""

    name: str
    """Resource name, ``collections/…/documents/…``."""
    uri: str
    change: str
    """``"created"``, ``"updated"``, or ``"unchanged"`` if it was there already, all the same."""
    title: str
    format: str
    encoding: str
    passage_count: int
    truncated_count: int
    """Number of passages that are longer than the model reads."""
    unread: tuple[str, ...]
    """Parts that could not be read, such as ``page 2``."""
    sha256: str
    """Give it as ``if_sha256`` to change this very version."""

    @classmethod
    def from_message(cls, message: pb.PutDocument) -> "PutDocument":
        """Return the record of a message."""
        return cls(
            name=message.name,
            uri=message.uri,
            change=_change_name(message.change),
            title=message.title,
            format=message.format,
            encoding=message.encoding,
            passage_count=message.passage_count,
            truncated_count=message.truncated_count,
            unread=tuple(message.unread),
            sha256=message.sha256,
        )


@dataclass(frozen=True, slots=True)
class SkippedPart:
    """A part of a put that is not indexed, such as a member of an archive."""

    uri: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class PutResult:
    """What became of a put, once it is committed."""

    documents: tuple[PutDocument, ...]
    """At least one; an archive or a message with attachments has several."""
    skipped: tuple[SkippedPart, ...]
    generation: int
    """A generation of the collection in which the put can be found."""
    token_count: int
    """Tokens that were embedded; 0 if all vectors were there already."""

    @property
    def document(self) -> PutDocument:
        """The first document, which is the only one unless several were in the content."""
        return self.documents[0]

    @classmethod
    def from_message(cls, message: pb.PutDocumentResponse) -> "PutResult":
        """Return the record of a message."""
        return cls(
            documents=tuple(map(PutDocument.from_message, message.documents)),
            skipped=tuple(
                SkippedPart(part.uri, part.reason, part.detail) for part in message.skipped
            ),
            generation=message.generation,
            token_count=message.token_count,
        )


@dataclass(frozen=True, slots=True)
class PutOutcome:
    """What became of one document of ``put_many``: a result or an error."""

    item: PutItem
    """The document as it was given to ``put_many``."""
    uri: str
    """Empty if the item has none, because it is malformed."""
    result: PutResult | None
    error: RetrievalError | None
    """``ServiceError`` as ``put`` would have raised it, or ``InvalidArgument`` if the document
    could not be sent."""


@dataclass(frozen=True, slots=True)
class PutProgress:
    """How far ``put_many`` has come."""

    created: int = 0
    """Documents, counting those in archives; so are the next two."""
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    """Parts of puts that are not indexed."""
    failed: int = 0
    """Puts that ended with an error."""
    passages: int = 0
    """Passages of the documents."""
    tokens: int = 0
    """Tokens that were embedded."""
    size: int = 0
    """Bytes of the puts that were answered."""
    waiting: int = 0
    """Puts that were read from the iterable and not answered yet."""
    reconnects: int = 0
    """Times that a new stream had to be opened."""


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """What was deleted by URI."""

    uris: tuple[str, ...]
    """The document, or all documents of an archive; empty if there was none."""
    generation: int
    """The first generation without them; 0 if there was none."""

    @classmethod
    def from_message(cls, message: pb.DeleteDocumentResponse) -> "DeleteResult":
        """Return the record of a message."""
        return cls(tuple(message.uris), message.generation)


@dataclass(frozen=True, slots=True)
class DeleteWhereResult:
    """What was deleted by a condition, or would be."""

    document_count: int
    uris: tuple[str, ...]
    """The first of them in order of URI, at most 1,000."""
    foreign_count: int
    """Documents that match but stay, because ``indexer build`` keeps them up to date."""
    generation: int
    """The first generation without the documents."""

    @classmethod
    def from_message(cls, message: pb.DeleteDocumentsResponse) -> "DeleteWhereResult":
        """Return the record of a message."""
        return cls(
            document_count=message.document_count,
            uris=tuple(message.uris),
            foreign_count=message.foreign_count,
            generation=message.generation,
        )


def error_of(message: pb.PutError) -> ServiceError:
    """Return the exception that ``put`` would have raised for one document of a stream."""
    status = _STATUS_NAMES.get(message.code, grpc.StatusCode.UNKNOWN.name)
    kind = ServiceUnavailable if status == grpc.StatusCode.UNAVAILABLE.name else ServiceError
    error = kind(message.message or status, status=status, reason=message.reason)
    # Not as keywords: a server may name its metadata as it likes.
    error.metadata.update(message.metadata)
    return error


def _change_name(change: pb.Change.ValueType) -> str:
    """Return ``"created"``, ``"updated"``, ``"unchanged"``, or what a newer server calls it."""
    try:
        name = pb.Change.Name(change)
    except ValueError:
        return str(change)
    return name.removeprefix("CHANGE_").lower()
