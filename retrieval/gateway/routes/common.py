"""What all routes share: the server behind them, who asks it, and answers in JSON."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response

from retrieval.domain.bounded_cache import Recent
from retrieval.gateway.upstream import Caller, Upstream, caller_of

ResponseT = TypeVar("ResponseT")

_REMEMBERED_MODELS: Final = 1000


@dataclass(frozen=True, slots=True)
class Gateway:
    """What lasts longer than a request; an application has it as ``state.gateway``."""

    upstream: Upstream
    timeout: float
    """Limits a request to the server, in seconds."""
    models: Recent[tuple[str, str], bool] = field(
        default_factory=lambda: Recent(_REMEMBERED_MODELS, lambda _: 1)
    )
    """Whether a name was last that of a model, and not of a collection; by token as well, for
    callers see different ones."""


@dataclass(frozen=True, slots=True)
class Server:
    """The server as one request asks it: with the request's token, ids and deadline."""

    gateway: Gateway
    caller: Caller

    @property
    def stubs(self) -> Upstream:
        """The server's services."""
        return self.gateway.upstream

    async def call(self, method: Callable[..., Awaitable[ResponseT]], message: object) -> ResponseT:
        """Send a message and wait for the answer.

        Args:
            method: of one of the ``stubs``.
            message: what to send.

        Raises:
            Refused: the server refused it, or was not reached.
        """
        return await self.gateway.upstream.call(method, message, self.caller)

    def stream(self, method: Callable[..., Any], message: object) -> AsyncGenerator[Any]:
        """Send a message and yield the answers; closing the generator ends the call.

        Args:
            method: of one of the ``stubs``.
            message: what to send.

        Raises:
            Refused: the server refused it, at its start or later, or was not reached.
        """
        return self.gateway.upstream.stream(method, message, self.caller)


def gateway_of(request: Request) -> Gateway:
    """Return the gateway that got a request."""
    gateway: Gateway = request.app.state.gateway
    return gateway


def server_for(request: Request, *, least_timeout: float = 0.0) -> Server:
    """Return the server for the messages of a request.

    Args:
        request: the HTTP request. It may ask for less time than it has, in a header.
        least_timeout: seconds that it has even if the gateway's usual limit is less.

    Raises:
        Refused: a token or a time limit that no client sends.
    """
    # Routes call this themselves: FastAPI's `Depends` would take five times as long.
    gateway = gateway_of(request)
    caller = caller_of(
        request.scope["headers"],
        request_id=request.scope["state"]["request_id"],
        timeout=max(gateway.timeout, least_timeout),
    )
    return Server(gateway, caller)


def as_json(content: object, *, status: int = 200, headers: Mapping[str, str] = {}) -> Response:
    """Return an answer in JSON; numbers that are not finite become null."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z)
    return Response(body, status, {**headers}, media_type="application/json")
