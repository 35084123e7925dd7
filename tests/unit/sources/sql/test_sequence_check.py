"""Ids that do not grow any more: what is said, and what stops a table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from headrace import TaskError
from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually
from headrace_sources.sql import task
from headrace_sources.sql.cursor import table_cursor
from headrace_sources.sql.cursor.sequence_check import SequenceCheck
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.tables.queries import Relation

Drive = Callable[..., SourceDriver]
Sql = Callable[[str], list[Any]]


def numbers(*ids: int) -> tuple[int | None, Callable[[int, int], bool]]:
    """What a table with these ids answers."""
    return max(ids, default=None), lambda after, up_to: any(after < each <= up_to for each in ids)


@pytest.fixture
def numbering() -> SequenceCheck:
    return SequenceCheck(Relation(TableName("public", "t")), "id")


def observe(numbering: SequenceCheck, position: int | None, *ids: int) -> None:
    greatest, any_between = numbers(*ids)
    numbering.observe(greatest, position, any_between)


def test_ids_that_grow(numbering: SequenceCheck) -> None:
    observe(numbering, None)
    observe(numbering, None, 1, 2)
    observe(numbering, 2, 1, 2)
    observe(numbering, 2, 1, 2, 3)

    assert numbering.reason is None


def test_the_newest_rows_were_deleted(numbering: SequenceCheck) -> None:
    observe(numbering, 9, 1, 2, 9)
    observe(numbering, 9, 1, 2)

    assert "greatest id of table public.t is 2" in str(numbering.reason)
    observe(numbering, 9, 1)
    observe(numbering, 9, 1, 10)
    assert numbering.reason is None


def test_all_rows_were_deleted(numbering: SequenceCheck) -> None:
    observe(numbering, 9)
    assert numbering.reason is None
    observe(numbering, 9, 10)


@pytest.mark.parametrize("now", [(1, 2, 3), (1, 2, 9), (1, 2, 3, 10)])
def test_a_new_row_behind_the_position(numbering: SequenceCheck, now: tuple[int, ...]) -> None:
    observe(numbering, 9, 1, 2)
    for ids in (now, (1, 11)):  # it does not become right by itself
        with pytest.raises(TaskError) as raised:
            observe(numbering, 9, *ids)
        assert raised.value.code == "sql.cursor_backwards"


def test_a_table_that_was_emptied_and_numbered_anew(numbering: SequenceCheck) -> None:
    observe(numbering, 9)
    with pytest.raises(TaskError):
        observe(numbering, 9, 1)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_cursor, "_NUMBERED", 0.0)
    monkeypatch.setattr(task, "_ASIDE", timedelta(milliseconds=20))


@pytest.mark.usefixtures("soon")
def test_a_cursor_that_goes_backwards_stops_its_table_and_no_other(sqlite: Sql, drive: Drive) -> None:
    """SQLite hands out the id of the newest row again when that was deleted."""
    for table in ("t", "u"):
        sqlite(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY); INSERT INTO {table} VALUES (1), (2), (3);")
    driver = drive(table_whitelist="t,u")
    driver.drain()
    sqlite("DELETE FROM t WHERE id > 1")

    def said(text: str) -> None:
        def is_said() -> bool:
            """the status says it"""
            driver.drain()
            return text in (driver.status_reasons.current or "")

        eventually(is_said)

    said("the greatest id of table t is 1, and up to 3 all counts as read")
    sqlite("INSERT INTO t DEFAULT VALUES")
    said("table t is left out")
    sqlite("INSERT INTO u VALUES (4)")

    def read() -> bool:
        """the other table is read"""
        return driver.values("id") == [4]

    eventually(read)
    assert "would never be read" in (driver.status_reasons.current or "")


@pytest.mark.usefixtures("soon")
def test_a_cursor_that_goes_backwards_stops_a_task_that_has_nothing_else(sqlite: Sql, drive: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3);")
    first = drive(table_whitelist="t")
    first.drain()
    first.stop()
    sqlite("DELETE FROM t")
    again = drive(first.offsets, table_whitelist="t")
    again.drain()
    sqlite("INSERT INTO t DEFAULT VALUES")
    with pytest.raises(TaskError) as raised:
        again.drain()

    assert raised.value.code == "sql.cursor_backwards"
