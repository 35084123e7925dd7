"""Authentication with passwords, tokens, client certificates and a trusted proxy, and its audit log."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from structlog.testing import capture_logs
from typer.testing import CliRunner

from headrace.cli import connectors
from headrace.errors import ConfigError
from headrace.registry import Registry
from headrace.rest.access_settings import RestAccess
from headrace.rest.authentication import Authenticator, TrustedProxy
from headrace.rest.limits import DEFAULT_LIMITS
from headrace.rest.passwords import hash_password, hash_token, is_password, no_password
from headrace.rest.server import RestServer
from headrace.rest.tls import server_context
from headrace.rest.users_file import parse_users
from headrace.settings import WorkerSettings
from tests.engines.http import HTTP

PASSWORD = "correct horse"
TOKEN = "hr_a-token-of-these-tests"
SUBJECT = "CN=deploy,OU=Data\\, Streams,O=Acme"


@pytest.fixture(scope="module")
def hashed() -> str:
    return hash_password(PASSWORD)


@pytest.fixture
def users(tmp_path: Path, hashed: str) -> Path:
    path = tmp_path / "users"
    path.write_text(
        f"# comment\n\nalice admin {hashed}\nprometheus viewer {hash_token(TOKEN)}\n"
        f"deploy operator certificate:{SUBJECT}\nbob operator proxy\n"
    )
    return path


class Running:
    """Servers of one test."""

    def __init__(self, worker: Any, registry: Registry) -> None:
        self._worker, self._registry = worker, registry
        self._servers: list[RestServer] = []

    def __call__(self, access: RestAccess, listener: str = "http://127.0.0.1:0") -> RestServer:
        server = RestServer([listener], access=access)
        server.bind()
        self._servers.append(server)
        server.start(self._worker, self._registry)
        return server

    def stop(self) -> None:
        for server in self._servers:
            server.stop()


@pytest.fixture
def start(worker: Any, registry: Registry) -> Iterator[Running]:
    running = Running(worker, registry)
    yield running
    running.stop()


@pytest.fixture
def server(start: Running, users: Path) -> RestServer:
    return start(RestAccess(Authenticator(users)))


def get(server: RestServer, path: str = "/connectors", **headers: str) -> httpx.Response:
    return HTTP.get(server.url + path, headers=headers, timeout=30)


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def test_valid_credentials_are_accepted_repeatedly(server: RestServer) -> None:
    for _ in range(3):
        assert get(server, Authorization=basic("alice", PASSWORD)).status_code == 200
        assert get(server, Authorization=f"bearer {TOKEN}").status_code == 200


@pytest.mark.parametrize(
    "credentials",
    [
        basic("alice", "wrong"),
        basic("alice", ""),
        basic("mallory", PASSWORD),
        basic("bob", PASSWORD),
        basic("prometheus", TOKEN),
        "Basic ?",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Bearer",
        "Bearer wrong",
        f"Bearer {hash_token(TOKEN)}",
        "Digest x",
        "",
    ],
)
def test_invalid_credentials_are_refused_with_a_stable_code(server: RestServer, credentials: str) -> None:
    answer = get(server, Authorization=credentials)
    assert answer.status_code == answer.json()["error_code"] == 401
    assert answer.json()["code"] == "auth.wrong_credentials"
    assert answer.headers["www-authenticate"].startswith('Basic realm="headrace"')
    assert "correct" not in answer.text


def test_without_credentials_the_response_names_the_accepted_methods(server: RestServer) -> None:
    answer = get(server)
    assert (answer.status_code, answer.json()["code"]) == (401, "auth.required")
    assert "Bearer" in answer.headers["www-authenticate"]


def test_the_health_of_the_worker_is_public(server: RestServer) -> None:
    assert get(server, "/health").status_code == 200
    assert get(server, "/health", Authorization="Bearer wrong").status_code == 200


def test_guessing_passwords_does_not_lock_out_other_users(server: RestServer) -> None:
    assert get(server, Authorization=basic("alice", PASSWORD)).status_code == 200
    with ThreadPoolExecutor(40) as pool:
        guesses = [pool.submit(get, server, Authorization=basic("alice", f"guess {n}")) for n in range(40)]
        assert get(server, "/health").status_code == 200
        assert get(server, Authorization=basic("alice", PASSWORD)).status_code == 200
        assert get(server, Authorization=f"Bearer {TOKEN}").status_code == 200
        answers = [guess.result(60) for guess in guesses]
    assert {answer.status_code for answer in answers} <= {401, 503}
    busy = [answer for answer in answers if answer.status_code == 503]
    assert all(answer.json()["code"] == "auth.too_many_attempts" for answer in busy)
    assert all(answer.headers["retry-after"] for answer in busy)


def test_a_removed_user_is_refused_at_once_and_a_new_one_accepted(server: RestServer, users: Path, hashed: str) -> None:
    assert get(server, Authorization=basic("alice", PASSWORD)).status_code == 200
    users.write_text(f"carol viewer {hashed}\n")
    assert get(server, Authorization=basic("alice", PASSWORD)).status_code == 401
    assert get(server, Authorization=basic("carol", PASSWORD)).status_code == 200


@pytest.mark.parametrize("content", [None, "alice admin plain-text"])
def test_without_a_readable_users_file_no_user_can_log_in(server: RestServer, users: Path, content: str | None) -> None:
    if content is None:
        users.unlink()
    else:
        users.write_text(content)
    answer = get(server, Authorization=f"Bearer {TOKEN}")
    assert (answer.status_code, answer.json()["code"]) == (503, "auth.users_unreadable")
    assert get(server, "/health").status_code == 200


def test_a_worker_does_not_start_without_its_users_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Authenticator(tmp_path / "none")
    assert caught.value.findings[0].code == "auth.users_file_missing"


@pytest.mark.parametrize(("networks", "status"), [("127.0.0.0/8", 200), ("10.0.0.0/8", 401)])
def test_the_header_of_a_proxy_is_accepted_from_its_addresses_only(
    start: Running, users: Path, networks: str, status: int
) -> None:
    proxied = start(RestAccess(Authenticator(users, TrustedProxy("X-User", [ip_network(networks)]))))
    assert get(proxied, **{"X-User": "bob"}).status_code == status


def test_a_proxy_can_only_log_in_users_configured_for_proxies(start: Running, users: Path) -> None:
    proxied = start(RestAccess(Authenticator(users, TrustedProxy("X-User", [ip_network("127.0.0.1")]))))
    for name in ("alice", "mallory"):
        answer = get(proxied, **{"X-User": name})
        assert (answer.status_code, answer.json()["code"]) == (403, "auth.unknown_user")
    twice = HTTP.get(f"{proxied.url}/connectors", headers=[("X-User", "bob"), ("X-User", "alice")], timeout=30)
    assert twice.status_code == 401


def test_without_a_trusted_proxy_its_header_is_ignored(server: RestServer) -> None:
    assert get(server, **{"X-Forwarded-User": "bob", "X-User": "bob"}).status_code == 401


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def https(start: Running, users: Path, authority: trustme.CA, tmp_path: Path) -> RestServer:
    """A server with TLS that asks for client certificates."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    settings = WorkerSettings.parse(
        {
            "bootstrap.servers": "broker:9092",
            "listeners.https.ssl.keystore.location": str(tmp_path / "server.pem"),
            "listeners.https.ssl.truststore.location": str(tmp_path / "ca.pem"),
            "listeners.https.ssl.client.auth": "requested",
        }
    )
    return start(RestAccess(Authenticator(users), server_context(settings)), "https://127.0.0.1:0")


