"""The server behind the tools: one connection, and who asks."""

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final, TypeVar

from starlette.requests import Request

from retrieval.gateway.problems import Refused
from retrieval.gateway.upstream import REQUEST_ID, Caller, Upstream, caller_of

ResponseT = TypeVar("ResponseT")
Method = Callable[..., Awaitable[ResponseT]]

_AUTHORIZATION: Final = "authorization"
_KNOWN_SECONDS: Final = 600.0
"""The server itself checks the token of every request. To ask about one costs a request of those
that it allows."""
_KNOWN_TOKENS: Final = 1_000


class KnownTokens:
    """Tokens that the server accepted a while ago, and has not refused since."""

    def __init__(self) -> None:
        """Begin without any."""
        self._since: OrderedDict[bytes, float] = OrderedDict()
        """When each was accepted, by its digest; the oldest first."""

    def __contains__(self, token: str) -> bool:
        """Return whether a token need not be asked about."""
        since = self._since.get(_digest(token))
        return since is not None and time.monotonic() - since < _KNOWN_SECONDS

    def add(self, token: str) -> None:
        """Remember a token that the server accepts."""
        self.forget(token)
        self._since[_digest(token)] = time.monotonic()
        if len(self._since) > _KNOWN_TOKENS:
            self._since.popitem(last=False)

    def forget(self, token: str) -> None:
        """Ask about a token again when it comes next."""
        self._since.pop(_digest(token), None)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


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
        self.known = KnownTokens()
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
        try:
            return await self.backend.call(choose, request, self.caller)
        except Refused as refused:
            if refused.problem.status == HTTPStatus.UNAUTHORIZED:
                self.backend.known.forget(self.token)
            raise
