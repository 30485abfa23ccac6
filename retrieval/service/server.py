"""The server: it listens, loads, serves and drains."""

import asyncio
import gc
import logging
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from wsgiref.simple_server import WSGIServer

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from retrieval.domain.own_process import at_end_of_stdin, is_own_process
from retrieval.domain.records import IndexInfo, ModelIdentity
from retrieval.domain.resource_names import collection_name
from retrieval.errors import AddressInUse, NotServing, RetrievalError
from retrieval.service.access.callers import EVERYONE, Access
from retrieval.service.collections.data_folder import DataFolder
from retrieval.service.collections.open_collections import Collections
from retrieval.service.collections.puller import Puller
from retrieval.service.collections.refresher import Refresher
from retrieval.service.collections.watcher import Watcher
from retrieval.service.config import Address, ServiceConfig
from retrieval.service.engine import Engine
from retrieval.service.grpc_api.doors import Door, Host, open_doors
from retrieval.service.grpc_api.embedding_servicer import EmbeddingServicer
from retrieval.service.grpc_api.health import HealthServicer
from retrieval.service.grpc_api.index_servicer import IndexServicer
from retrieval.service.grpc_api.interceptors import RequestInterceptor
from retrieval.service.grpc_api.reflection import add_reflection
from retrieval.service.grpc_api.rerank_servicer import RerankServicer
from retrieval.service.grpc_api.search_servicer import SearchServicer
from retrieval.service.grpc_api.tls import Certificates
from retrieval.service.limits.hang_up import hang_up
from retrieval.service.limits.memory import Trimmer
from retrieval.service.limits.under_way import Admission, Transfers
from retrieval.service.observability.metrics import Metrics
from retrieval.service.observability.metrics_port import listen as listen_for_metrics
from retrieval.service.observability.observer import Observer, Tracer
from retrieval.service.scheduling.batcher import Batcher
from retrieval.service.scheduling.pools import Pools
from retrieval.service.scheduling.threads import supervise
from retrieval.store import Location
from retrieval.v1 import (
    embedding_service_pb2,
    index_service_pb2,
    rerank_service_pb2,
    search_service_pb2,
)
from retrieval.v1.embedding_service_pb2_grpc import add_EmbeddingServiceServicer_to_server
from retrieval.v1.index_service_pb2_grpc import add_IndexServiceServicer_to_server
from retrieval.v1.rerank_service_pb2_grpc import add_RerankServiceServicer_to_server
from retrieval.v1.search_service_pb2_grpc import add_SearchServiceServicer_to_server

LOG = logging.getLogger(__name__)

SERVICE_NAMES = tuple(
    file.DESCRIPTOR.services_by_name[service].full_name
    for file, service in (
        (search_service_pb2, "SearchService"),
        (embedding_service_pb2, "EmbeddingService"),
        (rerank_service_pb2, "RerankService"),
        (index_service_pb2, "IndexService"),
    )
)
"""Full names of the services, for health and reflection."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_FAREWELL_SECONDS = 0.1
"""For clients that watch the server's health to learn that it ends before they are cut off."""
_CLOSE_SECONDS = 0.5
"""How long gRPC waits for requests if hanging up is turned off or does nothing."""

_MIN_PING_SECONDS, _MAX_PING_STRIKES = 10, 2
"""Clients may ping every 10 seconds, gRPC's own lower limit; those that ping more often are cut off
after two warnings, gRPC's default."""
_KEEPALIVE_SECONDS, _KEEPALIVE_TIMEOUT_SECONDS = 120, 20
"""A client that vanished without a word is noticed after both; its watches and streams end then."""
_HELLO_SECONDS = 10
"""For TLS and HTTP/2 to begin; a handshake takes two round trips."""
_OTHER_FILES = 1024
"""Open files beside connections: indexes, models, logs."""
_IDLE_SECONDS = 300
"""How long a connection may have no request; a client reconnects by itself when it has one."""

_REVIVE_SECONDS = 1.0
"""Between two checks that all threads run."""


