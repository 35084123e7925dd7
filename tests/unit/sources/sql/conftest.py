"""A SQLite file for each test, and drivers of tasks that read it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from headrace.testing.contexts import Offsets
from headrace.testing.driver import SourceDriver
from headrace_sources.sql.dialects import MakeDialect, dialect_for
from headrace_sources.sql.tuning import Tuning
from tests.sql_tasks import tuned

KEYS = {"topic.prefix": "t.", "poll.interval.ms": "20", "mode": "incrementing"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "source.db"


@pytest.fixture
def sqlite(path: Path) -> Iterator[Callable[[str], list[Any]]]:
    """``sqlite(script)`` runs statements in the file and commits; the rows of a single one."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")  # commits do not wait for the disk

    def run(script: str) -> list[Any]:
        if ";" not in script:
            return connection.execute(script).fetchall()
        connection.executescript(script)
        return []

    yield run
    connection.close()


@pytest.fixture
def properties(path: Path) -> Callable[..., dict[str, str]]:
    """Return ``properties(**keys)``, a configuration of the file; ``_`` in names stand for dots."""

    def make(**keys: str) -> dict[str, str]:
        return {**KEYS, "connection.url": f"sqlite:///{path}", **{k.replace("_", "."): v for k, v in keys.items()}}

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
    """Return ``drive(offsets, **keys)``, which starts a task on the file; all are stopped when the test ends."""
    connector = tuned(tuning, make_dialect)
    with ExitStack() as stop:

        def start(offsets: Offsets | None = None, /, *, exactly_once: bool = False, **keys: str) -> SourceDriver:
            driver = SourceDriver(connector, properties(**keys), offsets, exactly_once=exactly_once)
            return stop.enter_context(driver)

        yield start


@pytest.fixture
def soft(drive: Callable[..., SourceDriver]) -> Callable[..., SourceDriver]:
    """Return ``drive`` for a table ``t`` whose column ``gone`` marks deleted rows."""

    def start(offsets: Offsets | None = None, /, **keys: str) -> SourceDriver:
        return drive(
            offsets, **{"delete_detection": "soft", "delete_soft_column": "gone", "table_whitelist": "t", **keys}
        )

    return start
