"""Spans of batches: links to the traces of their records, and the export of a worker that runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from headrace.batch_spans import BatchSpans, Tracing, links_of, open_tracing
from headrace.errors import ConfigError
from headrace.freshness import TaskFreshness
from headrace.pipeline.hop_times import SinkHops, SourceHops, StreamHops
from headrace.pipeline.in_flight import InFlightBatch
from headrace.records import ConsumedBatch, EncodedBatch, Headers, SourceBatch, TopicPartition
from headrace.states import TaskId
from headrace.testing.waiting import eventually

PLACE = TopicPartition("orders", 0)


def parent(trace: int) -> tuple[str, bytes]:
    return "traceparent", f"00-{trace:032x}-{7:016x}-01".encode()


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> BatchSpans:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider).of("search", "search-0")


def consumed(first: int, headers: list[Headers]) -> ConsumedBatch:
    rows = len(headers)
    offsets = list(range(first, first + rows))
    return ConsumedBatch(PLACE, offsets, [None] * rows, [b"{}"] * rows, [1_000] * rows, headers)


def clock(*moments: int) -> Callable[[], int]:
    remaining = iter(moments)
    return lambda: next(remaining)


def told(exporter: InMemorySpanExporter) -> list[tuple[str, int, list[int], int, int]]:
    """Return name, records, linked traces, start and end (ms) of each span."""
    found = []
    for span in exporter.get_finished_spans():
        assert span.attributes is not None
        assert span.attributes["headrace.task"] == "search-0"
        traces = [link.context.trace_id for link in span.links]
        times = [(moment or 0) // 1_000_000 for moment in (span.start_time, span.end_time)]
        found.append((span.name, span.attributes["messaging.batch.message_count"], traces, *times))
    return found  # type: ignore[return-value]


def test_a_batch_links_to_each_trace_of_its_records_once() -> None:
    other = ("traceparent", b"garbage"), ("traceparent", None), ("tracestate", b"a=b")
    headers: list[Headers] = [[parent(1)], (), [*other, parent(2)], [("x", b""), parent(1)], [parent(3)]]
    assert [link.context.trace_id for link in links_of(headers)] == [1, 3]
    assert links_of(None) == []
    assert len(links_of([[parent(trace)] for trace in range(1, 1_000)])) == 128


def test_a_sink_records_a_batch_from_its_read_to_its_write(spans: BatchSpans, exporter: InMemorySpanExporter) -> None:
    hops = SinkHops(TaskFreshness(), clock=clock(5_000, 6_000, 7_000), spans=spans)
    batch = consumed(0, [[parent(1)], ()])
    hops.read([batch])
    hops.read([consumed(2, [()])])
    hops.written([batch])
    assert told(exporter) == [("write orders", 2, [1], 5_000, 7_000)]
    [span] = exporter.get_finished_spans()
    assert span.kind is SpanKind.CONSUMER
    assert span.parent is None


def test_a_source_records_each_topic_of_a_batch(spans: BatchSpans, exporter: InMemorySpanExporter) -> None:
    hops = SourceHops(TaskFreshness(), "orders", marks=True, spans=spans, clock=clock(5_000, 5_100, 7_000))
    batch = SourceBatch("t", [1, 2, 3])
    encoded = [EncodedBatch("a", [b"1", b"2"], headers=[[parent(4)], ()]), EncodedBatch("b", [b"3"])]
    polled = hops.polled(batch)
    hops.sending(batch, encoded, polled)
    hops.acknowledged([InFlightBatch(batch, encoded, [], polled)])
    assert told(exporter) == [("send a", 2, [4], 5_000, 7_000), ("send b", 1, [], 5_000, 7_000)]


def test_a_stream_application_records_batches_that_are_committed(
    spans: BatchSpans, exporter: InMemorySpanExporter
) -> None:
    hops = StreamHops(TaskFreshness(), "totals", marks=False, spans=spans, clock=clock(1_000, 2_000, 3_000))
    batch = consumed(0, [[parent(5)]])
    hops.processing(batch)
    hops.discarded()
    hops.processing(batch)
    hops.committed()
    assert told(exporter) == [("process orders", 1, [5], 2_000, 3_000)]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The spans that a collector of OpenTelemetry receives."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = {item.key: item.value.string_value for item in resource.resource.attributes}["service.name"]
                received.extend((service, span.name) for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    yield received
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_worker_exports_the_spans_of_its_batches_as_the_environment_says(
    collector: list[Any], start: Callable[..., Any]
) -> None:
    process = start(**{"opentelemetry.traces": "true"})
    config = {"connector.class": "NumbersSource", "topic": "numbers"}
    process.worker.put_config("numbers", config)
    eventually(lambda: process.worker.metrics().get(TaskId("numbers", 0), {}).get("source_record_write_total") == 100)
    process.application.stop()
    assert set(collector) == {("headrace", "send numbers")}
    assert len(collector) == 100, "one for each batch"


def test_spans_without_the_extra_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match="needs packages that are not installed") as raised:
        open_tracing({})
    assert raised.value.findings[0].hint == "pip install 'headrace[opentelemetry]'"
