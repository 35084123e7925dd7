"""What a read of MariaDB waits for: the holder of a lock is named where the server tells it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC
from typing import Any

import pymysql
import pytest
from sqlalchemy import URL, make_url

from headrace.retries import wait_for
from headrace_sources.sql.dialects.mysql import MySql

Connect = Callable[..., Any]


@pytest.fixture
def url(mariadb_database: str) -> URL:
    return make_url(mariadb_database)


@pytest.fixture
def connect(url: URL) -> Iterator[Connect]:
    """Opens connections. At the end of the test they are killed: closing one waits while a thread reads from it."""

    def opened(own: URL) -> Any:
        _, keywords = own.get_dialect()().create_connect_args(own)
        return pymysql.connect(**keywords, autocommit=True)

    made: list[Any] = []  # keeps them open

    def connect(user: str | None = None) -> Any:
        connection = opened(url.set(username=user, password=user) if user else url)
        made.append(connection)
        return connection

    yield connect
    with closing(opened(url)) as admin, admin.cursor() as cursor:
        for connection in made:
            cursor.execute(f"KILL {connection.thread_id()}")


def in_background(connection: Any, statement: str) -> threading.Thread:
    def run() -> None:
        with suppress(pymysql.err.MySQLError), connection.cursor() as cursor:  # it is killed when the test fails
            cursor.execute(statement)
            cursor.fetchall()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_the_holder_of_a_table_lock_is_named(connect: Connect, url: URL) -> None:
    holder, reader = connect(), connect()
    with holder.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id INT PRIMARY KEY)")
        cursor.execute("LOCK TABLES t WRITE")
        waiting = in_background(reader, "SELECT * FROM t")
        said = awaited(lambda: _reason(reader, url, "holds"))
        assert f"connection {holder.thread_id()} (user {url.username}, host " in said
        assert f"run: KILL {holder.thread_id()}" in said
        cursor.execute("UNLOCK TABLES")
    waiting.join(30)
    assert not waiting.is_alive()


def test_a_definition_that_waits_itself_is_named(connect: Connect, url: URL) -> None:
    """A read waits behind ALTER TABLE, which waits for a transaction that has read the table."""
    older, definition, reader = connect(), connect(), connect()
    with older.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id INT PRIMARY KEY)")
        cursor.execute("BEGIN")
        cursor.execute("SELECT * FROM t")
        altering = in_background(definition, "ALTER TABLE t ADD COLUMN n INT")
        assert awaited(lambda: _reason(definition, url, "waits for a lock"))
        reading = in_background(reader, "SELECT * FROM t")
        said = awaited(lambda: _reason(reader, url, "waits for, too"))
        assert f"connection {definition.thread_id()} (" in said
        assert "ALTER TABLE t ADD COLUMN n INT" in said
        assert "ALTER" not in awaited(lambda: _reason(reader, url, "waits for, too", discreet=True))
        cursor.execute("COMMIT")
    for thread in (altering, reading):
        thread.join(30)
        assert not thread.is_alive()


def test_without_the_right_to_see_locks_the_reason_says_how_to_name_the_holder(connect: Connect, url: URL) -> None:
    holder = connect()
    with holder.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id INT PRIMARY KEY)")
        cursor.execute("CREATE USER IF NOT EXISTS plain@'%' IDENTIFIED BY 'plain'")
        cursor.execute(f"GRANT SELECT ON {url.database}.* TO plain@'%'")
        cursor.execute("LOCK TABLES t WRITE")
        reader = connect("plain")
        waiting = in_background(reader, "SELECT * FROM t")
        said = awaited(lambda: _reason(reader, url.set(username="plain", password="plain"), "waits for a lock"))
        assert "SHOW FULL PROCESSLIST" in said
        assert "performance_schema" in said
        cursor.execute("UNLOCK TABLES")
    waiting.join(30)
    assert not waiting.is_alive()


def awaited(reason: Callable[[], str]) -> str:
    return wait_for(reason, timeout=30, interval=0.1)


def _reason(reader: Any, url: URL, expected: str, *, discreet: bool = False) -> str:
    """Return what the dialect says that the connection waits for; empty while it is not what is expected."""
    said = MySql(UTC).waits_for(reader, url, discreet=discreet) or ""
    return said if expected in said else ""
