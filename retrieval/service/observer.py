"""What is seen of every request: its line in the log, its numbers, its trace."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from retrieval.search import Query, SearchResult
from retrieval.service.access import caller
from retrieval.service.metrics import Metrics
from retrieval.service.request_log import request_id, take_request_id
from retrieval.service.status import DOMAIN
from retrieval.service.tracing import Tracer

LOG = logging.getLogger(__name__)

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(slots=True)
class Outcome:
    """How a request ends; set on the way."""

    id: str
    code: str = "OK"
    """Name of the gRPC status."""
    detail: str = ""
    started: float = field(default_factory=time.perf_counter)


class Observer:
    """Sees requests begin and end."""

    def __init__(self, metrics: Metrics, tracer: Tracer) -> None:
        """Keep where to tell it."""
        self._metrics = metrics
        self._tracer = tracer

    @contextmanager
    def request(self, method: str, metadata: Metadata) -> Iterator[Outcome]:
        """Watch one request, in the task that answers it.

        Args:
            method: full name, ``/retrieval.v1.SearchService/Search``.
            metadata: its headers.
        """
        outcome = Outcome(take_request_id(metadata))
        request_id.set(outcome.id)
        with self._tracer.request(method, metadata) as span:
            try:
                yield outcome
            finally:
                span.finish(outcome.code, outcome.id)
                self._end(method.removeprefix(f"/{DOMAIN}."), outcome)

    def _end(self, method: str, outcome: Outcome) -> None:
        seconds = time.perf_counter() - outcome.started
        self._metrics.answered(method, outcome.code, seconds)
        fields = {"method": method, "code": outcome.code, "milliseconds": round(seconds * 1e3, 3)}
        if name := caller.get().name:
            fields["caller"] = name
        if outcome.detail:
            fields["detail"] = outcome.detail
        detail = f": {outcome.detail}" if outcome.detail else ""
        LOG.info(
            "%s %.1f ms %s%s",
            method,
            seconds * 1e3,
            outcome.code,
            detail,
            extra={"fields": fields},
        )

    def searched(self, query: Query, result: SearchResult) -> None:
        """Note a search that was answered; its text is for the eyes of a debugger alone."""
        self._metrics.searched(result.timings)
        self._tracer.stages(result.timings)
        if LOG.isEnabledFor(logging.DEBUG):
            fields = {"query": query.text, "k": query.k, "passages": len(result.passages)}
            LOG.debug("searched %r", query.text, extra={"fields": fields})
