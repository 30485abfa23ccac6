"""Around every request: admit it, read its message, translate its errors, and observe it."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

import grpc
from google.protobuf.message import DecodeError, Message
from grpc.aio import AbortError, ServerInterceptor, ServicerContext

from retrieval.errors import AnswerTooLarge, InvalidArgument, Overloaded, RetrievalError
from retrieval.service.access.callers import Access
from retrieval.service.access.token_file import Scope
from retrieval.service.engine import Call
from retrieval.service.grpc_api.status import abort, status_code
from retrieval.service.limits.under_way import Admission, Outgoing, Sender, Transfers
from retrieval.service.observability.observer import REQUEST_ID, Observed, Observer
from retrieval.service.observability.request_log import one_line

LOG = logging.getLogger(__name__)

# An interceptor sees the methods of all services, and so messages of any type. grpc-stubs types a
# handler's methods as those of a synchronous server, and a callback as a class of its own.
_Context = ServicerContext[Any, Any]
_UnaryMethod = Callable[[Any, _Context], Awaitable[Message]]
_StreamMethod = Callable[[Any, _Context], AsyncGenerator[Message]]

current_call: ContextVar[Call] = ContextVar("current_call")
"""What the engine needs to know about the present request."""

_SCOPE_OF_SERVICE: dict[str, Scope] = {
    "retrieval.v1.SearchService": "search",
    "retrieval.v1.EmbeddingService": "embed",
    "retrieval.v1.RerankService": "search",
    "retrieval.v1.IndexService": "read",
}
_SCOPE_OF_METHOD: dict[str, Scope] = {"ReloadCollection": "reload"}
"""Methods that need another scope than their service."""

_OF_ANY_SCOPE: Final = "/grpc.reflection."
"""Anyone who may call a service may know what services there are."""

_HEALTH: Final = "/grpc.health."
_MAX_HEALTH_BYTES: Final = 4096
"""A health request has nothing but the name of a service, and comes without a token."""

# Generic in grpc-stubs only.
if TYPE_CHECKING:
    _Handler = grpc.RpcMethodHandler[Any, Any]
    _Interceptor = ServerInterceptor[Any, Any]
else:
    _Handler = grpc.RpcMethodHandler
    _Interceptor = ServerInterceptor


class RequestInterceptor(_Interceptor):
    """Wraps every method of ``retrieval.v1``, doors, reflection and health.

    The headers tell who calls, so a caller that may not is refused before the message is read.
    """

    def __init__(
        self,
        observer: Observer,
        access: Access,
        admission: Admission,
        transfers: Transfers,
        *,
        max_message_bytes: int,
        max_watches: int,
        scopes: Mapping[str, Scope],
    ) -> None:
        """Share these between all requests.

        Args:
            observer: observes every request.
            access: identifies callers.
            admission: limits requests in flight.
            transfers: limits messages in flight.
            max_message_bytes: limits an answer.
            max_watches: limits the streams that watch the server's health.
            scopes: full name of a door's service → the scope that its methods need.
        """
        self._scopes = _SCOPE_OF_SERVICE | dict(scopes)
        self._observer = observer
        self._access = access
        self._admission = admission
        self._transfers = transfers
        self._max_message_bytes = max_message_bytes
        self._health = _Health(transfers, max_watches)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Wrap the handler of one request; called by gRPC before the request is read."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        # Without a handler, gRPC answers UNIMPLEMENTED.
        if handler is None:
            return handler
        if method.startswith(_HEALTH):
            return self._health.wrap(handler)
        # gRPC calls a handler of streamed requests before it reads the first message. Without a
        # deserializer it hands over the bytes, so that we can refuse malformed ones.
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._wrap_both(method, handler), None, handler.response_serializer
            )
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._wrap_stream(method, handler), None, handler.response_serializer
            )
        return grpc.stream_unary_rpc_method_handler(
            self._wrap_unary(method, handler), None, handler.response_serializer
        )

    def _wrap_unary(self, method: str, handler: _Handler) -> _UnaryMethod:
        call = cast(_UnaryMethod, handler.unary_unary)

        async def wrapped(_messages: object, context: _Context) -> Message:
            async with self._request(method, context) as request:
                response = await call(await request.read(handler), context)
                request.send(self._size(response))
                return response

        return wrapped

    def _wrap_stream(self, method: str, handler: _Handler) -> _StreamMethod:
        call = cast(_StreamMethod, handler.unary_stream)

        async def wrapped(_messages: object, context: _Context) -> AsyncGenerator[Message]:
            async with (
                self._request(method, context) as request,
                aclosing(call(await request.read(handler), context)) as responses,
            ):
                async for response in responses:
                    sending = request.send(self._size(response))
                    yield response
                    self._transfers.sent(sending)

        return wrapped

    def _wrap_both(self, method: str, handler: _Handler) -> _StreamMethod:
        call = cast(_StreamMethod, handler.stream_stream)
        # A client may keep the stream of a door open while it has nothing to send.
        may_idle = not method.startswith(_OF_ANY_SCOPE)

        async def wrapped(_messages: object, context: _Context) -> AsyncGenerator[Message]:
            async with (
                self._request(method, context) as request,
                aclosing(call(request.read_all(handler, may_idle=may_idle), context)) as responses,
            ):
                async for response in responses:
                    sending = request.send(self._size(response))
                    yield response
                    self._transfers.sent(sending)

        return wrapped

    def _request(self, method: str, context: _Context) -> "_Request":
        observed = self._observer.request(
            method, tuple(context.invocation_metadata() or ()), context.peer()
        )
        return _Request(
            observed,
            self._access,
            self._admission,
            self._transfers,
            context,
            scope=self._scope(method),
        )

    def _scope(self, method: str) -> Scope | None:
        """Return the scope that a method needs; None if any will do.

        Args:
            method: full name, ``/retrieval.v1.SearchService/Search``.
        """
        if method.startswith(_OF_ANY_SCOPE):
            return None
        service, _, name = method.removeprefix("/").partition("/")
        return _SCOPE_OF_METHOD.get(name) or self._scopes[service]

    def _size(self, response: Message) -> int:
        size = response.ByteSize()
        if size > self._max_message_bytes:
            raise AnswerTooLarge(
                f"the answer has {size} bytes, and a message at most {self._max_message_bytes}: "
                "ask for less at once"
            )
        return size


class _Request:
    """One request: admits and observes it, and ends it with the status of what it raises.

    An asynchronous context manager. As a generator it would take a tenth of a refusal's time.
    """

    def __init__(
        self,
        observed: Observed,
        access: Access,
        admission: Admission,
        transfers: Transfers,
        context: _Context,
        *,
        scope: Scope | None,
    ) -> None:
        self._scope = scope
        self._access = access
        self._admission = admission
        self._transfers = transfers
        self._context = context
        self._observed = observed
        self._call = Call()
        self._given_up: RetrievalError | None = None
        """Why the server stopped waiting for its message; None while it waits."""
        self._held = 0
        """Bytes of its message, which count until it is answered."""
        self._sending: Outgoing | None = None

    async def __aenter__(self) -> Self:
        self._observed.__enter__()
        try:
            self._admit()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                await self._end(error)
        finally:
            self._observed.__exit__(kind, error, traceback)

    def _admit(self) -> None:
        context = self._context
        context.set_trailing_metadata(((REQUEST_ID, self._observed.id),))
        seconds = context.time_remaining()
        answer_by = math.inf if seconds is None else time.perf_counter() + seconds
        self._admission.check_open()
        caller = self._access.identify(self._observed.metadata)
        self._observed.caller = caller.name
        self._observed.certificate = subject_of(context)
        self._call = Call(caller, answer_by, caller.name or self._observed.peer)
        current_call.set(self._call)
        if self._scope is not None:
            caller.check_scope(self._scope, self._observed.method.rpartition("/")[2])
        self._admission.enter()
        # It is in flight until the last byte is sent, which is after this block.
        context.add_done_callback(cast(Any, self._leave))

    def _leave(self, _context: _Context) -> None:
        self._admission.leave()
        self._transfers.release(self._held)
        if self._sending is not None:
            self._transfers.sent(self._sending)

    async def read(self, handler: _Handler) -> Message:
        """Wait for the request's message.

        Raises:
            InvalidArgument: it is missing or malformed.
            Overloaded: see ``Transfers.receive``.
            AbortError: the request was ended because its message was too slow or too large.
        """
        data = await self._receive()
        self._held = len(data)
        return _parse(handler, data)

    async def read_all(self, handler: _Handler, *, may_idle: bool) -> AsyncGenerator[Message]:
        """Wait for one message after the other, until the client ends the stream.

        A message no longer counts against the budget when it is handed over. A handler that keeps
        it has to count it itself; see ``Transfers.hold``.

        Args:
            handler: has the messages' type.
            may_idle: whether the client may take any time until it begins a message.
        """
        while data := await self._receive(may_idle=may_idle):
            self._transfers.release(len(data))
            yield _parse(handler, data)

    async def _receive(self, *, may_idle: bool = False) -> bytes:
        sender = Sender(self._observed.peer, self._call.turn)
        return await self._transfers.receive(
            self._context.read, sender, self._give_up, may_idle=may_idle
        )

    async def _give_up(self, error: RetrievalError) -> None:
        """End the request while the server waits for its message."""
        self._given_up = error
        with suppress(AbortError):  # always raised, also by the ``read`` that waits
            await abort(self._context, error, self._observed.id)

    def send(self, size: int) -> Outgoing:
        """Count an answer's message until it is sent."""
        self._sending = self._transfers.send(self._observed.peer, size)
        return self._sending

    async def _end(self, error: BaseException) -> None:
        """End the request with an error's status, by raising what gRPC expects."""
        observed = self._observed
        if isinstance(error, AbortError):
            if self._given_up is not None:
                observed.failed(self._given_up, status_code(self._given_up).name)
        elif isinstance(error, RetrievalError):
            observed.failed(error, status_code(error).name)
            await abort(self._context, error, observed.id)
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            # The client went away, its deadline passed, or the server's grace period ended.
            observed.code = "CANCELLED"
        elif isinstance(error, Exception):
            observed.code = status_code(error).name
            LOG.error("%s failed", observed.method, exc_info=error)
            await abort(self._context, error, observed.id)


