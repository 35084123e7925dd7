"""Translate Kafka's dotted client settings to kafka-python's arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from headrace.broker import java_settings
from headrace.errors import ConfigError, Finding

PRODUCER: Mapping[str, Any] = KafkaProducer.DEFAULT_CONFIG
CONSUMER: Mapping[str, Any] = KafkaConsumer.DEFAULT_CONFIG
ADMIN: Mapping[str, Any] = KafkaAdminClient.DEFAULT_CONFIG

_Parse = Callable[[str, str], dict[str, Any]]

# Python objects, or set by the adapter.
_NOT_FOR_USERS = {
    "api_version", "consumer_timeout_ms", "default_offset_commit_callback", "enable_incremental_fetch_sessions",
    "group_id", "kafka_client", "key_deserializer", "key_serializer", "metric_group_prefix", "metric_reporters",
    "metrics_enabled", "partitioner", "sasl_kerberos_name", "sasl_oauth_token_provider", "selector", "socket_options",
    "socks5_proxy", "ssl_context", "transactional_id", "value_deserializer", "value_serializer",
}  # fmt: skip
# Their default is None, which does not show their type.
_INTEGERS = {"receive_buffer_bytes", "send_buffer_bytes"}
# Kafka's name → kafka-python's, where they differ by more than dots.
_RENAMED = {
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
    "ssl.cipher.suites": "ssl_ciphers",
    "ssl.key.password": "ssl_password",
}
_CHOICES: Mapping[str, Sequence[str]] = {
    "acks": ("all", "-1", "1"),
    "auto_offset_reset": ("earliest", "latest", "none"),
    "client_dns_lookup": ("use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"),
    "compression_type": ("none", "gzip", "snappy", "lz4", "zstd"),
    "isolation_level": ("read_committed", "read_uncommitted"),
    "sasl_mechanism": ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "AWS_MSK_IAM"),
    "security_protocol": ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
}
_ASSIGNORS = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}


def arguments(
    shared: Mapping[str, str], own: Mapping[str, str], known: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a client's arguments: ``own`` over ``shared`` over ``defaults``. Raise ConfigError with every finding.

    ``known`` is kafka-python's default configuration of this kind of client. A shared setting that only another kind
    supports is left out; any other unknown name is an error.
    """
    findings: list[Finding] = []
    answer = dict(defaults)
    for name, text in {**shared, **own}.items():
        if name not in own and _argument(name, known) is None and any(_argument(name, kind) for kind in _KINDS):
            continue
        try:
            answer.update(_parse(name, text, known))
        except ConfigError as error:
            findings.extend(error.findings)
    if findings:
        raise ConfigError(findings=findings)
    return answer


def translate(shared: Mapping[str, str], own: Mapping[str, str], kind: str) -> None:
    """Check the settings of a client of ``kind`` (producer, consumer, admin). Raise ConfigError as above."""
    arguments(shared, own, {"producer": PRODUCER, "consumer": CONSUMER, "admin": ADMIN}[kind], {})


_KINDS = (PRODUCER, CONSUMER, ADMIN)


def _argument(name: str, known: Mapping[str, Any]) -> str | None:
    argument = _RENAMED.get(name, name.replace(".", "_"))
    return argument if argument in known and argument not in _NOT_FOR_USERS else None


def _parse(name: str, text: str, known: Mapping[str, Any]) -> dict[str, Any]:
    text = text.strip()
    if java_settings.ignored(name, text):
        return {}
    parse, argument = _SPECIAL.get(name), _argument(name, known)
    if parse is not None and (parsed := parse(name, text)).keys() <= known.keys():
        return parsed
    if argument is None:
        names = {key.replace("_", ".") for key in known if key not in _NOT_FOR_USERS} | set(_RENAMED) | set(_SPECIAL)
        raise java_settings.unknown(name, names)
    return {argument: _value(name, argument, text, known[argument])}


def _value(name: str, argument: str, text: str, default: Any) -> Any:
    if argument in _CHOICES:
        return _choice(name, argument, text)
    if isinstance(default, bool):
        return java_settings.boolean(name, text)
    if isinstance(default, (int, float)) or argument in _INTEGERS:
        number = java_settings.integer(name, text)
        return None if argument in _INTEGERS and number == -1 else number  # -1: the system's own size
    return text


def _choice(name: str, argument: str, text: str) -> Any:
    found = java_settings.choice(name, text, _CHOICES[argument])
    if argument == "compression_type" and found == "none":
        return None
    return int(found) if argument == "acks" and found != "all" else found


def _jaas(name: str, text: str) -> dict[str, Any]:
    user, password = java_settings.login(name, text)
    return {"sasl_plain_username": user, "sasl_plain_password": password}


def _store_type(name: str, text: str) -> dict[str, Any]:
    java_settings.pem_type(name, text)
    return {}


def _file(argument: str) -> _Parse:
    return lambda name, text: {argument: java_settings.pem_file(name, text)}


_SPECIAL: Mapping[str, _Parse] = {
    "bootstrap.servers": lambda name, text: {"bootstrap_servers": java_settings.servers(name, text)},
    "partition.assignment.strategy": lambda name, text: {
        "partition_assignment_strategy": tuple(_ASSIGNORS[part] for part in java_settings.assignors(name, text))
    },
    "sasl.jaas.config": _jaas,
    "ssl.cafile": _file("ssl_cafile"),
    "ssl.certfile": _file("ssl_certfile"),
    "ssl.keyfile": _file("ssl_keyfile"),
    "ssl.endpoint.identification.algorithm": lambda name, text: {
        "ssl_check_hostname": java_settings.checks_hostname(name, text)
    },
    "ssl.keystore.location": _file("ssl_certfile"),
    "ssl.keystore.type": _store_type,
    "ssl.truststore.location": _file("ssl_cafile"),
    "ssl.truststore.type": _store_type,
}
