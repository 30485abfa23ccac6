"""Metrics for Prometheus: counters, gauges and histograms of one server, on a port of their own.

Names and labels are documented in ``docs/serving.md``. Labels have few values: methods of the
contract, status codes, the server's own collections.
"""

import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from socketserver import TCPServer, ThreadingMixIn
from threading import BoundedSemaphore, Thread
from typing import Final, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    make_wsgi_app,
)

from retrieval.domain.records import IndexInfo, TextKind
from retrieval.errors import AddressInUse
from retrieval.search import Timings
from retrieval.service.config import Address

LOG = logging.getLogger(__name__)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Bounds of buckets: from a lexical search of a small index to a reranked one under load."""
_STAGES = ("queue", "encode", "embed", "search", "fetch")
_QUEUES = ("model", "search", "filter", "rerank")
_REJECTIONS = (
    ("NOT_SERVING", ""),
    ("OVERLOADED", ""),
    ("OVERLOADED", "concurrent_requests"),
    ("OVERLOADED", "message_budget"),
    ("OVERLOADED", "slow_messages"),
    ("PERMISSION_DENIED", ""),
    ("RATE_LIMITED", ""),
    ("TOO_SLOW", ""),
    ("UNAUTHENTICATED", ""),
)
"""Reasons and limits that are shown at zero from the start, so that the first refusal is an
increase."""
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Bounds of buckets, up to the texts of the largest request."""


