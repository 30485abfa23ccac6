"""Calls to the writer process, and the errors that it answers with.

An error of the process has the form that clients get. Here it becomes an exception again, so that
the server counts and logs it, and answers with it, as with its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, TypeVar, cast
from urllib.parse import quote

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from retrieval import errors
from retrieval.errors import DeadlinePassed, NotServing, RetrievalError
from retrieval.service.access.callers import Caller
from retrieval.service.observability.observer import REQUEST_ID
from retrieval.service.observability.request_log import request_id

CALLER: Final = "x-caller"
"""Header with the name of the caller's token, percent-encoded; empty if there are no tokens."""

_OF_THE_CONNECTION: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
)
"""With these gRPC ends calls to a process that has ended, by what was lost first. Internal errors
of the process itself come with ``ErrorInfo``."""

_Response = TypeVar("_Response", bound=Message)


async def forward(
    method: Callable[..., Awaitable[_Response]], request: Message | bytes, caller: Caller
) -> _Response:
    """Call a method of the writer process.

    There is no deadline: what has been handed over is finished, even if nobody waits any more.

    Args:
        method: of the process.
        request: as it came from the client.
        caller: who sent it.

    Returns:
        the answer of the process.

    Raises:
        NotServing: the process has ended. Whether it had committed before, nobody knows.
        RetrievalError: what the process raised.
    """
    metadata = ((CALLER, quote(caller.name)), (REQUEST_ID, request_id.get()))
    try:
        return await method(request, metadata=metadata)
    except grpc.RpcError as error:
        raise _exception_of(error) from error
    except asyncio.CancelledError as error:
        # gRPC also raises this if the supervisor has closed the connection to a process that ended.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise _ended() from error


def _exception_of(error: grpc.RpcError) -> RetrievalError:
    """Return the exception that the writer process raised, or one for a call that failed."""
    code: grpc.StatusCode = error.code()
    info = _error_info(error)
    if info is not None and info.reason in _BY_REASON:
        made = _BY_REASON[info.reason](error.details() or code.name)
        made.metadata.update(cast(Mapping[str, str], info.metadata))
        return made
    if code in _OF_THE_CONNECTION:
        return _ended()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlinePassed("the writing process did not answer in time")
    return RetrievalError(f"the writing process answered {code.name}: {error.details()}")


def _ended() -> NotServing:
    return NotServing(
        "the writing process has ended during the request: send it again, which does no harm"
    )


def _error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo | None:
    try:
        status = rpc_status.from_call(cast(grpc.Call, error))
    except ValueError:  # its code is not that of the call
        return None
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info
    return None


def _subclasses(base: type[RetrievalError]) -> Iterator[type[RetrievalError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _subclasses(kind)


_BY_REASON: Final = {
    kind.reason: kind
    for kind in _subclasses(RetrievalError)
    if kind.__module__ == errors.__name__ and not issubclass(kind, errors.ServiceError)
}
"""``ErrorInfo.reason`` → the exception with it."""
