"""Observation of every request: its line in the log, its numbers in metrics, its trace."""

import logging
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote

from retrieval.errors import (
    InvalidArgument,
    NotServing,
    Overloaded,
    PermissionDenied,
    RateLimited,
    RetrievalError,
    TooSlow,
    Unauthenticated,
)
from retrieval.search import Query, SearchResult, Timings
from retrieval.service.observability.metrics import Metrics
from retrieval.service.observability.request_log import one_line, request_id

LOG = logging.getLogger(__name__)

_PACKAGES: Final = ("/retrieval.v1.", "/indexer.v1.")
"""Prefixes that method names lose in the log and in metrics."""

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
"""Errors by which the server refuses a request regardless of its content."""

REQUEST_ID = "x-request-id"
"""Header with a request's id: clients may send it, and every answer has it."""

_MAX_ID_CHARS = 128
"""Enough for a UUID or a trace id with a prefix; longer ones would bloat the log."""

_VARIABLES = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)

request_fields: ContextVar[dict[str, object]] = ContextVar("request_fields")
"""Further fields of the present request's line in the log; whoever answers it may add some."""

Metadata = tuple[tuple[str, str | bytes], ...]


class Observed:
    """One request while it is answered: a context manager for the task that answers it."""

    def __init__(self, observer: "Observer", method: str, metadata: Metadata, peer: str) -> None:
        """Start to observe; see ``Observer.request``."""
        self.method = method
        self.metadata = metadata
        self.peer = peer
        self.caller = ""
        """Name of the caller's token, once it is known."""
        self.certificate = ""
        """Subject of the client's certificate, if it has one."""
        self.id = take_request_id(metadata)
        self.code = "OK"
        """Name of the status that the request ends with."""
        self.detail = ""
        """Message of the status."""
        self.fields: dict[str, object] = {}
        """Further fields of its line in the log."""
        self._started = time.perf_counter()
        self._observer = observer
        self._context = observer.tracer.request(method, metadata)

    def __enter__(self) -> Self:
        request_id.set(self.id)
        request_fields.set(self.fields)
        self._span = self._context.__enter__()
        return self

    def failed(self, error: RetrievalError, code: str) -> None:
        """Record the error that the request ends with, and the name of its status."""
        self.code, self.detail = code, one_line(error.message)
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
    """Observes requests from their beginning to their end."""

    def __init__(self, metrics: Metrics, tracer: "Tracer") -> None:
        """Report to these."""
        self._metrics = metrics
        self.tracer = tracer

    def request(self, method: str, metadata: Metadata, peer: str) -> Observed:
        """Return the observation of one request.

        Args:
            method: full name, such as ``/retrieval.v1.SearchService/Search``.
            metadata: the request's headers.
            peer: the other end of its connection, as gRPC names it.
        """
        return Observed(self, method, metadata, peer)

    def rejected(self, error: RetrievalError) -> None:
        """Count a request that ends with an error, if the error is a refusal."""
        if type(error) in _REFUSALS:
            self._metrics.rejected(error.reason, error.metadata.get("limit", ""))

    def end(self, request: Observed, seconds: float) -> None:
        """Count a request that has ended, and log it."""
        name = short_name(request.method)
        self._metrics.answered(name, request.code, seconds)
        if not LOG.isEnabledFor(logging.INFO):
            return
        fields: dict[str, object] = {"method": name, "code": request.code}
        fields["milliseconds"] = round(seconds * 1e3, 3)
        fields["peer"] = unquote(request.peer)
        if request.caller:
            fields["caller"] = request.caller
        if request.certificate:
            fields["certificate"] = request.certificate
        if request.detail:
            fields["detail"] = request.detail
        fields |= request.fields
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
        """Record a search that was answered; its text appears in debug logs only."""
        self._metrics.searched(result.timings)
        self.tracer.stages(result.timings)
        if LOG.isEnabledFor(logging.DEBUG):
            fields = {"query": query.text, "k": query.k, "passages": len(result.passages)}
            LOG.debug("searched %r", query.text, extra={"fields": fields})


def short_name(method: str) -> str:
    """Return a method's name without its package, such as ``SearchService/Search``."""
    for package in _PACKAGES:
        if method.startswith(package):
            return method.removeprefix(package)
    return method


def take_request_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the id that the client sent, if it is short and printable, or else a new one."""
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str):
            fits = 0 < len(value) <= _MAX_ID_CHARS and value.isascii() and value.isprintable()
            return value if fits else _new_id()
    return _new_id()


def _new_id() -> str:
    return secrets.token_hex(8)


class Tracer:
    """Makes OpenTelemetry spans if the standard environment variables ask for them.

    Otherwise nothing is imported and nothing is measured. A request's ``traceparent`` header makes
    its span a child of the caller's.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Set up the exporter that the environment asks for.

        Raises:
            InvalidArgument: the exporter is unknown or not installed.
        """
        self._tracer: Any = None
        self._provider: Any = None
        wanted = environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
        off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        if off or wanted == "none" or not any(environment.get(name) for name in _VARIABLES):
            return
        try:
            self._provider = _provider(wanted)
        except ImportError as error:
            raise InvalidArgument(
                f"{' or '.join(_VARIABLES)} asks for traces, but OpenTelemetry is not installed: "
                "pip install 'gte-retrieval[tracing]'"
            ) from error
        self._tracer = self._provider.get_tracer("retrieval")

    def request(
        self, method: str, metadata: Iterable[tuple[str, str | bytes]]
    ) -> AbstractContextManager["Span"]:
        """Return a context manager for the span of one request."""
        return _NO_SPAN if self._tracer is None else self._span(method, metadata)

    @contextmanager
    def _span(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Iterator["Span"]:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        parent = TraceContextTextMapPropagator().extract(carrier)
        with self._tracer.start_as_current_span(
            method.lstrip("/"), context=parent, kind=SpanKind.SERVER
        ) as span:
            span.set_attribute("rpc.system", "grpc")
            yield Span(span)

    def stages(self, timings: "Timings") -> None:
        """Make spans for the stages of a search that has just ended, under the present span."""
        if self._tracer is None:
            return
        end = time.time_ns()
        for name, seconds in (
            ("fetch", timings.fetch_seconds),
            ("search", timings.search_seconds),
            ("embed", timings.embed_seconds),
        ):
            start = end - int(seconds * 1e9)
            self._tracer.start_span(name, start_time=start).end(end)
            end = start

    def close(self) -> None:
        """Send the remaining spans."""
        if self._provider is not None:
            self._provider.shutdown()


class Span:
    """A request's span; does nothing if there are no traces."""

    def __init__(self, span: Any) -> None:  # noqa: ANN401  (an optional package's type)
        """Wrap an OpenTelemetry span, or None."""
        self._span = span

    def finish(self, code: str, request_id: str) -> None:
        """Record how the request ended."""
        if self._span is not None:
            self._span.set_attribute("rpc.grpc.status_code", code)
            self._span.set_attribute("request.id", request_id)


_NO_SPAN: Final = nullcontext(Span(None))


def _provider(exporter: str) -> Any:  # noqa: ANN401  (an optional package's type)
    """Return a provider that sends spans to an exporter in batches.

    The exporter takes its own settings from the environment.

    Raises:
        ImportError: the package is not installed.
        InvalidArgument: there is no exporter of that name.
    """
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    provider = TracerProvider()
    if exporter == "console":
        import sys

        provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
    elif exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    else:
        raise InvalidArgument(f"OTEL_TRACES_EXPORTER is {exporter!r}; known: otlp, console, none")
    return provider