class Metrics:
    """The metrics of one server; safe to share between threads."""

    def __init__(self) -> None:
        """Start at zero."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "retrieval_requests",
            "Requests that got an answer, by method and gRPC status.",
            ["method", "code"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "retrieval_request_seconds",
            "Time from a request's arrival to its answer.",
            ["method"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._answered: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._stages = self._of_stages()
        queues = Histogram(
            "retrieval_queue_seconds",
            "Time that work waited in a queue before it began.",
            ["queue"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._queues = {queue: queues.labels(queue) for queue in _QUEUES}
        self._batch_texts = Histogram(
            "retrieval_batch_texts",
            "Texts that went through the model together.",
            buckets=_TEXTS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "retrieval_tokens", "Tokens that the model read.", ["kind"], registry=self.registry
        )
        self._cache = Counter(
            "retrieval_query_cache",
            "Query texts looked up in the cache of embeddings.",
            ["outcome"],
            registry=self.registry,
        )
        self._under_way = Gauge(
            "retrieval_requests_under_way", "Requests being answered.", registry=self.registry
        )
        self._message_bytes = Gauge(
            "retrieval_message_bytes",
            "Bytes of messages under way that count against the budget.",
            registry=self.registry,
        )
        self._waiting = Gauge(
            "retrieval_queue_texts", "Texts that wait for the model.", registry=self.registry
        )
        self._generation = self._of_collections("generation", "Generation that is served.")
        self._passages = self._of_collections("passages", "Passages that are served.")
        self._documents = self._of_collections("documents", "Documents that are served.")
        self._age = self._of_collections(
            "generation_age_seconds", "Time since the generation that is served was committed."
        )
        self._failed_reloads = Counter(
            "retrieval_index_failed_reloads",
            "Looks for a new generation, and reloads, that failed.",
            ["collection"],
            registry=self.registry,
        )
        self._rejected = Counter(
            "retrieval_requests_rejected",
            "Requests that the server refused, by the reason of their error and, if they were too "
            "many or too large, the limit that they met.",
            ["reason", "limit"],
            registry=self.registry,
        )
        for reason, limit in _REJECTIONS:
            self._rejected.labels(reason, limit)
        self._background_failures = Counter(
            "retrieval_background_failures",
            "Failures of threads and tasks that run beside the requests.",
            ["task"],
            registry=self.registry,
        )

    def _of_stages(self) -> dict[str, Histogram]:
        seconds = Histogram(
            "retrieval_stage_seconds",
            "Time in one stage: queue (waiting for the model), encode (in the model, a whole "
            "batch), embed (queue and encode of one search, or the cache), search, fetch.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        return {stage: seconds.labels(stage) for stage in _STAGES}

    def _of_collections(self, what: str, help_: str) -> Gauge:
        return Gauge(f"retrieval_index_{what}", help_, ["collection"], registry=self.registry)

    def answered(self, method: str, code: str, seconds: float) -> None:
        """Count a request.

        Args:
            method: such as ``SearchService/Search``.
            code: name of the gRPC status.
            seconds: from its arrival to its answer.
        """
        if (method, code) not in self._answered:
            labelled = self._requests.labels(method, code), self._request_seconds.labels(method)
            self._answered[method, code] = labelled
        count, histogram = self._answered[method, code]
        count.inc()
        histogram.observe(seconds)

    def rejected(self, reason: str, limit: str) -> None:
        """Count a request that was refused.

        Args:
            reason: of the error, such as ``OVERLOADED``.
            limit: name of the limit that it exceeded; empty if none.
        """
        self._rejected.labels(reason, limit).inc()

    def searched(self, timings: Timings) -> None:
        """Record where the time of a search went."""
        self._stages["embed"].observe(timings.embed_seconds)
        self._stages["search"].observe(timings.search_seconds)
        self._stages["fetch"].observe(timings.fetch_seconds)

    def waited(self, seconds: float) -> None:
        """Record how long the texts of one request waited for the model."""
        self._stages["queue"].observe(seconds)
        self.queued("model", seconds)

    def queued(self, queue: str, seconds: float) -> None:
        """Record how long something waited in a queue.

        Args:
            queue: ``model``, or the name of the threads that it waited for.
            seconds: until it began.
        """
        self._queues[queue].observe(seconds)

    def encoded(self, kind: TextKind, texts: int, tokens: int, seconds: float) -> None:
        """Count a batch that went through the model."""
        self._stages["encode"].observe(seconds)
        self._batch_texts.observe(texts)
        self._tokens.labels(kind).inc(tokens)

    def looked_up(self, *, hits: int, misses: int) -> None:
        """Count the query texts that were found in the cache, and those that were not."""
        self._cache.labels("hit").inc(hits)
        self._cache.labels("miss").inc(misses)

    def serves(self, collection: str, info: IndexInfo) -> None:
        """Show what a collection holds from now on."""
        self._generation.labels(collection).set(info.generation)
        self._passages.labels(collection).set(info.chunks)
        self._documents.labels(collection).set(info.documents)
        committed = datetime.fromisoformat(info.updated_at).timestamp()
        self._age.labels(collection).set_function(lambda: max(0.0, time.time() - committed))

    def has(self, collection: str) -> None:
        """Show a collection's counters at zero from now on."""
        self._failed_reloads.labels(collection)

    def forget(self, collection: str) -> None:
        """Show a collection no longer; what is shown of others stays."""
        shown: tuple[Gauge | Counter, ...] = (
            self._generation,
            self._passages,
            self._documents,
            self._age,
            self._failed_reloads,
        )
        for metric in shown:
            with suppress(KeyError):
                metric.remove(collection)

    def reload_failed(self, collection: str) -> None:
        """Count a look for a new generation, or a reload, that failed."""
        self._failed_reloads.labels(collection).inc()

    def supervises(self, task: str) -> None:
        """Show the failures of a background thread or task at zero from now on.

        Args:
            task: its name.
        """
        self._background_failures.labels(task)

    def background_failed(self, task: str) -> None:
        """Count a failure of a background thread or task.

        Args:
            task: its name.
        """
        self._background_failures.labels(task).inc()

    def watch(
        self,
        under_way: Callable[[], float],
        waiting: Callable[[], float],
        message_bytes: Callable[[], float],
    ) -> None:
        """Read these numbers whenever the metrics are asked for."""
        self._message_bytes.set_function(message_bytes)
        self._under_way.set_function(under_way)
        self._waiting.set_function(waiting)

    def listen(self, address: Address) -> WSGIServer:
        """Answer ``GET /metrics`` in a thread.

        Returns:
            the server; shut it down to stop.

        Raises:
            AddressInUse: the server can't listen on that address.
        """
        try:
            server = MetricsServer(address, self.registry)
        except OSError as error:
            raise AddressInUse(
                f"can't listen on {address}: {error.strerror or error}; give another --metrics"
            ) from error
        Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        LOG.info("metrics on http://%s/metrics", Address(address.host, server.server_port))
        return server


_MAX_CONNECTIONS: Final = 8
"""At a time; more are closed at once. A crowd must not take cores from the searches."""
_TIMEOUT_SECONDS: Final = 10
"""For a request to arrive, and for its answer to be taken; Prometheus itself waits 10 seconds."""

_Request: TypeAlias = socket.socket | tuple[bytes, socket.socket]


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
