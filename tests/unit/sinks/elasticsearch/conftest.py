"""A local server with the parts of Elasticsearch's API that the sink uses; tests can script its responses."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

from headrace import SinkBatch, TopicPartition
from headrace.schema import Schema
from headrace.testing.contexts import RecordedConditions, RecordedStatusReasons, make_sink_context
from headrace_sinks.elasticsearch.cluster.client import ElasticsearchClient
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.task import ElasticsearchSinkTask
from headrace_sinks.elasticsearch.timings import SinkTimings

WITHOUT_INDEX_CHECKS = SinkTimings(index_check_interval=3600.0)


class Action(NamedTuple):
    """One line of a bulk request as Elasticsearch reads it."""

    name: str
    target: dict[str, Any]
    document: dict[str, Any] | None


@dataclass
class Answer:
    """``cut``: the connection closes after so many bytes of the body; ``hang``: the response waits until it is set."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    reset: bool = False
    cut: int | None = None
    hang: threading.Event | None = None


Script = Callable[[list[Action]], Answer]


def item(action: Action, status: int, kind: str = "", reason: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {"status": status}
    if kind:
        result["error"] = {"type": kind, "reason": reason}
    return {action.name: result}


def items(results: Sequence[dict[str, Any]]) -> Answer:
    errors = any("error" in result for entry in results for result in entry.values())
    return Answer(body={"errors": errors, "items": list(results)})


class Server:
    """Documents by (index, id) as (version, document); every bulk request; scripted responses that are left."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], tuple[int, dict[str, Any] | None]] = {}
        self.bulks: list[list[Action]] = []
        self.bodies: list[bytes] = []
        self.requests: list[str] = []
        self.opaque_ids: list[str] = []
        """Of bulk requests."""
        self.authorizations: set[str | None] = set()
        self.script: list[Script | Answer] = []
        self.root = Answer(body={"version": {"number": "8.19.0"}}, headers={"x-elastic-product": "Elasticsearch"})
        self.indices: dict[str, dict[str, Any]] = {}
        self.on_path: dict[str, Answer] = {}
        self.most_at_once = 0
        self._at_once = 0
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                server.authorizations.add(self.headers.get("authorization"))
                if self.path.startswith("/_bulk"):
                    server.opaque_ids.append(self.headers.get("x-opaque-id") or "")
                self._reply(server.answer(self.command, self.path.partition("?")[0], body))

            do_GET = do_HEAD = do_PUT = do_POST = handle_one

            def _reply(self, answer: Answer) -> None:
                if answer.hang is not None:
                    answer.hang.wait(30)
                    self.close_connection = True
                    return
                if answer.reset:
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.connection.close()
                    self.close_connection = True
                    return
                body = (
                    answer.body
                    if isinstance(answer.body, bytes)
                    else json.dumps(answer.body if answer.body is not None else {}, separators=(",", ":")).encode()
                )
                self.send_response(answer.status)
                self.send_header("content-length", str(len(body)))
                self.send_header("content-type", "application/json")
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[: answer.cut])
                if answer.cut is not None:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

            def finish(self) -> None:
                try:
                    super().finish()
                except ConnectionError:
                    pass  # the client has disconnected
                except ValueError:
                    pass  # we closed it ourselves

        class QuietServer(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Ignore connections that a test closes."""

        self._http = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        if path in ("/_bulk",):
            with self.lock:
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
            try:
                return self._bulk(body)
            finally:
                with self.lock:
                    self._at_once -= 1
        with self.lock:
            self.requests.append(f"{method} {path}")
            if path in self.on_path:
                return self.on_path[path]
            if path == "/":
                return self.root
            name = path.split("/")[1]
            if path.startswith("/_all/"):
                return Answer(body={})
            if method == "PUT" and path.endswith("/_mapping"):
                self.indices.setdefault(name, {}).setdefault("properties", {}).update(json.loads(body)["properties"])
            elif method == "PUT" and name == "_data_stream":
                self.indices[path.split("/")[2]] = {}
            elif method == "PUT":
                self.indices[name] = json.loads(body).get("mappings", {})
            elif name not in self.indices:
                return Answer(404)
            elif method == "GET":
                uuid = str(id(self.indices[name]))  # another id for an index that was deleted and created again
                return Answer(body={name: {"mappings": self.indices[name], "settings": {"index.uuid": uuid}}})
            return Answer()

    def _bulk(self, body: bytes) -> Answer:
        lines = iter(body.splitlines())
        actions = []
        for line in lines:
            ((name, target),) = json.loads(line).items()
            actions.append(Action(name, target, None if name == "delete" else json.loads(next(lines))))
        with self.lock:
            self.bulks.append(actions)
            self.bodies.append(body)
            step = self.script.pop(0) if self.script else self.accept
        return step if isinstance(step, Answer) else step(actions)

    def accept(self, actions: list[Action]) -> Answer:
        """Respond as Elasticsearch does."""
        return items([self.write(action) for action in actions])

    def refuse(self, actions: list[Action]) -> Answer:
        """Refuse every document with a mapping error."""
        return items([item(action, 400, "document_parsing_exception", "no") for action in actions])

    def write(self, action: Action) -> dict[str, Any]:
        with self.lock:
            place = (action.target["_index"], action.target.get("_id", f"generated-{len(self.documents)}"))
            version, before = self.documents.get(place, (-1, None))
            if (mine := action.target.get("version")) is not None and mine <= version:
                return item(action, 409, "version_conflict_engine_exception", f"[{place[1]}]: version conflict")
            document = action.document
            if action.name == "update":
                assert document is not None
                document = {**(before or {}), **document["doc"]}
            self.documents[place] = (mine if mine is not None else version + 1, document)
            if action.name == "delete" and before is None:
                return item(action, 404)
            return item(action, 200)

    def found(self, index: str) -> dict[str, dict[str, Any]]:
        """Return the stored documents by id."""
        return {
            ident: document for (name, ident), (_, document) in self.documents.items() if name == index and document
        }


class Sink:
    """A started task, with its status reasons."""

    def __init__(self, server: Server, timings: SinkTimings, **properties: str) -> None:
        self.stop_event = threading.Event()
        self.status_reasons = RecordedStatusReasons()
        self.conditions = RecordedConditions()
        self.properties = {
            "connection.url": server.url, "schema.ignore": "true", "retry.backoff.ms": "1", "read.timeout.ms": "10s",
            **{name.replace("_", "."): value for name, value in properties.items()},
        }  # fmt: skip
        self.task = ElasticsearchSinkTask(timings, self._connect)
        self.ends: Callable[[TopicPartition], int | None] = lambda topic_partition: None
        self.context = make_sink_context(
            self.properties,
            stop_event=self.stop_event,
            set_status_reason=self.status_reasons,
            raise_condition=self.conditions,
            end_offset=self._end_offset,
        )
        self.task.start(self.context)

    def _end_offset(self, topic_partition: TopicPartition) -> int | None:
        return self.ends(topic_partition)

    def _connect(self, config: ElasticsearchSinkConfig) -> ElasticsearchClient:
        self.client = ElasticsearchClient(config)
        return self.client

    def expect_answers_within(self, seconds: float) -> None:
        """Set the read timeout; requests before this call have the default."""
        self.client.read_timeout = seconds

    def put(self, *batches: SinkBatch) -> list[tuple[str, int, str]]:
        """Put batches and return the rejections as (partition, offset, code)."""
        rejections = self.task.put(batches)
        return [(str(item.topic_partition), item.offset, item.error.code) for item in rejections]


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def make_sink(server: Server) -> Iterator[Callable[..., Sink]]:
    """Starts sinks that write to ``server``: ``make_sink(write_method="upsert")``, dots written as underscores."""
    sinks: list[Sink] = []

    def make(timings: SinkTimings = WITHOUT_INDEX_CHECKS, **properties: str) -> Sink:
        sinks.append(Sink(server, timings, **properties))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.task.stop()


@pytest.fixture
def batch() -> Callable[..., SinkBatch]:
    """``batch({"a": 1}, None, key=…)``: records of topic ``orders``, keys ``k0``, ``k1`` …, offsets from ``first``."""

    def make(
        *values: Any,
        keys: Sequence[Any] | None = None,
        first: int = 0,
        topic: str = "orders",
        partition: int = 0,
        headers: Sequence[Any] | None = None,
        schema: Schema | None = None,
    ) -> SinkBatch:
        count = len(values)
        return SinkBatch(
            TopicPartition(topic, partition),
            topic,
            list(range(first, first + count)),
            list(keys) if keys is not None else [f"k{number}" for number in range(count)],
            list(values),
            [0] * count,
            list(headers) if headers is not None else [()] * count,
            value_schema=schema,
        )

    return make


@pytest.fixture
def scripted() -> Any:
    """Parts of scripted responses: ``scripted.Answer``, ``scripted.item``, ``scripted.items``."""

    class ScriptParts:
        pass

    words = ScriptParts()
    words.Answer, words.item, words.items = Answer, item, items  # type: ignore[attr-defined]
    return words
