"""Translate Kafka's dotted client settings to librdkafka's properties.

Names are Java's; librdkafka's own are accepted where Java has none (``queued.max.messages.kbytes``). Properties:
https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from headrace.broker import java_settings
from headrace.errors import ConfigError, Finding

_Parse = Callable[[str, str], dict[str, Any]]


class _Setting(NamedTuple):
    """``kinds``: the clients that support it, of p(roducer), c(onsumer), a(dmin)."""

    kinds: str
    parse: _Parse


def _integer(*targets: str, least: int | None = None) -> _Parse:
    def parse(name: str, text: str) -> dict[str, Any]:
        number = java_settings.integer(name, text)
        if least is not None and number < least:
            raise java_settings.invalid(name, text, f"a whole number of at least {least}")
        return dict.fromkeys(targets or (name,), number)

    return parse


def _boolean(name: str, text: str) -> dict[str, Any]:
    return {name: java_settings.boolean(name, text)}


def _text(target: str = "") -> _Parse:
    return lambda name, text: {target or name: text}


def _kerberos(letters: str) -> _Parse:
    """Accept only letters without a meaning to a shell: librdkafka renews tickets by a command line that contains the
    value (``sasl.kerberos.kinit.cmd``)."""
    plain = re.compile(f"[{letters}][{letters}-]*", re.ASCII)

    def parse(name: str, text: str) -> dict[str, Any]:
        if not plain.fullmatch(text):
            raise java_settings.invalid(name, text, "of letters, digits and the characters . _ / @ : -")
        return {name: text}

    return parse


def _choice(*choices: str, target: str = "") -> _Parse:
    return lambda name, text: {target or name: java_settings.choice(name, text, choices)}


def _buffer(target: str) -> _Parse:
    # The operating system's default is -1 in Java and 0 in librdkafka.
    return lambda name, text: {target: max(java_settings.integer(name, text), 0)}


def _ignored_number(name: str, text: str) -> dict[str, Any]:
    java_settings.integer(name, text)
    return {}


def _file(*targets: str) -> _Parse:
    return lambda name, text: dict.fromkeys(targets, java_settings.pem_file(name, text))


def _servers(name: str, text: str) -> dict[str, Any]:
    return {name: ",".join(java_settings.servers(name, text))}


def _login(name: str, text: str) -> dict[str, Any]:
    user, password = java_settings.login(name, text)
    return {"sasl.username": user, "sasl.password": password}


def _identification(name: str, text: str) -> dict[str, Any]:
    return {name: "https" if java_settings.checks_hostname(name, text) else "none"}


def _store_type(name: str, text: str) -> dict[str, Any]:
    java_settings.pem_type(name, text)
    return {}


def _strategy(name: str, text: str) -> dict[str, Any]:
    names = java_settings.assignors(name, text)
    if "sticky" in names:
        raise java_settings.finding(
            "kafka.invalid_setting", name, f"{name}: librdkafka has no sticky assignor", "use cooperative-sticky"
        )
    if "cooperative-sticky" in names and len(names) > 1:
        raise java_settings.finding(
            "kafka.invalid_setting",
            name,
            f"{name}: librdkafka does not mix cooperative-sticky with others",
            "name it alone",
        )
    return {name: ",".join(names)}


_RESET = {"earliest": "earliest", "latest": "latest", "none": "error"}


def _reset(name: str, text: str) -> dict[str, Any]:
    return {name: _RESET[java_settings.choice(name, text, tuple(_RESET))]}


BOOTSTRAP_TIMEOUT = "bootstrap.timeout.ms"
MAX_POLL_RECORDS = "max.poll.records"
METADATA_AGE = "metadata.max.age.ms"
READ_AHEAD = "queued.max.messages.kbytes"
_LONGEST = 65_536  # librdkafka's default of it
_OURS = frozenset({BOOTSTRAP_TIMEOUT, MAX_POLL_RECORDS})
"""Not properties of librdkafka: the adapter takes them out of the result."""

_SETTINGS: Mapping[str, _Setting] = {
    "bootstrap.servers": _Setting("pca", _servers),
    BOOTSTRAP_TIMEOUT: _Setting("pca", _integer(least=1)),
    "client.dns.lookup": _Setting("pca", _choice("use_all_dns_ips", "resolve_canonical_bootstrap_servers_only")),
    "client.id": _Setting("pca", _text()),
    "client.rack": _Setting("pca", _text()),
    "connections.max.idle.ms": _Setting("pca", _integer()),
    METADATA_AGE: _Setting("pca", _integer(METADATA_AGE, "topic.metadata.refresh.interval.ms")),
    "receive.buffer.bytes": _Setting("pca", _buffer("socket.receive.buffer.bytes")),
    "reconnect.backoff.max.ms": _Setting("pca", _integer()),
    "reconnect.backoff.ms": _Setting("pca", _integer()),
    "retry.backoff.max.ms": _Setting("pca", _integer()),
    "retry.backoff.ms": _Setting("pca", _integer()),
    "send.buffer.bytes": _Setting("pca", _buffer("socket.send.buffer.bytes")),
    "socket.connection.setup.timeout.ms": _Setting("pca", _integer()),
    # Security
    "security.protocol": _Setting("pca", _choice("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")),
    "sasl.jaas.config": _Setting("pca", _login),
    "sasl.kerberos.service.name": _Setting("pca", _kerberos(r"\w./@:")),
    "sasl.mechanism": _Setting("pca", _choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER")),
    "sasl.password": _Setting("pca", _text()),
    "sasl.plain.password": _Setting("pca", _text("sasl.password")),
    "sasl.plain.username": _Setting("pca", _text("sasl.username")),
    "sasl.username": _Setting("pca", _text()),
    "ssl.cafile": _Setting("pca", _file("ssl.ca.location")),
    "ssl.certfile": _Setting("pca", _file("ssl.certificate.location")),
    "ssl.cipher.suites": _Setting("pca", _text()),
    "ssl.crlfile": _Setting("pca", _file("ssl.crl.location")),
    "ssl.endpoint.identification.algorithm": _Setting("pca", _identification),
    "ssl.key.password": _Setting("pca", _text()),
    "ssl.keyfile": _Setting("pca", _file("ssl.key.location")),
    "ssl.keystore.certificate.chain": _Setting("pca", _text("ssl.certificate.pem")),
    "ssl.keystore.key": _Setting("pca", _text("ssl.key.pem")),
    "ssl.keystore.location": _Setting("pca", _file("ssl.certificate.location", "ssl.key.location")),
    "ssl.keystore.type": _Setting("pca", _store_type),
    "ssl.truststore.certificates": _Setting("pca", _text("ssl.ca.pem")),
    "ssl.truststore.location": _Setting("pca", _file("ssl.ca.location")),
    "ssl.truststore.type": _Setting("pca", _store_type),
    # Producers
    "acks": _Setting("p", _choice("all", "-1", "1")),
    "batch.size": _Setting("p", _integer()),
    "compression.gzip.level": _Setting("p", _integer("compression.level")),
    "compression.lz4.level": _Setting("p", _integer("compression.level")),
    "compression.type": _Setting("p", _choice("none", "gzip", "snappy", "lz4", "zstd")),
    "compression.zstd.level": _Setting("p", _integer("compression.level")),
    "delivery.timeout.ms": _Setting("p", _integer(least=1)),
    "enable.idempotence": _Setting("p", _boolean),
    "linger.ms": _Setting("p", _integer(least=0)),
    "max.block.ms": _Setting("p", _ignored_number),  # the adapter's sends never block
    "max.in.flight.requests.per.connection": _Setting("p", _integer(least=1)),
    "max.request.size": _Setting("p", _integer("message.max.bytes")),
    "retries": _Setting("p", _integer(least=0)),
    "transaction.timeout.ms": _Setting("p", _integer(least=1)),
    # Consumers
    "allow.auto.create.topics": _Setting("c", _boolean),
    "auto.offset.reset": _Setting("c", _reset),
    "check.crcs": _Setting("c", _boolean),
    "exclude.internal.topics": _Setting("c", _boolean),
    "fetch.max.bytes": _Setting("c", _integer()),
    "fetch.max.wait.ms": _Setting("c", _integer("fetch.wait.max.ms")),
    "fetch.min.bytes": _Setting("c", _integer()),
    "group.instance.id": _Setting("c", _text()),
    "heartbeat.interval.ms": _Setting("c", _integer()),
    "isolation.level": _Setting("c", _choice("read_committed", "read_uncommitted")),
    "max.partition.fetch.bytes": _Setting("c", _integer()),
    "max.poll.interval.ms": _Setting("c", _integer()),
    MAX_POLL_RECORDS: _Setting("c", _integer(least=1)),
    "partition.assignment.strategy": _Setting("c", _strategy),
    "session.timeout.ms": _Setting("c", _integer()),
    # Properties that only librdkafka has
    "broker.address.family": _Setting("pca", _choice("any", "v4", "v6")),
    "debug": _Setting("pca", _text()),
    "enable.ssl.certificate.verification": _Setting("pca", _boolean),
    "fetch.queue.backoff.ms": _Setting("c", _integer()),
    "queue.buffering.max.kbytes": _Setting("p", _integer(least=1)),
    READ_AHEAD: _Setting("c", _integer(least=1)),
    "queued.min.messages": _Setting("c", _integer(least=1)),
    "sasl.kerberos.keytab": _Setting("pca", _kerberos(r"\w./@: ")),
    "sasl.kerberos.principal": _Setting("pca", _kerberos(r"\w./@:")),
    "sasl.oauthbearer.client.id": _Setting("pca", _text()),
    "sasl.oauthbearer.client.secret": _Setting("pca", _text()),
    "sasl.oauthbearer.config": _Setting("pca", _text()),
    "sasl.oauthbearer.method": _Setting("pca", _choice("default", "oidc")),
    "sasl.oauthbearer.scope": _Setting("pca", _text()),
    "sasl.oauthbearer.token.endpoint.url": _Setting("pca", _text()),
    "socket.keepalive.enable": _Setting("pca", _boolean),
    "socket.timeout.ms": _Setting("pca", _integer()),
    "ssl.ca.location": _Setting("pca", _text()),
}
# One setting in Java, two properties here: the broker's timeout, and the client's.
_REQUEST_TIMEOUT = {"p": ("request.timeout.ms", "socket.timeout.ms"), "c": ("socket.timeout.ms",)}
_REQUEST_TIMEOUT["a"] = _REQUEST_TIMEOUT["c"]
# Supported by the other client, so they may occur in a worker's file.
_KAFKA_PYTHON = ("metrics.num.samples", "metrics.sample.window.ms", "proxy.url", "receive.message.max.bytes")

PRODUCER, CONSUMER, ADMIN = "p", "c", "a"


def properties(
    shared: Mapping[str, str], own: Mapping[str, str], kind: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a client's properties: ``own`` over ``shared`` over ``defaults``. Raise ConfigError with every finding.

    ``kind`` is one of :data:`PRODUCER`, :data:`CONSUMER`, :data:`ADMIN`. A shared setting that only another kind
    supports is left out; any other unknown name is an error. ``bootstrap.timeout.ms`` and ``max.poll.records`` are
    the adapter's own: see :func:`take`.
    """
    findings: list[Finding] = []
    answer = dict(defaults)
    for name, text in {**shared, **own}.items():
        if name not in own and not _known(name, kind) and any(_known(name, other) for other in "pca"):
            continue
        try:
            answer.update(_parse(name, text.strip(), kind))
        except ConfigError as error:
            findings.extend(error.findings)
    if findings:
        raise ConfigError(findings=findings)
    if kind == CONSUMER and "fetch.max.bytes" in answer and READ_AHEAD not in {**shared, **own}:
        # Java's consumer has one response of each broker at a time; librdkafka reads ahead by a limit of its own.
        answer[READ_AHEAD] = min(answer.get(READ_AHEAD, _LONGEST), max(1, answer["fetch.max.bytes"] // 1024))
    if kind == PRODUCER and answer.get("acks") == "1" and "enable.idempotence" not in {**shared, **own}:
        answer["enable.idempotence"] = False  # as in Java: acks=1 turns idempotence off
    return answer


def translate(shared: Mapping[str, str], own: Mapping[str, str], kind: str) -> None:
    """Check the settings of a client of ``kind`` (producer, consumer, admin). Raise ConfigError as above."""
    properties(shared, own, kind[0], {})


def take(answer: dict[str, Any], name: str) -> int | None:
    """Remove one of the adapter's own settings from the properties; return None when it is not set."""
    if name not in _OURS:
        raise KeyError(name)
    number: int | None = answer.pop(name, None)
    return number


def _known(name: str, kind: str) -> bool:
    return name == "request.timeout.ms" or (name in _SETTINGS and kind in _SETTINGS[name].kinds)


def _parse(name: str, text: str, kind: str) -> dict[str, Any]:
    if java_settings.ignored(name, text):
        return {}
    if name == "request.timeout.ms":
        return dict.fromkeys(_REQUEST_TIMEOUT[kind], java_settings.integer(name, text))
    if _known(name, kind):
        return _SETTINGS[name].parse(name, text)
    if name in _KAFKA_PYTHON:
        raise java_settings.finding(
            "kafka.unknown_setting",
            name,
            f"{name} is a setting of kafka-python, not of librdkafka",
            "remove it, or set kafka.client to kafka-python",
        )
    raise java_settings.unknown(name, _names(kind))


def _names(kind: str) -> Sequence[str]:
    return ["request.timeout.ms", *(name for name, setting in _SETTINGS.items() if kind in setting.kinds)]
