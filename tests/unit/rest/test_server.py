"""The server: listeners, slow calls, and a stop that does not wait for them."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from headrace.embedded.tcp_ports import free_port
from headrace.errors import ConfigError, InfrastructureError
from headrace.registry import Registry
from headrace.rest.listeners import Listener, parse_listeners
from headrace.rest.server import RestServer
from tests.engines.http import HTTP


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another socket listens."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened.getsockname()[1]


def test_a_port_in_use_is_reported_at_once(worker: Any, registry: Registry, taken: int) -> None:
    server = RestServer(["http://127.0.0.1:0", f"http://127.0.0.1:{taken}"])
    with pytest.raises(InfrastructureError) as caught:
        server.bind()
    assert caught.value.code == "rest.port_in_use"
    assert f"127.0.0.1:{taken}" in caught.value.message
    assert "listeners: http://" in caught.value.hint


def test_two_servers_cannot_share_a_port(server: RestServer, worker: Any, registry: Registry) -> None:
    with pytest.raises(InfrastructureError, match="another process is using this port"):
        RestServer([server.url]).bind()


def test_an_address_of_another_machine_is_an_error(worker: Any, registry: Registry) -> None:
    with pytest.raises(InfrastructureError) as caught:
        RestServer(["http://192.0.2.1:0"]).bind()  # TEST-NET-1
    assert caught.value.code == "rest.cannot_listen"


def test_several_listeners_have_their_own_ports(worker: Any, registry: Registry) -> None:
    server = RestServer(["http://127.0.0.1:0", "http://:0"])
    server.bind()
    server.start(worker, registry)
    try:
        assert server.url == server.urls[0]
        assert len(set(server.urls)) == 2
        for url in server.urls:
            assert HTTP.get(f"{url}/connectors").json() == []
    finally:
        server.stop()


def test_a_slow_request_does_not_delay_others(client: httpx.Client, worker: Any) -> None:
    worker.add("slow")
    with ThreadPoolExecutor(1) as other:
        slow = other.submit(client.get, "/connectors/slow/offsets")
        assert worker.entered.wait(30)
        assert client.get("/connectors").json() == ["slow"]
        assert not slow.done()
        worker.release.set()
        assert slow.result(30).status_code == 200


def test_stop_does_not_wait_for_a_slow_call(worker: Any, registry: Registry) -> None:
    worker.add("slow")
    server = RestServer(["http://127.0.0.1:0"])
    server.bind()
    server.start(worker, registry)
    with ThreadPoolExecutor(1) as other:
        slow = other.submit(httpx.get, f"{server.url}/connectors/slow/offsets", timeout=30)
        assert worker.entered.wait(30)
        server.stop()  # would block: the call is released only below
        answer = slow.result(30)
        assert answer.status_code == answer.json()["error_code"] == 503
        assert "stopping" in answer.json()["message"]
        worker.release.set()


def test_stop_ends_the_thread_and_releases_the_port_and_may_be_called_twice(worker: Any, registry: Registry) -> None:
    before = set(threading.enumerate())
    server = RestServer([f"http://127.0.0.1:{free_port()}"])  # outside the range of ephemeral ports
    server.stop()  # never started: nothing to do
    server.bind()
    server.start(worker, registry)
    url = server.url
    with httpx.Client(verify=False) as idle:  # a connection kept alive must not hold the server
        assert idle.get(url).status_code == 200
        server.stop()
    server.stop()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "rest"]
    with pytest.raises(httpx.ConnectError):
        HTTP.get(url)
    again = RestServer([url])
    again.bind()
    again.start(worker, registry)
    again.stop()


def test_listeners_are_parsed_as_in_connect() -> None:
    texts = ["http://127.0.0.1:8084", "HTTP://:8085", "http://localhost", "http://[::1]:0/", "https://h:8443"]
    expected = [
        Listener("127.0.0.1", 8084),
        Listener("0.0.0.0", 8085),
        Listener("localhost", 8083),
        Listener("::1", 0),
        Listener("h", 8443, tls=True),
    ]
    assert parse_listeners(texts) == expected
    assert [str(listener) for listener in expected[:4:3]] == ["127.0.0.1:8084", "[::1]:0"]
    assert [listener.is_loopback() for listener in expected] == [True, False, True, True, False]


def test_all_invalid_listeners_are_reported_at_once_without_passwords() -> None:
    texts = ["https://me:secret@:port", "ftp://x", "localhost:8083", "http://x:port", "http://[::1", "http://ok:1"]
    with pytest.raises(ConfigError) as caught:
        parse_listeners(texts)
    findings = caught.value.findings
    assert [finding.code for finding in findings] == ["config.invalid_value"] * 5
    assert {finding.key for finding in findings} == {"listeners"}
    assert "secret" not in str(caught.value)


def test_an_empty_list_of_listeners_is_an_error() -> None:
    with pytest.raises(ConfigError, match="at least one listener"):
        parse_listeners([])
