"""Count the modules that one row and one record pass through in headrace.

A worker with the in-memory Kafka moves rows of a SQLite table through a topic into a local HTTP server that answers as
Elasticsearch does. ``sys.setprofile`` notes every Python call of the task threads:

- a row: from the source task's ``poll`` to ``Producer.send``
- a record: from the end of ``Consumer.poll`` to the arrival of its bulk request

Printed are the distinct modules, those of the plugin among them, and how often a call or a return crosses from one
module to another. The figures in ``docs/architecture.md`` come from here: ``python -m scripts.count_modules``.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import structlog

from headrace.app import WorkerApplication
from headrace.broker.in_memory import InMemoryKafka
from headrace.broker.in_memory.consumer import InMemoryConsumer
from headrace.broker.in_memory.producer import InMemoryProducer
from headrace.files import read_config_file
from headrace.interpolation import make_interpolator
from headrace.registry import Registry
from headrace.settings import WorkerSettings
from headrace.validation import Validator
from headrace_sources.sql.task import SqlSourceTask

_PACKAGES = ("headrace.", "headrace_sources.", "headrace_sinks.")
_TIMEOUT = 60.0  # seconds


class ModulePath(NamedTuple):
    """The modules of one path, in the order of their calls and returns."""

    name: str
    steps: Sequence[str]

    def report(self) -> str:
        """Return three lines: all modules, those of the plugin, the switches between modules."""
        modules = sorted(set(self.steps))
        plugin = [module for module in modules if not module.startswith("headrace.")]
        switches = sum(one != other for one, other in zip(self.steps, self.steps[1:], strict=False))
        lines = [f"{self.name}: {len(modules)} modules, {len(plugin)} of the plugin, {switches} switches"]
        return "\n".join([*lines, *(f"    {module}" for module in modules)])


class CallRecorder:
    """A profile function for threads: notes calls of headrace's modules between a start and an end."""

    def __init__(self) -> None:
        self.row: Sequence[str] = ()
        self.record: Sequence[str] = ()
        self._lock = threading.Lock()
        self._polls: dict[int, list[str]] = {}
        self._source_threads: set[int] = set()
        self._sink: list[str] | None = None

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Note one event; called by the interpreter on the thread where it happens."""
        code, module = frame.f_code, frame.f_globals.get("__name__", "")
        if not module.startswith(_PACKAGES) or event not in ("call", "return"):
            return
        thread = threading.get_ident()
        if code is SqlSourceTask.poll.__code__ and event == "call":
            self._polls[thread] = []
            self._source_threads.add(thread)
        if (steps := self._polls.get(thread)) is not None:
            steps.append(module)
            if code is InMemoryProducer.send.__code__ and event == "call":
                self.row = self._polls.pop(thread)
        if code is InMemoryConsumer.poll.__code__ and event == "return" and argument:
            self._sink = []
        if (steps := self._sink) is not None and thread not in self._source_threads:
            with self._lock:
                steps.append(module)

    def bulk_arrived(self) -> None:
        """End the path of the record: its bulk request has arrived."""
        with self._lock:
            if self._sink is not None:
                self.record, self._sink = self._sink, None


class BulkServer(ThreadingHTTPServer):
    """Answers the few requests that the sink makes of an empty Elasticsearch, and creates every document."""

    def __init__(self, recorder: CallRecorder) -> None:
        super().__init__(("127.0.0.1", 0), BulkHandler)
        self.recorder = recorder
        self.written = threading.Semaphore(0)
        """Released once a document."""

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.server_port}"


class BulkHandler(BaseHTTPRequestHandler):
    """One connection of the sink."""

    protocol_version = "HTTP/1.1"
    server: BulkServer

    def do_GET(self) -> None:
        """Answer any request."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        answer: dict[str, Any] = {}
        status = 200
        documents = 0
        if self.path.startswith("/_bulk"):
            self.server.recorder.bulk_arrived()
            documents = sum(b'"_id"' in line for line in body.splitlines())
            answer = {"errors": False, "items": [{"index": {"status": 201}}] * documents}
        elif self.path == "/":
            answer = {"version": {"number": "8.19.0"}}
        elif self.command in ("GET", "HEAD"):
            status = 404
        payload = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("x-elastic-product", "Elasticsearch")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)
        for _ in range(documents):
            self.server.written.release()

    do_HEAD = do_PUT = do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def measure() -> tuple[ModulePath, ModulePath]:
    """Return the paths of the last row and of the last record, after the caches of both tasks are warm."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    recorder = CallRecorder()
    server = BulkServer(recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = sqlite3.connect(folder / "shop.db")
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, price REAL)")
        worker = _worker(folder, server.url, recorder)
        try:
            for count in range(1, 6):
                database.execute("INSERT INTO orders VALUES (?, ?, ?)", (count, f"item {count}", count / 2))
                database.commit()
                if not server.written.acquire(timeout=_TIMEOUT):
                    raise TimeoutError(f"row {count} did not reach the server within {_TIMEOUT:.0f} s")
        finally:
            threading.setprofile(None)
            worker.stop()
            database.close()
            server.shutdown()
            server.server_close()
    return ModulePath("row", recorder.row), ModulePath("record", recorder.record)


def _worker(folder: Path, url: str, recorder: CallRecorder) -> WorkerApplication:
    files = {
        "source.yaml": f"name: orders\nconnector.class: SqlSource\nconnection.url: sqlite:///{folder / 'shop.db'}\n"
        "table.whitelist: orders\nmode: incrementing\nincrementing.column.name: id\ntopic.prefix: shop.\n"
        "poll.interval.ms: 20\n",
        "sink.yaml": f"name: search\nconnector.class: ElasticsearchSink\nconnection.url: {url}\ntopics: shop.orders\n"
        "linger.ms: 0\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    registry = Registry()
    kafka = InMemoryKafka()
    settings = WorkerSettings.parse(
        {
            "bootstrap.servers": "in-memory:9092",
            "listeners": "http://127.0.0.1:0",
            "offset.storage.file.filename": str(folder / "offsets.jsonl"),
        }
    )
    worker = WorkerApplication(
        settings,
        Validator(registry, make_interpolator(registry)),
        registry,
        refused=lambda error: print(error, file=sys.stderr),
        kafka_clients=kafka,
    )
    threading.setprofile(recorder)
    worker.start([read_config_file(folder / name) for name in files])
    return worker


def main() -> None:
    """Print both paths."""
    for path in measure():
        print(path.report())


if __name__ == "__main__":
    main()
