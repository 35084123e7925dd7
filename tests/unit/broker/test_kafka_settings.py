from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.broker.kafka_python.settings import ADMIN, CONSUMER, PRODUCER, arguments
from headrace.errors import ConfigError, Finding


def parsed(settings: Mapping[str, str], known: Mapping[str, Any] = PRODUCER) -> dict[str, Any]:
    return arguments({}, settings, known, {})


def findings(settings: Mapping[str, str], known: Mapping[str, Any] = PRODUCER) -> tuple[Finding, ...]:
    with pytest.raises(ConfigError) as caught:
        parsed(settings, known)
    return caught.value.findings


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("bootstrap.servers", "a:1, b:2", {"bootstrap_servers": ["a:1", "b:2"]}),
        ("bootstrap.servers", "[::1]:9092", {"bootstrap_servers": ["[::1]:9092"]}),
        ("linger.ms", " 20 ", {"linger_ms": 20}),
        ("retries", "3", {"retries": 3}),
        ("enable.idempotence", "TRUE", {"enable_idempotence": True}),
        ("client.id", "connector-producer-a-0", {"client_id": "connector-producer-a-0"}),
        ("acks", "all", {"acks": "all"}),
        ("acks", "-1", {"acks": -1}),
        ("compression.type", "none", {"compression_type": None}),
        ("compression.type", "lz4", {"compression_type": "lz4"}),
        ("security.protocol", "sasl_ssl", {"security_protocol": "SASL_SSL"}),
        ("sasl.mechanism", "SCRAM-SHA-512", {"sasl_mechanism": "SCRAM-SHA-512"}),
        ("sasl.username", "u", {"sasl_plain_username": "u"}),
        ("sasl.plain.username", "u", {"sasl_plain_username": "u"}),
        ("ssl.endpoint.identification.algorithm", "", {"ssl_check_hostname": False}),
        ("ssl.endpoint.identification.algorithm", "https", {"ssl_check_hostname": True}),
        ("ssl.truststore.type", "PEM", {}),
        ("send.buffer.bytes", "-1", {"send_buffer_bytes": None}),
        ("send.buffer.bytes", "65536", {"send_buffer_bytes": 65536}),
        ("buffer.memory", "33554432", {}),
    ],
)
def test_a_setting_is_converted_to_a_kafka_python_argument(name: str, text: str, expected: dict[str, Any]) -> None:
    assert parsed({name: text}) == expected


def test_the_sasl_jaas_config_of_a_jvm_file_is_parsed() -> None:
    for module in ("plain.PlainLoginModule", "scram.ScramLoginModule"):
        text = f"org.apache.kafka.common.security.{module} required username=\"u\" password='p;w';"
        assert parsed({"sasl.jaas.config": text}) == {"sasl_plain_username": "u", "sasl_plain_password": "p;w"}


def test_an_unsupported_login_is_refused_without_showing_its_secret() -> None:
    (finding,) = findings({"sasl.jaas.config": 'com.example.Module required password="s3cret";'})
    assert finding.code == "kafka.invalid_setting"
    assert "s3cret" not in str(finding)


def test_assignment_strategies_accept_java_class_names() -> None:
    short = parsed({"partition.assignment.strategy": "cooperative-sticky, range"}, CONSUMER)
    long = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor,org.apache.kafka.clients.consumer.RangeAssignor"
    assert short == parsed({"partition.assignment.strategy": long}, CONSUMER)
    assert len(short["partition_assignment_strategy"]) == 2


def test_pem_files_are_set_with_javas_keys(tmp_path: Path) -> None:
    pem, jks = tmp_path / "ca.pem", tmp_path / "ca.jks"
    pem.write_text("-----BEGIN CERTIFICATE-----\n")
    jks.write_bytes(b"\xfe\xed\xfe\xed")
    assert parsed({"ssl.truststore.location": str(pem)}) == {"ssl_cafile": str(pem)}
    for path in (jks, tmp_path / "missing.pem"):
        (finding,) = findings({"ssl.truststore.location": str(path)})
        assert finding.code == "kafka.invalid_setting"
        assert str(path) in finding.message


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"lingr.ms": "5"}, "kafka.unknown_setting", "linger.ms"),
        ({"linger.ms": "soon"}, "kafka.invalid_setting", "whole number"),
        ({"enable.idempotence": "yes"}, "kafka.invalid_setting", "true or false"),
        ({"acks": "0"}, "kafka.invalid_setting", "all"),
        ({"compression.type": "zst"}, "kafka.invalid_setting", "zstd"),
        ({"security.protocol": "TLS"}, "kafka.invalid_setting", "SSL"),
        ({"bootstrap.servers": "localhost"}, "kafka.invalid_setting", "host:port"),
        ({"bootstrap.servers": "a:1,b:x"}, "kafka.invalid_setting", "host:port"),
        ({"bootstrap.servers": ""}, "kafka.invalid_setting", "host:port"),
        ({"key.serializer": "x"}, "kafka.unsupported_setting", "key.converter"),
        ({"interceptor.classes": "x"}, "kafka.unsupported_setting", "Java"),
        ({"ssl.truststore.type": "JKS"}, "kafka.invalid_setting", "PEM"),
        ({"max.poll.records": "5"}, "kafka.unknown_setting", "max.poll.records"),
        ({"kafka.client": "x"}, "kafka.unknown_setting", "kafka.client"),
        ({"partition.assignment.strategy": "range"}, "kafka.unknown_setting", "partition.assignment.strategy"),
    ],
)
def test_an_invalid_setting_is_refused_with_the_reason(settings: dict[str, str], code: str, words: str) -> None:
    (finding,) = findings(settings)
    assert (finding.code, finding.key) == (code, next(iter(settings)))
    assert words in str(finding)


def test_all_invalid_settings_are_reported_at_once() -> None:
    assert [finding.key for finding in findings({"a": "1", "linger.ms": "x", "retries": "1"})] == ["a", "linger.ms"]


def test_settings_of_automatic_commits_are_refused() -> None:
    assert parsed({"enable.auto.commit": "false"}, CONSUMER) == {}
    (finding,) = findings({"enable.auto.commit": "true"}, CONSUMER)
    assert finding.code == "kafka.unsupported_setting"


def test_shared_settings_are_passed_only_to_clients_that_support_them() -> None:
    shared = {"bootstrap.servers": "a:1", "max.poll.records": "5", "linger.ms": "7"}
    defaults = {"linger_ms": 1, "acks": "all"}
    assert arguments(shared, {"linger.ms": "9"}, PRODUCER, defaults) == {
        "bootstrap_servers": ["a:1"],
        "linger_ms": 9,
        "acks": "all",
    }
    assert arguments(shared, {}, CONSUMER, {}) == {"bootstrap_servers": ["a:1"], "max_poll_records": 5}
    assert arguments(shared, {}, ADMIN, {}) == {"bootstrap_servers": ["a:1"]}
    with pytest.raises(ConfigError):
        arguments({"bootstrap.server": "a:1"}, {}, ADMIN, {})