class RetrievalServer:
    """One server; made, started and stopped in one running event loop."""

    def __init__(self, config: ServiceConfig) -> None:
        """Put the parts together, without listening or loading anything yet.

        Raises:
            InvalidArgument: tokens, certificates, or what the environment asks for can't be used.
            NotServing: the system can't start a thread.
        """
        self._config = config
        self._access = Access(config.token_file)
        self._certificates = Certificates(config.tls) if config.tls else None
        _allow_connections(config.limits.connections)
        self._admission = Admission(config.limits.concurrent_requests)
        self._transfers = Transfers(config.limits, Trimmer())
        self._metrics = Metrics()
        self._pools = Pools.start(
            config.search_threads, reranks=bool(config.reranker), metrics=self._metrics
        )
        self._tracer = Tracer()
        self._batcher = Batcher(metrics=self._metrics)
        self._collections = Collections(
            config, self._batcher, self._metrics, self._say_opened, self._say_removed
        )
        self._refresher = Refresher(self._collections)
        self._metrics.watch(
            lambda: self._admission.under_way,
            lambda: self._batcher.waiting,
            lambda: self._transfers.held,
        )
        self._observer = Observer(self._metrics, self._tracer)
        self._engine = Engine(
            self._collections,
            config.limits,
            self._observer,
            self._pools,
            writing=config.writing,
        )
        self._metrics_server: WSGIServer | None = None
        self._health = HealthServicer(self._access)
        self._doors = self._open_doors() if config.writing else []
        self._server = self._build()
        self._address: Address | None = None
        self.plain_address = config.listen
        """Where to connect without TLS from this machine; see ``ServiceConfig.plain_port``."""
        self._background: list[asyncio.Task[None]] = []
        self._serving = False
        """Whether health reports the open collections as serving."""

    def _open_doors(self) -> list[Door]:
        host = Host(
            self._config,
            self._collections,
            self._refresher,
            self._transfers,
            self._metrics,
            self._say_serving,
        )
        return open_doors(host)

    @property
    def _services(self) -> tuple[str, ...]:
        """Full names of the services that requests can be made of."""
        return (*SERVICE_NAMES, *(name for door in self._doors for name in door.scopes))

    def _build(self) -> grpc.aio.Server:
        limits = self._config.limits
        server = grpc.aio.server(
            interceptors=[
                RequestInterceptor(
                    self._observer,
                    self._access,
                    self._admission,
                    self._transfers,
                    max_message_bytes=limits.message_bytes,
                    max_watches=limits.concurrent_requests,
                    scopes={k: scope for door in self._doors for k, scope in door.scopes.items()},
                ),
            ],
            options=[
                # Otherwise two servers could listen on one port and share its clients.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", limits.message_bytes),
                ("grpc.max_send_message_length", limits.message_bytes),
                # Cut off clients that ping more often than they need to.
                ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_SECONDS * 1000),
                ("grpc.http2.max_ping_strikes", _MAX_PING_STRIKES),
                # Notice clients that vanished, and free what they hold.
                ("grpc.keepalive_time_ms", _KEEPALIVE_SECONDS * 1000),
                ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_SECONDS * 1000),
                # Close connections that send nothing, or nothing more.
                ("grpc.server_handshake_timeout_ms", _HELLO_SECONDS * 1000),
                ("grpc.http2.settings_timeout", _HELLO_SECONDS * 1000),
                ("grpc.max_connection_idle_ms", _IDLE_SECONDS * 1000),
                ("grpc.max_allowed_incoming_connections", limits.connections),
                # Requests that the event loop has not seen yet are not counted as in flight, but
                # they wait as well: above this number, gRPC itself ends more and more of them.
                ("grpc.server.max_pending_requests", limits.concurrent_requests),
                ("grpc.server.max_pending_requests_hard_limit", 2 * limits.concurrent_requests),
                # Above the limit of requests: reject excess requests instead of queueing them.
                ("grpc.max_concurrent_streams", 4 * limits.concurrent_requests),
            ],
        )
        add_SearchServiceServicer_to_server(SearchServicer(self._engine), server)
        add_EmbeddingServiceServicer_to_server(EmbeddingServicer(self._engine), server)
        add_RerankServiceServicer_to_server(RerankServicer(self._engine), server)
        add_IndexServiceServicer_to_server(IndexServicer(self._engine), server)
        for door in self._doors:
            door.add_to(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        add_reflection((*self._services, health.SERVICE_NAME), server)
        return server

    async def start(self) -> Address:
        """Listen, then load; requests that arrive while it loads are told to retry.

        Returns:
            the address, with the port that the system picked.

        Raises:
            AddressInUse: the server can't listen on the address.
            RetrievalError: an index or a model can't be used.
        """
        await self._set_health(_NOT_SERVING)
        address = _listen(self._server, self._config.listen, self._certificates)
        self._address = self.plain_address = address
        if self._config.plain_port and self._certificates is not None:
            self.plain_address = _listen(self._server, Address("127.0.0.1", 0), None)
        await self._server.start()
        if self._config.metrics:
            self._metrics_server = listen_for_metrics(self._config.metrics, self._metrics.registry)
        puller = self._puller()
        await puller.first()
        await self._collections.open_all()
        if is_own_process():
            # Requests make reference cycles, and collecting them must not go through all of torch.
            # In somebody's process, what a stopped server was made of would never be collected.
            gc.freeze()
        self._admission.open()
        await self._set_health(_SERVING)
        self._background.append(supervise("threads", self._keep_threads, self._metrics))
        if self._config.reload_seconds:
            watcher = Watcher(
                self._collections,
                self._config.reload_seconds,
                self._metrics,
            )
            self._background.append(supervise("reload", watcher.run, self._metrics))
            self._watch_data_folder()
        if self._config.pulled:
            self._background.append(supervise("pull", puller.run, self._metrics))
        for door in self._doors:
            await door.start()
        return address

    def _puller(self) -> Puller:
        config = self._config
        places = {name: Location.parse(config.indexes[name]) for name in config.pulled}
        folders = {name: place.folder for name, place in places.items()}
        return Puller(config.pulled, folders, config.pull_seconds, self._metrics)

    def _watch_data_folder(self) -> None:
        """Serve what other programs build into the folder of collections, if there is one."""
        writing = self._config.writing
        if writing is not None and writing.data is not None:
            folder = DataFolder(writing.data, self._collections, self._config.reload_seconds)
            self._background.append(supervise("data folder", folder.run, self._metrics))

    async def _keep_threads(self) -> None:
        """Start threads again that have ended; while they can't start, report NOT_SERVING."""
        while True:
            await asyncio.sleep(_REVIVE_SECONDS)
            reason = ""
            try:
                self._batcher.revive()
                self._pools.revive()
            except NotServing as error:
                reason = error.message
            if reason and self._serving:
                LOG.error("nothing can be answered: %s", reason)
                await self._set_health(_NOT_SERVING)
            elif not reason and not self._serving:
                LOG.info("requests can be answered again")
                await self._set_health(_SERVING)

    def infos(self) -> dict[str, IndexInfo]:
        """Return what each open collection holds, by its own name."""
        infos = {}
        for name in self._collections.visible(EVERYONE):
            with self._collections.use(name, EVERYONE) as collection:
                infos[name] = collection.info
        return infos

    def models(self) -> list[ModelIdentity]:
        """Return the models that the server was started with."""
        return self._collections.given_models

    def reload_access(self) -> None:
        """Read tokens and certificates again; if one can't be used, log it and keep them all."""
        try:
            tokens = self._access.read()
            certificates = self._certificates.read() if self._certificates else None
        except RetrievalError as error:
            LOG.warning("tokens and certificates stay as they were: %s", error.message)
            return
        self._access.use(tokens)
        if self._certificates and certificates:
            self._certificates.use(certificates)
        LOG.info("tokens and certificates are reloaded")

    async def stop(self) -> None:
        """Drain: admit no more requests, wait for those in flight, then close everything.

        Health reports NOT_SERVING from the start. After the grace period, connections with
        remaining requests are closed. A server that didn't finish starting can be stopped, too.
        """
        self._admission.close()
        for door in self._doors:
            door.drain()
        for task in self._background:
            task.cancel()
        await self._health.enter_graceful_shutdown()
        grace = self._config.grace_seconds
        if not await self._admission.drained(grace):
            LOG.warning("requests are still in flight after %g s: closing their connections", grace)
        address, self._address = self._address, None  # only once: the port may be reused later
        if address is not None:
            await asyncio.sleep(_FAREWELL_SECONDS)
            hang_up(address.port)
            if self.plain_address != address:
                hang_up(self.plain_address.port)
        await self._server.stop(_CLOSE_SECONDS)
        for door in self._doors:
            await door.stop()
        self._refresher.close()
        self._transfers.close()
        await asyncio.to_thread(self._close_threads)
        self._collections.close()

    def _close_threads(self) -> None:
        # Searches wait for embeddings, so end their threads first.
        self._pools.close()
        self._batcher.close()
        self._tracer.close()
        if self._metrics_server is not None:
            self._metrics_server.shutdown()
            self._metrics_server.server_close()

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        self._serving = status == _SERVING
        for name in ("", *SERVICE_NAMES):  # doors report their own
            await self._health.set(name, status)
        for name in self._collections.names:
            opened = self._collections.look(name) is not None
            await self._health.set(collection_name(name), status if opened else _NOT_SERVING)

    async def _say_opened(self, collection: str) -> None:
        await self._health.set(collection_name(collection), _SERVING)

    async def _say_removed(self, collection: str) -> None:
        await self._health.forget(collection_name(collection))

    async def _say_serving(self, service: str, serving: bool) -> None:
        await self._health.set(service, _SERVING if serving else _NOT_SERVING)


async def serve(
    config: ServiceConfig,
    ready: Callable[[Address, dict[str, IndexInfo], list[ModelIdentity], str], None],
    beside: Callable[[Address], AbstractAsyncContextManager[str]] | None = None,
    *,
    until_stdin_closes: bool = False,
) -> None:
    """Run a server until SIGTERM or SIGINT, then drain it.

    A second signal during the drain ends the process at once.

    Args:
        config: what to serve, and where.
        ready: called once the server answers requests, with what the collections hold, the models
            that it was started with, and what ``beside`` gives.
        beside: what to run beside the server while it answers requests, by its plain address.
        until_stdin_closes: whether to end as well when the process that started it has ended.

    Raises:
        AddressInUse: the server can't listen on the address.
        RetrievalError: an index or a model can't be used.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        LOG.info("%s: draining", number.name)
        stopping.set()
        for other in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(other)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    if until_stdin_closes:
        at_end_of_stdin(stopping.set)
    server = RetrievalServer(config)
    loop.add_signal_handler(signal.SIGHUP, server.reload_access)
    try:
        address = await server.start()
        async with AsyncExitStack() as stack:
            other = ""
            if beside is not None and not stopping.is_set():
                other = await stack.enter_async_context(beside(server.plain_address))
            if not stopping.is_set():
                ready(address, server.infos(), server.models(), other)
            await stopping.wait()
    finally:
        await server.stop()


def _allow_connections(wanted: int) -> None:
    """Raise the process's limit of open files so that it leaves room for all connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        LOG.warning(
            "this process may open %d files, too few for %d connections: raise ulimit -n, or lower "
            "--max-connections",
            allowed,
            wanted,
        )


def _listen(
    server: grpc.aio.Server, address: Address, certificates: Certificates | None
) -> Address:
    """Bind a server's port.

    Raises:
        AddressInUse: another program listens there, or the system refuses.
    """
    _probe(address)
    try:
        if certificates is None:
            port = server.add_insecure_port(str(address))
        else:
            port = server.add_secure_port(str(address), certificates.credentials())
    except RuntimeError as error:
        raise AddressInUse(f"can't listen on {address}: {error}") from error
    return Address(address.host, port)


def _probe(address: Address) -> None:
    """Bind the address and release it again, because gRPC's own error does not tell the reason.

    Raises:
        AddressInUse: with the system's reason.
    """
    try:
        family, kind, protocol, _name, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError as error:
        raise AddressInUse(
            f"can't listen on {address}: {error.strerror or error}; give another --listen HOST:PORT"
        ) from error
