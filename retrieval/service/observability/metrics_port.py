"""The port on which Prometheus reads the metrics of a server."""

import logging
import socket
from socketserver import TCPServer, ThreadingMixIn
from threading import BoundedSemaphore, Thread
from typing import Final, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from retrieval.errors import AddressInUse
from retrieval.service.config import Address

LOG = logging.getLogger(__name__)

_MAX_CONNECTIONS: Final = 8
"""At a time; more are closed at once. A crowd must not take cores from the searches."""
_TIMEOUT_SECONDS: Final = 10
"""For a request to arrive, and for its answer to be taken; Prometheus itself waits 10 seconds."""

_Request: TypeAlias = socket.socket | tuple[bytes, socket.socket]


def listen(address: Address, registry: CollectorRegistry) -> WSGIServer:
    """Answer ``GET /metrics`` in a thread.

    Args:
        address: to listen on; port 0 picks a free one.
        registry: the metrics.

    Returns:
        the server; shut it down to stop.

    Raises:
        AddressInUse: the server can't listen on that address.
    """
    try:
        server = MetricsServer(address, registry)
    except OSError as error:
        raise AddressInUse(
            f"can't listen on {address}: {error.strerror or error}; give another --metrics"
        ) from error
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    LOG.info("metrics on http://%s/metrics", Address(address.host, server.server_port))
    return server


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT_SECONDS

    def log_message(self, _format: str, *_arguments: object) -> None:
        """Log nothing: reading metrics is not a user's request."""


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Answers with the metrics of a registry, in a few threads that never wait for long."""

    daemon_threads = True

    def __init__(self, address: Address, registry: CollectorRegistry) -> None:
        """Listen.

        Args:
            address: to listen on; port 0 picks a free one.
            registry: the metrics.

        Raises:
            OSError: the server can't listen on that address.
        """
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._free = BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__((address.host, address.port), _Handler)
        self.set_app(make_wsgi_app(registry))

    def server_bind(self) -> None:
        """Bind without looking up the host's name as ``HTTPServer`` does: that can take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: _Request, client_address: object) -> None:
        """Answer a connection in a thread of its own, or close it if there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: _Request, client_address: object) -> None:
        """Answer a connection, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()
