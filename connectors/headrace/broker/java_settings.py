"""Kafka's Java client settings, parsed for all adapters."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from headrace.config import nearest
from headrace.errors import ConfigError, Finding

PEM = "headrace reads PEM files: convert it with `keytool -exportcert -rfc`, and name the .pem here"
# Accepted in files that were written for the JVM; they have no effect here.
WITHOUT_EFFECT = {
    "auto.include.jmx.reporter",
    "buffer.memory",  # headrace bounds the bytes in flight
    "enable.metrics.push",
}
ELSEWHERE: Mapping[str, str] = {
    "enable.auto.commit": "headrace commits an offset when the sink has stored the records; remove it",
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
    "transactional.id": "headrace sets it; remove it",
    "value.deserializer": "use value.converter",
    "value.serializer": "use value.converter",
}
# Java's names of the strategies.
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


_GROUP_SETTINGS = ("group.id", "group.instance.id", "auto.offset.reset", "enable.auto.commit")


def without_group(settings: Mapping[str, str]) -> dict[str, str]:
    """Return a consumer's settings for a reader, which is in no group."""
    return {name: value for name, value in settings.items() if name not in _GROUP_SETTINGS}


def ignored(name: str, text: str) -> bool:
    """Return whether a setting has no effect here. Raise ConfigError when users must not set it."""
    if name in WITHOUT_EFFECT:
        return True
    if name in ELSEWHERE:
        if name == "enable.auto.commit" and text.lower() == "false":
            return True
        raise finding("kafka.unsupported_setting", name, f"{name} cannot be set", ELSEWHERE[name])
    return False


def unknown(name: str, names: Collection[str]) -> ConfigError:
    """Return the error for an unknown setting; the nearest of ``names`` is its hint."""
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
    """Return one of ``choices``, compared without case."""
    found = {known.lower(): known for known in choices}.get(text.lower())
    if found is None:
        raise invalid(name, text, f"one of {', '.join(choices)}", nearest(text, choices))
    return found


def servers(name: str, text: str) -> list[str]:
    """Parse a list of ``host:port`` with at least one entry."""
    found = [server.strip() for server in text.split(",") if server.strip()]
    for server in found:
        host, _, port = server.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise invalid(name, text, "host:port, or several separated by commas")
    if not found:
        raise invalid(name, text, "host:port, or several separated by commas")
    return found


def assignors(name: str, text: str) -> list[str]:
    """Return the short names of the partition assignment strategies."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    odd = next((part for part in names if part not in ASSIGNORS), None)
    if odd is not None or not names:
        raise invalid(name, odd or text, f"of {', '.join(list(ASSIGNORS)[:4])}", nearest(odd or "", ASSIGNORS))
    return [ASSIGNORS[part] for part in names]


def login(name: str, text: str) -> tuple[str, str]:
    """Return user and password of Java's login modules. Errors do not repeat the text: it contains the password."""
    found = _JAAS.search(text)
    options = {} if found is None else {key: a or b or c for key, a, b, c in _JAAS_OPTION.findall(found["options"])}
    if "username" not in options or "password" not in options:
        raise finding(
            "kafka.invalid_setting",
            name,
            f"{name} is not a PlainLoginModule or ScramLoginModule with username and password",
            "other login modules are Java classes; instead, sasl.username and sasl.password may be set",
        )
    return options["username"], options["password"]


def checks_hostname(name: str, text: str) -> bool:
    """``ssl.endpoint.identification.algorithm``."""
    if text.lower() not in ("", "https"):
        raise invalid(name, text, "https, or empty to accept a certificate of any host")
    return bool(text)


def pem_type(name: str, text: str) -> None:
    """Check ``ssl.keystore.type`` or ``ssl.truststore.type``."""
    if text.upper() != "PEM":
        raise finding("kafka.invalid_setting", name, f"{name}={text} is a format of Java only", PEM)


def pem_file(name: str, text: str) -> str:
    """Return the path of a PEM file."""
    path = Path(text)
    if not path.is_file():
        raise finding("kafka.invalid_setting", name, f"{name}: the file {text} does not exist", "correct the path")
    if b"-----BEGIN" not in path.read_bytes():
        raise finding("kafka.invalid_setting", name, f"{name}: {text} is not a PEM file", PEM)
    return text


def invalid(name: str, text: str, wanted: str, hint: str = "") -> ConfigError:
    """Return the error for an invalid value; passwords are not repeated."""
    shown = "the value" if "password" in name else repr(text)
    return finding("kafka.invalid_setting", name, f"{name}: {shown} is not {wanted}", hint)


def finding(code: str, name: str, message: str, hint: str) -> ConfigError:
    """Return a ConfigError with one finding."""
    return ConfigError(findings=[Finding(code, message, name, hint)])
