"""What gRPC raises in a client → this project's exceptions."""

from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from retrieval.client.unreachable import diagnose, last_error
from retrieval.errors import ServiceError, ServiceUnavailable, UserError


def service_error(
    error: grpc.RpcError,
    *,
    target: str,
    timeout: float,
    encrypted: bool = False,
    has_certificate: bool = False,
) -> ServiceError:
    """The exception to raise for a failed call.

    Args:
        error: what gRPC raised.
        target: the server's address.
        timeout: seconds that the call was given.
        encrypted: whether the client speaks TLS.
        has_certificate: whether it shows a certificate of its own.

    Returns:
        ``ServiceUnavailable`` where no server answered or it takes no requests, else
        ``ServiceError``; with status, reason and metadata as the server gave them.
    """
    code = error.code()
    info = _error_info(error)
    details = error.details() or ""
    diagnosis = None
    if info is None:
        diagnosis = diagnose(details, target, encrypted=encrypted, has_certificate=has_certificate)
    if info is not None:
        message = details or code.name
    elif diagnosis is not None:
        message = diagnosis.message
    elif code is grpc.StatusCode.UNAVAILABLE:
        message = _no_answer(target, last_error(details))
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"no answer from {target} within {timeout:g} s"
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        message = f"{target} does not know this request: it is another server, or an older version"
    else:
        message = f"{target} answered {code.name}: {details or 'without a message'}"
    kind = ServiceUnavailable if code is grpc.StatusCode.UNAVAILABLE else ServiceError
    translated = kind(message, status=code.name, reason=info.reason if info else "")
    # Not as keywords: a server may name its metadata as it likes.
    translated.metadata.update(info.metadata if info else {"details": details})
    if diagnosis is not None and diagnosis.callers_mistake:
        translated.exit_code = UserError.exit_code
    return translated


def _no_answer(target: str, reason: str) -> str:
    # Refused is what it is where no server runs, and needs no more words.
    why = "" if not reason or "refused" in reason else f" ({reason})"
    return f"no server answers at {target}{why}; start one with `retrieval serve --index DIR`"


def _error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo | None:
    """The ``ErrorInfo`` that a server of ours puts into every error; None from any other."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return None
    try:
        status = rpc_status.from_call(cast(grpc.Call, error))
    except (ValueError, DecodeError):
        # The details contradict the status, or are none: not one of our servers.
        return None
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info
    return None
