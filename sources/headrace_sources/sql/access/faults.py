"""The border to drivers: their exceptions become ours here, with what to do and without secrets."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from headrace import ConfigError, HeadraceError, InfrastructureError, RetriableError, TaskError
from headrace_sources.sql.dialects.generic import Verdict

OF_ONE_TABLE = frozenset({"sql.forbidden", "sql.missing_table", "sql.missing_column", "sql.cursor_backwards"})
"""Codes of what is wrong with one table and hurts no other."""

Where = Callable[[str], str]
"""Where the user wrote a key; empty text where nobody knows."""


def nowhere(key: str) -> str:
    """For calls that have no context: just the key."""
    return key


def said(error: Exception, url: URL, *, discreet: bool = False) -> str:
    """What the driver said: one line, without statement, parameters and password. Databases quote from a statement;
    ``discreet`` leaves their text out and keeps the code."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if discreet:
        code = getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", None)
        return f"{type(original).__name__}{f' {code}' if code else ''} (the database's text is hidden with the query)"
    text = " ".join(str(original).split()) or type(original).__name__
    return text.replace(url.password, "***") if isinstance(url.password, str) and url.password else text


def connecting(
    error: Exception, verdict: Verdict, url: URL, where: Where, login: str = "connection.password"
) -> HeadraceError:
    """Why a connection could not be opened. ``login``: the key that holds the password."""
    place = f"{url.host}:{url.port}" if url.port else str(url.host or url.database)
    reason = said(error, url)
    if verdict is Verdict.AUTHENTICATION:
        what = "connection.user or connection.password"
        if login == "connection.url":
            what = "user or password in connection.url"
        return InfrastructureError(
            f"the database at {place} refuses user '{url.username or ''}': {reason}",
            code="sql.authentication",
            hint=f"correct {what} ({where(login)})",
        )
    if verdict is Verdict.MISSING_DATABASE:
        return InfrastructureError(
            f"there is no database '{url.database}' at {place}: {reason}",
            code="sql.missing_database",
            hint=f"create it, or correct connection.url ({where('connection.url')})",
        )
    return RetriableError(
        f"the database at {place} cannot be reached: {reason}",
        code="sql.unreachable",
        hint=f"is it running, and are host and port right ({where('connection.url')})?",
    )


def missing_driver(error: Exception, url: URL, where: Where) -> InfrastructureError:
    """The driver of ``url`` is not installed, or nobody knows it."""
    name = error.name if isinstance(error, ImportError) and error.name else url.drivername
    package = "'headrace[postgres]'" if name.startswith("psycopg") and not name.startswith("psycopg2") else name
    return InfrastructureError(
        f"the database driver for {url.drivername} is not installed: {error}",
        code="sql.driver",
        hint=f"pip install {package}, or name another driver in connection.url ({where('connection.url')})",
    )


def running(
    error: Exception,
    verdict: Verdict,
    url: URL,
    subject: str,
    where: Where,
    *,
    discreet: bool = False,
    remedy: str = "",
) -> HeadraceError:
    """Why a statement about ``subject`` failed, or reading its result. ``remedy``: what allows what is forbidden."""
    reason = said(error, url, discreet=discreet)
    if verdict is Verdict.LOST:
        return RetriableError(f"the connection was lost while reading {subject}: {reason}", code="sql.connection_lost")
    if verdict is Verdict.BUSY:
        return RetriableError(f"the database could not answer for {subject} now: {reason}", code="sql.busy")
    if verdict is Verdict.MISSING_TABLE:
        return ConfigError(
            f"{subject} cannot be read: {reason}",
            code="sql.missing_table",
            hint=f"create the table again, or correct the configuration ({where('table.whitelist')})",
        )
    if verdict is Verdict.MISSING_COLUMN:
        return ConfigError(
            f"{subject} cannot be read: {reason}",
            code="sql.missing_column",
            hint="correct timestamp.column.name, incrementing.column.name or the query "
            f"({where('timestamp.column.name')})",
        )
    if verdict in (Verdict.AUTHENTICATION, Verdict.MISSING_DATABASE):
        return connecting(error, verdict, url, where)
    if verdict is Verdict.FORBIDDEN:
        return TaskError(f"{subject} cannot be read: {reason}", code="sql.forbidden", hint=f"run: {remedy};")
    return TaskError(
        f"{subject} cannot be read: {reason}",
        code="sql.query_failed",
        hint=f"run the statement by hand with the same user; the configuration: {where('query')}",
    )
