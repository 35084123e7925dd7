"""Connections to a real Elasticsearch through an HTTP proxy, over TLS, with a client certificate, and compressed."""

from __future__ import annotations

import base64
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from headrace import ConfigError, HeadraceError, SinkBatch, TopicPartition
from headrace.testing.contexts import make_sink_context
from headrace.testing.data_comparison import index_entries
from headrace.testing.faults import HttpProxy
from headrace_sinks.elasticsearch import ElasticsearchSinkConnector
from headrace_sinks.elasticsearch.task import ElasticsearchSinkTask


class ForwardProxy:
    """A forward proxy: full URLs for http, CONNECT for https, and an optional password."""

    def __init__(self, credentials: str | None = None) -> None:
        self.asked: list[str] = []
        proxy = self
        wanted = None if credentials is None else "Basic " + base64.b64encode(credentials.encode()).decode()

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                first = self.rfile.readline().decode()
                headers = []
                while (line := self.rfile.readline().decode().strip()) != "":
                    headers.append(line)
                method, target, _ = first.split()
                proxy.asked.append(f"{method} {target}")
                given = next(
                    (line.split(": ", 1)[1] for line in headers if line.lower().startswith("proxy-auth")), None
                )
                if wanted is not None and given != wanted:
                    self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                    return
                if method == "CONNECT":
                    host, port = target.split(":")
                    with socket.create_connection((host, int(port))) as upstream:
                        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                        self._both_ways(upstream)
                    return
                parts = urlsplit(target)
                with socket.create_connection((parts.hostname or "", parts.port or 80)) as upstream:
                    path = parts.path + (f"?{parts.query}" if parts.query else "")
                    kept = [line for line in headers if not line.lower().startswith(("proxy-", "connection"))]
                    head = "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""])
                    upstream.sendall(head.encode())
                    size = next((int(line.split(":")[1]) for line in kept if line.lower().startswith("content-le")), 0)
                    upstream.sendall(self.rfile.read(size))
                    answer = b"".join(iter(lambda: upstream.recv(65536), b""))
                    status, _, rest = answer.partition(b"\r\n")
                    self.wfile.write(status + b"\r\nConnection: close\r\n" + rest)

            def _both_ways(self, upstream: socket.socket) -> None:
                def back() -> None:
                    try:
                        while data := upstream.recv(65536):
                            self.connection.sendall(data)
                    except OSError:
                        pass  # either side went away

                thread = threading.Thread(target=back)
                thread.start()
                try:
                    while data := self.connection.recv(65536):
                        upstream.sendall(data)
                except OSError:
                    pass  # either side went away
                finally:
                    with suppress(OSError):  # it was closed already
                        upstream.shutdown(socket.SHUT_RDWR)
                    thread.join()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def forward_proxy() -> Iterator[Callable[..., ForwardProxy]]:
    made: list[ForwardProxy] = []

    def make(credentials: str | None = None) -> ForwardProxy:
        made.append(ForwardProxy(credentials))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


def written(url: str, elasticsearch: Any, topic: str, **properties: str) -> dict[str, Any]:
    """Return the documents that a sink with these properties writes."""
    config = {"connection.url": url, **{name.replace("_", "."): value for name, value in properties.items()}}
    task = ElasticsearchSinkTask()
    try:
        task.start(make_sink_context(config))
        values = [{"n": number, "text": "ä" * 1000} for number in range(50)]
        offsets = list(range(50))
        batch = SinkBatch(TopicPartition(topic, 0), topic, offsets, list(offsets), values, [0] * 50, [()] * 50)
        assert list(task.put([batch])) == []
    finally:
        task.stop()
    return {entry.key: entry.value for entry in index_entries(elasticsearch.url, topic)}


def good(found: dict[str, Any]) -> bool:
    return {key: value["n"] for key, value in found.items()} == {str(number): number for number in range(50)}


def test_documents_are_written_through_a_proxy(
    elasticsearch: Any, unique_name: str, forward_proxy: Callable[..., ForwardProxy]
) -> None:
    proxy = forward_proxy()
    options = {"proxy_host": "127.0.0.1", "proxy_port": str(proxy.port)}
    assert good(written(elasticsearch.url, elasticsearch, unique_name, **options))
    assert any(asked.startswith(f"POST {elasticsearch.url}/_bulk") for asked in proxy.asked)


def test_documents_are_written_through_a_proxy_with_a_password(
    elasticsearch: Any, unique_name: str, forward_proxy: Callable[..., ForwardProxy]
) -> None:
    proxy = forward_proxy("me:secret")
    options = {"proxy_host": "127.0.0.1", "proxy_port": str(proxy.port), "proxy_username": "me"}
    assert good(written(elasticsearch.url, elasticsearch, unique_name, proxy_password="secret", **options))
    with pytest.raises(HeadraceError, match="407") as raised:
        written(elasticsearch.url, elasticsearch, unique_name, proxy_password="wrong", **options)
    assert raised.value.code == "elasticsearch.proxy_denied"
    assert "proxy.password" in raised.value.hint


def test_an_unreachable_proxy_is_named(elasticsearch: Any, unique_name: str) -> None:
    options = {"proxy_host": "127.0.0.1", "proxy_port": "1"}
    with pytest.raises(HeadraceError, match=r"through the proxy 127\.0\.0\.1:1") as raised:
        written(elasticsearch.url, elasticsearch, unique_name, **options)
    assert "proxy.host" in raised.value.hint


