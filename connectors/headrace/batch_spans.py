"""One OpenTelemetry span for each batch, with links to the traces of its records (the extra ``opentelemetry``).

A record's trace is that of its header ``traceparent`` (W3C Trace Context), which passes from a topic to the sink as it
is. A batch has records of many traces, so its span belongs to none of them and links to them, as OpenTelemetry's
conventions for messaging ask for. Spans are made when a batch is done, from times that are measured anyway.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from headrace.errors import ConfigError, Finding
from headrace.records import Headers

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link

TRACE_PARENT = "traceparent"
TRACES_KEY = "opentelemetry.traces"
_MOST_LINKS = 128
"""Links of a span; the default of OpenTelemetry's SDK, which drops others."""
_SERVICE = "headrace"


class BatchSpans(Protocol):
    """Records the spans of one task. Never fails, never blocks."""

    def add(
        self, operation: str, topic: str, records: int, headers: Sequence[Headers] | None, start: int, end: int
    ) -> None:
        """Record a batch. ``operation``: ``send``, ``process`` or ``write``. Times are epoch milliseconds."""
        ...


class Tracing:
    """The spans of a worker."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def of(self, connector: str, task: str) -> BatchSpans:
        """Return the spans of a task."""
        return _TaskSpans(self._provider, connector, task)

    def close(self) -> None:
        """Export what waits, as long as the exporter's timeout allows."""
        self._provider.shutdown()


def open_tracing(environment: Mapping[str, str] = os.environ) -> Tracing:
    """Return spans that are exported over OTLP, as OpenTelemetry's environment variables say.

    Raise ConfigError when the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        text = f"{TRACES_KEY} needs packages that are not installed: {error.name}"
        hint = "pip install 'headrace[opentelemetry]'"
        raise ConfigError(findings=[Finding("config.extra_missing", text, TRACES_KEY, hint)]) from error
    named = "OTEL_SERVICE_NAME" in environment or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if named else {SERVICE_NAME: _SERVICE}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


class _TaskSpans:
    def __init__(self, provider: TracerProvider, connector: str, task: str) -> None:
        from opentelemetry.trace import SpanKind

        self._tracer = provider.get_tracer("headrace")
        self._common = {"messaging.system": "kafka", "headrace.connector": connector, "headrace.task": task}
        self._operations = {
            "send": ("send", SpanKind.PRODUCER),
            "process": ("process", SpanKind.CONSUMER),
            "write": ("process", SpanKind.CONSUMER),
        }

    def add(
        self, operation: str, topic: str, records: int, headers: Sequence[Headers] | None, start: int, end: int
    ) -> None:
        kind_of_operation, kind = self._operations[operation]
        attributes: dict[str, str | int] = {
            **self._common,
            "messaging.operation.name": operation,
            "messaging.operation.type": kind_of_operation,
            "messaging.destination.name": topic,
            "messaging.batch.message_count": records,
        }
        span = self._tracer.start_span(
            f"{operation} {topic}",
            kind=kind,
            attributes=attributes,
            links=links_of(headers),
            start_time=start * 1_000_000,
        )
        span.end(max(start, end) * 1_000_000)


def links_of(headers: Iterable[Headers] | None) -> list[Link]:
    """Return a link to each trace of a batch's records, in order; of headers that are no traces, none."""
    from opentelemetry.trace import Link, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    values: dict[bytes, None] = {}
    for fields in filter(None, headers or ()):
        for name, value in fields:
            if name == TRACE_PARENT and value is not None:
                values[value] = None
                break
        if len(values) >= _MOST_LINKS:
            break
    links = []
    propagator = TraceContextTextMapPropagator()
    for value in values:
        carrier = {TRACE_PARENT: value.decode("ascii", "replace")}
        context = get_current_span(propagator.extract(carrier)).get_span_context()
        if context.is_valid:
            links.append(Link(context))
    return links
