"""Large, slow and many requests: they are refused or ended, and other clients are served meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from headrace.registry import Registry
from headrace.rest.connections import handle_loop_error
from headrace.rest.limits import DEFAULT_LIMITS, RepeatedLines, RepeatedRecords, RestLimits, default_limits
from headrace.rest.server import RestServer
from tests.engines.http import HTTP

MEBIBYTE = 1 << 20
JSON = {"Content-Type": "application/json"}
VALIDATE = "/connector-plugins/AcmeSource/config/validate"
StartServer = Callable[[RestLimits], RestServer]


@pytest.fixture
def start_server(worker: Any, registry: Registry) -> Iterator[StartServer]:
    with ExitStack() as stack:

        def start(limits: RestLimits) -> RestServer:
            server = RestServer(["http://127.0.0.1:0"], limits=limits)
            server.bind()
            stack.callback(server.stop)
            server.start(worker, registry)
            return server

        yield start


def connect(server: RestServer) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port), timeout=30)


def received(opened: socket.socket) -> bytes:
    """Return all that the server sends until it closes the connection."""
    answer = b""
    try:
        while part := opened.recv(65536):
            answer += part
    except ConnectionResetError:
        pass  # it was aborted: also an end
    return answer


def test_a_body_of_one_mebibyte_is_accepted_and_a_larger_one_is_not(client: httpx.Client) -> None:
    body = b'{"connector.class": "AcmeSource", "custom.x": "%s"}'
    fits = body % (b"x" * (MEBIBYTE - len(body) + 2))
    assert len(fits) == MEBIBYTE
    assert client.put(VALIDATE, content=fits, headers=JSON).status_code == 200
    refused = client.put(VALIDATE, content=fits + b" ", headers=JSON)
    assert (refused.status_code, refused.json()["error_code"]) == (413, 413)
    assert str(MEBIBYTE) in refused.json()["message"]


def test_a_body_without_declared_length_is_not_kept_beyond_the_limit(client: httpx.Client) -> None:
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(40):
            sent += MEBIBYTE
            yield b" " * MEBIBYTE

    assert client.put(VALIDATE, content=parts(), headers=JSON).status_code == 413
    assert sent > MEBIBYTE


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_configuration_has_at_most_a_thousand_keys(client: httpx.Client, worker: Any, method: str) -> None:
    worker.add("a")
    config = {f"key.{number}": "x" for number in range(1_001)}
    path = "/connectors" if method == "POST" else "/connectors/a/config"
    body = {"name": "b", "config": config} if method == "POST" else config
    answer = client.request(method, path, json=body)
    assert answer.status_code == 400
    assert "at most 1000 keys" in answer.json()["message"]


def test_headers_that_are_not_complete_in_time_end_the_connection(start_server: StartServer) -> None:
    server = start_server(DEFAULT_LIMITS._replace(header_timeout=0.2))
    with connect(server) as slow, connect(server) as silent:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        assert received(slow) == b""
        assert received(silent) == b""


def test_the_headers_of_a_further_request_have_a_deadline_too(start_server: StartServer) -> None:
    server = start_server(DEFAULT_LIMITS._replace(header_timeout=0.3))
    with connect(server) as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HT")
        assert received(slow).count(b"HTTP/1.1 200 OK") == 1


def test_a_body_that_is_not_complete_in_time_is_answered_408(start_server: StartServer) -> None:
    server = start_server(DEFAULT_LIMITS._replace(body_timeout=0.2))
    with connect(server) as slow:
        head = (
            f"PUT {VALIDATE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        )
        slow.sendall(head.encode() + b"{")
        answer = received(slow)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error_code"] == 408


def test_a_client_that_does_not_read_its_response_is_disconnected(start_server: StartServer, worker: Any) -> None:
    server = start_server(DEFAULT_LIMITS._replace(write_timeout=0.2))
    worker.add("large", text="x" * 30_000_000)
    with connect(server) as slow:
        slow.sendall(b"GET /connectors/large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        poll = select.poll()
        poll.register(slow, 0)  # errors are reported always; a closed connection is noticed when something is sent
        for _ in range(300):
            if poll.poll(100):
                break
            slow.send(b"x")
        else:
            pytest.fail("the connection was not closed")
        assert len(received(slow)) < 30_000_000


def test_slow_clients_do_not_block_other_clients(start_server: StartServer) -> None:
    server = start_server(DEFAULT_LIMITS._replace(connections=8))
    head = f"PUT {VALIDATE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(server)) for _ in range(40)]
        for number, each in enumerate(slow):
            each.sendall([b"", b"GET / HTTP/1.1\r\n", head.encode()][number % 3])
        for _ in range(10):
            assert HTTP.get(f"{server.url}/health", timeout=10).status_code == 200
        assert received(slow[0]) == b""  # the first to be closed


def test_health_is_answered_while_all_threads_are_busy(client: httpx.Client, server: RestServer, worker: Any) -> None:
    worker.add("slow")
    with ExitStack() as stack:
        for _ in range(45):  # more than the pool has threads
            waiting = stack.enter_context(connect(server))
            waiting.sendall(b"GET /connectors/slow/offsets HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert worker.entered.wait(30)
        assert client.get("/health", timeout=10).status_code == 200
        worker.release.set()


def test_errors_of_accepting_connections_are_logged_once_per_interval() -> None:
    loop = asyncio.new_event_loop()
    context = {"message": "socket.accept() out of system resource", "exception": OSError(24, "Too many open files")}
    try:
        with capture_logs() as logged:
            for _ in range(1_000):
                handle_loop_error(loop, context)
    finally:
        loop.close()
    (line,) = [entry for entry in logged if entry["event"] == "rest.cannot_accept"]
    assert "Too many open files" in line["reason"]
    assert "ulimit -n" in line["hint"]


def test_repeated_lines_are_counted_and_admitted_once_per_interval() -> None:
    now = 0.0
    lines = RepeatedLines(interval=10, clock=lambda: now)
    assert [lines.admit("a") for _ in range(4)] == [0, None, None, None]
    assert lines.admit("b") == 0
    now = 10.0
    assert lines.admit("a") == 3
    assert lines.admit("a") is None


def test_requests_that_are_not_http_do_not_flood_the_log(server: RestServer, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        with connect(server) as odd:
            odd.sendall(b"\x16\x03\x01 not HTTP\r\n\r\n")
            assert received(odd).startswith(b"HTTP/1.1 400")
    lines = [record for record in caplog.records if "Invalid HTTP request" in record.getMessage()]
    assert len(lines) <= 1


def test_a_suppressed_record_is_counted_in_the_next_line() -> None:
    now = 0.0
    repeated = RepeatedRecords(RepeatedLines(interval=1, clock=lambda: now))

    def record() -> logging.LogRecord:
        return logging.LogRecord("x", logging.WARNING, "", 0, "Invalid", (), None)

    assert [repeated.filter(record()) for _ in range(3)] == [True, False, False]
    now = 1.0
    last = record()
    assert repeated.filter(last)
    assert "2 more" in last.getMessage()


def test_a_process_with_few_files_accepts_fewer_connections() -> None:
    limits = default_limits()
    assert 8 <= limits.connections <= 256
