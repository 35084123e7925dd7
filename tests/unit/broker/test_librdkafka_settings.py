from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.broker.librdkafka.settings import ADMIN, CONSUMER, PRODUCER, properties
from headrace.errors import ConfigError, Finding


def parsed(settings: Mapping[str, str], kind: str = PRODUCER) -> dict[str, Any]:
    return properties({}, settings, kind, {})


def findings(settings: Mapping[str, str], kind: str = PRODUCER) -> tuple[Finding, ...]:
    with pytest.raises(ConfigError) as caught:
        parsed(settings, kind)
    return caught.value.findings


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("bootstrap.servers", "a:1, b:2", {"bootstrap.servers": "a:1,b:2"}),
        ("linger.ms", " 20 ", {"linger.ms": 20}),
        ("enable.idempotence", "TRUE", {"enable.idempotence": True}),
        ("acks", "ALL", {"acks": "all"}),
        ("max.request.size", "2000000", {"message.max.bytes": 2_000_000}),
        ("request.timeout.ms", "9", {"request.timeout.ms": 9, "socket.timeout.ms": 9}),
        ("send.buffer.bytes", "-1", {"socket.send.buffer.bytes": 0}),
        ("compression.zstd.level", "3", {"compression.level": 3}),
        ("security.protocol", "sasl_ssl", {"security.protocol": "SASL_SSL"}),
        ("sasl.plain.username", "u", {"sasl.username": "u"}),
        ("ssl.endpoint.identification.algorithm", "", {"ssl.endpoint.identification.algorithm": "none"}),
        ("ssl.truststore.type", "PEM", {}),
        ("buffer.memory", "33554432", {}),
        ("max.block.ms", "60000", {}),
        ("debug", "broker", {"debug": "broker"}),
    ],
)
def test_a_java_setting_is_converted_to_a_librdkafka_setting(name: str, text: str, expected: dict[str, Any]) -> None:
    assert parsed({name: text}) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("request.timeout.ms", "9", {"socket.timeout.ms": 9}),
        ("fetch.max.wait.ms", "9", {"fetch.wait.max.ms": 9}),
        ("auto.offset.reset", "none", {"auto.offset.reset": "error"}),
        ("max.poll.records", "5", {"max.poll.records": 5}),
        ("metadata.max.age.ms", "5", {"metadata.max.age.ms": 5, "topic.metadata.refresh.interval.ms": 5}),
        (
            "partition.assignment.strategy",
            "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
            {"partition.assignment.strategy": "cooperative-sticky"},
        ),
        ("enable.auto.commit", "false", {}),
    ],
)
def test_a_consumer_setting_is_converted(name: str, text: str, expected: dict[str, Any]) -> None:
    assert parsed({name: text}, CONSUMER) == expected


@pytest.mark.parametrize(
    ("settings", "kilobytes"),
    [
        ({"fetch.max.bytes": "4194304"}, 4_096),
        ({"fetch.max.bytes": "52428800"}, 51_200),
        ({"fetch.max.bytes": "4194304", "queued.max.messages.kbytes": "9"}, 9),
        ({"fetch.max.bytes": "1"}, 1),
    ],
)
def test_a_consumer_reads_ahead_no_more_than_a_response(settings: dict[str, str], kilobytes: int) -> None:
    assert parsed(settings, CONSUMER)["queued.max.messages.kbytes"] == kilobytes


def test_the_sasl_jaas_config_of_a_jvm_file_is_parsed() -> None:
    text = "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"u\" password='p;w';"
    assert parsed({"sasl.jaas.config": text}) == {"sasl.username": "u", "sasl.password": "p;w"}


