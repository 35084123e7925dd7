"""A PostgreSQL primary with prepared transactions, and a hot standby made from it: late commits, lag, replay."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from headrace import SourceBatch
from headrace.embedded.postgres import PASSWORD, USER, Postgres
from headrace.testing.contexts import Offsets
from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually
from headrace_sources.sql import SqlSourceConnector
from headrace_sources.sql.tuning import Tuning
from tests.sql_tasks import tuned

SETTINGS: dict[str, str | int | bool] = {"max_prepared_transactions": 5, "wal_level": "replica"}
TABLE = "(id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"
MODES = {
    "incrementing": {"mode": "incrementing", "incrementing.column.name": "id"},
    "timestamp": {"mode": "timestamp", "timestamp.column.name": "at"},
}


class Standby(Postgres):
    """Follows ``primary``, read-only; made by pg_basebackup."""

    def __init__(self, folder: Path, primary: Postgres) -> None:
        super().__init__(folder, settings=SETTINGS)
        self._primary = primary

    def _init(self) -> None:
        self.data_path.mkdir(mode=0o700)
        owner = self._primary.data_path.stat()
        shutil.chown(self.data_path, owner.st_uid, owner.st_gid)
        address = f"host=127.0.0.1 port={self._primary.port} user={USER} password={PASSWORD}"
        self._run([self._binary("pg_basebackup"), "-D", str(self.data_path), "-R", "-c", "fast", "-d", address])


def connect(server: Postgres) -> psycopg.Connection[Any]:
    url = make_url(server.url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(url, autocommit=True)


WITHOUT_SPAN = tuned(Tuning(least_lookback=timedelta(milliseconds=1)))
"""Two seconds of lookback would catch the rows that these tests commit within them."""


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("primary"), settings=SETTINGS) as server:
        yield server


@pytest.fixture(scope="module")
def standby(primary: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Standby(tmp_path_factory.mktemp("standby"), primary) as server:
        yield server


@pytest.fixture
def run(primary: Postgres) -> Iterator[Callable[[str], list[Any]]]:
    """Return a function that runs statements on the primary with autocommit."""
    with connect(primary) as connection:

        def execute(statements: str) -> list[Any]:
            cursor = connection.execute(statements.encode())
            return cursor.fetchall() if cursor.description else []

        yield execute


@pytest.fixture
def read(unique_name: str, run: Callable[[str], list[Any]]) -> Iterator[Callable[..., SourceDriver]]:
    run(f"CREATE TABLE {unique_name} {TABLE}")
    with ExitStack() as stop:

        def start(server: Postgres, offsets: Offsets | None = None, /, **keys: str) -> SourceDriver:
            properties = {
                "connection.url": server.url,
                "table.whitelist": unique_name,
                "topic.prefix": "",
                "poll.interval.ms": "20",
                **{name.replace("_", "."): value for name, value in keys.items()},
            }
            return stop.enter_context(SourceDriver(WITHOUT_SPAN, properties, offsets))

        yield start


def wait_for(driver: SourceDriver, seen: list[int], wanted: set[int]) -> None:
    def all_seen() -> bool:
        """the rows were read"""
        seen.extend(value["id"] for batch in driver.drain() for value in batch.values)
        return set(seen) >= wanted

    eventually(all_seen)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("restart", [False, True], ids=["no-restart", "restart"])
def test_rows_of_a_late_prepared_transaction_are_not_lost(
    primary: Postgres, read: Callable[..., SourceDriver], run: Callable[[str], list[Any]], unique_name: str,
    mode: str, restart: bool,
) -> None:  # fmt: skip
    """It has no session, survives restarts of the server, and commits rows before those that were read."""
    driver, seen = read(primary, **MODES[mode]), list[int]()
    driver.drain()
    with connect(primary) as writer:
        writer.autocommit = False
        writer.execute(f"INSERT INTO {unique_name} VALUES (1)".encode())
        driver.drain()
        writer.execute(f"PREPARE TRANSACTION '{unique_name}'".encode())
        run(f"INSERT INTO {unique_name} VALUES (2)")
        wait_for(driver, seen, {2})
        for _ in range(3):
            driver.drain()
        if restart:
            driver.stop()
            driver = read(primary, driver.offsets, **MODES[mode])
            driver.drain()
        run(f"COMMIT PREPARED '{unique_name}'")
    wait_for(driver, seen, {1, 2})


def test_rows_of_a_late_prepared_transaction_are_lost_without_the_gap_free_cursor(
    primary: Postgres, read: Callable[..., SourceDriver], run: Callable[[str], list[Any]], unique_name: str
) -> None:
    """Shows that the test above can fail."""
    driver, seen = read(primary, **MODES["incrementing"], cursor_gap_free="off"), list[int]()
    run(f"BEGIN; INSERT INTO {unique_name} VALUES (1); PREPARE TRANSACTION '{unique_name}'")
    run(f"INSERT INTO {unique_name} VALUES (2)")
    wait_for(driver, seen, {2})
    run(f"COMMIT PREPARED '{unique_name}'")
    run(f"INSERT INTO {unique_name} VALUES (3)")
    wait_for(driver, seen, {3})

    assert seen == [2, 3]


def test_a_standby_is_detected_and_read_with_an_overlap(
    standby: Postgres, read: Callable[..., SourceDriver], run: Callable[[str], list[Any]], unique_name: str
) -> None:
    def there() -> bool:
        """the standby has the table"""
        with connect(standby) as connection:
            row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [unique_name]).fetchone()
            return bool(row and row[0])

    eventually(there)
    properties = {
        "connection.url": standby.url,
        "table.whitelist": unique_name,
        "topic.prefix": "t.",
        **MODES["incrementing"],
    }
    [finding] = SqlSourceConnector().check(properties)
    assert (finding.code, finding.severity) == ("sql.gaps", "warning")
    assert "read replica" in finding.message
    assert list(SqlSourceConnector().check({**properties, "cursor.overlap": "10"})) == []

    driver, seen = read(standby, **MODES["incrementing"], cursor_overlap="10"), list[int]()
    run(f"INSERT INTO {unique_name} VALUES (2)")
    wait_for(driver, seen, {2})
    run(f"INSERT INTO {unique_name} VALUES (1)")  # as a transaction would that commits late
    wait_for(driver, seen, {1, 2})
    assert sorted(seen) == [1, 2]


def test_a_lagging_standby_is_not_read_and_the_status_says_so(
    standby: Postgres, read: Callable[..., SourceDriver], run: Callable[[str], list[Any]], unique_name: str
) -> None:
    run(f"INSERT INTO {unique_name} VALUES (1)")

    def replayed() -> bool:
        """the standby has the row"""
        with connect(standby) as connection:
            try:
                return connection.execute(f"SELECT 1 FROM {unique_name}".encode()).fetchone() is not None
            except psycopg.errors.UndefinedTable:
                return False

    eventually(replayed)
    keys = {**MODES["incrementing"], "replica_max_lag_ms": "300", "cursor_overlap": "10"}
    driver, seen = read(standby, **keys), list[int]()
    wait_for(driver, seen, {1})
    with connect(standby) as connection:
        connection.execute("SELECT pg_wal_replay_pause()")
        run(f"INSERT INTO {unique_name} VALUES (2)")

        def behind() -> bool:
            """the status says that the replica is behind"""
            answer = driver.poll()
            if isinstance(answer, SourceBatch):
                seen.extend(value["id"] for value in answer.values)
            return "the replica is" in (driver.status_reasons.current or "")

        eventually(behind)
        connection.execute("SELECT pg_wal_replay_resume()")
    wait_for(driver, seen, {1, 2})

    def silent() -> bool:
        """the status says nothing any more"""
        driver.drain()
        return driver.status_reasons.current is None

    eventually(silent)
