"""Kafka's dotted client settings as kafka-python's arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from headrace.config import nearest
from headrace.errors import ConfigError, Finding

PRODUCER: Mapping[str, Any] = KafkaProducer.DEFAULT_CONFIG
CONSUMER: Mapping[str, Any] = KafkaConsumer.DEFAULT_CONFIG
ADMIN: Mapping[str, Any] = KafkaAdminClient.DEFAULT_CONFIG

_Parse = Callable[[str, str], dict[str, Any]]

# Python objects, or decided by the adapter.
_NOT_FOR_USERS = {
    "api_version", "consumer_timeout_ms", "default_offset_commit_callback", "enable_incremental_fetch_sessions",
    "group_id", "kafka_client", "key_deserializer", "key_serializer", "metric_group_prefix", "metric_reporters",
    "metrics_enabled", "partitioner", "sasl_kerberos_name", "sasl_oauth_token_provider", "selector", "socket_options",
    "socks5_proxy", "ssl_context", "transactional_id", "value_deserializer", "value_serializer",
}  # fmt: skip
# Their default is None, which does not tell their type.
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
    "org.apache.kafka.clients.consumer.RangeAssignor": RangePartitionAssignor,
    "org.apache.kafka.clients.consumer.RoundRobinAssignor": RoundRobinPartitionAssignor,
    "org.apache.kafka.clients.consumer.StickyAssignor": StickyPartitionAssignor,
    "org.apache.kafka.clients.consumer.CooperativeStickyAssignor": CooperativeStickyAssignor,
}
# Accepted from files written for the JVM; there is nothing here that they could change.
_WITHOUT_EFFECT = {
    "auto.include.jmx.reporter",
    "buffer.memory",  # headrace bounds what is sent and not acknowledged
    "enable.metrics.push",
}
_PEM = "headrace reads PEM files: convert it with `keytool -exportcert -rfc`, and name the .pem here"
_ELSEWHERE = {
    "enable.auto.commit": "headrace commits a position when the sink has stored the records; remove it",
    "group.id": "the group is named by the connector",
    "interceptor.classes": "interceptors are Java classes; remove it",
    "key.deserializer": "use key.converter",
    "key.serializer": "use key.converter",
    "metric.reporters": "reporters are Java classes; the worker has /metrics",
    "partitioner.class": "partitioners are Java classes; the default is Java's (murmur2 of the key)",
    "sasl.client.callback.handler.class": "callback handlers are Java classes",
    "sasl.login.callback.handler.class": "callback handlers are Java classes",
    "sasl.login.class": "login modules are Java classes",
    "security.providers": "security providers are Java classes",
    "ssl.engine.factory.class": "engine factories are Java classes",
    "ssl.keystore.password": _PEM,
    "ssl.truststore.password": _PEM,
    "transactional.id": "headrace does not use transactions",
    "value.deserializer": "use value.converter",
    "value.serializer": "use value.converter",
}
_JAAS = re.compile(
    r"\.(?:Plain|Scram)LoginModule\s+(?:required|requisite|sufficient|optional)\b(?P<options>.*?);?\s*$", re.S
)
_JAAS_OPTION = re.compile(r"""(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s;]+))""")


def arguments(
    shared: Mapping[str, str], own: Mapping[str, str], known: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """What to make a client with: ``own`` over ``shared`` over ``defaults``. Raises ConfigError with every finding.

    ``known`` is kafka-python's default configuration of the kind of client. A shared setting that only another kind
    knows is left out; any other unknown name is an error.
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


_KINDS = (PRODUCER, CONSUMER, ADMIN)


def _argument(name: str, known: Mapping[str, Any]) -> str | None:
    argument = _RENAMED.get(name, name.replace(".", "_"))
    return argument if argument in known and argument not in _NOT_FOR_USERS else None


def _parse(name: str, text: str, known: Mapping[str, Any]) -> dict[str, Any]:
    text = text.strip()
    if name in _WITHOUT_EFFECT:
        return {}
    if name in _ELSEWHERE:
        if name == "enable.auto.commit" and text.lower() == "false":
            return {}
        raise _finding("kafka.unsupported_setting", name, f"{name} cannot be set", _ELSEWHERE[name])
    parse, argument = _SPECIAL.get(name), _argument(name, known)
    if parse is not None and (parsed := parse(name, text)).keys() <= known.keys():
        return parsed
    if argument is None:
        names = {key.replace("_", ".") for key in known if key not in _NOT_FOR_USERS} | set(_RENAMED) | set(_SPECIAL)
        raise _finding("kafka.unknown_setting", name, f"there is no Kafka client setting {name}", nearest(name, names))
    return {argument: _value(name, argument, text, known[argument])}


