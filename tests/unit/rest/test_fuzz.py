"""For requests of any form, size and speed the worker responds, reports its health, and its tasks continue."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headrace.app import WorkerApplication
from headrace.broker.in_memory import InMemoryKafka
from headrace.files import ConfigFile
from headrace.interpolation import make_interpolator
from headrace.registry import Registry
from headrace.rest.access import RULES
from headrace.settings import WorkerSettings
from headrace.states import TaskId
from headrace.testing.waiting import eventually
from headrace.validation import Validator
from tests.engines.http import HTTP
from tests.unit.examples import examples

HEALTH_TIMEOUT = 10.0
"""Seconds. It takes milliseconds; machines that run tests may be busy."""
STEADY = "steady"


SLOW = [
    b"",
    b"PUT /connectors/x/config HTTP/1.1\r\nHost: loc",
    b"POST /connectors HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n{",
]
MOST_SLOW = 300
"""More clients than the worker keeps connections."""


@dataclass(frozen=True)
class Fuzzed:
    """A worker with one source that runs all the time, and clients that never finish what they send."""

    worker: WorkerApplication
    slow: list[socket.socket] = field(default_factory=list, repr=False)

    def add_slow_clients(self, number: int) -> None:
        for _ in range(number):
            opened = connect(self.worker.url)
            opened.sendall(SLOW[len(self.slow) % len(SLOW)])
            self.slow.append(opened)
        for done in self.slow[:-MOST_SLOW]:
            done.close()
        del self.slow[:-MOST_SLOW]

    def close(self) -> None:
        for opened in self.slow:
            opened.close()

    def sent(self) -> int:
        return dict(self.worker.worker.metrics()).get(TaskId(STEADY, 0), {}).get("source_record_write_total", 0)

    def answer(self, request: bytes) -> bytes:
        """Send a request and return all that comes back; the connection may be closed at any time."""
        received = b""
        with connect(self.worker.url) as opened:
            try:
                opened.sendall(request)
                opened.shutdown(socket.SHUT_WR)
                while part := opened.recv(65536):
                    received += part
            except TimeoutError:
                raise  # it was neither answered nor closed
            except OSError:
                pass  # refused before all was read
        return received


def connect(url: str) -> socket.socket:
    parsed = httpx.URL(url)
    return socket.create_connection((parsed.host, parsed.port), timeout=60)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    folder, registry = tmp_path_factory.mktemp("fuzz"), Registry()
    parsed = WorkerSettings.parse(
        {
            "bootstrap.servers": "in.memory:9092",
            "listeners": "http://127.0.0.1:0",
            "offset.storage.file.filename": str(folder / "offsets.jsonl"),
        }
    )
    validator = Validator(registry, make_interpolator(registry))
    refused: list[Exception] = []
    worker = WorkerApplication(parsed, validator, registry, refused=refused.append, kafka_clients=InMemoryKafka())
    config = {"name": STEADY, "connector.class": "DatagenSource", "topic": "steady", "rows": "1", "interval.ms": "20"}
    with ExitStack() as stack:
        stack.callback(worker.stop)
        worker.start([ConfigFile("steady.yaml", config, {})])
        eventually(lambda: HTTP.get(f"{worker.url}/health", timeout=60).status_code == 200)
        found = Fuzzed(worker)
        stack.callback(found.close)
        found.add_slow_clients(MOST_SLOW)
        yield found
    assert refused == []


NAMES = st.one_of(
    st.text(max_size=30), st.sampled_from(["root", "DatagenSource", "..", "%", "a" * 1_000, "\x00", "${env:HOME}", ""])
).filter(lambda name: name != STEADY)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
CONFIGS = st.dictionaries(
    st.sampled_from(["name", "connector.class", "topic", "topics", "transforms", "value.converter", "rows", "odd"]),
    st.one_of(JSON_VALUES, st.sampled_from(["DatagenSource", "JsonConverter", "${", "${env:X}", "${file:/:a}"])),
    max_size=6,
)
LARGE = {
    "nested arrays": b"[" * 100_000,
    "nested objects": b'{"a":' * 50_000,
    "many offsets": b'{"offsets": [' + b"{}," * 1_000,
    "a long number": b"1" * 10_000,
    "three mebibytes": b" " * (3 << 20),
}
"""By name, so that a failing example is readable."""
BODIES = st.one_of(
    st.binary(max_size=200),
    JSON_VALUES.map(json.dumps).map(str.encode),
    CONFIGS.map(json.dumps).map(str.encode),
    st.builds(lambda name, config: json.dumps({"name": name, "config": config}).encode(), NAMES, CONFIGS),
    st.sampled_from(sorted(LARGE)),
)
LONG_HEADER = b"X-Long: 70,000 letters"
HEADERS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"Content-Type: application/json",
                b"Content-Type: text/plain; charset=\xff",
                b"Content-Length: -1",
                b"Content-Length: 99999999999999999999",
                b"Content-Length: 5",
                b"Transfer-Encoding: chunked",
                b"Transfer-Encoding: gzip",
                b"Expect: 100-continue",
                b"Upgrade: websocket",
                b"Connection: upgrade",
                b"Origin: http://[",
                b"Origin: null",
                b"Sec-Fetch-Site: cross-site",
                b"Host: evil.example",
                b"Host: [::1",
                b"Authorization: Basic ====",
                b"Authorization: Bearer",
                LONG_HEADER,
            ]
        ),
        st.binary(max_size=30),
    ),
    max_size=4,
)
METHODS = st.sampled_from(["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "odd", ""])


def request_of(method: str, path: str, name: str, query: str, headers: list[bytes], body: bytes) -> bytes:
    filled = re.sub(r"\{(\w+)(:int)?\}", lambda match: "0" if match[2] else quote(name, safe=""), path)
    lines = [f"{method} {filled}{query} HTTP/1.1".encode(), b"Connection: close"]
    if not any(line.lower().startswith(b"host:") for line in headers):
        lines.append(b"Host: localhost")
    if not any(line.lower().startswith((b"content-length:", b"transfer-encoding:")) for line in headers):
        lines.append(f"Content-Length: {len(body)}".encode())
    written = [b"X-Long: " + b"x" * 70_000 if line == LONG_HEADER else line for line in headers]
    return b"\r\n".join([*lines, *written]) + b"\r\n\r\n" + body


@settings(max_examples=examples(0.5), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    METHODS,
    st.sampled_from([*RULES, "/none", "*", "//"]),
    NAMES,
    st.sampled_from(["", "?", "?expand=info&expand=status", "?limit=0", "?includeTasks=%ff", "?" + "a=1&" * 500]),
    HEADERS,
    BODIES,
)
@example("PUT", "/connectors/{name}/config", "x", "", [b"Content-Type: application/json"], "nested arrays")
@example("POST", "/connectors", "x", "", [b"Content-Type: application/json", b"Transfer-Encoding: chunked"], b"zz\r\n")
def test_every_request_is_answered_or_refused_and_the_worker_continues(
    fuzzed: Fuzzed, method: str, path: str, name: str, query: str, headers: list[bytes], body: bytes | str
) -> None:
    fuzzed.add_slow_clients(5)
    before = fuzzed.sent()
    content = LARGE[body] if isinstance(body, str) else body
    received = fuzzed.answer(request_of(method, path, name, query, headers, content))
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", received)
    assert status is not None or received == b""  # h11 closes what it cannot read
    if status is not None:
        assert status[1] != b"500", received
    assert HTTP.get(f"{fuzzed.worker.url}/health", timeout=HEALTH_TIMEOUT).status_code == 200
    eventually(lambda: fuzzed.sent() > before)
