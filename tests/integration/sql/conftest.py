"""A database for each test, functions that run statements in it, and drivers of tasks that read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy import make_url

from headrace.testing.contexts import Offsets
from headrace.testing.driver import SourceDriver
from headrace_sources.sql.dialects import MakeDialect, dialect_for
from headrace_sources.sql.tuning import Tuning
from tests.sql_tasks import tuned

KEYS = {"topic.prefix": "t.", "poll.interval.ms": "20", "mode": "incrementing"}


@pytest.fixture
def connect(database: str) -> Iterator[Callable[..., psycopg.Connection[Any]]]:
    """``connect(autocommit=False)``: a session of its own, closed when the test ends."""
    with ExitStack() as stop:

        def open_session(**arguments: Any) -> psycopg.Connection[Any]:
            url = make_url(database).set(drivername="postgresql").render_as_string(hide_password=False)
            connection: psycopg.Connection[Any] = psycopg.connect(url, **arguments)
            stop.callback(connection.close)
            return connection

        yield open_session


@pytest.fixture
def sql(connect: Callable[..., psycopg.Connection[Any]]) -> Callable[..., list[Any]]:
    """``sql(statements, *parameters)``: run and committed at once; the rows of the last one."""
    connection = connect(autocommit=True)

    def run(statements: str, *parameters: Any) -> list[Any]:
        cursor = connection.execute(statements, parameters or None)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture
def properties(database: str) -> Callable[..., dict[str, str]]:
    """``properties(**keys)``: a configuration of the database; ``_`` in names stand for dots."""

    def make(**keys: str) -> dict[str, str]:
        return {**KEYS, "connection.url": database, **{name.replace("_", "."): value for name, value in keys.items()}}

    return make


@pytest.fixture
def maria(mariadb_database: str) -> Iterator[Callable[[str], list[Any]]]:
    """``maria(statements)``: run and committed at once, one after the other; the rows of the last one."""
    url = make_url(mariadb_database)
    connection = pymysql.connect(
        host=url.host or "127.0.0.1", port=url.port or 3306, user=url.username, password=str(url.password or ""),
        database=url.database, autocommit=True, charset="utf8mb4",
    )  # fmt: skip

    def run(statements: str) -> list[Any]:
        with connection.cursor() as cursor:
            for statement in statements.split(";"):
                if statement.strip():
                    cursor.execute(statement)
            return list(cursor.fetchall())

    yield run
    connection.close()


@pytest.fixture
def mariadb_properties(mariadb_database: str) -> Callable[..., dict[str, str]]:
    """Return ``properties`` of a MariaDB database; tests override ``properties`` with it."""

    def make(**keys: str) -> dict[str, str]:
        own = {name.replace("_", "."): value for name, value in keys.items()}
        return {**KEYS, "connection.url": mariadb_database, **own}

    return make


@pytest.fixture
def tuning() -> Tuning:
    """Durations and sizes of the tasks of ``drive``; tests override the fixture."""
    return Tuning()


@pytest.fixture
def make_dialect() -> MakeDialect:
    """Return the factory of the dialects of tasks of ``drive``; tests override the fixture."""
    return dialect_for


@pytest.fixture
def drive(
    properties: Callable[..., dict[str, str]], tuning: Tuning, make_dialect: MakeDialect
) -> Iterator[Callable[..., SourceDriver]]:
    """``drive(offsets, **keys)`` starts a task on the database; all are stopped when the test ends."""
    connector = tuned(tuning, make_dialect)
    with ExitStack() as stop:

        def start(offsets: Offsets | None = None, /, **keys: str) -> SourceDriver:
            return stop.enter_context(SourceDriver(connector, properties(**keys), offsets))

        yield start
