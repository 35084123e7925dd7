"""Translates exceptions of database drivers into headrace's, with a hint and without secrets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from headrace import ConfigError, HeadraceError, InfrastructureError, RetriableError, TaskError
from headrace_sources.sql.dialects.dialect import ErrorClass

TABLE_ERROR_CODES = frozenset({"sql.forbidden", "sql.missing_table", "sql.missing_column", "sql.cursor_backwards"})
"""Codes of errors that concern one table only."""

KeyOrigin = Callable[[str], str]
"""Returns where a configuration key was written, as text."""


def unknown_origin(key: str) -> str:
    """Return the key itself, where the configuration's origin is unknown."""
    return key


def driver_message(error: Exception, url: URL, *, discreet: bool = False) -> str:
    """Return the driver's message in one line, without statement, parameters and password.

    Databases quote from statements; ``discreet`` keeps the error code only.
    """
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if discreet:
        code = getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", None)
        return f"{type(original).__name__}{f' {code}' if code else ''} (the database's text is hidden with the query)"
    text = " ".join(str(original).split()) or type(original).__name__
    return text.replace(url.password, "***") if isinstance(url.password, str) and url.password else text


def connection_error(
    error: Exception, error_class: ErrorClass, url: URL, config_origin: KeyOrigin, login: str = "connection.password"
) -> HeadraceError:
    """Return the error of a failed attempt to connect. ``login``: the key that holds the password."""
    place = f"{url.host}:{url.port}" if url.port else str(url.host or url.database)
    reason = driver_message(error, url)
    if error_class is ErrorClass.AUTHENTICATION:
        what = "connection.user or connection.password"
        if login == "connection.url":
            what = "user or password in connection.url"
        return InfrastructureError(
            f"the database at {place} refuses user '{url.username or ''}': {reason}",
            code="sql.authentication",
            hint=f"correct {what} ({config_origin(login)})",
        )
    if error_class is ErrorClass.MISSING_DATABASE:
        return InfrastructureError(
            f"there is no database '{url.database}' at {place}: {reason}",
            code="sql.missing_database",
            hint=f"create it, or correct connection.url ({config_origin('connection.url')})",
        )
    return RetriableError(
        f"the database at {place} cannot be reached: {reason}",
        code="sql.unreachable",
        hint=f"check that it is running, and that host and port are correct ({config_origin('connection.url')})",
    )


def missing_driver_error(error: Exception, url: URL, config_origin: KeyOrigin) -> InfrastructureError:
    """Return the error of a driver that is not installed or unknown."""
    name = error.name if isinstance(error, ImportError) and error.name else url.drivername
    package = "'headrace[postgres]'" if name.startswith("psycopg") and not name.startswith("psycopg2") else name
    return InfrastructureError(
        f"the database driver for {url.drivername} is not installed: {error}",
        code="sql.driver",
        hint=f"pip install {package}, or name another driver in connection.url ({config_origin('connection.url')})",
    )


def statement_error(
    error: Exception,
    error_class: ErrorClass,
    url: URL,
    subject: str,
    config_origin: KeyOrigin,
    *,
    discreet: bool = False,
    grant: str = "",
    column_keys: Sequence[str] = ("query",),
) -> HeadraceError:
    """Return the error of a statement that read ``subject``. ``grant``: the missing GRANT statement.

    ``column_keys``: the configuration keys that name columns.
    """
    reason = driver_message(error, url, discreet=discreet)
    if error_class is ErrorClass.LOST:
        return RetriableError(f"the connection was lost while reading {subject}: {reason}", code="sql.connection_lost")
    if error_class is ErrorClass.BUSY:
        return RetriableError(f"the database could not answer for {subject} now: {reason}", code="sql.busy")
    if error_class is ErrorClass.MISSING_TABLE:
        return ConfigError(
            f"{subject} cannot be read: {reason}",
            code="sql.missing_table",
            hint=f"create the table again, or correct the configuration ({config_origin('table.whitelist')})",
        )
    if error_class is ErrorClass.MISSING_COLUMN:
        return ConfigError(
            f"{subject} cannot be read: {reason}",
            code="sql.missing_column",
            hint="correct " + " or ".join(f"{key} ({config_origin(key)})" for key in column_keys),
        )
    if error_class is ErrorClass.ENCODING:
        return TaskError(
            f"{subject} holds text that is not in the connection's encoding: {reason}",
            code="sql.encoding",
            hint="set connection.client_encoding to the encoding in which the text is written "
            f"({config_origin('connection.client_encoding')}), or correct the text",
        )
    if error_class in (ErrorClass.AUTHENTICATION, ErrorClass.MISSING_DATABASE):
        return connection_error(error, error_class, url, config_origin)
    if error_class is ErrorClass.FORBIDDEN:
        return TaskError(f"{subject} cannot be read: {reason}", code="sql.forbidden", hint=f"run: {grant};")
    return TaskError(
        f"{subject} cannot be read: {reason}",
        code="sql.query_failed",
        hint=f"run the statement by hand with the same user; the configuration: {config_origin('query')}",
    )
