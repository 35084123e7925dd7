"""Parameters of database drivers that configurations may set.

A driver is given no others. Those that are left out read files of this machine for the server or for the log
(``local_infile``, ``read_default_file``), load code (``plugin``, a library as ``driver``), replace the whole URL
(``odbc_connect``) or create files (``mode=rwc`` of SQLite).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from sqlalchemy import URL

from headrace import Finding

_KEY = "connection.url"
_OWN = ("connection.url", "connection.user", "connection.password", "connection.attempts", "connection.backoff.ms")

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
        "bind_address", "charset", "collation", "connect_timeout", "host", "init_command", "max_allowed_packet",
        "port", "program_name", "read_timeout", "server_public_key", "sql_mode", "ssl_ca", "ssl_capath", "ssl_cert",
        "ssl_check_hostname", "ssl_cipher", "ssl_disabled", "ssl_key", "ssl_key_password", "ssl_verify_cert",
        "ssl_verify_identity", "unix_socket", "write_timeout",
    }
)  # fmt: skip
_SQLITE = frozenset({"cache", "cached_statements", "detect_types", "immutable", "mode", "nolock", "timeout", "uri"})
_PYODBC = frozenset(
    {
        "APP", "ApplicationIntent", "Authentication", "ColumnEncryption", "Connection Timeout", "Encrypt",
        "HostnameInCertificate", "LongAsMax", "MARS_Connection", "MultiSubnetFailover", "ServerCertificate",
        "TrustServerCertificate", "Trusted_Connection", "WSID", "autocommit", "driver", "timeout",
    }
)  # fmt: skip
_ORACLEDB = frozenset(
    {
        "connection_id_prefix", "disable_oob", "encoding", "events", "expire_time", "https_proxy",
        "https_proxy_port", "mode", "nencoding", "pool_boundary", "purity", "retry_count", "retry_delay", "sdu",
        "service_name", "ssl_server_cert_dn", "ssl_server_dn_match", "stmtcachesize", "tcp_connect_timeout",
        "use_tcp_fast_open", "wallet_location", "wallet_password",
    }
)  # fmt: skip
_ANY = frozenset(
    {
        "application_name", "charset", "connect_timeout", "login_timeout", "read_timeout", "ssl_ca", "sslmode",
        "sslrootcert", "timeout", "write_timeout",
    }
)  # fmt: skip
_KNOWN: Mapping[str, tuple[frozenset[str], str]] = {
    "postgresql+psycopg": (_LIBPQ, "libpq"),
    "postgresql+psycopg2": (_LIBPQ, "libpq"),
    "mysql+pymysql": (_PYMYSQL, "PyMySQL"),
    "mariadb+pymysql": (_PYMYSQL, "PyMySQL"),
    "sqlite": (_SQLITE, "SQLite"),
    "sqlite+pysqlite": (_SQLITE, "SQLite"),
    "mssql+pyodbc": (_PYODBC, "the ODBC driver"),
    "oracle+oracledb": (_ORACLEDB, "python-oracledb"),
}
_NO_FILES = "remove it: headrace sends no file of this machine to a database"
_INSTEAD_OF = {
    "local_infile": _NO_FILES,
    "allow_local_infile": _NO_FILES,
    "read_default_file": "remove it, and write what the file says as parameters: ssl_ca, connect_timeout …",
    "read_default_group": "remove it, and write what the file says as parameters: ssl_ca, connect_timeout …",
    "odbc_connect": "write the parts of the connection string as a URL: mssql+pyodbc://user@host/database?driver=…",
    "sslfactory": "Java classes cannot be loaded: set sslmode (verify-full, require) and sslrootcert instead",
    "sslhostnameverifier": "Java classes cannot be loaded: set sslmode (verify-full, verify-ca) instead",
    "socketFactory": "Java classes cannot be loaded: use an SQLAlchemy URL with the host of the proxy",
}


def parameter_findings(url: URL, keys: Mapping[str, str]) -> Iterable[Finding]:
    """Yield findings about parameters that may not be set. ``keys``: those given as ``connection.*`` keys."""
    allowed, driver = _KNOWN.get(url.drivername, (_ANY, f"the driver {url.drivername} that headrace knows"))
    for name in url.query:
        if name in allowed:
            continue
        close = difflib.get_close_matches(f"connection.{name}", [*(f"connection.{item}" for item in allowed), *_OWN])
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"parameters are those of {driver}"
        hint = _INSTEAD_OF.get(name, hint)
        if name in keys:
            text = f"unknown configuration key 'connection.{name}'"
            yield Finding("config.unknown_key", text, f"connection.{name}", hint)
        else:
            hint = hint.replace("connection.", "")
            yield Finding("sql.url", f"connection.url has an unknown parameter '{name}'", _KEY, hint)
    yield from _values(url)


def _values(url: URL) -> Iterable[Finding]:
    query = {name: value if isinstance(value, str) else ",".join(value) for name, value in url.query.items()}
    if url.get_backend_name() == "sqlite" and "uri" in query and query.get("mode") not in ("ro", "memory"):
        text = "connection.url with uri=true would create a missing file"
        yield Finding("sql.url", text, _KEY, "add mode=ro, or write the path without file: and uri=true")
    if "/" in query.get("driver", "") or "\\" in query.get("driver", ""):
        text = "connection.url names a library as its ODBC driver"
        yield Finding("sql.url", text, _KEY, "write the driver's name in odbcinst.ini: ODBC Driver 18 for SQL Server")
