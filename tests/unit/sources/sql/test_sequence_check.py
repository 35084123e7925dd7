"""Ids that stop growing are reported, or stop the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace import TaskError
from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually
from headrace_sources.sql.cursor.sequence_check import SequenceCheck
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.tables.queries import Relation
from headrace_sources.sql.tuning import Tuning

Drive = Callable[..., SourceDriver]
Sql = Callable[[str], list[Any]]


def numbers(*ids: int) -> tuple[int | None, Callable[[int, int], bool]]:
    """Return the numbers that a table with these ids gives."""
    return max(ids, default=None), lambda after, up_to: any(after < each <= up_to for each in ids)


@pytest.fixture
def check() -> SequenceCheck:
    return SequenceCheck(Relation(TableName("public", "t")), "id")


def observe(check: SequenceCheck, position: int | None, *ids: int) -> None:
    greatest, any_between = numbers(*ids)
    check.observe(greatest, position, any_between)


def test_growing_ids_have_no_reason(check: SequenceCheck) -> None:
    observe(check, None)
    observe(check, None, 1, 2)
    observe(check, 2, 1, 2)
    observe(check, 2, 1, 2, 3)

    assert check.reason is None


def test_deleted_newest_rows_are_reported_until_ids_grow(check: SequenceCheck) -> None:
    observe(check, 9, 1, 2, 9)
    observe(check, 9, 1, 2)

    assert "greatest id of table public.t is 2" in str(check.reason)
    observe(check, 9, 1)
    observe(check, 9, 1, 10)
    assert check.reason is None


def test_an_emptied_table_has_no_reason(check: SequenceCheck) -> None:
    observe(check, 9)
    assert check.reason is None
    observe(check, 9, 10)


@pytest.mark.parametrize("now", [(1, 2, 3), (1, 2, 9), (1, 2, 3, 10)])
def test_a_new_row_below_the_position_is_an_error(check: SequenceCheck, now: tuple[int, ...]) -> None:
    observe(check, 9, 1, 2)
    for ids in (now, (1, 11)):  # the error does not end by itself
        with pytest.raises(TaskError) as raised:
            observe(check, 9, *ids)
        assert raised.value.code == "sql.cursor_backwards"


def test_restarted_ids_of_an_emptied_table_are_an_error(check: SequenceCheck) -> None:
    observe(check, 9)
    with pytest.raises(TaskError):
        observe(check, 9, 1)


@pytest.fixture
def tuning() -> Tuning:
    return Tuning(sequence_check_interval=0.0, quarantine=0.02)


def test_ids_below_the_position_stop_only_their_table(sqlite: Sql, drive: Drive) -> None:
    """SQLite assigns the id of the newest row again when that row was deleted."""
    for table in ("t", "u"):
        sqlite(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY); INSERT INTO {table} VALUES (1), (2), (3);")
    driver = drive(table_whitelist="t,u")
    driver.drain()
    sqlite("DELETE FROM t WHERE id > 1")

    def wait_until_reported(text: str) -> None:
        def is_said() -> bool:
            """the status says it"""
            driver.drain()
            return text in (driver.status_reasons.current or "")

        eventually(is_said)

    wait_until_reported("the greatest id of table t is 1, and rows up to 3 count as read")
    sqlite("INSERT INTO t DEFAULT VALUES")
    wait_until_reported("table t is left out")
    sqlite("INSERT INTO u VALUES (4)")

    def read() -> bool:
        """the other table is read"""
        return driver.values("id") == [4]

    eventually(read)
    assert "would never be read" in (driver.status_reasons.current or "")


def test_ids_below_the_position_fail_a_task_that_has_no_other_table(sqlite: Sql, drive: Drive) -> None:
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
