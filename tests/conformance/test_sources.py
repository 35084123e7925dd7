"""The sources of headrace pass the conformance suite of sources."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from headrace import SourceBatch
from headrace.testing.source import DisturbedSourceConformance, GrowingSourceConformance, SourceConformance
from headrace_sources.datagen import DatagenSourceConnector
from headrace_sources.sql import SqlSourceConnector

ROWS = 23
BY_ID = {"mode": "incrementing", "incrementing.column.name": "id"}
BY_TIME = {"mode": "timestamp", "timestamp.column.name": "at"}
BY_BOTH = {**BY_ID, **BY_TIME, "mode": "timestamp+incrementing"}
TABLE = {"table.whitelist": "answers", "topic.prefix": "x."}
QUERY = {"query": "SELECT * FROM answers WHERE id > 0", "topic.prefix": "x"}


class TestDatagen(SourceConformance):
    connector = DatagenSourceConnector
    largest_batch = 3

    @pytest.fixture
    def properties(self) -> Mapping[str, str]:
        return {"topic": "answers", "rows": "3", "max.messages": "10", "interval.ms": "0"}

    @pytest.fixture
    def expected(self) -> set[Hashable]:
        return set(range(1, 11))

    def identity(self, batch: SourceBatch, place: int) -> Hashable:
        number: int = batch.values[place]["answer_id"]
        return number


class SqlSuite(GrowingSourceConformance):
    """Rows 1 to 23, some of equal timestamp, read five at a time."""

    __test__ = False
    connector = SqlSourceConnector
    largest_batch = 5
    how: Mapping[str, str] = {}

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def properties(self, url: str) -> Mapping[str, str]:
        return {"connection.url": url, "poll.interval.ms": "600000", "batch.max.rows": "5", **self.how}

    @pytest.fixture
    def expected(self) -> set[Hashable]:
        return set(range(1, ROWS + 1))

    def identity(self, batch: SourceBatch, place: int) -> Hashable:
        number: int = batch.values[place]["id"]
        return number


class SqliteSuite(SqlSuite):
    __test__ = False

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "answers.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE answers (id INTEGER PRIMARY KEY, at TIMESTAMP NOT NULL, note TEXT)")
            rows = [(number, f"2024-05-01 12:00:{number // 3:02d}", None) for number in range(1, ROWS + 1)]
            connection.executemany("INSERT INTO answers VALUES (?, ?, ?)", rows)
        connection.close()
        return path

    @pytest.fixture
    def url(self, path: Path) -> str:
        return f"sqlite:///{path}"

    @pytest.fixture
    def add_rows(self, path: Path) -> Callable[[], set[Hashable]]:
        def add() -> set[Hashable]:
            with sqlite3.connect(path) as connection:
                connection.execute("INSERT INTO answers VALUES (100, '2024-05-01 13:00:00', 'late')")
            connection.close()
            return {100}

        return add


class PostgresSuite(SqlSuite):
    __test__ = False

    @pytest.fixture
    def url(self, database: str) -> str:
        with psycopg.connect(libpq(database)) as connection:
            connection.execute("CREATE TABLE answers (id int PRIMARY KEY, at timestamptz NOT NULL, note text)")
            connection.execute(
                "INSERT INTO answers SELECT n, timestamptz '2024-05-01 12:00Z' + n / 3 * interval '1 s', NULL "
                "FROM generate_series(1, %s) n",
                [ROWS],
            )
        return database

    @pytest.fixture
    def add_rows(self, database: str) -> Callable[[], set[Hashable]]:
        def add() -> set[Hashable]:
            with psycopg.connect(libpq(database)) as connection:
                connection.execute("INSERT INTO answers VALUES (100, '2024-05-01 13:00Z', 'late')")
            return {100}

        return add


class DisturbedPostgresSuite(PostgresSuite, DisturbedSourceConformance):
    """With a result that stays open between batches: a connection replaced between two pages causes no error."""

    __test__ = False

    @pytest.fixture
    def disturb(self, database: str) -> Callable[[], None]:
        def terminate() -> None:
            with psycopg.connect(libpq(database)) as connection:
                ended = connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                ).fetchall()
            assert ended

        return terminate


def libpq(url: Any) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


class TestSqliteById(SqliteSuite):
    __test__ = True
    how = TABLE | BY_ID


class TestSqliteByTime(SqliteSuite):
    __test__ = True
    how = TABLE | BY_TIME


class TestSqliteByBoth(SqliteSuite):
    __test__ = True
    how = TABLE | BY_BOTH


class TestSqliteQuery(SqliteSuite):
    __test__ = True
    how = QUERY | BY_BOTH


class TestPostgresById(PostgresSuite):
    __test__ = True
    how = TABLE | BY_ID


class TestPostgresInOneResult(DisturbedPostgresSuite):
    __test__ = True
    how = TABLE | BY_ID | {"transaction.isolation.mode": "REPEATABLE_READ"}


class TestPostgresByTime(DisturbedPostgresSuite):
    __test__ = True
    how = TABLE | BY_TIME


class TestPostgresByBoth(DisturbedPostgresSuite):
    __test__ = True
    how = TABLE | BY_BOTH


class TestPostgresQuery(DisturbedPostgresSuite):
    __test__ = True
    how = QUERY | BY_BOTH