class _Health:
    """Wraps the health service, which anyone may call; limits its messages and streams."""

    def __init__(self, transfers: Transfers, max_watches: int) -> None:
        """Share these between all requests."""
        self._transfers = transfers
        self._max_watches = max_watches
        self._watches = 0

    def wrap(self, handler: _Handler) -> _Handler:
        """Return a handler that reads a request's message within limits."""
        parts = (None, handler.response_serializer)
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                cast(_StreamMethod, self._wrap_watch(handler)), *parts
            )
        return grpc.stream_unary_rpc_method_handler(self._wrap_unary(handler), *parts)

    def _wrap_unary(self, handler: _Handler) -> _UnaryMethod:
        call = cast(_UnaryMethod, handler.unary_unary)

        async def wrapped(_messages: object, context: _Context) -> Message:
            return await call(await self._read(handler, context), context)

        return wrapped

    def _wrap_watch(self, handler: _Handler) -> _UnaryMethod:
        call = cast(_UnaryMethod, handler.unary_stream)

        async def wrapped(_messages: object, context: _Context) -> Message:
            if self._watches >= self._max_watches:
                await abort(
                    context,
                    Overloaded(
                        f"{self._max_watches} streams watch this server's health already: "
                        "try again later",
                        limit="watches",
                    ),
                )
            self._watches += 1
            try:
                return await call(await self._read(handler, context), context)
            finally:
                self._watches -= 1

        return wrapped

    async def _read(self, handler: _Handler, context: _Context) -> Message:
        """Return the request's message; end the request if it is missing or malformed."""
        peer = context.peer()

        async def give_up(error: RetrievalError) -> None:
            with suppress(AbortError):  # always raised, also by the ``read`` that waits
                await abort(context, error)

        try:
            data = await self._transfers.receive(
                context.read, Sender(peer, peer), give_up, most=_MAX_HEALTH_BYTES
            )
            self._transfers.release(len(data))
            if len(data) > _MAX_HEALTH_BYTES:
                raise InvalidArgument("the name of the service is too long", field="service")
            return _parse(handler, data)
        except RetrievalError as error:
            await abort(context, error)


def _parse(handler: _Handler, data: bytes) -> Message:
    """Return the message that a request's bytes hold.

    Raises:
        InvalidArgument: they are malformed.
    """
    parse = cast(Callable[[bytes], Message], handler.request_deserializer)
    try:
        return parse(data)
    except DecodeError as error:
        raise InvalidArgument(
            "the request is malformed: it is not a message of this type"
        ) from error


def subject_of(context: _Context) -> str:
    """Return the subject of the client's certificate; empty if it has none."""
    if not context.peer_identities():
        return ""
    found = context.auth_context()
    subjects = found.get("x509_subject") or found.get("x509_common_name") or ()
    return one_line(next(iter(subjects), b"").decode("utf-8", "replace"))
