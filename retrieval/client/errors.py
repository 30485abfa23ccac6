"""What gRPC raises in a client → this project's exceptions."""

from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from retrieval.errors import ServiceError, ServiceUnavailable


def service_error(error: grpc.RpcError, *, target: str, timeout: float) -> ServiceError:
    """The exception to raise for a failed call.

    Args:
        error: what gRPC raised.
        target: the server's address.
        timeout: seconds that the call was given.

    Returns:
        ``ServiceUnavailable`` where no server answered or it takes no requests, else
        ``ServiceError``; with status, reason and metadata as the server gave them.
    """
    code = error.code()
    info = _error_info(error)
    if info is not None:
        message = error.details() or code.name
    elif code is grpc.StatusCode.UNAVAILABLE:
        message = f"no server answers at {target}; start one with `retrieval serve --index DIR`"
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"no answer from {target} within {timeout:g} s"
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        message = f"{target} does not know this request: it is another server, or an older version"
    else:
        message = f"{target} answered {code.name}: {error.details() or 'without a message'}"
    kind = ServiceUnavailable if code is grpc.StatusCode.UNAVAILABLE else ServiceError
    translated = kind(message, status=code.name, reason=info.reason if info else "")
    # Not as keywords: a server may name its metadata as it likes.
    translated.metadata.update(info.metadata if info else {"details": error.details() or ""})
    return translated


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
