"""Connection URLs: SQLAlchemy's, and JDBC's of PostgreSQL and SQLite translated to them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from headrace import Finding

_KEY = "connection.url"

# Parameters of PostgreSQL's JDBC driver by their names in libpq.
_RENAMED = {
    "ApplicationName": "application_name",
    "connectTimeout": "connect_timeout",
    "loginTimeout": "connect_timeout",
    "sslrootcert": "sslrootcert",
    "targetServerType": "target_session_attrs",
}
# They tune the Java driver and change nothing that is read.
_JAVA_ONLY = frozenset(
    {
        "adaptiveFetch", "autosave", "binaryTransfer", "defaultRowFetchSize", "preferQueryMode",
        "preparedStatementCacheQueries", "preparedStatementCacheSizeMiB", "prepareThreshold", "readOnly",
        "reWriteBatchedInserts", "socketTimeout", "stringtype", "tcpKeepAlive",
    }
)  # fmt: skip
_JDBC_KINDS = frozenset({"db2", "derby", "h2", "mariadb", "mysql", "oracle", "sap", "sqlserver", "sybase", "vertica"})
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


def connection_url(
    text: str, user: str | None, password: str | None, parameters: Mapping[str, str]
) -> tuple[URL | None, list[Finding]]:
    """The URL to connect with, and what is wrong with it. No finding quotes the URL: it may hold a password."""
    try:
        url = _from_jdbc(text) if text.startswith("jdbc:") else make_url(text)
    except (ArgumentError, ValueError) as error:
        reason = str(error) if isinstance(error, _UrlError) else "it is not a URL"
        hint = "postgresql+psycopg://user:password@host:5432/database, or sqlite:////path/to/file.db"
        return None, [Finding("sql.url", f"connection.url cannot be used: {reason}", _KEY, hint)]
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    url = url.update_query_dict(dict(parameters))
    if user is not None:
        url = url.set(username=user)
    if password is not None:
        url = url.set(password=password)
    if url.get_backend_name() == "postgresql":
        url = _postgres_parameters(url)
        return url, list(_unknown_parameters(url, parameters))
    return url, []


class _UrlError(ValueError):
    """A URL that cannot be translated; the message says why and holds no secret."""


def _from_jdbc(text: str) -> URL:
    kind, _, rest = text.removeprefix("jdbc:").partition(":")
    if kind == "sqlite":
        path, _, _ = rest.removeprefix("file:").partition("?")
        return URL.create("sqlite", database=path)
    if kind != "postgresql":
        known = kind if kind in _JDBC_KINDS else "this form"  # what is not a kind may be a secret
        raise _UrlError(f"JDBC URLs of {known} are not translated, write an SQLAlchemy URL")
    # jdbc:postgresql://host1:port1,host2:port2/database?parameters, jdbc:postgresql:database, jdbc:postgresql:/
    match = re.fullmatch(r"(?://(?P<hosts>[^/?]*)/?)?(?P<database>[^?]*)(?:\?(?P<query>.*))?", rest)
    if match is None:
        raise _UrlError("it is not of the form jdbc:postgresql://host:port/database")
    query = dict(parse_qsl(match["query"] or "", keep_blank_values=True))
    user, password = query.pop("user", None), query.pop("password", None)
    hosts = [_split_host(host) for host in (match["hosts"] or "localhost").split(",") if host]
    if len(hosts) > 1:
        query["host"] = ",".join(host for host, _ in hosts)
        query["port"] = ",".join(str(port or 5432) for _, port in hosts)
    host, port = hosts[0] if len(hosts) == 1 else (None, None)
    database = match["database"].lstrip("/") or None
    return URL.create("postgresql+psycopg", user, password, host, port, database, query)


def _split_host(text: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d+))?", text)
    if match is None:
        raise _UrlError("the host is not of the form host:port")
    return match["host"].strip("[]") or "localhost", int(match["port"]) if match["port"] else None


def _postgres_parameters(url: URL) -> URL:
    """Names of Java's driver to those of libpq."""
    query: dict[str, str] = {}
    for name, value in url.query.items():
        text = value if isinstance(value, str) else ",".join(value)
        if name == "currentSchema":
            query["options"] = f"{query.get('options', '')} -csearch_path={text}".strip()
        elif name == "ssl":
            if text.lower() in ("true", ""):
                query.setdefault("sslmode", "verify-full")  # what Java's driver means by it
        elif name not in _JAVA_ONLY:
            query[_RENAMED.get(name, name)] = text
    return url.set(query=query)


def _unknown_parameters(url: URL, parameters: Mapping[str, str]) -> Iterable[Finding]:
    for name in url.query:
        if name not in _LIBPQ:
            close = difflib.get_close_matches(
                f"connection.{name}", [*(f"connection.{known}" for known in _LIBPQ), *_OWN]
            )
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "parameters are those of libpq"
            if name in parameters:
                text = f"unknown configuration key 'connection.{name}'"
                yield Finding("config.unknown_key", text, f"connection.{name}", hint)
            else:
                hint = hint.replace("connection.", "")
                yield Finding("sql.url", f"connection.url has an unknown parameter '{name}'", _KEY, hint)


_OWN = ("connection.url", "connection.user", "connection.password", "connection.attempts", "connection.backoff.ms")
