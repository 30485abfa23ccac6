"""Around every HTTP request: who may ask, how much, how fast, and that work for nobody stops."""

import asyncio
import logging
import re
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieval.client.target import is_loopback
from retrieval.gateway.config import GatewayConfig, HttpLimits
from retrieval.gateway.problems import MEDIA_TYPE, Problem, internal
from retrieval.gateway.upstream import REQUEST_ID, request_id_of

LOG = logging.getLogger(__name__)

_BYTES_A_SECOND: Final = 64 << 10
"""Slowest client that is waited for beyond the limit of time, as for the server's messages."""
_PORT: Final = re.compile(r":[0-9]+$")


class Guard:
    """ASGI middleware that admits a request, reads its body, and ends it when the client goes.

    It stands around the application, so the application gets bodies that are whole and within
    limits, and every answer has the request's id.
    """

    def __init__(self, app: ASGIApp, config: GatewayConfig) -> None:
        """Guard an application."""
        self._app = app
        self._limits = config.limits
        self._hosts = _hosts(config)
        self._origins = frozenset(config.cors_origins)
        self._budget = _Budget(config.limits.body_budget)
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        request_id = request_id_of(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id, scope["path"])
        problem = self._refusal(headers)
        if problem is not None:
            await answer.refuse(problem)
            return
        self._under_way += 1
        body = _Body(self._limits, self._budget)
        try:
            await body.read(receive, headers)
            await self._run(scope, receive, bytes(body.data), answer)
        except _Refusal as refusal:
            await answer.refuse(refusal.problem)
        except _Gone:
            return
        finally:
            self._under_way -= 1
            self._budget.held -= len(body.data)

    def _refusal(self, headers: list[tuple[bytes, bytes]]) -> Problem | None:
        """Return why a request is refused by its headers; None if it is not."""
        values = {name: value for name, value in headers if name in (b"host", b"origin")}
        host = values.get(b"host", b"").decode("latin-1").lower()
        if self._hosts is not None and _PORT.sub("", host) not in self._hosts:
            return Problem(
                421,
                "FOREIGN_HOST",
                f"this gateway is not {host[:100]!r}: ask it by its own address, or start it with "
                "--allowed-host",
            )
        origin = values.get(b"origin", b"").decode("latin-1").lower()
        if origin and origin not in self._origins and urlsplit(origin).netloc != host:
            return Problem(
                403,
                "FOREIGN_ORIGIN",
                f"web pages of {origin[:100]} may not use this gateway: start it with "
                "--cors-origin",
            )
        if self._under_way >= self._limits.concurrent_requests:
            return Problem(
                503,
                "OVERLOADED",
                f"{self._under_way} requests are in flight already: try again later",
                {"limit": "concurrent_requests"},
                retry_after=1,
            )
        return None

    async def _run(self, scope: Scope, receive: Receive, body: bytes, answer: "_Answer") -> None:
        """Run the application, and cancel it when the client disconnects."""
        gone = asyncio.Event()
        given = False

        async def replay() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        running = asyncio.current_task()

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()
            if running is not None and not answer.complete:
                running.cancel()

        watcher = asyncio.create_task(watch())
        try:
            await self._app(scope, replay, answer.send)
        except asyncio.CancelledError:
            if not gone.is_set() or running is None:
                raise
            running.uncancel()
        except Exception:
            LOG.exception("request %s failed", answer.request_id)
            if answer.started:
                raise
            await answer.refuse(internal())
        finally:
            watcher.cancel()


class _Gone(Exception):
    """The client disconnected before its request was read."""


class _Refusal(Exception):
    """A request's body is refused."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class _Answer:
    """Sends one answer with the request's id, and without leave to guess that it is a page."""

    def __init__(self, send: Send, request_id: str, path: str) -> None:
        self._send = send
        self._path = path
        self.request_id = request_id
        self.started = False
        self.complete = False

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.started = True
            message["headers"] = [
                *message.get("headers", ()),
                (REQUEST_ID.encode(), self.request_id.encode()),
                (b"x-content-type-options", b"nosniff"),
            ]
        elif not message.get("more_body", False):
            self.complete = True
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem, and close the connection if a body may still arrive on it."""
        body = orjson.dumps(problem.body(self._path))
        headers = {
            "content-type": MEDIA_TYPE,
            "content-length": str(len(body)),
            "connection": "close",
            **problem.headers(),
        }
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})


class _Budget:
    """Bytes that the bodies of all requests in flight may have together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0


class _Body:
    """The body of one request, within its limit and the budget of all."""

    def __init__(self, limits: HttpLimits, budget: _Budget) -> None:
        self.data = bytearray()
        self._limits = limits
        self._budget = budget

    async def read(self, receive: Receive, headers: list[tuple[bytes, bytes]]) -> None:
        """Read it to its end.

        Raises:
            _Refusal: it is too large, too slow, or all bodies together are too large.
            _Gone: the client disconnected.
        """
        self._check(_announced(headers))
        until = self._limits.stall_seconds + asyncio.get_running_loop().time()
        more = True
        while more:
            try:
                async with asyncio.timeout_at(until + len(self.data) / _BYTES_A_SECOND):
                    message = await receive()
            except TimeoutError:
                detail = "the request's body did not arrive in time"
                raise _Refusal(Problem(408, "TOO_SLOW", detail)) from None
            if message["type"] == "http.disconnect":
                raise _Gone
            self._add(message.get("body", b""))
            more = message.get("more_body", False)

    def _check(self, size: int) -> None:
        most = self._limits.body_bytes
        if size > most:
            raise _Refusal(
                Problem(
                    413,
                    "BODY_TOO_LARGE",
                    f"the body has more than {most} bytes, and no request may have more",
                    {"limit": "max-body-bytes"},
                )
            )

    def _add(self, chunk: bytes) -> None:
        self._check(len(self.data) + len(chunk))
        if chunk and self._budget.held + len(chunk) > self._budget.most:
            raise _Refusal(
                Problem(
                    503,
                    "OVERLOADED",
                    "the bodies of all requests in flight take up the gateway's memory: "
                    "try again later",
                    {"limit": "body-budget"},
                    retry_after=1,
                )
            )
        self._budget.held += len(chunk)
        self.data += chunk


def _announced(headers: list[tuple[bytes, bytes]]) -> int:
    """Return the length that a request's headers announce; 0 if they announce none."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _hosts(config: GatewayConfig) -> Collection[str] | None:
    """Return the names by which clients may reach the gateway; None for any.

    A page of another site whose name resolves to this machine (DNS rebinding) sends its own name.
    """
    if not config.is_loopback and not config.allowed_hosts:
        return None
    own = {config.host, config.address.rpartition(":")[0]}
    if is_loopback(f"{config.host}:0"):
        own |= {"localhost", "127.0.0.1", "[::1]"}
    return own | {host.lower() for host in config.allowed_hosts}
