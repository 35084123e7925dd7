"""The HTTP proxy answers as scripted, otherwise as the server behind it."""

from __future__ import annotations

import gzip
import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.testing.faults import Drop, HalfAnswer, Hang, HttpProxy, ItemErrors, NoAnswer, Slow, StatusFault
from headrace.testing.faults.answers import bulk_items
from headrace.testing.waiting import eventually
from tests.engines.certificates import Authority

BULK = (
    b'{"index":{"_index":"i","_id":"1"}}\n{"a":1}\n'
    b'{"delete":{"_index":"i","_id":"2"}}\n'
    b'{"create":{"_index":"i","_id":"3"}}\n{"a":3}\n'
    b'{"update":{"_index":"i","_id":"4"}}\n{"doc":{"a":4}}\n'
)


class Engine(ThreadingHTTPServer):
    """Answers bulk requests as Elasticsearch does, and echoes all others."""

    daemon_threads = False

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                engine.requests.append((self.command, self.path, headers, body))
                said: dict[str, Any] = {"path": self.path}
                if "_bulk" in self.path:
                    items = [{action: {"_id": meta["_id"], "status": 200}} for action, meta, _ in bulk_items(body)]
                    said = {"took": 1, "errors": False, "items": items}
                content = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("X-Elastic-Product", "Elasticsearch")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_HEAD = answer

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        thread = threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield engine
        engine.shutdown()
        thread.join()


@pytest.fixture
def proxied(engine: Engine) -> Iterator[Callable[..., HttpProxy]]:
    made: list[HttpProxy] = []

    def make(**arguments: Any) -> HttpProxy:
        made.append(HttpProxy(f"http://127.0.0.1:{engine.server_port}", **arguments))
        return made[-1]

    before = threading.active_count()
    yield make
    for each in made:
        each.close()
    eventually(lambda: threading.active_count() <= before)


@pytest.fixture
def proxy(proxied: Callable[..., HttpProxy]) -> HttpProxy:
    return proxied()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=10) as client:
        yield client


def bulk(client: httpx.Client, proxy: HttpProxy, body: bytes = BULK) -> httpx.Response:
    return client.post(f"{proxy.url}/_bulk", content=body, headers={"Content-Type": "application/x-ndjson"})


def test_requests_and_responses_are_forwarded_unchanged(client: httpx.Client, proxy: HttpProxy, engine: Engine) -> None:
    assert client.get(f"{proxy.url}/a/_search?q=1", headers={"X-Mine": "yes"}).json() == {"path": "/a/_search?q=1"}
    assert client.head(f"{proxy.url}/a").status_code == 200
    answer = bulk(client, proxy)
    assert answer.headers["X-Elastic-Product"] == "Elasticsearch"
    assert len(answer.json()["items"]) == 4
    method, path, headers, _ = engine.requests[0]
    assert (method, path, headers["x-mine"]) == ("GET", "/a/_search?q=1", "yes")
    assert headers["host"] == f"127.0.0.1:{engine.server_port}"
    assert engine.requests[2][3] == BULK
    assert [(each.method, each.status, each.fault) for each in proxy.seen()] == [
        ("GET", 200, None),
        ("HEAD", 200, None),
        ("POST", 200, None),
    ]


def test_scripted_faults_are_injected_in_order_into_matching_paths(
    client: httpx.Client, proxy: HttpProxy, engine: Engine
) -> None:
    proxy.play(StatusFault(429, retry_after=3), None, StatusFault(503), StatusFault(413), path="_bulk")
    assert client.get(f"{proxy.url}/other").status_code == 200
    first = bulk(client, proxy)
    assert (first.status_code, first.headers["Retry-After"]) == (429, "3")
    assert first.json()["error"]["type"] == "es_rejected_execution_exception"
    assert bulk(client, proxy).status_code == 200
    assert bulk(client, proxy).json()["error"]["type"] == "cluster_block_exception"
    assert proxy.left == 1
    third = bulk(client, proxy)
    assert (third.status_code, third.content) == (413, b"")
    assert bulk(client, proxy).status_code == 200
    assert proxy.left == 0
    assert len(engine.requests) == 3


def test_a_permanent_fault_ends_with_restore(client: httpx.Client, proxy: HttpProxy) -> None:
    proxy.always(StatusFault(503), path="_bulk")
    assert [bulk(client, proxy).status_code for _ in range(3)] == [503] * 3
    proxy.restore()
    assert bulk(client, proxy).status_code == 200


def test_a_half_answer_follows_an_executed_request(client: httpx.Client, proxy: HttpProxy, engine: Engine) -> None:
    proxy.play(HalfAnswer())
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        bulk(client, proxy)
    assert len(engine.requests) == 1
    assert proxy.seen()[0].status is None


