"""The worker's keys of authentication and TLS, checked together, and the server settings that result."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from headrace.errors import ConfigError, Finding
from headrace.rest.authentication import Authenticator, TrustedProxy
from headrace.rest.listeners import Listener, parse_listeners
from headrace.rest.tls import server_context
from headrace.rest.users_file import KEY as USERS_KEY
from headrace.rest.users_file import read_users
from headrace.settings import WorkerSettings

AUTHENTICATION_KEY = "rest.authentication"
EXTENSION_KEY = "rest.extension.classes"
_HEADER_KEY, _ADDRESSES_KEY = "rest.proxy.user.header", "rest.proxy.addresses"


class RestAccess(NamedTuple):
    """Who may reach the REST API, and how. ``tls``: of the ``https`` listeners."""

    authenticator: Authenticator
    tls: ssl.SSLContext | None = None


def rest_access(settings: WorkerSettings) -> RestAccess:
    """Return the access that the settings define. Raise ConfigError with every finding."""
    findings = [finding for finding in access_findings(settings) if finding.severity == "error"]
    if findings:
        raise ConfigError(findings=findings)
    users = Path(settings.users_file).expanduser() if settings.users_file else None
    tls = server_context(settings) if any(item.tls for item in _listeners(settings)) else None
    return RestAccess(Authenticator(users, _proxy(settings)), tls)


def access_findings(settings: WorkerSettings) -> list[Finding]:
    """Return errors and warnings about the settings, without opening a port."""
    try:
        listeners = _listeners(settings)
    except ConfigError as error:
        return list(error.findings)
    found = [*_authentication_findings(settings, listeners), *_proxy_findings(settings)]
    try:
        if settings.users_file:
            read_users(Path(settings.users_file).expanduser())
    except ConfigError as error:
        found += error.findings
    try:
        if any(listener.tls for listener in listeners):
            server_context(settings)
    except ConfigError as error:
        found += error.findings
    return found


def _listeners(settings: WorkerSettings) -> list[Listener]:
    """Return all listeners; those of the admin endpoints are protected as the others are."""
    admin = parse_listeners(settings.admin_listeners, "admin.listeners") if settings.admin_listeners else []
    return [*parse_listeners(settings.listeners), *admin]


def _authentication_findings(settings: WorkerSettings, listeners: list[Listener]) -> Iterator[Finding]:
    wanted = settings.authentication
    if wanted == "none" and settings.users_file:
        text = f"{AUTHENTICATION_KEY} is none, but {USERS_KEY} names a file of users"
        yield Finding("config.conflict", text, AUTHENTICATION_KEY, "remove one of the two")
    required_by = AUTHENTICATION_KEY if wanted == "users" else EXTENSION_KEY if settings.extension_classes else ""
    if required_by and not settings.users_file:
        text = f"{required_by} requires authentication, but there is no file of users"
        hint = f"set {USERS_KEY}, and write the file with `headrace users add FILE NAME --role admin`"
        yield Finding("config.missing_key", text, USERS_KEY, hint)
    open_listeners = [listener for listener in listeners if not listener.is_loopback()]
    if not open_listeners:
        return
    if not settings.users_file and wanted is None and not required_by:
        text = (
            f"the REST API at {open_listeners[0]} can be reached from other machines, and without authentication "
            "anyone who reaches it can read and change every connector"
        )
        hint = (
            f"set {USERS_KEY} (`headrace users add FILE NAME --role admin` writes it), listen on 127.0.0.1, or set "
            f"{AUTHENTICATION_KEY}: none if something else protects the port"
        )
        yield Finding("rest.unauthenticated_listener", text, "listeners", hint)
    plain = [listener for listener in open_listeners if not listener.tls]
    if settings.users_file and plain:
        text = f"passwords and tokens pass the network unencrypted to the REST API at {plain[0]}"
        hint = "listen on https, or on 127.0.0.1 behind a proxy that serves https"
        yield Finding("rest.plain_http", text, "listeners", hint, severity="warning")


def _proxy_findings(settings: WorkerSettings) -> Iterator[Finding]:
    if bool(settings.proxy_header) != bool(settings.proxy_addresses):
        present, missing = (_HEADER_KEY, _ADDRESSES_KEY) if settings.proxy_header else (_ADDRESSES_KEY, _HEADER_KEY)
        text = f"{present} has no effect without {missing}: the header is accepted only from the addresses of a proxy"
        yield Finding("config.missing_key", text, missing, "set both, or none")
    if settings.proxy_header and not settings.users_file:
        text = f"{_HEADER_KEY} names users, but there is no file that says which roles they have"
        yield Finding("config.missing_key", text, USERS_KEY, "add them with `headrace users add FILE NAME --proxy`")
    for text in settings.proxy_addresses:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            message = f"Invalid value {text} for configuration {_ADDRESSES_KEY}: {error}"
            hint = "write addresses or networks, such as 10.0.0.5 or 10.1.0.0/16"
            yield Finding("config.invalid_value", message, _ADDRESSES_KEY, hint)


def _proxy(settings: WorkerSettings) -> TrustedProxy | None:
    if not settings.proxy_header:
        return None
    return TrustedProxy(settings.proxy_header, [ipaddress.ip_network(text) for text in settings.proxy_addresses])