def test_documents_are_written_over_tls_through_a_proxy(
    elasticsearch: Any, authority: Any, unique_name: str, forward_proxy: Callable[..., ForwardProxy]
) -> None:
    proxy = forward_proxy("me:secret")
    with HttpProxy(elasticsearch.url, tls=authority.server_context()) as secured:
        options = {
            "proxy_host": "127.0.0.1",
            "proxy_port": str(proxy.port),
            "proxy_username": "me",
            "proxy_password": "secret",
            "elastic_https_ssl_truststore_location": str(authority.ca_file),
        }
        assert good(written(secured.url, elasticsearch, unique_name, **options))
    assert {asked.split()[0] for asked in proxy.asked} == {"CONNECT"}


def test_documents_are_written_with_a_client_certificate_through_a_proxy(
    elasticsearch: Any, authority: Any, unique_name: str, tmp_path: Path, forward_proxy: Callable[..., ForwardProxy]
) -> None:
    proxy, context = forward_proxy("me:secret"), authority.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.ca_file)
    with HttpProxy(elasticsearch.url, tls=context) as secured:
        options = {
            "proxy_host": "127.0.0.1",
            "proxy_port": str(proxy.port),
            "proxy_username": "me",
            "proxy_password": "secret",
            "elastic_https_ssl_truststore_location": str(authority.ca_file),
            "elastic_https_ssl_keystore_location": str(client_file(authority, tmp_path, "")),
        }
        assert good(written(secured.url, elasticsearch, unique_name, **options))
        with pytest.raises(HeadraceError) as raised:
            written(secured.url, elasticsearch, unique_name, **options | {"proxy_password": "wrong"})
    assert raised.value.code == "elasticsearch.proxy_denied"


@pytest.mark.parametrize("password", ["", "secret"])
def test_documents_are_written_with_a_client_certificate(
    elasticsearch: Any, authority: Any, unique_name: str, tmp_path: Path, password: str
) -> None:
    context: ssl.SSLContext = authority.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.ca_file)
    trusted = {"elastic_https_ssl_truststore_location": str(authority.ca_file)}
    with HttpProxy(elasticsearch.url, tls=context) as secured:
        with pytest.raises(HeadraceError) as raised:
            written(secured.url, elasticsearch, unique_name, **trusted)
        assert "elastic.https.ssl.keystore.location" in raised.value.hint
        mine = client_file(authority, tmp_path, password)
        options = trusted | {"elastic_https_ssl_keystore_location": str(mine)}
        if password:
            options["elastic_https_ssl_key_password"] = password
        assert good(written(secured.url, elasticsearch, unique_name, **options))


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_private_key_that_cannot_be_decrypted_is_an_error_of_its_key(
    authority: Any, tmp_path: Path, password: str
) -> None:
    properties = {
        "connection.url": "https://localhost:1",
        "elastic.https.ssl.keystore.location": str(client_file(authority, tmp_path, "secret")),
        **({"elastic.https.ssl.key.password": password} if password else {}),
    }
    (finding,) = ElasticsearchSinkConnector().check(properties)
    assert finding.key == "elastic.https.ssl.keystore.location"
    assert "password" in finding.message


def test_a_missing_certificate_file_is_an_error_of_its_key(tmp_path: Path) -> None:
    properties = {
        "connection.url": "https://localhost:1",
        "elastic.https.ssl.keystore.location": str(tmp_path / "nothing.pem"),
    }
    with pytest.raises(ConfigError, match="No such file"):
        ElasticsearchSinkTask().start(make_sink_context(properties))


def client_file(authority: Any, folder: Path, password: str) -> Path:
    from cryptography.hazmat.primitives import serialization

    pem = authority.server_file("client").read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    certificates = pem[pem.index(b"-----BEGIN CERTIFICATE") :]
    if password:
        hidden = serialization.BestAvailableEncryption(password.encode())
        form = serialization.PrivateFormat.PKCS8
        pem = key.private_bytes(serialization.Encoding.PEM, form, hidden) + certificates
    path = folder / f"client{'-locked' if password else ''}.pem"
    path.write_bytes(pem)
    return path


@pytest.mark.parametrize("compatibility", ["none", "8"])
def test_documents_are_written_compressed_and_in_a_compatibility_mode(
    elasticsearch: Any, unique_name: str, compatibility: str
) -> None:
    with HttpProxy(elasticsearch.url) as between:
        options = {"connection_compression": "true", "elasticsearch_compatibility": compatibility}
        assert good(written(between.url, elasticsearch, unique_name, **options))
        assert all(seen.status in (200, 404) for seen in between.seen())


def test_an_unsupported_compatibility_mode_is_named(elasticsearch: Any, unique_name: str) -> None:
    with pytest.raises(HeadraceError) as raised:
        written(elasticsearch.url, elasticsearch, unique_name, elasticsearch_compatibility="9")
    assert raised.value.code == "elasticsearch.compatibility"
    assert "elasticsearch.compatibility" in raised.value.hint


@pytest.mark.parametrize("named", [True, False])
def test_a_data_stream_is_created_by_the_template_of_the_sink(
    elasticsearch: Any, unique_name: str, named: bool
) -> None:
    topic = unique_name.replace("_", "")
    found = written(
        elasticsearch.url,
        elasticsearch,
        topic,
        data_stream_type="LOGS",
        data_stream_dataset=f"headrace{named}".lower(),
        index_template=f"{topic}-template",
        **({"topics": topic} if named else {}),
    )
    assert found == {}  # nothing under the topic's own name
    entries = index_entries(elasticsearch.url, f"logs-headrace{named}-{topic}".lower())
    assert sorted(entry.value["n"] for entry in entries) == list(range(50))
    assert {entry.value["@timestamp"] for entry in entries} == {0}
