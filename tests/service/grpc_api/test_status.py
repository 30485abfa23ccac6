"""The table of statuses, and the details that go with them."""

from typing import TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from retrieval import errors
from retrieval.service.grpc_api.status import (
    DOMAIN,
    STATUS_CODES,
    NotServing,
    Overloaded,
    status_code,
    to_status,
)
from retrieval.service.observability.request_log import one_line

M = TypeVar("M", bound=Message)

# Raised by other programs than the server, or by the client.
NEVER_SERVED = {
    errors.RetrievalError,
    errors.UserError,
    errors.SourceError,
    errors.AddressInUse,
    errors.ClientClosed,
    errors.ClusterUnavailable,
    errors.ClusterLost,
    errors.ReaderCannotStart,
    errors.ServiceError,
    errors.ServiceUnavailable,
}


def details(status: status_pb2.Status, kind: type[M]) -> list[M]:
    found = []
    for detail in status.details:
        message = kind()
        if detail.Unpack(message):
            found.append(message)
    return found


def test_every_error_has_a_status() -> None:
    ours = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.RetrievalError)
    }
    assert ours - NEVER_SERVED <= STATUS_CODES.keys()


SERVER_SIDE = {
    errors.IndexDamaged,
    errors.IndexLocked,
    errors.IndexVersionError,
    errors.NotAnIndex,
    errors.ModelNotFound,
    errors.CheckpointError,
    errors.ModelMismatch,
    errors.NoLexicalIndex,
    errors.StorageError,
    errors.DiskFull,
    errors.StorageRefused,
}


def text(kind: type[errors.RetrievalError]) -> str:
    return "/srv/index is wrong" if kind in SERVER_SIDE else "what is wrong"


def test_damage_names_its_file_and_not_where_it_lies() -> None:
    status = to_status(errors.IndexDamaged("/srv/index/a.faiss is cut", file="a.faiss"))
    assert status.message.startswith("a.faiss: ")
    assert "indexer verify" in status.message
    assert "/srv" not in str(status)


@pytest.mark.parametrize("kind", STATUS_CODES)
def test_error_info(kind: type[errors.RetrievalError]) -> None:
    status = to_status(kind(text(kind), detail="more"))
    assert status.code == STATUS_CODES[kind].value[0]
    assert "/srv" not in status.message
    # Only errors that are about files of the server have a message of their own for clients.
    assert (status.message == "what is wrong") == (kind not in SERVER_SIDE)
    (info,) = details(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == (kind.reason, DOMAIN)
    assert dict(info.metadata) == {"detail": "more"}
    assert not details(status, error_details_pb2.BadRequest)


def test_a_field_at_fault_is_named() -> None:
    status = to_status(errors.InvalidArgument("too large", field="page_size"))
    (bad_request,) = details(status, error_details_pb2.BadRequest)
    (violation,) = bad_request.field_violations
    assert (violation.field, violation.description) == ("page_size", "too large")


@pytest.mark.parametrize("kind", [Overloaded, NotServing])
def test_what_passes_by_itself_says_when_to_retry(kind: type[errors.RetrievalError]) -> None:
    (retry,) = details(to_status(kind("later")), error_details_pb2.RetryInfo)
    assert retry.retry_delay.seconds == 1


def test_an_error_that_knows_when_says_so() -> None:
    error = errors.RateLimited("later")
    error.retry_seconds = 2.5
    (retry,) = details(to_status(error), error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 2500


@pytest.mark.parametrize("error", [KeyError("/secret/path"), errors.RetrievalError("a bug")])
def test_what_is_not_in_the_table_is_internal(error: Exception) -> None:
    assert status_code(error) is grpc.StatusCode.INTERNAL
    status = to_status(error)
    assert status.message == "internal error: the server's log says more"
    (info,) = details(status, error_details_pb2.ErrorInfo)
    assert info.reason == "INTERNAL"


def test_statuses_fit_into_headers() -> None:
    error = errors.InvalidArgument("é\n" * 50_000, field="x" * 50_000)
    status = to_status(error)
    assert "\n" not in status.message
    assert len(status.SerializeToString()) < 4000


def test_one_line() -> None:
    assert one_line("a\nb\x1b[31m") == "a b [31m"
    assert one_line("ab\udc80c") == "ab c"
    assert one_line("äöü" * 10, max_bytes=10) == "äöü…"
