"""What differs between databases: one module for each kind, the rest of the source knows none of it."""

from __future__ import annotations

from datetime import UTC, tzinfo

from sqlalchemy import URL

from headrace_sources.sql.dialects.generic import Database

__all__ = ["Database", "database_for"]


def database_for(url: URL, zone: tzinfo, granularity: str) -> Database:
    """The facts of the kind of database that ``url`` names. Raises ImportError when its driver is not installed."""
    backend = url.get_backend_name()
    if backend == "postgresql" and url.get_driver_name() == "psycopg":
        from headrace_sources.sql.dialects.postgres import Postgres  # needs psycopg, which is an extra

        return Postgres(zone, iso=zone is UTC and granularity.endswith("iso_datetime_string"))
    if backend == "sqlite":
        from headrace_sources.sql.dialects.sqlite import Sqlite

        return Sqlite(zone)
    return Database(zone)
