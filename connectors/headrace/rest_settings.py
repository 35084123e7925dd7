"""Configuration keys of a worker's REST API: addresses, authentication, web pages. Names are Kafka Connect's, except
where the documentation of a key says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from headrace.config import LOWER, CommaList, ConfigModel, key, prefix_key
from headrace.errors import Finding

_BASIC_AUTH = "org.apache.kafka.connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension"


class RestSettings(ConfigModel):
    """Part of the keys of a worker."""

    listeners: CommaList = key(
        "listeners", default="http://127.0.0.1:8083", doc="Addresses of the REST API (Kafka Connect: all addresses)."
    )
    admin_listeners: CommaList | None = key(
        "admin.listeners",
        default=None,
        doc="Addresses of the endpoints below `/admin`, which `listeners` do not serve then. Not set: `listeners` "
        "serve them. Empty: they are disabled.",
    )
    advertised_host: str | None = key(
        "rest.advertised.host.name", default=None, doc="Host in this worker's id; the listener's when not given."
    )
    advertised_port: int | None = key(
        "rest.advertised.port", default=None, doc="Port in this worker's id; the listener's when not given."
    )
    allow_origin: CommaList = key(
        "access.control.allow.origin",
        default="",
        doc="Origins of web pages that may use the REST API, `*` for all; none by default.",
    )
    allow_methods: CommaList = key(
        "access.control.allow.methods",
        default="",
        doc="Methods that such pages may use; default GET, POST, HEAD.",
    )
    https: dict[str, str] = prefix_key(
        "listeners.https.",
        doc="TLS of `https` listeners, as in Kafka Connect, with PEM files: `ssl.keystore.location`, "
        "`ssl.key.password`, `ssl.truststore.location`, `ssl.client.auth`; without any, the keys `ssl.*` are used.",
    )
    ssl_client_auth: str = key(
        "ssl.client.auth",
        default="none",
        doc="Whether `https` listeners ask for client certificates: `none`, `requested` or `required`.",
    )
    authentication: Annotated[Literal["none", "users"], LOWER] | None = key(
        "rest.authentication",
        default=None,
        doc="`users`: the REST API requires authentication by `rest.users.file`. `none`: it does not, although it can "
        "be reached from other machines. Not set: it does if `rest.users.file` is set (headrace's own).",
    )
    users_file: str | None = key(
        "rest.users.file",
        default=None,
        doc="File of users, roles, and hashes of passwords and tokens, which `headrace users` writes (headrace's own).",
    )
    proxy_header: str | None = key(
        "rest.proxy.user.header",
        default=None,
        doc="Header in which a proxy that has authenticated a user sends the name, such as `X-Forwarded-User` "
        "(headrace's own).",
    )
    proxy_addresses: CommaList = key(
        "rest.proxy.addresses",
        default="",
        doc="Addresses and networks of this proxy; the header is ignored from others (headrace's own).",
    )
    extension_classes: CommaList = key(
        "rest.extension.classes",
        default="",
        doc="Only Kafka Connect's `BasicAuthSecurityRestExtension`: it requires authentication by `rest.users.file`.",
    )
    allowed_hosts: CommaList = key(
        "rest.allowed.hosts",
        default="",
        doc="Names under which clients may address the REST API (421 otherwise), besides IP addresses, localhost, this "
        "machine's name, the hosts of `listeners` and `rest.advertised.host.name`; `*` for any (headrace's own).",
    )
    response_headers: str = key(
        "response.http.headers.config",
        default="",
        doc="Headers of every REST response: `set X-Frame-Options: DENY, add Cache-Control: no-store`.",
    )

    def rest_problems(self) -> Iterable[Finding]:
        """Yield findings about values that no type excludes."""
        for name in self.extension_classes:
            if name != _BASIC_AUTH:
                text = f"Invalid value {name} for configuration rest.extension.classes: extensions are Java classes"
                yield Finding("config.invalid_value", text, "rest.extension.classes", f"only {_BASIC_AUTH} is known")
