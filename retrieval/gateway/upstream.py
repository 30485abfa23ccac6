"""The gateway's connection to its server: one channel for the requests of all callers."""

import math
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status

from retrieval.client.connection import Endpoint
from retrieval.client.loops import Stubs
from retrieval.errors import ServiceError
from retrieval.gateway.config import GatewayConfig
from retrieval.gateway.problems import Problem, Refused, of_service

ResponseT = TypeVar("ResponseT")

REQUEST_ID: Final = "x-request-id"
TIMEOUT_HEADER: Final = "x-request-timeout"
"""Seconds that a client waits for the answer at most."""
_FORWARDED: Final = (b"authorization", b"traceparent", b"tracestate")
_MAX_ID_CHARS: Final = 128
"""As for the server, which replaces a longer one."""

_KEEPALIVE: Final = (("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 10_000))
"""A server that vanished is noticed while requests wait for it. It takes pings every 10 seconds."""
_TOO_LARGE: Final = re.compile("(received|sent) message larger than max", re.IGNORECASE)

_HEALTH_SECONDS: Final = 5.0
"""For a readiness probe, which usually gives up after 1 to 10 seconds."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What of an HTTP request's headers goes along with its requests to the server."""

    metadata: tuple[tuple[str, str], ...]
    timeout: float
    """Seconds for all requests to the server together."""
    request_id: str


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the id that a client sent, if it is short and printable, or else a new one."""
    for name, value in headers:
        if name == REQUEST_ID.encode():
            given = value.decode("latin-1")
            if 0 < len(given) <= _MAX_ID_CHARS and given.isascii() and given.isprintable():
                return given
            break
    return secrets.token_hex(8)


def caller_of(headers: Iterable[tuple[bytes, bytes]], *, request_id: str, timeout: float) -> Caller:
    """Return what goes along with a request.

    Args:
        headers: of the HTTP request, names in lower case.
        request_id: the id of the request.
        timeout: seconds that a request may take unless the client wants less.

    Raises:
        Refused: a token or a time limit that no client sends.
    """
    metadata = [(REQUEST_ID, request_id)]
    for name, value in headers:
        if name in _FORWARDED:
            text = value.decode("latin-1").strip()
            if text.isascii() and text.isprintable():
                metadata.append((name.decode(), text))
            elif name == b"authorization":
                raise Refused(
                    Problem(401, "UNAUTHENTICATED", "the token has characters that no token has")
                )
        elif name == TIMEOUT_HEADER.encode():
            timeout = min(timeout, _seconds(value))
    return Caller(tuple(metadata), timeout, request_id)


def _seconds(value: bytes) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise Refused(
            Problem(
                400,
                "INVALID_ARGUMENT",
                f"{TIMEOUT_HEADER} must be a number of seconds above 0",
                {"field": TIMEOUT_HEADER},
            )
        )
    return seconds


class Upstream(Stubs):
    """The server behind the gateway; made in the event loop that uses it."""

    def __init__(self, config: GatewayConfig) -> None:
        """Prepare to connect; the first request connects.

        Raises:
            InvalidArgument: a malformed target, or certificates that can't be read.
        """
        tls = config.target_tls
        self._endpoint = Endpoint(config.target, timeout=config.timeout, tls=tls)
        super().__init__(self._endpoint, *_KEEPALIVE)

    @property
    def target(self) -> str:
        """The server's address."""
        return self._endpoint.target

    async def close(self) -> None:
        """Close the connection; requests in flight fail."""
        await self.channel.close(None)

    async def call(
        self, method: Callable[..., Awaitable[ResponseT]], request: object, caller: Caller
    ) -> ResponseT:
        """Send a request and wait for the answer.

        Raises:
            Refused: the server refused it, or was not reached.
        """
        try:
            return await method(request, timeout=caller.timeout, metadata=caller.metadata)
        except grpc.RpcError as error:
            raise Refused(self._problem(error, caller.timeout)) from error

    async def stream(
        self, method: Callable[..., Any], request: object, caller: Caller
    ) -> AsyncGenerator[Any]:
        """Send a request, or many, and yield the answers; closing the generator ends the call.

        Args:
            method: of a stub.
            request: a message, or an asynchronous iterator of messages.
            caller: who asks.

        Raises:
            Refused: the server refused it, at its start or later, or was not reached.
        """
        responses = method(request, timeout=caller.timeout, metadata=caller.metadata)
        try:
            async for response in cast(AsyncIterator[Any], responses):
                yield response
        except grpc.RpcError as error:
            raise Refused(self._problem(error, caller.timeout)) from error
        finally:
            responses.cancel()

    async def is_serving(self) -> bool:
        """Return whether the server says that it answers requests.

        Raises:
            Refused: it was not reached.
        """
        caller = Caller((), _HEALTH_SECONDS, "")
        answer = await self.call(self.health.Check, health_pb2.HealthCheckRequest(), caller)
        serving: int = health_pb2.HealthCheckResponse.SERVING
        return bool(answer.status == serving)

    def _problem(self, error: grpc.RpcError, timeout: float) -> Problem:
        translated = self._endpoint.error(error)
        if not isinstance(translated, ServiceError):
            return Problem(503, "UNAVAILABLE", "the gateway is shutting down", retry_after=1)
        if not translated.service_reason:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                message = f"no answer from the server within {timeout:g} s"
                return Problem(504, "DEADLINE_EXCEEDED", message)
            if _TOO_LARGE.search(translated.metadata.get("details", "")):
                message = "the request, or its answer, is larger than the server takes in one piece"
                return Problem(413, "MESSAGE_TOO_LARGE", message)
        return of_service(
            translated,
            retry_seconds=_retry_seconds(error),
            ours=bool(translated.service_reason),
        )


def _retry_seconds(error: grpc.RpcError) -> float | None:
    """Return when the server wants the request again; None if it does not say."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return None
    try:
        status = rpc_status.from_call(cast(grpc.Call, error))
    except (ValueError, DecodeError):
        return None
    info = error_details_pb2.RetryInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info):
            return float(info.retry_delay.ToNanoseconds() / 1e9)
    return None