def test_pem_files_are_set_with_javas_keys(tmp_path: Path) -> None:
    pem, jks = tmp_path / "ca.pem", tmp_path / "ca.jks"
    pem.write_text("-----BEGIN CERTIFICATE-----\n")
    jks.write_bytes(b"\xfe\xed\xfe\xed")
    assert parsed({"ssl.truststore.location": str(pem)}) == {"ssl.ca.location": str(pem)}
    own = {"ssl.certificate.location": str(pem), "ssl.key.location": str(pem)}
    assert parsed({"ssl.keystore.location": str(pem)}) == own
    (finding,) = findings({"ssl.truststore.location": str(jks)})
    assert finding.code == "kafka.invalid_setting"


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"lingr.ms": "5"}, "kafka.unknown_setting", "linger.ms"),
        ({"linger.ms": "soon"}, "kafka.invalid_setting", "whole number"),
        ({"linger.ms": "-1"}, "kafka.invalid_setting", "at least 0"),
        ({"acks": "0"}, "kafka.invalid_setting", "all"),
        ({"compression.type": "zst"}, "kafka.invalid_setting", "zstd"),
        ({"key.serializer": "x"}, "kafka.unsupported_setting", "key.converter"),
        ({"max.poll.records": "5"}, "kafka.unknown_setting", "max.poll.records"),
        ({"proxy.url": "x"}, "kafka.unknown_setting", "kafka-python"),
        ({"group.id": "x"}, "kafka.unsupported_setting", "connector"),
    ],
)
def test_an_invalid_setting_is_refused_with_the_reason(settings: dict[str, str], code: str, words: str) -> None:
    (finding,) = findings(settings)
    assert (finding.code, finding.key) == (code, next(iter(settings)))
    assert words in str(finding)


@pytest.mark.parametrize("strategy", ["sticky", "cooperative-sticky,range"])
def test_an_assignment_strategy_that_librdkafka_lacks_is_refused(strategy: str) -> None:
    (finding,) = findings({"partition.assignment.strategy": strategy}, CONSUMER)
    assert finding.code == "kafka.invalid_setting"


def test_all_invalid_settings_are_reported_at_once() -> None:
    assert [finding.key for finding in findings({"a": "1", "linger.ms": "x", "retries": "1"})] == ["a", "linger.ms"]


def test_acks_below_all_disable_idempotence_unless_it_is_configured() -> None:
    defaults = {"acks": "all", "enable.idempotence": True}
    assert properties({}, {"acks": "1"}, PRODUCER, defaults) == {"acks": "1", "enable.idempotence": False}
    asked = properties({}, {"acks": "1", "enable.idempotence": "true"}, PRODUCER, defaults)
    assert asked == {"acks": "1", "enable.idempotence": True}  # librdkafka refuses it


def test_shared_settings_are_passed_only_to_clients_that_support_them() -> None:
    shared = {"bootstrap.servers": "a:1", "max.poll.records": "5", "linger.ms": "7"}
    assert properties(shared, {"linger.ms": "9"}, PRODUCER, {"acks": "all"}) == {
        "acks": "all",
        "bootstrap.servers": "a:1",
        "linger.ms": 9,
    }
    assert properties(shared, {}, CONSUMER, {}) == {"bootstrap.servers": "a:1", "max.poll.records": 5}
    assert properties(shared, {}, ADMIN, {}) == {"bootstrap.servers": "a:1"}
    with pytest.raises(ConfigError):
        properties({"bootstrap.server": "a:1"}, {}, ADMIN, {})


@pytest.mark.parametrize("name", ["sasl.kerberos.principal", "sasl.kerberos.keytab", "sasl.kerberos.service.name"])
@pytest.mark.parametrize("text", ["a; touch b", "a$(b)", "a`b`", 'a"b', "a|b", "a&b", "a\nb", "-c", "a\\b", "ä", ""])
def test_kerberos_settings_cannot_contain_commands(name: str, text: str) -> None:
    """librdkafka executes kinit with them by a shell."""
    (finding,) = findings({name: text})
    assert (finding.code, finding.key) == ("kafka.invalid_setting", name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sasl.kerberos.principal", "headrace/worker-1.example.org@EXAMPLE.ORG"),
        ("sasl.kerberos.keytab", "/etc/head race/worker_1.keytab"),
        ("sasl.kerberos.service.name", "kafka"),
    ],
)
def test_usual_kerberos_settings_are_accepted(name: str, text: str) -> None:
    assert parsed({name: text}) == {name: text}
