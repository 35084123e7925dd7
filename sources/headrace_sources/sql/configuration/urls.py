"""Connection URLs: SQLAlchemy's, and JDBC's translated to them; parameters are judged by what the driver takes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from headrace import Finding
from headrace_sources.sql.configuration.jdbc_urls import JdbcUrlError, driver_parameters, from_jdbc

_KEY = "connection.url"
_OWN = ("connection.url", "connection.user", "connection.password", "connection.attempts", "connection.backoff.ms")

# Drivers for URLs that name none.
_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "oracle": "oracle+oracledb",
    "mssql": "mssql+pyodbc",
}
_LIBPQ = frozenset(
    {
        "application_name", "channel_binding", "client_encoding", "connect_timeout", "fallback_application_name",
        "gssencmode", "gsslib", "host", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle",
        "keepalives_interval", "krbsrvname", "load_balance_hosts", "options", "passfile", "port", "require_auth",
        "service", "sslcert", "sslcertmode", "sslcompression", "sslcrl", "sslcrldir", "sslkey", "sslmode",
        "sslnegotiation", "sslpassword", "sslrootcert", "sslsni", "ssl_max_protocol_version",
        "ssl_min_protocol_version", "target_session_attrs", "tcp_user_timeout",
    }
)  # fmt: skip


_PYMYSQL = frozenset(
    {
        "auth_plugin_map", "bind_address", "charset", "client_flag", "collation", "connect_timeout", "host",
        "init_command", "local_infile", "max_allowed_packet", "port", "program_name", "read_default_file",
        "read_default_group", "read_timeout", "server_public_key", "sql_mode", "ssl", "ssl_ca", "ssl_capath",
        "ssl_cert", "ssl_check_hostname", "ssl_cipher", "ssl_disabled", "ssl_key", "ssl_key_password",
        "ssl_verify_cert", "ssl_verify_identity", "unix_socket", "write_timeout",
    }
)  # fmt: skip
_KNOWN = {"postgresql+psycopg": (_LIBPQ, "libpq"), "mysql+pymysql": (_PYMYSQL, "PyMySQL")}


def connection_url(
    text: str, user: str | None, password: str | None, parameters: Mapping[str, str]
) -> tuple[URL | None, list[Finding]]:
    """The URL to connect with, and what is wrong with it. No finding quotes the URL: it may hold a password."""
    try:
        url = from_jdbc(text) if text.startswith("jdbc:") else make_url(text)
    except (ArgumentError, ValueError) as error:
        reason = str(error) if isinstance(error, JdbcUrlError) else "it is not a URL"
        hint = "postgresql+psycopg://user:password@host:5432/database, or sqlite:////path/to/file.db"
        return None, [Finding("sql.url", f"connection.url cannot be used: {reason}", _KEY, hint)]
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    url = url.update_query_dict(dict(parameters))
    if user is not None:
        url = url.set(username=user)
    if password is not None:
        url = url.set(password=password)
    url = driver_parameters(url)
    return url, list(_unknown_parameters(url, parameters))


def _unknown_parameters(url: URL, parameters: Mapping[str, str]) -> Iterable[Finding]:
    known, driver = _KNOWN.get(url.drivername, (None, ""))
    for name in url.query:
        if known is None or name in known:
            continue
        close = difflib.get_close_matches(f"connection.{name}", [*(f"connection.{item}" for item in known), *_OWN])
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"parameters are those of {driver}"
        if name in parameters:
            text = f"unknown configuration key 'connection.{name}'"
            yield Finding("config.unknown_key", text, f"connection.{name}", hint)
        else:
            hint = hint.replace("connection.", "")
            yield Finding("sql.url", f"connection.url has an unknown parameter '{name}'", _KEY, hint)
