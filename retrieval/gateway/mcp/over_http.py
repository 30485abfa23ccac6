"""The protocol over streamable HTTP: every request for itself, with its own token."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Final

import orjson
import uvloop
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from retrieval.gateway.config import GatewayConfig
from retrieval.gateway.guard import Guard
from retrieval.gateway.mcp.backend import Asker, Backend
from retrieval.gateway.mcp.server import create_server
from retrieval.gateway.problems import MEDIA_TYPE, Problem, Refused
from retrieval.gateway.server import RunningGateway, Site
from retrieval.gateway.upstream import Upstream
from retrieval.v1 import index_service_pb2 as pb

PATH: Final = "/mcp"
_ASKING_SECONDS: Final = 5.0
"""For the server to know a token. The request itself then has its whole time."""


def run(
    config: GatewayConfig,
    target: AbstractAsyncContextManager[str],
    on_ready: Callable[[int], None],
    *,
    token: str,
) -> None:
    """Answer until SIGTERM or Ctrl-C.

    Args:
        config: its settings; its ``target`` is replaced.
        target: yields the server's address, and keeps the server running if it is our own.
        on_ready: called with the port once requests are answered.
        token: for requests that come without one.

    Raises:
        RetrievalError: see ``RunningGateway``.
    """

    async def main() -> None:
        with contextlib.suppress(asyncio.CancelledError):  # told to stop before it answers
            _on_signals(asyncio.current_task().cancel)  # type: ignore[union-attr]
            async with target as address:
                make_site = partial(mcp_site, token=token)
                gateway = RunningGateway(replace(config, target=address), make_site)
                _on_signals(gateway.stop)
                await gateway.serve(on_ready)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def _on_signals(call: Callable[[], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, call)


def mcp_site(config: GatewayConfig, upstream: Upstream, *, token: str = "") -> Site:
    """Return the site of ``retrieval mcp --http``.

    There are no sessions: a client holds nothing here between two requests, and any of several
    processes can answer the next one.

    Args:
        config: its settings.
        upstream: the connection to the server.
        token: for requests that come without one.
    """
    backend = Backend(timeout=config.timeout, token=token)
    backend.connect(upstream)
    # The guard has checked host, origin and size.
    sessions = StreamableHTTPSessionManager(
        create_server(backend), stateless=True, max_request_body_size=config.limits.body_bytes
    )
    app: ASGIApp = _Door(sessions.handle_request, backend)
    if config.cors_origins:
        app = CORSMiddleware(
            app, allow_origins=config.cors_origins, allow_methods=["POST"], allow_headers=["*"]
        )
    return Site(Guard(app, config), sessions.run())


class _Door:
    """ASGI middleware that admits requests with a token that the server accepts."""

    def __init__(self, app: ASGIApp, backend: Backend) -> None:
        self._app = app
        self._backend = backend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            _check_route(scope)
            await self._check_token(self._backend.asker(Request(scope)))
        except Refused as refused:
            await _response(refused.problem, scope)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _check_token(self, asker: Asker) -> None:
        """Refuse a token that the server does not know.

        A server that is not reached is no reason: tools then say so.

        Raises:
            Refused: the token is missing, unknown, revoked or expired.
        """
        if asker.token in self._backend.known:
            return
        asking = asker.within(_ASKING_SECONDS)
        try:
            await asking.call(lambda server: server.index.GetServerInfo, pb.GetServerInfoRequest())
        except Refused as refused:
            if refused.problem.status == HTTPStatus.UNAUTHORIZED:
                raise
            if refused.problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                return
        self._backend.known.add(asker.token)


def _check_route(scope: Scope) -> None:
    """Refuse what is no request of the protocol.

    Raises:
        Refused: another path, or a method that needs sessions.
    """
    if scope["path"].rstrip("/") != PATH:
        raise Refused(Problem(404, "NOT_FOUND", f"the protocol is spoken at {PATH}"))
    if scope["method"] != "POST":
        detail = "there are no sessions, so there is nothing to GET or DELETE: POST messages"
        raise Refused(Problem(405, "METHOD_NOT_ALLOWED", detail))


def _response(problem: Problem, scope: Scope) -> Response:
    headers = problem.headers()
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["allow"] = "POST"
    if problem.status == HTTPStatus.UNAUTHORIZED:
        given = any(name == b"authorization" for name, _ in scope["headers"])
        # RFC 6750: a request without a token gets no error code.
        headers["www-authenticate"] = 'Bearer error="invalid_token"' if given else "Bearer"
    body = orjson.dumps(problem.body(scope["path"]))
    return Response(body, problem.status, headers, media_type=MEDIA_TYPE)
