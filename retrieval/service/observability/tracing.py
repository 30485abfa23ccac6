"""Traces by OpenTelemetry, where its standard environment variables ask for them.

Without them nothing is imported and nothing is measured. A request's ``traceparent`` header makes
its span a child of the caller's.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from retrieval.errors import InvalidArgument

if TYPE_CHECKING:
    from retrieval.search import Timings

_VARIABLES = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)


class Tracer:
    """Makes spans, or does nothing."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Set up what the environment asks for.

        Raises:
            InvalidArgument: it asks for something that is not installed or not known.
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
                f"traces are asked for by {' or '.join(_VARIABLES)}, but OpenTelemetry is not "
                "installed: pip install 'gte-retrieval[tracing]'"
            ) from error
        self._tracer = self._provider.get_tracer("retrieval")

    def request(
        self, method: str, metadata: Iterable[tuple[str, str | bytes]]
    ) -> AbstractContextManager["Span"]:
        """The span of one request; ended with the block."""
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
        """Spans of the stages of a search that has just ended, under the present one."""
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
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()


class Span:
    """A request's span, or none."""

    def __init__(self, span: Any) -> None:  # noqa: ANN401  (an optional package's type)
        """Keep it."""
        self._span = span

    def finish(self, code: str, request_id: str) -> None:
        """Note how the request ended."""
        if self._span is not None:
            self._span.set_attribute("rpc.grpc.status_code", code)
            self._span.set_attribute("request.id", request_id)


_NO_SPAN: Final = nullcontext(Span(None))


def _provider(exporter: str) -> Any:  # noqa: ANN401  (an optional package's type)
    """Spans to an exporter, in batches; its own settings it takes from the environment.

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