def issued(authority: trustme.CA, name: str) -> trustme.LeafCert:
    return authority.issue_cert(common_name=name, organization_name="Acme", organization_unit_name="Data, Streams")


def trusting(authority: trustme.CA, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if client is not None:
        client.configure_cert(context)
    return context


def test_one_worker_listens_on_http_and_https(
    worker: Any, registry: Registry, authority: trustme.CA, https: RestServer, tmp_path: Path
) -> None:
    keys = {"listeners.https.ssl.keystore.location": str(tmp_path / "server.pem")}
    context = server_context(WorkerSettings.parse({"bootstrap.servers": "broker:9092", **keys}))
    both = RestServer(["http://127.0.0.1:0", "https://127.0.0.1:0"], access=RestAccess(Authenticator(), context))
    both.bind()
    both.start(worker, registry)
    try:
        assert [url.partition(":")[0] for url in both.urls] == ["http", "https"]
        for url in both.urls:
            assert httpx.get(f"{url}/connectors", verify=trusting(authority), timeout=30).status_code == 200
    finally:
        both.stop()


def test_a_client_certificate_logs_in_by_its_subject(https: RestServer, authority: trustme.CA) -> None:
    known = issued(authority, "deploy")
    unknown = issued(authority, "mallory")
    found = [
        httpx.get(f"{https.url}/connectors", verify=trusting(authority, client), timeout=30).status_code
        for client in (known, unknown, None)
    ]
    assert found == [200, 403, 401]


def test_a_certificate_of_another_authority_is_refused(https: RestServer, authority: trustme.CA) -> None:
    foreign = issued(trustme.CA(), "deploy")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{https.url}/connectors", verify=trusting(authority, foreign), timeout=30)


def test_a_client_that_does_not_finish_its_handshake_is_disconnected(
    worker: Any, registry: Registry, https: RestServer, tmp_path: Path
) -> None:
    keys = {"listeners.https.ssl.keystore.location": str(tmp_path / "server.pem")}
    context = server_context(WorkerSettings.parse({"bootstrap.servers": "broker:9092", **keys}))
    limits = DEFAULT_LIMITS._replace(header_timeout=0.2)
    hasty = RestServer(["https://127.0.0.1:0"], limits=limits, access=RestAccess(Authenticator(), context))
    hasty.bind()
    hasty.start(worker, registry)
    try:
        url = httpx.URL(hasty.url)
        with socket.create_connection((url.host, url.port), timeout=30) as silent:
            assert silent.recv(1) == b""
    finally:
        hasty.stop()


def test_handshakes_count_as_connections(
    worker: Any, registry: Registry, https: RestServer, authority: trustme.CA, tmp_path: Path
) -> None:
    """Clients that connect and never begin a handshake cannot use up the worker's files, nor keep others out."""
    keys = {"listeners.https.ssl.keystore.location": str(tmp_path / "server.pem")}
    context = server_context(WorkerSettings.parse({"bootstrap.servers": "broker:9092", **keys}))
    limits = DEFAULT_LIMITS._replace(connections=8, header_timeout=600.0)
    small = RestServer(["https://127.0.0.1:0"], limits=limits, access=RestAccess(Authenticator(), context))
    small.bind()
    small.start(worker, registry)
    url = httpx.URL(small.url)
    with ExitStack() as stack:
        stack.callback(small.stop)
        silent = [stack.enter_context(socket.create_connection((url.host, url.port), timeout=30)) for _ in range(40)]
        for _ in range(5):
            assert httpx.get(f"{small.url}/health", verify=trusting(authority), timeout=10).status_code == 200
        for each in silent[:32]:  # those that came first
            with suppress(ConnectionResetError):
                assert each.recv(1) == b""


def test_http_on_an_https_listener_is_refused(https: RestServer) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(https.url.replace("https", "http"), timeout=30)


def test_commands_log_in_with_the_environment_and_with_options(server: RestServer, worker: Any, tmp_path: Path) -> None:
    worker.add("a")
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")

    def run(*options: str, **environment: str) -> Any:
        return CliRunner().invoke(connectors.app, [*options, "list", "--url", server.url], env=environment)

    assert run(HEADRACE_TOKEN=TOKEN).exit_code == 0
    assert run(HEADRACE_USER="alice", HEADRACE_PASSWORD=PASSWORD).exit_code == 0
    assert run("--user", "alice", HEADRACE_PASSWORD=PASSWORD).exit_code == 0
    assert run("--token-file", str(token)).exit_code == 0
    refused = run("--user", "alice", HEADRACE_PASSWORD="wrong")
    assert (refused.exception.code, refused.exception.http_status) == ("auth.wrong_credentials", 401)
    missing = run()
    assert missing.exception.code == "auth.required"
    assert "HEADRACE_TOKEN" in missing.exception.hint
    assert run("--token-file", str(tmp_path / "none")).exception.code == "cli.bad_token_file"
    assert run("--user", "alice").exception.code == "cli.no_password"


def test_commands_say_which_role_is_missing(server: RestServer, worker: Any) -> None:
    worker.add("a")
    ran = CliRunner().invoke(connectors.app, ["pause", "a", "--url", server.url], env={"HEADRACE_TOKEN": TOKEN})
    assert isinstance(ran.exception, Exception)
    assert "requires the role operator, and prometheus has the role viewer" in str(ran.exception)


def test_commands_verify_the_certificate_of_the_worker(
    https: RestServer, authority: trustme.CA, tmp_path: Path
) -> None:
    client = issued(authority, "deploy")
    client.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))

    def run(*options: str) -> Any:
        return CliRunner().invoke(connectors.app, [*options, "list", "--url", https.url])

    assert run("--ca-file", str(tmp_path / "ca.pem"), "--cert", str(tmp_path / "client.pem")).exit_code == 0
    unverified = run("--cert", str(tmp_path / "client.pem")).exception
    assert unverified.code == "worker.unreachable"
    assert "certificate verify failed" in str(unverified)
    assert run("--ca-file", str(tmp_path / "none")).exception.code == "cli.bad_certificate"


