"""Metrics for Prometheus: counters, gauges and histograms of one server.

Names and labels are documented in ``docs/serving.md``. Labels have few values: methods of the
contract, status codes, the server's own collections.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)

from retrieval.domain.records import IndexInfo, TextKind
from retrieval.search import Timings

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
        self._requests = self._counter(
            "retrieval_requests",
            "Requests that got an answer, by method and gRPC status.",
            "method",
            "code",
        )
        self._request_seconds = self._histogram(
            "retrieval_request_seconds", "Time from a request's arrival to its answer.", "method"
        )
        self._answered: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._stages = self._histograms(
            "retrieval_stage_seconds",
            "Time in one stage: queue (waiting for the model), encode (in the model, a whole "
            "batch), embed (queue and encode of one search, or the cache), search, fetch.",
            stage=_STAGES,
        )
        self._queues = self._histograms(
            "retrieval_queue_seconds",
            "Time that work waited in a queue before it began.",
            queue=_QUEUES,
        )
        self._batch_texts = self._histogram(
            "retrieval_batch_texts", "Texts that went through the model together.", buckets=_TEXTS
        )
        self._tokens = self._counter("retrieval_tokens", "Tokens that the model read.", "kind")
        self._cache = self._counter(
            "retrieval_query_cache", "Query texts looked up in the cache of embeddings.", "outcome"
        )
        self._under_way = self._gauge("retrieval_requests_under_way", "Requests being answered.")
        self._message_bytes = self._gauge(
            "retrieval_message_bytes", "Bytes of messages under way that count against the budget."
        )
        self._waiting = self._gauge("retrieval_queue_texts", "Texts that wait for the model.")
        self._watch_collections()
        self._rejected = self._count_rejections()
        self._background_failures = self._counter(
            "retrieval_background_failures",
            "Failures of threads and tasks that run beside the requests.",
            "task",
        )

    def _watch_collections(self) -> None:
        """Make the metrics of collections."""
        self._generation = self._gauge(
            "retrieval_index_generation", "Generation that is served.", "collection"
        )
        self._passages = self._gauge(
            "retrieval_index_passages", "Passages that are served.", "collection"
        )
        self._documents = self._gauge(
            "retrieval_index_documents", "Documents that are served.", "collection"
        )
        self._age = self._gauge(
            "retrieval_index_generation_age_seconds",
            "Time since the generation that is served was committed.",
            "collection",
        )
        self._failed_reloads = self._counter(
            "retrieval_index_failed_reloads",
            "Looks for a new generation, and reloads, that failed.",
            "collection",
        )

    def _count_rejections(self) -> Counter:
        """Make the counter of refused requests, with the known reasons at zero."""
        rejected = self._counter(
            "retrieval_requests_rejected",
            "Requests that the server refused, by the reason of their error and, if they were too "
            "many or too large, the limit that they met.",
            "reason",
            "limit",
        )
        for reason, limit in _REJECTIONS:
            rejected.labels(reason, limit)
        return rejected

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(name, help_, labels, registry=self.registry)

    def _gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        return Gauge(name, help_, labels, registry=self.registry)

    def _histogram(
        self, name: str, help_: str, *labels: str, buckets: Sequence[float] = _SECONDS
    ) -> Histogram:
        return Histogram(name, help_, labels, buckets=buckets, registry=self.registry)

    def _histograms(self, name: str, help_: str, **labelled: Sequence[str]) -> dict[str, Histogram]:
        """Make a histogram for each value of a label, all shown from the start."""
        ((label, values),) = labelled.items()
        family = self._histogram(name, help_, label)
        return {value: family.labels(value) for value in values}

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
