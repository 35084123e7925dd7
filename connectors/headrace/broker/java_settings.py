"""What Kafka's Java client settings mean to headrace, whichever client carries them: shared by the adapters."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from headrace.config import nearest
from headrace.errors import ConfigError, Finding

PEM = "headrace reads PEM files: convert it with `keytool -exportcert -rfc`, and name the .pem here"
# Accepted from files written for the JVM; there is nothing here that they could change.
WITHOUT_EFFECT = {
    "auto.include.jmx.reporter",
    "buffer.memory",  # headrace bounds what is sent and not acknowledged
    "enable.metrics.push",
}
ELSEWHERE: Mapping[str, str] = {
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
    "ssl.keystore.password": PEM,
    "ssl.truststore.password": PEM,
    "transactional.id": "headrace does not use transactions",
    "value.deserializer": "use value.converter",
    "value.serializer": "use value.converter",
}
# Java's names of the strategies that every client knows.
ASSIGNORS: Mapping[str, str] = {
    "range": "range",
    "roundrobin": "roundrobin",
    "sticky": "sticky",
    "cooperative-sticky": "cooperative-sticky",
    "org.apache.kafka.clients.consumer.RangeAssignor": "range",
    "org.apache.kafka.clients.consumer.RoundRobinAssignor": "roundrobin",
    "org.apache.kafka.clients.consumer.StickyAssignor": "sticky",
    "org.apache.kafka.clients.consumer.CooperativeStickyAssignor": "cooperative-sticky",
}
_JAAS = re.compile(
    r"\.(?:Plain|Scram)LoginModule\s+(?:required|requisite|sufficient|optional)\b(?P<options>.*?);?\s*$", re.S
)
_JAAS_OPTION = re.compile(r"""(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s;]+))""")


def ignored(name: str, text: str) -> bool:
    """Whether a setting changes nothing here. Raises ConfigError when it is not for users."""
    if name in WITHOUT_EFFECT:
        return True
    if name in ELSEWHERE:
        if name == "enable.auto.commit" and text.lower() == "false":
            return True
        raise finding("kafka.unsupported_setting", name, f"{name} cannot be set", ELSEWHERE[name])
    return False


def unknown(name: str, names: Collection[str]) -> ConfigError:
    """There is no setting ``name``; the nearest of ``names`` is the hint."""
    return finding("kafka.unknown_setting", name, f"there is no Kafka client setting {name}", nearest(name, names))


def boolean(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise invalid(name, text, "true or false")
    return text.lower() == "true"


def integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise invalid(name, text, "a whole number") from error


def choice(name: str, text: str, choices: Collection[str]) -> str:
    """One of ``choices``, whatever the case."""
    found = {known.lower(): known for known in choices}.get(text.lower())
    if found is None:
        raise invalid(name, text, f"one of {', '.join(choices)}", nearest(text, choices))
    return found


def servers(name: str, text: str) -> list[str]:
    """``host:port`` each, at least one."""
    found = [server.strip() for server in text.split(",") if server.strip()]
    for server in found:
        host, _, port = server.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise invalid(name, text, "host:port, several with commas between them")
    if not found:
        raise invalid(name, text, "host:port, several with commas between them")
    return found


def assignors(name: str, text: str) -> list[str]:
    """Short names of the partition assignment strategies."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    odd = next((part for part in names if part not in ASSIGNORS), None)
    if odd is not None or not names:
        raise invalid(name, odd or text, f"of {', '.join(list(ASSIGNORS)[:4])}", nearest(odd or "", ASSIGNORS))
    return [ASSIGNORS[part] for part in names]


def login(name: str, text: str) -> tuple[str, str]:
    """User and password of Java's login modules. Never repeats the text: it holds the password."""
    found = _JAAS.search(text)
    options = {} if found is None else {key: a or b or c for key, a, b, c in _JAAS_OPTION.findall(found["options"])}
    if "username" not in options or "password" not in options:
        raise finding(
            "kafka.invalid_setting",
            name,
            f"{name} is not a PlainLoginModule or ScramLoginModule with username and password",
            "other login modules are Java classes; with these two, sasl.username and sasl.password also do",
        )
    return options["username"], options["password"]


def checks_hostname(name: str, text: str) -> bool:
    """``ssl.endpoint.identification.algorithm``."""
    if text.lower() not in ("", "https"):
        raise invalid(name, text, "https, or empty to accept a certificate of any host")
    return bool(text)


def pem_type(name: str, text: str) -> None:
    """``ssl.keystore.type`` and its sister."""
    if text.upper() != "PEM":
        raise finding("kafka.invalid_setting", name, f"{name}={text} is Java's own format", PEM)


def pem_file(name: str, text: str) -> str:
    """The path of a file that holds PEM."""
    path = Path(text)
    if not path.is_file():
        raise finding("kafka.invalid_setting", name, f"{name}: there is no file {text}", "correct the path")
    if b"-----BEGIN" not in path.read_bytes():
        raise finding("kafka.invalid_setting", name, f"{name}: {text} is not a PEM file", PEM)
    return text


def invalid(name: str, text: str, wanted: str, hint: str = "") -> ConfigError:
    """A value that is not what it must be; passwords are not repeated."""
    shown = "the value" if "password" in name else repr(text)
    return finding("kafka.invalid_setting", name, f"{name}: {shown} is not {wanted}", hint)


def finding(code: str, name: str, message: str, hint: str) -> ConfigError:
    """A ConfigError with one finding."""
    return ConfigError(findings=[Finding(code, message, name, hint)])
