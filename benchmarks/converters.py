"""The cost of Avro, and of JSON with schemas, per record, without engines.

python -m benchmarks.converters [--seconds N] [--jvm]    microseconds of CPU time per record, best of the rounds

``source``: a batch of rows through the stages of a source, ``sink``: a batch of records through those of a sink.
``bare``: a loop of the same library, fastavro or orjson, that writes or reads the same bytes. ``--jvm``: also the
JsonConverter of Kafka Connect, whose jar is on Maven Central; compiling needs a JDK (``javac`` on the PATH). The jar of
Confluent's AvroConverter is not there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import orjson
import structlog

from benchmarks.kafka_connect import LOCK
from benchmarks.transforms import SCHEMA, VALUE
from headrace.embedded.artifacts import locked
from headrace.embedded.jars import fetch
from headrace.embedded.optional_dependencies import java
from headrace.interpolation import make_interpolator
from headrace.metrics import TaskMetrics
from headrace.pipeline.fault_policy import FaultPolicy
from headrace.pipeline.stages import Stages
from headrace.records import ConsumedBatch, SourceBatch, TopicPartition
from headrace.registry import Registry
from headrace.runtime.stage_build import make_stages
from headrace.settings import WorkerSettings
from headrace.validation import Validator

_ROWS = 1_000
_PREFIX = 5
"""Bytes before an Avro value: a zero and the id of the schema."""


class Costs(NamedTuple):
    """Microseconds per record."""

    source: float
    sink: float


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each figure")
    parser.add_argument("--jvm", action="store_true", help="beside Kafka Connect's JsonConverter")
    options = parser.parse_args()
    with _served_registry() as (url, schemas):
        avro, written = _measured(
            {"value.converter": "AvroConverter", "value.converter.schema.registry.url": url}, options.seconds
        )
        bare_avro = _bare_avro(schemas[1], written, options.seconds)
    json_costs, texts = _measured(
        {"value.converter": "JsonConverter", "value.converter.schemas.enable": "true"}, options.seconds
    )
    bare_json = _bare_json(texts, options.seconds)
    print(f"records of {len(written)} bytes in Avro and {len(texts)} in JSON with its schema, batches of {_ROWS}")
    print(f"\n{'µs per record':24} {'source':>8} {'sink':>8} {'source':>10} {'sink':>10}")
    _print("AvroConverter", avro, bare_avro, "bare")
    _print("fastavro alone", bare_avro)
    _print("JsonConverter, schemas", json_costs, bare_json, "bare")
    _print("orjson alone", bare_json)
    if options.jvm:
        theirs = _jvm()
        _print("JVM's JsonConverter", theirs)
        _print("headrace beside it", json_costs, theirs, "JVM")
    return 0


def _print(name: str, costs: Costs, beside: Costs | None = None, what: str = "") -> None:
    ratios = ""
    if beside is not None:
        ratios = f" {costs.source / beside.source:6.2f}×{what} {costs.sink / beside.sink:6.2f}×{what}"
    print(f"{name:24} {costs.source:8.2f} {costs.sink:8.2f}{ratios}")


def _measured(converter: Mapping[str, str], seconds: float) -> tuple[Costs, bytes]:
    """Return the costs of a converter, and a record that it has written."""
    source = _stages({"connector.class": "DatagenSource", "topic": "orders", **converter})
    sink = _stages({"connector.class": "ConsoleSink", "topics": "orders", **converter})
    rows = SourceBatch("orders", [VALUE] * _ROWS, SCHEMA)
    (encoded,) = source.encode(rows).batches
    values = encoded.values
    assert values[0] is not None
    costs = Costs(_cost(lambda: source.encode(rows), seconds), _cost(lambda: sink.decode(_consumed(values)), seconds))
    source.close()
    sink.close()
    return costs, values[0]


def _bare_avro(schema: Any, written: bytes, seconds: float) -> Costs:
    parsed = fastavro.parse_schema(schema)
    value = written[_PREFIX:]
    writer, reader = fastavro.schemaless_writer, fastavro.schemaless_reader

    def write() -> None:
        for row in [VALUE] * _ROWS:
            buffer = BytesIO()
            writer(buffer, parsed, row)
            buffer.getvalue()

    def read() -> None:
        for data in [value] * _ROWS:
            reader(BytesIO(data), parsed, None)

    return Costs(_cost(write, seconds), _cost(read, seconds))


def _bare_json(written: bytes, seconds: float) -> Costs:
    schema = orjson.loads(written)["schema"]

    def write() -> None:
        for row in [VALUE] * _ROWS:
            orjson.dumps({"schema": schema, "payload": row})

    def read() -> None:
        for data in [written] * _ROWS:
            orjson.loads(data)

    return Costs(_cost(write, seconds), _cost(read, seconds))


def _jvm() -> Costs:
    """Return the costs of Kafka Connect's JsonConverter with schemas."""
    jars = os.pathsep.join(map(str, fetch(locked("connect", LOCK).jars)))
    with tempfile.TemporaryDirectory(prefix="connect-converters-") as classes:
        source = Path(__file__).parent / "connect_transforms" / "ConverterBenchmark.java"
        subprocess.run(["javac", "-d", classes, "-cp", jars, str(source)], check=True)
        done = subprocess.run(
            [java(), "-cp", os.pathsep.join([classes, jars]), "ConverterBenchmark"],
            input=json.dumps(VALUE),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    return Costs(*(float(cost) for cost in done.stdout.split()))


def _stages(properties: Mapping[str, str]) -> Stages:
    registry = Registry()
    validator = Validator(registry, make_interpolator(registry))
    config = validator.require_connector({"name": "bench", "key.converter": "StringConverter", **properties})
    log = structlog.stdlib.get_logger("benchmark")
    policy = FaultPolicy(config.settings, lambda key: key, threading.Event(), log, TaskMetrics())
    return make_stages(registry, WorkerSettings.parse({"bootstrap.servers": "b:1"}), config.settings, policy)


def _consumed(values: Sequence[bytes | None]) -> ConsumedBatch:
    times = [1_700_000_000_000] * _ROWS
    return ConsumedBatch(
        TopicPartition("orders", 0), list(range(_ROWS)), [b"4711"] * _ROWS, list(values), times, [()] * _ROWS
    )


def _cost(run: Callable[[], object], seconds: float) -> float:
    """Return microseconds of CPU time per record: the best of all rounds within the time."""
    run()
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.thread_time()
        run()
        best = min(best, time.thread_time() - start)
    return best / _ROWS * 1e6


@contextmanager
def _served_registry() -> Iterator[tuple[str, dict[int, Any]]]:
    """Serve a registry; yield its address, and its schemas by id."""
    schemas: dict[int, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            schemas[1] = json.loads(json.loads(self.rfile.read(int(self.headers["content-length"])))["schema"])
            self._answer({"id": 1})

        def do_GET(self) -> None:
            self._answer({"schema": json.dumps(schemas[1])})

        def _answer(self, body: Mapping[str, Any]) -> None:
            text = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", schemas
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
