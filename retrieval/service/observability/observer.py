"""What is seen of every request: its line in the log, its numbers, its trace."""

import logging
import time
from types import TracebackType
from typing import Self
from urllib.parse import unquote

from retrieval.errors import (
    NotServing,
    Overloaded,
    PermissionDenied,
    RateLimited,
    RetrievalError,
    TooSlow,
    Unauthenticated,
)
from retrieval.search import Query, SearchResult
from retrieval.service.access.access import caller
from retrieval.service.observability.metrics import Metrics
from retrieval.service.observability.request_log import request_id, take_request_id
from retrieval.service.observability.tracing import Tracer
from retrieval.service.status import DOMAIN, one_line, status_code

LOG = logging.getLogger(__name__)

_REFUSALS = frozenset(
    {
        NotServing,
        Overloaded,
        PermissionDenied,
        RateLimited,
        TooSlow,
        Unauthenticated,
    }
)
"""Errors of requests that the server would not answer, whatever they asked for."""

Metadata = tuple[tuple[str, str | bytes], ...]


class Observed:
    """One request, while it is answered: a context manager, in the task that answers it."""

    def __init__(self, observer: "Observer", method: str, metadata: Metadata, peer: str) -> None:
        """Begin to watch; see ``Observer.request``."""
        self.method = method
        self.metadata = metadata
        self.peer = peer
        self.certificate = ""
        """The subject of the client's certificate, if it showed one."""
        self.id = take_request_id(metadata)
        self.code = "OK"
        """Name of the gRPC status that it ends with."""
        self.detail = ""
        """What the status says."""
        self._started = time.perf_counter()
        self._observer = observer
        self._context = observer.tracer.request(method, metadata)

    def __enter__(self) -> Self:
        request_id.set(self.id)
        self._span = self._context.__enter__()
        return self

    def failed(self, error: RetrievalError) -> None:
        """Note the error that it ends with."""
        self.code, self.detail = status_code(error).name, one_line(error.message)
        self._observer.rejected(error)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._span.finish(self.code, self.id)
        self._observer.end(self, time.perf_counter() - self._started)
        self._context.__exit__(kind, error, traceback)


class Observer:
    """Sees requests begin and end."""

    def __init__(self, metrics: Metrics, tracer: Tracer) -> None:
        """Keep where to tell it."""
        self._metrics = metrics
        self.tracer = tracer

    def request(self, method: str, metadata: Metadata, peer: str) -> Observed:
        """Watch one request.

        Args:
            method: full name, ``/retrieval.v1.SearchService/Search``.
            metadata: its headers.
            peer: the other end of its connection, as gRPC names it.
        """
        return Observed(self, method, metadata, peer)

    def rejected(self, error: RetrievalError) -> None:
        """Count a request that ends with an error, if that is a refusal."""
        if type(error) in _REFUSALS:
            self._metrics.rejected(error.reason, error.metadata.get("limit", ""))

    def end(self, request: Observed, seconds: float) -> None:
        """Count a request that has ended, and log it."""
        name = request.method.removeprefix(f"/{DOMAIN}.")
        self._metrics.answered(name, request.code, seconds)
        if not LOG.isEnabledFor(logging.INFO):
            return
        fields = {"method": name, "code": request.code, "milliseconds": round(seconds * 1e3, 3)}
        fields["peer"] = unquote(request.peer)
        if who := caller.get().name:
            fields["caller"] = who
        if request.certificate:
            fields["certificate"] = request.certificate
        if request.detail:
            fields["detail"] = request.detail
        detail = f": {request.detail}" if request.detail else ""
        LOG.info(
            "%s %.1f ms %s%s",
            name,
            seconds * 1e3,
            request.code,
            detail,
            extra={"fields": fields},
        )

    def searched(self, query: Query, result: SearchResult) -> None:
        """Note a search that was answered; its text is for the eyes of a debugger alone."""
        self._metrics.searched(result.timings)
        self.tracer.stages(result.timings)
        if LOG.isEnabledFor(logging.DEBUG):
            fields = {"query": query.text, "k": query.k, "passages": len(result.passages)}
            LOG.debug("searched %r", query.text, extra={"fields": fields})
