"""From exceptions to gRPC statuses: one table, and the details that go with a status."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import ServicerContext

from retrieval.errors import (
    AlreadyExists,
    AnswerTooLarge,
    CheckpointError,
    Conflict,
    DeadlinePassed,
    DiskFull,
    FixedCollections,
    ForeignRoot,
    IndexDamaged,
    IndexLocked,
    IndexVersionError,
    InvalidArgument,
    ModelMismatch,
    ModelNotFound,
    NoLexicalIndex,
    NoReranker,
    NotAnIndex,
    NotFound,
    NotServing,
    Overloaded,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    RetrievalError,
    StaleGeneration,
    StorageError,
    StorageRefused,
    TooSlow,
    Unauthenticated,
    UnexpectedModel,
    UnknownModel,
    UnreadableDocument,
)
from retrieval.service.observability.observer import REQUEST_ID
from retrieval.service.observability.request_log import MAX_MESSAGE_BYTES, one_line

DOMAIN = "retrieval.v1"
"""``ErrorInfo.domain`` of every error."""

STATUS_DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata that carries a ``google.rpc.Status``."""


STATUS_CODES: dict[type[RetrievalError], grpc.StatusCode] = {
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    UnknownModel: grpc.StatusCode.NOT_FOUND,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    Conflict: grpc.StatusCode.ABORTED,
    FixedCollections: grpc.StatusCode.FAILED_PRECONDITION,
    ForeignRoot: grpc.StatusCode.FAILED_PRECONDITION,
    UnreadableDocument: grpc.StatusCode.INVALID_ARGUMENT,
    StaleGeneration: grpc.StatusCode.FAILED_PRECONDITION,
    ModelMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    UnexpectedModel: grpc.StatusCode.FAILED_PRECONDITION,
    NoLexicalIndex: grpc.StatusCode.FAILED_PRECONDITION,
    NoReranker: grpc.StatusCode.FAILED_PRECONDITION,
    ModelNotFound: grpc.StatusCode.FAILED_PRECONDITION,
    CheckpointError: grpc.StatusCode.FAILED_PRECONDITION,
    NotAnIndex: grpc.StatusCode.FAILED_PRECONDITION,
    IndexVersionError: grpc.StatusCode.FAILED_PRECONDITION,
    IndexLocked: grpc.StatusCode.FAILED_PRECONDITION,
    IndexDamaged: grpc.StatusCode.DATA_LOSS,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    RateLimited: grpc.StatusCode.RESOURCE_EXHAUSTED,
    QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DiskFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    AnswerTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
    TooSlow: grpc.StatusCode.DEADLINE_EXCEEDED,
    NotServing: grpc.StatusCode.UNAVAILABLE,
    StorageError: grpc.StatusCode.UNAVAILABLE,
    StorageRefused: grpc.StatusCode.UNAVAILABLE,
}
"""The status of every exception that a request can end with. Any other exception is INTERNAL, and
is logged in full."""

_RETRY_SECONDS: dict[type[RetrievalError], int] = {
    Overloaded: 1,
    NotServing: 1,
    StorageError: 5,
    StorageRefused: 5,
    DiskFull: 5,
}
"""When a client should retry, for errors that pass by themselves and don't say when. Queues empty
within a second; a disk that refuses takes longer."""

_SERVER_SIDE: dict[type[RetrievalError], str] = {
    IndexDamaged: "the collection's index is damaged: `indexer verify` on the server says how, "
    "`indexer compact` or a new build mends it",
    IndexVersionError: "the collection's index was written by another version of the program",
    IndexLocked: "the collection's index is being written by another program",
    NotAnIndex: "the collection's folder holds no index",
    ModelNotFound: "the model of the collection's index is not where it was",
    CheckpointError: "the model of the collection's index can't be used",
    ModelMismatch: "the model on the server is not the one that made the collection's index",
    NoLexicalIndex: "the collection's index holds no words that the server can search: one more "
    "`indexer build` there adds them; dense mode works without",
    StorageError: "the server's storage can't be used now; its log says more",
    StorageRefused: "the server's storage can't be used now; its log says more",
    DiskFull: "the server's disk is full; nothing that was acknowledged is lost",
}
"""What clients read instead of messages that name the server's files; the log has the originals."""

_MAX_METADATA_BYTES = 200
"""Limit for each value of an error's metadata; see ``MAX_MESSAGE_BYTES``."""


def status_code(error: Exception) -> grpc.StatusCode:
    """Return the status that an exception ends a request with."""
    if isinstance(error, RetrievalError):
        return STATUS_CODES.get(type(error), grpc.StatusCode.INTERNAL)
    return grpc.StatusCode.INTERNAL


def hides_message(error: Exception) -> bool:
    """Return whether clients read less than an error says, so that the log must have it."""
    return type(error) in _SERVER_SIDE or status_code(error) is grpc.StatusCode.INTERNAL


def to_status(error: Exception) -> status_pb2.Status:
    """Return an exception's status with its details.

    Args:
        error: raised by a request. Clients see neither the message of an exception that is not in
            the table nor paths on the server.

    Returns:
        code, message and details: always ``ErrorInfo``; ``BadRequest`` if the error names a
        ``field``; ``RetryInfo`` if a retry may help.
    """
    code = status_code(error)
    if not isinstance(error, RetrievalError) or code is grpc.StatusCode.INTERNAL:
        error = RetrievalError("internal error: the server's log says more")
    message = _SERVER_SIDE.get(type(error), error.message)
    if isinstance(error, IndexDamaged) and "file" in error.metadata:
        message = f"{error.metadata['file']}: {message}"
    status = status_pb2.Status(code=code.value[0], message=one_line(message, MAX_MESSAGE_BYTES))
    info = _error_info(error)
    status.details.add().Pack(info)
    if "field" in info.metadata:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=info.metadata["field"], description=status.message
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    retry_seconds = error.retry_seconds or _RETRY_SECONDS.get(type(error))
    if retry_seconds is not None:
        delay = Duration()
        delay.FromNanoseconds(int(retry_seconds * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def serialized_status(error: Exception) -> tuple[str, bytes]:
    """Return the status's message, and ``to_status`` in bytes.

    Refusals are cached: they are alike, and an overloaded server sends many.
    """
    if isinstance(error, Overloaded | Unauthenticated):
        make: Callable[..., RetrievalError] = type(error)
        return _refusal(make, error.message, tuple(error.metadata.items()))
    return _serialized(error)


@lru_cache(maxsize=256)
def _refusal(
    make: Callable[..., RetrievalError], message: str, metadata: tuple[tuple[str, str], ...]
) -> tuple[str, bytes]:
    return _serialized(make(message, **dict(metadata)))


def _serialized(error: Exception) -> tuple[str, bytes]:
    status = to_status(error)
    return status.message, status.SerializeToString()


def _error_info(error: RetrievalError) -> error_details_pb2.ErrorInfo:
    metadata = {key: one_line(value, _MAX_METADATA_BYTES) for key, value in error.metadata.items()}
    return error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)


async def abort(
    context: ServicerContext[Any, Any], error: Exception, request: str = ""
) -> NoReturn:
    """End a request with the status of an error and its details, and the request's id."""
    message, serialized = serialized_status(error)
    details: tuple[tuple[str, str | bytes], ...] = ((STATUS_DETAILS_KEY, serialized),)
    if request:
        details = (*details, (REQUEST_ID, request))
    await context.abort(status_code(error), message, details)
