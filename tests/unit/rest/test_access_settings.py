"""Settings that a worker requires before its REST API can be reached from other machines."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from headrace.app import WorkerApplication
from headrace.broker.in_memory import InMemoryKafka
from headrace.cli import kafka_settings
from headrace.errors import ConfigError
from headrace.interpolation import make_interpolator
from headrace.registry import Registry
from headrace.rest.access_settings import access_findings, rest_access
from headrace.settings import WorkerSettings
from headrace.validation import Validator

BASIC = "org.apache.kafka.connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension"


@pytest.fixture
def users(tmp_path: Path) -> str:
    path = tmp_path / "users"
    path.write_text("bob viewer proxy\n")
    return str(path)


@pytest.fixture
def pem(tmp_path: Path) -> str:
    path = tmp_path / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


def settings(**keys: str) -> WorkerSettings:
    dotted = {name.replace("_", "."): text for name, text in keys.items()}
    return WorkerSettings.parse({"bootstrap.servers": "broker:9092", **dotted})


def codes(**keys: str) -> list[tuple[str, str]]:
    return [(finding.code, finding.key) for finding in access_findings(settings(**keys))]


@pytest.mark.parametrize("listener", ["http://127.0.0.1:8083", "http://localhost:8083", "http://[::1]:8083"])
def test_a_loopback_listener_needs_no_authentication(listener: str) -> None:
    assert codes(listeners=listener) == []
    assert rest_access(settings(listeners=listener)).tls is None


@pytest.mark.parametrize(
    "listener", ["http://:8083", "http://0.0.0.0:8083", "http://10.1.2.3:1", "http://host", "http://[::]:1"]
)
def test_an_open_listener_without_authentication_is_refused(listener: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rest_access(settings(listeners=f"http://127.0.0.1:1,{listener}"))
    (finding,) = caught.value.findings
    assert finding.code == "rest.unauthenticated_listener"
    for way_out in ("rest.users.file", "127.0.0.1", "rest.authentication: none"):
        assert way_out in finding.hint


def test_an_open_listener_is_accepted_when_it_is_configured() -> None:
    assert codes(listeners="http://0.0.0.0:8083", rest_authentication="None") == []


def test_passwords_on_an_open_http_listener_are_a_warning(users: str, pem: str) -> None:
    assert codes(listeners="http://0.0.0.0:8083", rest_users_file=users) == [("rest.plain_http", "listeners")]
    https = {"listeners_https_ssl_keystore_location": pem}
    assert codes(listeners="https://0.0.0.0:8083", rest_users_file=users, **https) == []


@pytest.mark.parametrize("key", ["rest_authentication", "rest_extension_classes"])
def test_required_authentication_needs_users(key: str, users: str) -> None:
    text = "users" if key == "rest_authentication" else BASIC
    assert codes(**{key: text}) == [("config.missing_key", "rest.users.file")]
    assert codes(**{key: text}, rest_users_file=users) == []
    assert ("rest.unauthenticated_listener", "listeners") not in codes(**{key: text}, listeners="http://:1")


def test_other_extensions_of_kafka_connect_are_refused() -> None:
    with pytest.raises(ConfigError, match="extensions are Java classes"):
        settings(rest_extension_classes=f"{BASIC}, com.example.Mine")


def test_contradictory_settings_are_errors(users: str) -> None:
    assert codes(rest_authentication="none", rest_users_file=users) == [("config.conflict", "rest.authentication")]
    assert codes(rest_proxy_user_header="X-User", rest_users_file=users) == [
        ("config.missing_key", "rest.proxy.addresses")
    ]
    assert codes(rest_proxy_user_header="X-User", rest_proxy_addresses="10.0.0.1/8", rest_users_file=users) == [
        ("config.invalid_value", "rest.proxy.addresses")
    ]


def test_a_missing_users_file_is_found_before_the_start(tmp_path: Path) -> None:
    assert codes(rest_users_file=str(tmp_path / "none")) == [("auth.users_file_missing", "rest.users.file")]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ("config.missing_key", "ssl.keystore.location")),
        ({"ssl.keystore.location": "{pem}", "ssl.keystore.type": "JKS"}, ("config.invalid_value", "ssl.keystore.type")),
        ({"ssl.keystore.location": "/none.pem"}, ("rest.tls", "ssl.keystore.location")),
        ({"ssl.keystore.location": "{pem}", "ssl.client.auth": "no"}, ("config.invalid_value", "ssl.client.auth")),
        (
            {"ssl.keystore.location": "{pem}", "ssl.client.auth": "required"},
            ("config.missing_key", "ssl.truststore.location"),
        ),
        (
            {"ssl.keystore.location": "{pem}", "ssl.enabled.protocols": "SSLv3"},
            ("config.invalid_value", "ssl.enabled.protocols"),
        ),
    ],
)
@pytest.mark.parametrize("prefix", ["", "listeners.https."])
def test_invalid_tls_settings_name_the_key(
    keys: dict[str, str], expected: tuple[str, str], prefix: str, pem: str
) -> None:
    given = {f"{prefix}{name}": text.replace("{pem}", pem) for name, text in keys.items()}
    parsed = WorkerSettings.parse({"bootstrap.servers": "b:1", "listeners": "https://127.0.0.1:1", **given})
    (finding,) = access_findings(parsed)
    assert (finding.code, finding.key) == (expected[0], f"{prefix if keys else ''}{expected[1]}")


def test_keys_with_the_prefix_replace_all_without_it(pem: str) -> None:
    shared = {"ssl.client.auth": "required", "ssl.truststore.location": "/of/kafka.pem"}
    own = {"listeners.https.ssl.keystore.location": pem}
    parsed = WorkerSettings.parse({"bootstrap.servers": "b:1", "listeners": "https://127.0.0.1:1", **shared, **own})
    assert access_findings(parsed) == []
    assert rest_access(parsed).tls is not None


def test_an_unknown_tls_key_is_an_error_with_the_nearest_key(pem: str) -> None:
    own = {"listeners.https.ssl.keystore.location": pem, "listeners.https.ssl.clientauth": "required"}
    parsed = WorkerSettings.parse({"bootstrap.servers": "b:1", "listeners": "https://127.0.0.1:1", **own})
    (finding,) = access_findings(parsed)
    assert finding.code == "config.unknown_key"
    assert "ssl.client.auth" in finding.hint


def test_no_command_starts_or_accepts_an_open_worker() -> None:
    open_worker = settings(listeners="http://0.0.0.0:0")
    registry = Registry()
    validator = Validator(registry, make_interpolator(registry))
    with pytest.raises(ConfigError, match="without authentication"):
        WorkerApplication(open_worker, validator, registry, refused=lambda error: None, kafka_clients=InMemoryKafka())
    found = [finding.code for finding in kafka_settings.of_worker(open_worker)]
    assert "rest.unauthenticated_listener" in found
