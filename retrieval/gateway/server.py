"""A running gateway: it listens, answers, and drains."""

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from retrieval.domain.own_process import at_end_of_stdin
from retrieval.errors import AddressInUse, InvalidArgument
from retrieval.gateway.config import GatewayConfig
from retrieval.gateway.problems import Refused
from retrieval.gateway.protocol import protocol_options
from retrieval.gateway.upstream import Caller, Upstream
from retrieval.v1 import index_service_pb2 as pb

LOG = logging.getLogger(__name__)

_BACKLOG: Final = 2048
"""uvicorn's default: connections that arrive at once wait for a moment instead of failing."""
_PROBE_SECONDS: Final = 2.0
_PROBE_EVERY: Final = 1.0


@dataclass(frozen=True, slots=True)
class Site:
    """What a gateway answers with."""

    app: ASGIApp
    running: AbstractAsyncContextManager[object] = field(default_factory=nullcontext)
    """What the application needs to have entered while it answers."""


def gateway_site(config: GatewayConfig, upstream: Upstream) -> Site:
    """Return the site of ``retrieval gateway``."""
    from retrieval.gateway.app import create_app  # loads FastAPI

    return Site(create_app(config, upstream))


class _Server(uvicorn.Server):
    """A uvicorn server that says when it listens, and leaves signals to others."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would end the process by the signal, not with code 0."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections."""
        await super().startup(sockets)
        if not self.should_exit:
            self._on_ready()


class RunningGateway:
    """One gateway; made, started and stopped in one running event loop."""

    def __init__(
        self,
        config: GatewayConfig,
        make_site: Callable[[GatewayConfig, Upstream], Site] = gateway_site,
    ) -> None:
        """Listen, without answering yet.

        Args:
            config: its settings.
            make_site: returns what it answers with, given the connection to the server.

        Raises:
            AddressInUse: the gateway can't listen on the address.
            InvalidArgument: certificates can't be used.
        """
        self._config = config
        self._upstream = Upstream(config)
        self._site = make_site(config, self._upstream)
        self._ready = asyncio.Event()
        self._socket = _listen(config.host, config.port)
        self.port: int = self._socket.getsockname()[1]
        """The port, also if the system picked it."""
        settings = uvicorn.Config(
            self._site.app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=max(1, round(config.grace_seconds)),
            **protocol_options(config.limits),
            **_tls_options(config),
        )
        try:
            settings.load()
        except (OSError, ssl.SSLError) as error:
            self._socket.close()
            raise InvalidArgument(f"can't use the TLS files: {error}", field="tls") from error
        self._server = _Server(settings, self._ready.set)
        self._starting: asyncio.Task[None] | None = None

    async def serve(self, on_ready: Callable[[int], None]) -> None:
        """Answer until ``stop``.

        Args:
            on_ready: called with the port once requests are answered.

        Raises:
            InvalidArgument: the server asks for no token, and other machines may reach the gateway.
        """
        try:
            self._starting = asyncio.create_task(self._check_access())
            await asyncio.wait({self._starting})
            if self._starting.cancelled():
                return
            self._starting.result()
            async with self._site.running:
                serving = asyncio.create_task(self._server.serve([self._socket]))
                ready = asyncio.create_task(self._ready.wait())
                await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
                if ready.done():
                    on_ready(self.port)
                ready.cancel()
                await serving
        finally:
            self._socket.close()
            await self._upstream.close()

    def stop(self) -> None:
        """Drain: answer what is in flight, then end; a second call ends at once."""
        self._server.force_exit = self._server.should_exit
        self._server.should_exit = True
        if self._starting is not None:
            self._starting.cancel()

    async def _check_access(self) -> None:
        """Refuse to hand a server that asks for no token to other machines.

        Raises:
            InvalidArgument: the server answers without a token.
        """
        config = self._config
        if config.is_loopback or config.insecure or (config.tls and config.tls.client_ca):
            return
        caller, request = Caller((), _PROBE_SECONDS, ""), pb.GetServerInfoRequest()
        while True:
            try:
                await self._upstream.call(self._upstream.index.GetServerInfo, request, caller)
            except Refused as error:
                if error.problem.status in (401, 403):
                    return
                LOG.warning("waiting for the server: %s", error.problem.detail)
            else:
                raise InvalidArgument(
                    f"other machines may reach {config.address}, and the server asks for no token: "
                    "give it --token-file; or give --insecure if that is what you want",
                    field="listen",
                )
            await asyncio.sleep(_PROBE_EVERY)


def run(
    config: GatewayConfig, on_ready: Callable[[int], None], *, until_stdin_closes: bool = False
) -> None:
    """Run a gateway until SIGTERM or Ctrl-C.

    Args:
        config: its settings.
        on_ready: called with the port once requests are answered.
        until_stdin_closes: whether to end as well when the process that started it has ended.

    Raises:
        RetrievalError: see ``RunningGateway``.
    """
    import uvloop

    async def main() -> None:
        gateway = RunningGateway(config)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, gateway.stop)
        if until_stdin_closes:
            at_end_of_stdin(gateway.stop)
        await gateway.serve(on_ready)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address.

    Raises:
        AddressInUse: the address is taken, or not of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise _cannot_listen(host, port, error) from error
    return listening


def _cannot_listen(host: str, port: int, error: OSError) -> AddressInUse:
    return AddressInUse(
        f"can't listen on {host}:{port} ({error.strerror or error}): give another --listen"
    )


def _tls_options(config: GatewayConfig) -> dict[str, Any]:
    if config.tls is None:
        return {}
    options: dict[str, Any] = {
        "ssl_certfile": config.tls.cert,
        "ssl_keyfile": config.tls.key,
        "ssl_version": ssl.PROTOCOL_TLS_SERVER,
    }
    if config.tls.client_ca is not None:
        options |= {"ssl_ca_certs": config.tls.client_ca, "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return options
