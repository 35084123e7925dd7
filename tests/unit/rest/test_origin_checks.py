"""Web pages cannot send requests to a worker from a user's browser, unless the worker's file allows their origin."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from headrace.registry import Registry
from headrace.rest.options import RestOptions
from headrace.rest.server import RestServer
from tests.engines.http import HTTP

PAGE = "https://evil.example"
FRIEND = "https://console.acme.example"


@pytest.fixture(scope="module")
def open_server(fake_worker: Any, registry: Registry) -> Iterator[RestServer]:
    """A server that lets one origin send GET and PUT, and has a further name."""
    running = RestServer(["http://127.0.0.1:0"], RestOptions([FRIEND], ["GET", "PUT"], (), ["connect.acme.example"]))
    running.bind()
    running.start(fake_worker, registry)
    yield running
    running.stop()


def status(server: RestServer, method: str = "GET", path: str = "/connectors", **headers: str) -> int:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return HTTP.request(method, server.url + path, headers=named, timeout=30).status_code


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8083", "localhost.evil.example", "127.0.0.1.nip.io", "a b"]
)
def test_a_host_name_that_is_not_of_this_worker_is_answered_421(server: RestServer, worker: Any, host: str) -> None:
    answer = HTTP.get(f"{server.url}/connectors", headers={"Host": host}, timeout=30)
    assert answer.status_code == answer.json()["error_code"] == 421
    assert answer.json()["code"] == "rest.unknown_host"
    assert "rest.allowed.hosts" in answer.json()["message"]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "127.0.0.1", "10.1.2.3:8083", "[::1]:8083", "a.localhost", socket.gethostname()],
)
def test_addresses_and_names_of_this_machine_are_accepted(server: RestServer, worker: Any, host: str) -> None:
    assert status(server, Host=host) == 200


def test_names_of_the_workers_file_are_accepted(open_server: RestServer, worker: Any) -> None:
    assert status(open_server, Host="connect.acme.example:443") == 200
    assert status(open_server, Host="other.acme.example") == 421


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/connectors/a/pause"),
        ("POST", "/connectors/a/restart"),
        ("DELETE", "/connectors/a"),
        ("DELETE", "/connectors/a/offsets"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": PAGE},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": PAGE, "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_a_page_of_another_origin_cannot_change_anything(
    client: httpx.Client, worker: Any, method: str, path: str, headers: dict[str, str]
) -> None:
    worker.add("a")
    answer = client.request(method, path, headers=headers)
    assert answer.status_code == answer.json()["error_code"] == 403
    assert answer.json()["code"] == "rest.cross_origin"
    assert worker.restarts == []
    assert "a" in worker.configs


def test_responses_to_reads_do_not_allow_other_origins_to_see_them(client: httpx.Client, worker: Any) -> None:
    answer = client.get("/connectors", headers={"Origin": PAGE})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_a_page_of_the_same_origin_may_write(server: RestServer, worker: Any) -> None:
    worker.add("a")
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert HTTP.put(f"{server.url}/connectors/a/pause", headers=own, timeout=30).status_code == 202
    behind_a_proxy = {"Origin": "https://localhost", "Host": "localhost"}
    assert HTTP.put(f"{server.url}/connectors/a/pause", headers=behind_a_proxy, timeout=30).status_code == 202


def test_programs_send_no_origin_and_may_write(client: httpx.Client, worker: Any) -> None:
    worker.add("a")
    assert client.put("/connectors/a/pause").status_code == 202
    assert client.put("/connectors/a/pause", headers={"Sec-Fetch-Site": "none"}).status_code == 202


def test_only_the_origins_and_methods_of_the_workers_file_are_allowed(open_server: RestServer, worker: Any) -> None:
    worker.add("a")
    assert status(open_server, "PUT", "/connectors/a/pause", Origin=FRIEND, Sec_Fetch_Site="cross-site") == 202
    assert status(open_server, "PUT", "/connectors/a/pause", Origin=PAGE) == 403
    assert status(open_server, "POST", "/connectors/a/restart", Origin=FRIEND) == 403  # not one of the methods
    preflight = {"Origin": FRIEND, "Access-Control-Request-Method": "PUT"}
    answer = HTTP.options(f"{open_server.url}/connectors/a/pause", headers=preflight, timeout=30)
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert "DELETE" not in answer.headers["access-control-allow-methods"]
