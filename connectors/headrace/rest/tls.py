"""TLS of ``https`` listeners, by Kafka's keys (``ssl.keystore.location``, ``ssl.client.auth``) with PEM files.

As in Kafka Connect, keys with the prefix ``listeners.https.`` are used if there is one of them; else those without it,
which Kafka clients use, too.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Mapping

from headrace.config import nearest
from headrace.errors import ConfigError, Finding
from headrace.settings import WorkerSettings

PREFIX = "listeners.https."
_CERTIFICATES = {"none": ssl.CERT_NONE, "requested": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_KNOWN = (
    "ssl.keystore.location", "ssl.keystore.type", "ssl.keystore.certificate.chain", "ssl.keystore.key",
    "ssl.key.password", "ssl.truststore.location", "ssl.truststore.type", "ssl.truststore.certificates",
    "ssl.client.auth", "ssl.enabled.protocols", "ssl.protocol",
)  # fmt: skip
_SHORT = {
    "commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C",
    "stateOrProvinceName": "ST", "localityName": "L", "domainComponent": "DC", "emailAddress": "EMAILADDRESS",
    "userId": "UID",
}  # fmt: skip


def server_context(settings: WorkerSettings) -> ssl.SSLContext:
    """Return the context of the ``https`` listeners. Raise ConfigError with every finding."""
    prefix = PREFIX if settings.https else ""
    given = dict(settings.https)
    if not prefix:
        given = {f"ssl.{name}": text for name, text in settings.ssl.items()}
        given["ssl.client.auth"] = settings.ssl_client_auth
    findings = list(_mistakes(given, prefix))
    if findings:
        raise ConfigError(findings=findings)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = min(_versions(given))
    context.maximum_version = max(_versions(given))
    _load_own(context, given, prefix)
    context.verify_mode = _CERTIFICATES[given.get("ssl.client.auth", "none").strip().lower()]
    if context.verify_mode is not ssl.CERT_NONE:
        _load_trusted(context, given, prefix)
    return context


def client_context(settings: WorkerSettings) -> ssl.SSLContext:
    """Return the context of requests to other workers of the group: they trust, and show, what the listeners do."""
    given = dict(settings.https) or {f"ssl.{name}": text for name, text in settings.ssl.items()}
    context = ssl.create_default_context()
    _load_own(context, given, PREFIX)
    if given.get("ssl.truststore.location") or given.get("ssl.truststore.certificates"):
        _load_trusted(context, given, PREFIX)
    return context


def subject_of(certificate: Mapping[str, object]) -> str:
    """Return the subject of ``SSLSocket.getpeercert()`` as Java writes it: ``CN=deploy,O=Acme``."""
    parts: list[str] = []
    names = certificate.get("subject", ())
    assert isinstance(names, tuple)
    for relative in reversed(names):
        parts += [f"{_SHORT.get(kind, kind)}={_escaped(value)}" for kind, value in relative]
    return ",".join(parts)


def _escaped(value: str) -> str:
    return "".join(f"\\{letter}" if letter in ',+"\\<>;=' else letter for letter in value)


def _mistakes(given: Mapping[str, str], prefix: str) -> list[Finding]:
    found = []
    if not given.get("ssl.keystore.location") and not given.get("ssl.keystore.certificate.chain"):
        text = "an https listener needs a private key and a certificate"
        hint = f"set {prefix or PREFIX}ssl.keystore.location to a PEM file with both"
        found.append(Finding("config.missing_key", text, f"{prefix}ssl.keystore.location", hint))
    for kind in ("ssl.keystore.type", "ssl.truststore.type"):
        if given.get(kind, "PEM").strip().upper() != "PEM":
            text = f"Invalid value {given[kind]} for configuration {prefix}{kind}: only PEM files are supported"
            hint = "convert it: openssl pkcs12 -in keystore.p12 -out keystore.pem -nodes"
            found.append(Finding("config.invalid_value", text, f"{prefix}{kind}", hint))
    auth = given.get("ssl.client.auth", "none").strip().lower()
    if auth not in _CERTIFICATES:
        text = f"Invalid value {auth} for configuration {prefix}ssl.client.auth: "
        found.append(_invalid(text, f"{prefix}ssl.client.auth", _CERTIFICATES))
    for version in _names_of_versions(given):
        if version not in _VERSIONS:
            name = f"{prefix}ssl.enabled.protocols"
            found.append(_invalid(f"Invalid value {version} for configuration {name}: ", name, _VERSIONS))
    for name in given if prefix else ():
        if name not in _KNOWN:
            hint = nearest(name, _KNOWN) or f"known: {', '.join(_KNOWN)}"
            text = f"unknown configuration key '{prefix}{name}'"
            found.append(Finding("config.unknown_key", text, f"{prefix}{name}", hint))
    return found


def _invalid(text: str, name: str, choices: Mapping[str, object]) -> Finding:
    return Finding("config.invalid_value", f"{text}String must be one of: {', '.join(choices)}", name)


def _names_of_versions(given: Mapping[str, str]) -> list[str]:
    return [name.strip() for name in given.get("ssl.enabled.protocols", ",".join(_VERSIONS)).split(",")]


def _versions(given: Mapping[str, str]) -> list[ssl.TLSVersion]:
    return [_VERSIONS[name] for name in _names_of_versions(given)]


def _load_own(context: ssl.SSLContext, given: Mapping[str, str], prefix: str) -> None:
    password = given.get("ssl.key.password", "")
    name = "ssl.keystore.location"
    try:
        if given.get(name):
            context.load_cert_chain(given[name], password=lambda: password)
            return
        name = "ssl.keystore.certificate.chain"
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as written:  # the ssl module reads files only
            written.write(f"{given[name]}\n{given.get('ssl.keystore.key', '')}\n")
            written.flush()
            context.load_cert_chain(written.name, password=lambda: password)
    except (OSError, ValueError) as error:
        raise _unusable(name, prefix, error, "a PEM file with a private key and its certificates") from error


def _load_trusted(context: ssl.SSLContext, given: Mapping[str, str], prefix: str) -> None:
    inline, file = given.get("ssl.truststore.certificates"), given.get("ssl.truststore.location")
    name = "ssl.truststore.certificates" if inline else "ssl.truststore.location"
    if not inline and not file:
        text = "ssl.client.auth needs the certificates of the authorities that client certificates are signed by"
        hint = f"set {prefix}ssl.truststore.location to a PEM file"
        raise ConfigError(findings=[Finding("config.missing_key", text, f"{prefix}{name}", hint)])
    try:
        context.load_verify_locations(cafile=None if inline else file, cadata=inline or None)
    except (OSError, ValueError) as error:
        raise _unusable(name, prefix, error, "PEM certificates") from error


def _unusable(name: str, prefix: str, error: Exception, wanted: str) -> ConfigError:
    why = getattr(error, "strerror", None) or getattr(error, "reason", None) or "it cannot be read"
    text = f"{prefix}{name} cannot be used: {str(why).lower().replace('_', ' ')}"
    hint = f"name {wanted}, and the correct {prefix}ssl.key.password"
    return ConfigError(findings=[Finding("rest.tls", text, f"{prefix}{name}", hint)])
