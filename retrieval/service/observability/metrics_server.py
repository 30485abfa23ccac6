"""The HTTP server that Prometheus asks: a few threads, which wait for nobody for long."""

import socket
from socketserver import TCPServer, ThreadingMixIn
from threading import BoundedSemaphore
from typing import Final, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from retrieval.service.config import Address

_MAX_CONNECTIONS: Final = 8
"""At a time; more are hung up on. A crowd must not take the threads of the searches."""
_SECONDS: Final = 10
"""For a request to come, and for its answer to be taken."""

_Request: TypeAlias = socket.socket | tuple[bytes, socket.socket]


class _Handler(WSGIRequestHandler):
    timeout = _SECONDS

    def log_message(self, _format: str, *_arguments: object) -> None:
        """Log nothing: a look at the metrics is no request of a user."""


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Answers with the numbers of a registry."""

    daemon_threads = True

    def __init__(self, address: Address, registry: CollectorRegistry) -> None:
        """Listen.

        Args:
            address: where; port 0 picks a free one.
            registry: the numbers.

        Raises:
            OSError: it can't listen there.
        """
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._free = BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__((address.host, address.port), _Handler)
        self.set_app(make_wsgi_app(registry))

    def server_bind(self) -> None:
        """Bind, without asking for the host's name as ``HTTPServer`` does: that can take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: _Request, client_address: object) -> None:
        """Answer a connection in a thread of its own, or hang up on it."""
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
