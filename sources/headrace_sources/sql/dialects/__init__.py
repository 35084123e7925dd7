"""Dialects: everything that differs between databases, in one module each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, tzinfo

from sqlalchemy import URL

from headrace_sources.sql.dialects.dialect import Dialect

__all__ = ["Dialect", "MakeDialect", "dialect_for"]

MakeDialect = Callable[[URL, tzinfo, str, str], Dialect]
"""The arguments of :func:`dialect_for`."""


def dialect_for(url: URL, zone: tzinfo, granularity: str, temporal: str = "fail") -> Dialect:
    """Return the dialect of the database in ``url``. Raise ImportError if its driver is not installed.

    ``temporal``: what to do with dates and times out of Python's range: ``fail``, ``null`` or ``text``.
    """
    backend = url.get_backend_name()
    if backend == "postgresql" and url.get_driver_name() == "psycopg":
        from headrace_sources.sql.dialects.postgres import PostgreSql  # needs psycopg, which is an extra

        iso = zone is UTC and granularity.endswith("iso_datetime_string")
        return PostgreSql(zone, iso=iso, temporal=temporal)
    if backend in ("mysql", "mariadb") and url.get_driver_name() == "pymysql":
        from headrace_sources.sql.dialects.mysql import MySql  # needs PyMySQL, which is an extra

        return MySql(zone, temporal=temporal)
    if backend == "sqlite":
        from headrace_sources.sql.dialects.sqlite import Sqlite

        return Sqlite(zone)
    if backend == "oracle":
        from headrace_sources.sql.dialects.oracle import Oracle

        return Oracle(zone)
    if backend == "mssql":
        from headrace_sources.sql.dialects.sqlserver import SqlServer

        return SqlServer(zone, url.database or "")
    return Dialect(zone)
