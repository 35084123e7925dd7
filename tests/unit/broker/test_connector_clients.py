"""Connectors override Kafka settings of the worker, and do not inherit its credentials when they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.broker.connector_clients import ConnectorClients, OverridePolicy, effective_settings
from headrace.broker.kafka_python import settings as kafka_python
from headrace.errors import ConfigError
from headrace.settings import SinkSettings, SourceSettings, WorkerSettings

JAAS = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="worker" password="s3cret";'
SECURE = {
    "bootstrap.servers": "broker:9092",
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "PLAIN",
    "sasl.jaas.config": JAAS,
    "ssl.truststore.location": "/ca.pem",
    "ssl.keystore.location": "/worker.pem",
    "ssl.key.password": "k3y",
    "producer.sasl.jaas.config": JAAS,
    "producer.acks": "all",
    "client.sasl.password": "s3cret",
}
OWN = JAAS.replace("worker", "team").replace("s3cret", "theirs")


def worker(**more: str) -> WorkerSettings:
    return WorkerSettings.parse({**SECURE, **more})


def source(**overrides: str) -> SourceSettings:
    return SourceSettings.parse({"name": "a", "connector.class": "X", **overrides})


def merged(overrides: Mapping[str, str]) -> dict[str, str]:
    found = effective_settings(worker(), source(**overrides), "producer")
    return {**found.shared, **found.own}


def test_without_overrides_of_the_connection_everything_is_inherited() -> None:
    settings = merged({"producer.override.linger.ms": "7"})
    assert settings["sasl.jaas.config"] == JAAS
    assert settings["ssl.keystore.location"] == "/worker.pem"
    assert settings["linger.ms"] == "7"


@pytest.mark.parametrize(
    "overrides",
    [
        {"producer.override.bootstrap.servers": "rogue:9092", "producer.override.sasl.jaas.config": OWN},
        {"producer.override.security.protocol": "PLAINTEXT"},
        {"producer.override.ssl.truststore.location": "/rogue.pem", "producer.override.sasl.jaas.config": OWN},
        {"producer.override.sasl.username": "worker", "producer.override.sasl.password": "guess"},
        {"producer.override.ssl.endpoint.identification.algorithm": "", "producer.override.sasl.username": "x"},
    ],
)
def test_no_credential_of_the_worker_is_inherited_with_another_connection(overrides: dict[str, str]) -> None:
    settings = merged(overrides)
    text = repr(settings)
    for secret in ("s3cret", "k3y", "/worker.pem"):
        assert secret not in text
    assert settings["acks"] == "all"
    assert settings["sasl.mechanism"] == "PLAIN"


def test_another_broker_never_receives_the_password_of_the_worker() -> None:
    rogue = {
        "producer.override.bootstrap.servers": "rogue:9092",
        "producer.override.security.protocol": "SASL_PLAINTEXT",
        "producer.override.sasl.mechanism": "PLAIN",
    }
    with pytest.raises(ConfigError) as caught:
        merged(rogue)
    (finding,) = caught.value.findings
    assert finding.code == "kafka.credentials_not_inherited"
    assert finding.key == "producer.override.bootstrap.servers"
    assert "producer.override.sasl.jaas.config" in finding.hint


def test_other_clients_of_the_connector_are_not_affected() -> None:
    connector = source(**{"producer.override.security.protocol": "PLAINTEXT"})
    assert effective_settings(worker(), connector, "admin").shared["sasl.jaas.config"] == JAAS


@pytest.mark.parametrize("known", [kafka_python.PRODUCER, kafka_python.CONSUMER, kafka_python.ADMIN])
def test_each_credential_that_kafka_python_knows_is_one_of_the_connection(known: Mapping[str, Any]) -> None:
    words = ("sasl", "ssl", "security", "password", "proxy")
    for name in (argument.replace("_", ".") for argument in known if any(word in argument for word in words)):
        found = effective_settings(
            worker(**{f"client.{name}": "w0rker"}), source(**{"producer.override.security.protocol": "SSL"}), "producer"
        )
        inherited = {key: value for key, value in found.shared.items() if value == "w0rker"}
        assert not any(word in repr(inherited) for word in ("password", "user", "keyfile", "certfile", "provider"))
        assert "proxy" not in repr(inherited)


@pytest.mark.parametrize(
    "name",
    [
        "sasl.jaas.config", "sasl.username", "sasl.password", "sasl.plain.password", "sasl.kerberos.keytab",
        "sasl.oauthbearer.client.secret", "sasl.login.key.of.a.later.version", "ssl.keystore.location",
        "ssl.keystore.key", "ssl.keystore.password", "ssl.key.location", "ssl.key.password", "ssl.key.pem",
        "ssl.keyfile", "ssl.certfile", "ssl.certificate.location", "ssl.certificate.pem", "ssl.password",
        "socks5.proxy",
    ],
)  # fmt: skip
def test_settings_with_secrets_are_not_inherited(name: str) -> None:
    settings = worker(**{f"client.{name}": "w0rker", f"producer.{name}": "w0rker"})
    found = effective_settings(settings, source(**{"producer.override.security.protocol": "SSL"}), "producer")
    assert "w0rker" not in repr(found)


class RecordingClients:
    """Records the settings of the clients that are requested from it."""

    def __init__(self, shared: Mapping[str, str]) -> None:
        self.shared = shared
        self.opened: list[dict[str, str]] = []

    def sharing(self, settings: Mapping[str, str]) -> RecordingClients:
        other = RecordingClients(settings)
        other.opened = self.opened
        return other

    def producer(self, settings: Mapping[str, str]) -> None:
        self.opened.append({**self.shared, **settings})

    def admin(self, settings: Mapping[str, str]) -> None:
        self.opened.append({**self.shared, **settings})

    def consumer(self, group: str, settings: Mapping[str, str]) -> None:
        self.opened.append({**self.shared, **settings, "group": group})

    def reader(self, settings: Mapping[str, str]) -> None:
        self.opened.append({**self.shared, **settings})

    def transactional_producer(self, transactional_id: str, settings: Mapping[str, str]) -> None:
        self.opened.append({**self.shared, **settings, "id": transactional_id})


def test_every_client_of_a_connector_is_opened_without_the_credentials() -> None:
    overrides = {
        f"{kind}.override.{name}": text
        for kind in ("producer", "consumer", "admin")
        for name, text in (("bootstrap.servers", "rogue:1"), ("security.protocol", "PLAINTEXT"))
    }
    connector = SinkSettings.parse({"name": "a", "connector.class": "X", "topics": "t", **overrides})
    recording = RecordingClients(worker().client_settings())
    clients = ConnectorClients(recording, worker(), connector)  # type: ignore[arg-type]
    clients.producer("p")
    clients.consumer("c", "group")
    clients.admin()
    clients.reader("r")
    clients.transactional_producer("t")
    assert len(recording.opened) == 5
    for opened in recording.opened:
        assert opened["bootstrap.servers"] == "rogue:1"
        assert not any(secret in repr(opened) for secret in ("s3cret", "k3y", "/worker.pem"))


@pytest.mark.parametrize("policy", ["All", "None", "Principal", "Allowlist"])
def test_policies_have_the_names_of_kafka_connect(policy: str) -> None:
    path = f"org.apache.kafka.connect.connector.policy.{policy}ConnectorClientConfigOverridePolicy"
    for text in (policy, path):
        settings = worker(**{"connector.client.config.override.policy": text})
        assert OverridePolicy.of(settings).name == policy


def test_a_custom_policy_class_is_refused() -> None:
    with pytest.raises(ConfigError, match="All, None, Principal, Allowlist"):
        worker(**{"connector.client.config.override.policy": "com.example.Mine"})
