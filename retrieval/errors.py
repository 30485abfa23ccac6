"""Exceptions that this project raises on purpose.

::

    RetrievalError                 base                                 exit 1
    ├── UserError                  the caller can fix it                 exit 2
    │   ├── InvalidArgument        a value is out of range or malformed
    │   ├── SourceError            the documents to index are missing, empty or unusable
    │   ├── ModelNotFound          no such model, or its files are not here
    │   ├── CheckpointError        the model's files can't be used
    │   ├── NotAnIndex             the folder holds no index
    │   ├── IndexVersionError      a newer version wrote the index
    │   ├── NoLexicalIndex         an older version made the index: it has no words to search
    │   ├── NoReranker             a search asks for a reranker, and there is none
    │   ├── ModelMismatch          the index and the model (or settings) disagree
    │   ├── UnexpectedModel        a query's vector is of another model than the collection
    │   ├── IndexLocked            another process is writing the index
    │   ├── ClientClosed           a closed client was used
    │   ├── AddressInUse           the server can't listen on its address
    │   ├── NotFound               no such collection, document or passage
    │   ├── UnknownModel           the server has no model of that name
    │   ├── Unauthenticated        the token is missing or unknown
    │   ├── PermissionDenied       the token does not allow this
    │   ├── AlreadyExists          what is to be created exists
    │   ├── Conflict               another caller has changed the document meanwhile
    │   ├── ForeignRoot            a document belongs to a folder that builds keep up to date
    │   ├── FixedCollections       the server can't create or delete collections
    │   ├── UnreadableDocument     nothing in a document that was put can be indexed
    │   └── StaleGeneration        the page token is of an index that was replaced
    ├── IndexDamaged               a file of the index is missing or altered
    ├── StorageError               the disk, or a permission on it, refuses
    │   ├── DiskFull               there is no room left on it
    │   └── StorageRefused         an object store refuses the credentials or the bucket, exit 2
    ├── NotServing                 the server is still loading, or shutting down
    ├── Overloaded                 more requests at once than the server accepts
    ├── RateLimited                more requests per second than the token allows
    ├── QuotaExceeded              more documents or bytes a day than the token allows
    ├── DeadlinePassed             nobody waits for the answer any more, so the work was stopped
    ├── TooSlow                    a request's message does not arrive in time
    ├── AnswerTooLarge             the answer is larger than a message may be
    └── ServiceError               the server answered with an error (exit 2: INVALID_ARGUMENT …)
        └── ServiceUnavailable     the server can't be reached, or is shutting down

Each class has a ``reason`` in UPPER_SNAKE_CASE (the ``reason`` of ``google.rpc.ErrorInfo`` on the
wire) and an ``exit_code`` for the command line. A message is one or two sentences that a user can
act on: what is wrong, and what to do.
"""

from typing import ClassVar


class RetrievalError(Exception):
    """Base of all errors that are raised on purpose; the programs catch it."""

    reason: ClassVar[str] = "INTERNAL"
    exit_code: int = 1
    retry_seconds: float | None = None
    """Seconds until the same request may succeed; None if that is not known."""

    def __init__(self, message: str, **metadata: str) -> None:
        """Create the error.

        Args:
            message: one line for people.
            metadata: details for programs (``ErrorInfo.metadata``), e.g. ``field="page_size"``.
        """
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class UserError(RetrievalError):
    """A mistake that the caller can fix."""

    reason = "USER_ERROR"
    exit_code = 2


class InvalidArgument(UserError):
    """A value is out of range, malformed or contradicts another."""

    reason = "INVALID_ARGUMENT"


class SourceError(UserError):
    """The documents to index are missing, empty or can't be used."""

    reason = "SOURCE_ERROR"


class ModelNotFound(UserError):
    """No model of that name, or its files are not here and can't be downloaded."""

    reason = "MODEL_NOT_FOUND"


class CheckpointError(UserError):
    """The configuration, weights or tokenizer in a model's folder can't be used."""

    reason = "CHECKPOINT_ERROR"


class NotAnIndex(UserError):
    """The folder does not hold an index."""

    reason = "NOT_AN_INDEX"


class IndexVersionError(UserError):
    """The index was written by a newer version of this program."""

    reason = "INDEX_TOO_NEW"


class NoLexicalIndex(UserError):
    """An older version made the index: it has no words that this version can search."""

    reason = "NO_LEXICAL_INDEX"


class NoReranker(UserError):
    """A search asks for reranking, and there is no reranker."""

    reason = "NO_RERANKER"


class ModelMismatch(UserError):
    """The index was made with another model or other settings."""

    reason = "MODEL_MISMATCH"