def test_hashes_are_salted_and_do_not_block_the_worker() -> None:
    assert hash_password("x") != hash_password("x")
    assert is_password("x", hash_password("x"))
    assert not is_password("y", hash_password("x"))
    assert not is_password("", no_password())
    assert not is_password("x", f"scrypt:{1 << 30}:8:1:00:00")
    assert not is_password("x", "scrypt:3:8:1:00:00")


@pytest.mark.parametrize(
    "line",
    ["alice admin", "alice root proxy", "a:b admin proxy", "alice admin scrypt:1:2", "alice admin token:12", "alice"],
)
def test_an_invalid_line_of_the_users_file_is_named_without_its_hash(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_users(f"\n{line}\n", "users")
    (finding,) = caught.value.findings
    assert finding.code == "auth.invalid_users_file"
    assert finding.message.startswith("users:2: ")


def test_a_user_has_one_role() -> None:
    with pytest.raises(ConfigError, match="alice has the role admin in an earlier line"):
        parse_users("alice admin proxy\nalice viewer certificate:CN=alice\n", "users")


def audit_lines(logged: list[Any]) -> list[dict[str, Any]]:
    return [{key: line[key] for key in line if key != "log_level"} for line in logged if line["event"] == "audit"]


def test_each_write_is_one_audit_line_with_user_and_action(server: RestServer, worker: Any) -> None:
    worker.add("orders", **{"batch.size": "1", "connection.url": "postgresql://u:hunter2@db/x"})
    alice = {"Authorization": basic("alice", PASSWORD)}
    changes = {"batch.size": "2", "connection.url": "postgresql://u:hunter3@db/x", "connection.password": "s3cret"}
    with capture_logs() as logged:
        HTTP.get(f"{server.url}/connectors/orders", headers=alice, timeout=30)
        HTTP.patch(f"{server.url}/connectors/orders/config", json=changes, headers=alice, timeout=30)
        HTTP.put(f"{server.url}/connectors/orders/pause", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)
        HTTP.delete(f"{server.url}/connectors/orders", timeout=30)
    changed, refused, anonymous = audit_lines(logged)
    assert changed["user"] == "alice"
    assert (changed["role"], changed["authentication"], changed["status"]) == ("admin", "password", 200)
    assert (changed["method"], changed["path"]) == ("PATCH", "/connectors/orders/config")
    assert changed["client"] == "127.0.0.1"
    url = "postgresql://u:[hidden]@db/x"
    assert changed["before"]["batch.size"] == "1"
    assert changed["after"]["batch.size"] == "2"
    assert changed["after"]["connection.url"] == url
    assert changed["after"]["connection.password"] == "[hidden]"
    assert not any(secret in repr(logged) for secret in ("hunter", "s3cret", PASSWORD, TOKEN))
    assert (refused["user"], refused["status"], refused["after"]) == ("prometheus", 403, None)
    assert (anonymous["user"], anonymous["status"]) == (None, 401)


def test_unauthenticated_requests_cannot_flood_the_audit_log(server: RestServer, worker: Any) -> None:
    with capture_logs() as logged:
        for _ in range(20):
            assert HTTP.delete(f"{server.url}/connectors/orders", timeout=30).status_code == 401
    assert len(audit_lines(logged)) <= 1


def test_states_and_deleted_configurations_are_audited(server: RestServer, worker: Any) -> None:
    worker.add("orders", topic="t")
    alice = {"Authorization": basic("alice", PASSWORD)}
    with capture_logs() as logged:
        HTTP.put(f"{server.url}/connectors/orders/stop", headers=alice, timeout=30)
        HTTP.delete(f"{server.url}/connectors/orders", headers=alice, timeout=30)
    stopped, deleted = audit_lines(logged)
    assert (stopped["before"], stopped["after"]) == ("RUNNING", "STOPPED")
    assert (deleted["before"]["topic"], deleted["after"]) == ("t", None)


def test_decisions_are_no_lines_of_the_audit_log_and_refused_ones_are(server: RestServer, worker: Any) -> None:
    worker.add("surveys")
    url = f"{server.url}/v1/streams/surveys/decide"
    with capture_logs() as logged:
        decided = HTTP.post(url, json={"request_id": "r1"}, headers={"Authorization": basic("alice", PASSWORD)})
        refused = HTTP.post(url, json={"request_id": "r1"}, headers={"Authorization": f"Bearer {TOKEN}"})
    assert (decided.status_code, refused.status_code) == (200, 403)  # a viewer
    assert [line["user"] for line in audit_lines(logged)] == ["prometheus"]
