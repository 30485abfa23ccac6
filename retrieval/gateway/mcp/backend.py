"""The server behind the tools: one connection, and who asks."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from starlette.requests import Request

from retrieval.gateway.upstream import REQUEST_ID, Caller, Upstream, caller_of

ResponseT = TypeVar("ResponseT")
Method = Callable[..., Awaitable[ResponseT]]

_AUTHORIZATION = "authorization"


class Backend:
    """The server that tools ask; made in the event loop that uses it.

    Requests wait until there is a connection, because the server may still be starting.
    """

    def __init__(self, *, timeout: float, token: str = "") -> None:
        """Begin without a connection.

        Args:
            timeout: seconds that a request may take.
            token: for requests that come without one.
        """
        self._connected: asyncio.Future[Upstream] = asyncio.get_running_loop().create_future()
        self._timeout = timeout
        self._token = token

    def connect(self, upstream: Upstream) -> None:
        """Use this connection from now on."""
        self._connected.set_result(upstream)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection; the server may be away all the same."""
        return self._connected.done()

    def asker(self, request: Request | None) -> "Asker":
        """Return who asks.

        Args:
            request: that brought the message; None if it came over standard input.

        Raises:
            Refused: a token that no client sends.
        """
        if request is None:
            identifier = secrets.token_hex(8)
            caller = Caller(((REQUEST_ID, identifier),), self._timeout, identifier)
        else:
            state = request.scope.get("state", {})
            identifier = state.get("request_id") or secrets.token_hex(8)
            headers = request.scope["headers"]
            caller = caller_of(headers, request_id=identifier, timeout=self._timeout)
        return Asker(self, self._with_token(caller))

    def _with_token(self, caller: Caller) -> Caller:
        if not self._token or any(name == _AUTHORIZATION for name, _ in caller.metadata):
            return caller
        metadata = (*caller.metadata, (_AUTHORIZATION, f"Bearer {self._token}"))
        return replace(caller, metadata=metadata)

    async def call(
        self, choose: Callable[[Upstream], Method[ResponseT]], request: object, caller: Caller
    ) -> ResponseT:
        """Send a request to the server, and wait for the answer; see ``Asker.call``."""
        upstream = await asyncio.shield(self._connected)
        return await upstream.call(choose(upstream), request, caller)


@dataclass(frozen=True, slots=True)
class Asker:
    """A client of ours, whose requests go to the server with its own token."""

    backend: Backend
    caller: Caller

    @property
    def token(self) -> str:
        """The ``authorization`` that goes along; empty for none."""
        return dict(self.caller.metadata).get(_AUTHORIZATION, "")

    def within(self, seconds: float) -> "Asker":
        """Return the same client, whose requests may take no longer than this."""
        caller = replace(self.caller, timeout=min(seconds, self.caller.timeout))
        return Asker(self.backend, caller)

    async def call(
        self,
        choose: Callable[[Upstream], Any],  # the stubs' methods are not typed
        request: object,
    ) -> Any:  # noqa: ANN401  (the message that the method returns)
        """Send a request to the server, and wait for the answer.

        Args:
            choose: returns the method, such as ``lambda server: server.search.Search``.
            request: its message.

        Raises:
            Refused: the server refused it, or was not reached.
        """
        return await self.backend.call(choose, request, self.caller)
