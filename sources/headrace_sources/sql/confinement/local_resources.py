"""What a connection URL uses of the worker's machine: files, and credentials that the driver finds by itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy import URL

from headrace import LocalUse

_KEY = "connection.url"
_FILES = frozenset(
    {
        "passfile", "sslcert", "sslcrl", "sslcrldir", "sslkey", "sslrootcert",  # libpq
        "ssl_ca", "ssl_capath", "ssl_cert", "ssl_key",  # PyMySQL
        "ServerCertificate",  # ODBC
        "wallet_location",  # python-oracledb
    }
)  # fmt: skip
_WITH_OWN_PASSWORD = ("sqlpassword", "activedirectorypassword", "activedirectoryserviceprincipal")
_PASSWORDS = "PGPASSWORD"


def url_uses(url: URL, keys: Mapping[str, str]) -> Iterable[LocalUse]:
    """Yield what a connection with this URL uses. ``keys``: the parameters that are given as ``connection.*`` keys."""
    for name, value in url.query.items():
        key = f"connection.{name}" if name in keys else _KEY
        for text in (value,) if isinstance(value, str) else value:
            if name in _FILES and text and (name, text) != ("sslrootcert", "system"):
                yield LocalUse(key, "file", text)
            elif name == "service":
                yield LocalUse(key, "file", os.environ.get("PGSERVICEFILE", str(_home("~/.pg_service.conf"))))
            elif name == "init_command":
                yield LocalUse(key, "privilege", "init_command, a statement that the driver executes")
            elif name == "Authentication" and text.lower() not in _WITH_OWN_PASSWORD:
                yield LocalUse(key, "privilege", "the identity of the worker's machine")
    if url.get_backend_name() == "sqlite":
        yield from _sqlite(url)
    elif url.get_backend_name() == "postgresql" and not url.password:
        yield from _libpq_passwords(url)


def _libpq_passwords(url: URL) -> Iterable[LocalUse]:
    """Without a password, libpq looks for one, and sends it to the server of the URL.

    The entry of a password file is found by ``host``, and the connection is made to ``hostaddr``.
    """
    if _PASSWORDS in os.environ:
        yield LocalUse("connection.password", "privilege", f"the environment variable {_PASSWORDS} of the worker")
    file = _home(os.environ.get("PGPASSFILE", "~/.pgpass"))
    if "passfile" not in url.query and file.is_file():
        yield LocalUse("connection.password", "file", str(file))


def _sqlite(url: URL) -> Iterable[LocalUse]:
    path = url.database or ""
    if path.startswith("file:") and "uri" in url.query:
        path = path.removeprefix("file:").partition("?")[0].partition("#")[0]
        if path.startswith("//"):  # an empty host, or localhost
            path = "/" + path[2:].partition("/")[2]
        path = unquote(path)
    if path not in ("", ":memory:"):
        yield LocalUse(_KEY, "file", path)


def _home(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # the user has no home directory
        return Path(path)
