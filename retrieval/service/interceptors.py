"""What happens around every request: it is let in, its errors are translated, and it is logged."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, cast

import grpc
from google.protobuf.message import DecodeError, Message
from grpc.aio import ServerInterceptor, ServicerContext

from retrieval.errors import AnswerTooLarge, InvalidArgument, RetrievalError
from retrieval.service.access import Access, caller
from retrieval.service.admission import Admission
from retrieval.service.observer import Observed, Observer
from retrieval.service.pace import answer_by
from retrieval.service.request_log import REQUEST_ID
from retrieval.service.status import (
    DOMAIN,
    STATUS_DETAILS_KEY,
    one_line,
    serialized_status,
    status_code,
)
from retrieval.service.turns import turn_of

LOG = logging.getLogger(__name__)

# An interceptor sees the methods of all services, so messages of any type; and grpc-stubs types a
# handler's methods as those of a synchronous server, and a callback as a class of its own.
_Context = ServicerContext[Any, Any]
_UnaryMethod = Callable[[Any, _Context], Awaitable[Message]]
_StreamMethod = Callable[[Any, _Context], AsyncGenerator[Message]]

# Generic in grpc-stubs only.
if TYPE_CHECKING:
    _Handler = grpc.RpcMethodHandler[Any, Any]
    _Interceptor = ServerInterceptor[Any, Any]
else:
    _Handler = grpc.RpcMethodHandler
    _Interceptor = ServerInterceptor


class RequestInterceptor(_Interceptor):
    """Wraps the methods of ``retrieval.v1``; health and reflection are left as they are."""

    def __init__(
        self, observer: Observer, access: Access, admission: Admission, *, max_message_bytes: int
    ) -> None:
        """Keep what is shared by all requests.

        Args:
            observer: sees every request.
            access: says who may ask for what.
            admission: says how many are let in.
            max_message_bytes: most bytes of an answer.
        """
        self._observer = observer
        self._access = access
        self._admission = admission
        self._max_message_bytes = max_message_bytes

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Wrap the handler of one request; called by gRPC, before the request is read."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        # gRPC answers UNIMPLEMENTED where there is no handler.
        if handler is None or not method.startswith(f"/{DOMAIN}."):
            return handler
        if self._admission.is_full:
            # Its message is not waited for: where there is too much to do, a refusal must be cheap.
            return grpc.stream_unary_rpc_method_handler(self._refusal(method))
        # Without a deserializer gRPC hands over the bytes, and malformed ones are ours to refuse.
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._wrap_stream(method, handler), None, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._wrap_unary(method, handler), None, handler.response_serializer
        )

    def _wrap_unary(
        self, method: str, handler: _Handler
    ) -> Callable[[bytes, _Context], Awaitable[Message]]:
        call = cast(_UnaryMethod, handler.unary_unary)

        async def wrapped(data: bytes, context: _Context) -> Message:
            async with self._request(method, context, self._admission.enter):
                response = await call(_parse(handler, data), context)
                self._check_size(response)
                return response

        return wrapped

    def _wrap_stream(
        self, method: str, handler: _Handler
    ) -> Callable[[bytes, _Context], AsyncGenerator[Message]]:
        call = cast(_StreamMethod, handler.unary_stream)

        async def wrapped(data: bytes, context: _Context) -> AsyncGenerator[Message]:
            async with (
                self._request(method, context, self._admission.enter),
                aclosing(call(_parse(handler, data), context)) as responses,
            ):
                async for response in responses:
                    self._check_size(response)
                    yield response

        return wrapped

    def _refusal(self, method: str) -> _StreamMethod:
        """A handler that refuses a request, whatever its message says."""

        async def refuse(_messages: object, context: _Context) -> None:
            async with self._request(method, context, self._admission.refuse):
                pass

        return cast(_StreamMethod, refuse)

    def _request(self, method: str, context: _Context, enter: Callable[[], None]) -> "_Request":
        observed = self._observer.request(method, tuple(context.invocation_metadata() or ()))
        return _Request(observed, self._access, self._admission, context, enter)

    def _check_size(self, response: Message) -> None:
        size = response.ByteSize()
        if size > self._max_message_bytes:
            raise AnswerTooLarge(
                f"the answer has {size} bytes, and a message at most {self._max_message_bytes}: "
                "ask for less at once"
            )


class _Request:
    """One request: admitted, observed, ended with the status of what it raises.

    An asynchronous context manager. Not a generator: those take a tenth of a refusal's time.
    """

    def __init__(
        self,
        observed: Observed,
        access: Access,
        admission: Admission,
        context: _Context,
        enter: Callable[[], None],
    ) -> None:
        self._access = access
        self._admission = admission
        self._context = context
        self._enter = enter
        self._observed = observed

    async def __aenter__(self) -> None:
        self._observed.__enter__()
        try:
            self._let_in()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise

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

    def _let_in(self) -> None:
        context = self._context
        context.set_trailing_metadata(((REQUEST_ID, self._observed.id),))
        if (seconds := context.time_remaining()) is not None:
            answer_by.set(time.perf_counter() + seconds)
        self._admission.check_open()
        sender = self._access.identify(self._observed.metadata)
        caller.set(sender)
        turn_of.set(sender.name or context.peer())
        sender.check_method(self._observed.method)
        self._enter()
        # Under way until the last byte is sent, which is after this block.
        context.add_done_callback(cast(Any, self._leave))

    def _leave(self, _context: _Context) -> None:
        self._admission.leave()

    async def _end(self, error: BaseException) -> None:
        """End the request with an error's status; raises what gRPC wants to see for that."""
        observed = self._observed
        if isinstance(error, RetrievalError):
            observed.code, observed.detail = status_code(error).name, one_line(error.message)
            await abort(self._context, error, observed.id)
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            # The client went away, its deadline passed, or the server's grace was over.
            observed.code = "CANCELLED"
        elif isinstance(error, Exception):
            observed.code = status_code(error).name
            LOG.error("%s failed", observed.method, exc_info=error)
            await abort(self._context, error, observed.id)


class ReflectionInterceptor(_Interceptor):
    """Tells what the services are to those alone who may call one of them.

    Health is left open: what asks for it is often a machine that has no token.
    """

    def __init__(self, access: Access) -> None:
        """Keep who may ask."""
        self._access = access

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Refuse a stream of reflection without a token; called by gRPC."""
        if handler_call_details.method.startswith("/grpc.reflection."):
            try:
                self._access.identify(handler_call_details.invocation_metadata or ())
            except RetrievalError as error:
                return _refusing(error)
        return await continuation(handler_call_details)


def _refusing(error: RetrievalError) -> _Handler:
    """A handler of a stream that ends with an error."""

    async def refuse(_requests: object, context: _Context) -> None:
        await abort(context, error)

    return grpc.stream_stream_rpc_method_handler(cast(Any, refuse))


def _parse(handler: _Handler, data: bytes) -> Message:
    """The request's message.

    Raises:
        InvalidArgument: the bytes are no such message.
    """
    parse = cast(Callable[[bytes], Message], handler.request_deserializer)
    try:
        return parse(data)
    except DecodeError as error:
        raise InvalidArgument(
            "the request is malformed: it is not a message of this type"
        ) from error


async def abort(context: _Context, error: Exception, request: str = "") -> NoReturn:
    """End a request with the status of an error and its details, and the request's id."""
    message, serialized = serialized_status(error)
    details: tuple[tuple[str, str | bytes], ...] = ((STATUS_DETAILS_KEY, serialized),)
    if request:
        details = (*details, (REQUEST_ID, request))
    await context.abort(status_code(error), message, details)