def _value(name: str, argument: str, text: str, default: Any) -> Any:
    if argument in _CHOICES:
        return _choice(name, argument, text)
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise _invalid(name, text, "true or false")
        return text.lower() == "true"
    if isinstance(default, (int, float)) or argument in _INTEGERS:
        try:
            number = int(text)
        except ValueError as error:
            raise _invalid(name, text, "a whole number") from error
        return None if argument in _INTEGERS and number == -1 else number  # -1: the system's own size
    return text


def _choice(name: str, argument: str, text: str) -> Any:
    choices = _CHOICES[argument]
    found = {choice.lower(): choice for choice in choices}.get(text.lower())
    if found is None:
        raise _invalid(name, text, f"one of {', '.join(choices)}", nearest(text, choices))
    if argument == "compression_type" and found == "none":
        return None
    return int(found) if argument == "acks" and found != "all" else found


def _servers(name: str, text: str) -> dict[str, Any]:
    servers = [server.strip() for server in text.split(",") if server.strip()]
    for server in servers:
        host, _, port = server.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise _invalid(name, text, "host:port, several with commas between them")
    if not servers:
        raise _invalid(name, text, "host:port, several with commas between them")
    return {"bootstrap_servers": servers}


def _assignors(name: str, text: str) -> dict[str, Any]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    unknown = next((part for part in names if part not in _ASSIGNORS), None)
    if unknown is not None or not names:
        raise _invalid(
            name, unknown or text, f"of {', '.join(list(_ASSIGNORS)[:4])}", nearest(unknown or "", _ASSIGNORS)
        )
    return {"partition_assignment_strategy": tuple(_ASSIGNORS[part] for part in names)}


def _jaas(name: str, text: str) -> dict[str, Any]:
    """User and password of Java's login modules. Never repeats the text: it holds the password."""
    found = _JAAS.search(text)
    options = {} if found is None else {key: a or b or c for key, a, b, c in _JAAS_OPTION.findall(found["options"])}
    if "username" not in options or "password" not in options:
        raise _finding(
            "kafka.invalid_setting",
            name,
            f"{name} is not a PlainLoginModule or ScramLoginModule with username and password",
            "other login modules are Java classes; with these two, sasl.username and sasl.password also do",
        )
    return {"sasl_plain_username": options["username"], "sasl_plain_password": options["password"]}


def _identification(name: str, text: str) -> dict[str, Any]:
    if text.lower() not in ("", "https"):
        raise _invalid(name, text, "https, or empty to accept a certificate of any host")
    return {"ssl_check_hostname": bool(text)}


def _store_type(name: str, text: str) -> dict[str, Any]:
    if text.upper() != "PEM":
        raise _finding("kafka.invalid_setting", name, f"{name}={text} is Java's own format", _PEM)
    return {}


def _file(argument: str) -> _Parse:
    def parse(name: str, text: str) -> dict[str, Any]:
        path = Path(text)
        if not path.is_file():
            raise _finding("kafka.invalid_setting", name, f"{name}: there is no file {text}", "correct the path")
        if b"-----BEGIN" not in path.read_bytes():
            raise _finding("kafka.invalid_setting", name, f"{name}: {text} is not a PEM file", _PEM)
        return {argument: text}

    return parse


_SPECIAL: Mapping[str, _Parse] = {
    "bootstrap.servers": _servers,
    "partition.assignment.strategy": _assignors,
    "sasl.jaas.config": _jaas,
    "ssl.cafile": _file("ssl_cafile"),
    "ssl.certfile": _file("ssl_certfile"),
    "ssl.keyfile": _file("ssl_keyfile"),
    "ssl.endpoint.identification.algorithm": _identification,
    "ssl.keystore.location": _file("ssl_certfile"),
    "ssl.keystore.type": _store_type,
    "ssl.truststore.location": _file("ssl_cafile"),
    "ssl.truststore.type": _store_type,
}


def _invalid(name: str, text: str, wanted: str, hint: str = "") -> ConfigError:
    shown = "the value" if "password" in name else repr(text)
    return _finding("kafka.invalid_setting", name, f"{name}: {shown} is not {wanted}", hint)


def _finding(code: str, name: str, message: str, hint: str) -> ConfigError:
    return ConfigError(findings=[Finding(code, message, name, hint)])