@pytest.mark.parametrize(("fault", "arrived"), [(NoAnswer(), 1), (Drop(), 0)])
def test_the_connection_closes_without_an_answer_with_or_without_execution(
    client: httpx.Client, proxy: HttpProxy, engine: Engine, fault: Any, arrived: int
) -> None:
    proxy.play(fault)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        bulk(client, proxy)
    assert len(engine.requests) == arrived
    assert bulk(client, proxy).status_code == 200


@pytest.mark.parametrize("fault", [Slow(1_000), Hang(applied=True)])
def test_a_hanging_request_ends_with_restore(
    client: httpx.Client, proxy: HttpProxy, engine: Engine, fault: Any
) -> None:
    proxy.play(fault)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(bulk, client, proxy)
        eventually(lambda: len(engine.requests) == 1)
        assert not answer.done()
        proxy.restore()
        if isinstance(fault, Slow):
            assert answer.result(10).status_code == 200
        else:
            assert isinstance(answer.exception(10), httpx.RemoteProtocolError)


def test_a_slow_answer_is_delayed(client: httpx.Client, proxy: HttpProxy) -> None:
    proxy.play(Slow(0.05))
    assert bulk(client, proxy).elapsed.total_seconds() >= 0.05


def test_failed_items_are_not_forwarded_and_the_others_are(
    client: httpx.Client, proxy: HttpProxy, engine: Engine
) -> None:
    proxy.play(ItemErrors(status=400, kind="document_parsing_exception", reason="no", fails=lambda n, _: n in (1, 3)))
    said = bulk(client, proxy).json()
    assert said["errors"] is True
    assert [next(iter(item)) for item in said["items"]] == ["index", "delete", "create", "update"]
    assert [next(iter(item.values()))["status"] for item in said["items"]] == [200, 400, 200, 400]
    assert said["items"][1]["delete"]["error"] == {"type": "document_parsing_exception", "reason": "no"}
    assert said["items"][3]["update"]["_id"] == "4"
    assert [meta["_id"] for _, meta, _ in bulk_items(engine.requests[0][3])] == ["1", "3"]


def test_no_request_is_forwarded_when_all_items_fail(client: httpx.Client, proxy: HttpProxy, engine: Engine) -> None:
    proxy.play(ItemErrors(fails=lambda *_: True))
    said = bulk(client, proxy).json()
    assert [next(iter(item.values()))["status"] for item in said["items"]] == [429] * 4
    assert engine.requests == []


def test_a_compressed_body_is_decompressed(client: httpx.Client, proxy: HttpProxy, engine: Engine) -> None:
    proxy.play(ItemErrors(fails=lambda n, _: n == 0))
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/x-ndjson"}
    client.post(f"{proxy.url}/_bulk", content=gzip.compress(BULK), headers=headers).raise_for_status()
    assert [meta["_id"] for _, meta, _ in bulk_items(engine.requests[0][3])] == ["2", "3", "4"]


def test_requests_without_credentials_are_refused(
    proxied: Callable[..., HttpProxy], client: httpx.Client, engine: Engine
) -> None:
    proxy = proxied(basic_auth=("elastic", "secret"), api_key="a2V5")
    for headers in ({}, {"Authorization": "ApiKey b3RoZXI="}, {"Authorization": "Basic eDp5"}):
        answer = client.get(proxy.url, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "security_exception"
        assert "Basic" in answer.headers["WWW-Authenticate"]
    assert engine.requests == []
    assert client.get(proxy.url, auth=("elastic", "secret")).status_code == 200
    assert client.get(proxy.url, headers={"Authorization": "ApiKey a2V5"}).status_code == 200


def test_only_clients_that_trust_the_certificate_connect_over_tls(
    proxied: Callable[..., HttpProxy], tmp_path: Path, engine: Engine
) -> None:
    authority = Authority(tmp_path)
    proxy = proxied(tls=authority.server_context())
    trusting = ssl.create_default_context(cafile=str(authority.ca_file))
    with httpx.Client(verify=trusting) as client:
        assert client.get(proxy.url).status_code == 200
    with httpx.Client() as client, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        client.get(proxy.url)
    assert len(engine.requests) == 1


def test_an_unavailable_engine_is_a_bad_gateway(client: httpx.Client) -> None:
    with HttpProxy("http://127.0.0.1:1") as proxy:
        assert client.get(proxy.url).status_code == 502


def test_closing_ends_open_connections(engine: Engine, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    for tls in (None, authority.server_context()):
        proxy = HttpProxy(f"http://127.0.0.1:{engine.server_port}", tls=tls)
        connection = (
            http.client.HTTPSConnection("localhost", proxy.port, context=context, timeout=10)
            if tls
            else http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
        )
        connection.request("GET", "/")
        assert connection.getresponse().read()
        proxy.close()  # returns although the client keeps its connection
        assert connection.sock.recv(1) == b""
        connection.close()