class UnexpectedModel(UserError):
    """The collection has another model than the one that made the query's vector."""

    reason = "UNEXPECTED_MODEL"


class IndexLocked(UserError):
    """Another process builds this index, or does not finish its commit."""

    reason = "INDEX_LOCKED"


class ClientClosed(UserError):
    """The client was closed before the request or during it."""

    reason = "CLIENT_CLOSED"


class AddressInUse(UserError):
    """The server can't listen on that address."""

    reason = "ADDRESS_IN_USE"


class NotFound(UserError):
    """No such collection, document or passage."""

    reason = "NOT_FOUND"


class UnknownModel(UserError):
    """The server has no embedding model of that name; ``metadata["models"]`` has those it has."""

    reason = "UNKNOWN_MODEL"


class Unauthenticated(UserError):
    """The request has no token, or one that is unknown, revoked or expired."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(UserError):
    """The request's token does not allow this method or collection."""

    reason = "PERMISSION_DENIED"


class StaleGeneration(UserError):
    """A page token of an index that another one has replaced."""

    reason = "STALE_GENERATION"


class AlreadyExists(UserError):
    """A collection or document that is to be created exists."""

    reason = "ALREADY_EXISTS"


class Conflict(UserError):
    """The document is not the version that the request names: another caller has changed it."""

    reason = "CONFLICT"


class ForeignRoot(UserError):
    """A document belongs to a folder that builds keep up to date, or a folder to documents put."""

    reason = "FOREIGN_ROOT"


class FixedCollections(UserError):
    """The server can't create or delete collections, or not this one."""

    reason = "FIXED_COLLECTIONS"


class UnreadableDocument(UserError):
    """Nothing in a document that was put can be indexed."""

    reason = "UNREADABLE_DOCUMENT"


class IndexDamaged(RetrievalError):
    """A file of the index is missing, cut short or altered."""

    reason = "INDEX_DAMAGED"


class StorageError(RetrievalError):
    """The disk, or a permission on it, refuses; earlier commits are unaffected."""

    reason = "STORAGE_ERROR"


class DiskFull(StorageError):
    """There is no room left on the disk; earlier commits are unaffected."""

    reason = "DISK_FULL"


class StorageRefused(StorageError):
    """An object store refuses the credentials, or has no such bucket; earlier commits are there."""

    reason = "STORAGE_REFUSED"
    exit_code = 2


class NotServing(RetrievalError):
    """The server is still loading, or it is shutting down."""

    reason = "NOT_SERVING"


class Overloaded(RetrievalError):
    """More requests at once than the server accepts, or can answer before their deadlines."""

    reason = "OVERLOADED"


class RateLimited(RetrievalError):
    """More requests per second than the token allows."""

    reason = "RATE_LIMITED"


class QuotaExceeded(RetrievalError):
    """More documents or bytes a day than the token allows."""

    reason = "QUOTA_EXCEEDED"


class DeadlinePassed(RetrievalError):
    """The request's deadline passed, and the work on the answer was stopped."""

    reason = "DEADLINE_PASSED"


class TooSlow(RetrievalError):
    """A request's message did not arrive within the server's time limit."""

    reason = "TOO_SLOW"


class AnswerTooLarge(RetrievalError):
    """The answer has more bytes than a message may have."""

    reason = "ANSWER_TOO_LARGE"


class ClusterUnavailable(UserError):
    """The Ray cluster can't be reached, or its nodes can't do the work."""

    reason = "CLUSTER_UNAVAILABLE"


class ClusterLost(RetrievalError):
    """The Ray cluster was lost in the middle of a build; what was committed stays."""

    reason = "CLUSTER_LOST"


class ReaderCannotStart(RetrievalError):
    """A process that reads documents ended before it was ready."""


_CALLERS_MISTAKES = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "ABORTED",
        "FAILED_PRECONDITION",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
    }
)


class ServiceError(RetrievalError):
    """The server answered with an error; ``status`` is the gRPC code's name."""

    reason = "SERVICE_ERROR"

    def __init__(self, message: str, *, status: str, reason: str = "", **metadata: str) -> None:
        """Create the error from the server's answer.

        Args:
            message: the server's message.
            status: name of the gRPC status code, e.g. ``"INVALID_ARGUMENT"``.
            reason: ``ErrorInfo.reason`` of the answer; empty if it has none.
            metadata: ``ErrorInfo.metadata`` of the answer.
        """
        super().__init__(message, **metadata)
        self.status = status
        self.service_reason = reason
        if status in _CALLERS_MISTAKES:
            # The request must change, not the server.
            self.exit_code = UserError.exit_code


class ServiceUnavailable(ServiceError):
    """No server answers at the address, or it is shutting down."""

    reason = "UNAVAILABLE"
