"""Tables of a pattern of which some cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace import ConfigError, RetriableError
from headrace.testing.driver import SourceDriver

Drive = Callable[..., SourceDriver]
Sql = Callable[[str], list[Any]]


def test_an_unreadable_table_of_a_pattern_does_not_stop_the_others(sqlite: Sql, drive: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1, 1);")
    sqlite("CREATE TABLE odd (name TEXT)")
    driver = drive(table_include_list=".*")

    assert driver.values("id") == [1]
    assert "table odd is left out" in (driver.status_reasons.current or "")
    assert "has no primary key of one integer column" in (driver.status_reasons.current or "")


def test_all_mistakes_are_reported_where_a_pattern_selects_no_readable_table(sqlite: Sql, drive: Drive) -> None:
    sqlite("CREATE TABLE odd (name TEXT); CREATE TABLE even (name TEXT);")
    with pytest.raises(ConfigError) as raised:
        drive(table_include_list=".*")

    assert [finding.code for finding in raised.value.findings] == ["sql.missing_column"] * 2


def test_a_task_waits_for_its_only_table_when_it_is_dropped(sqlite: Sql, drive: Drive) -> None:
    """Row 5 of the faults: it was read before, so its name is no typing error."""
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);")
    driver = drive(table_whitelist="t", poll_interval_ms="1")
    assert driver.values("id") == [1]
    sqlite("DROP TABLE t")
    for _ in range(2):
        with pytest.raises(RetriableError, match="create the table again") as raised:
            driver.drain()
        assert raised.value.code == "sql.missing_table"
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (2);")
    assert driver.values("id") == [2]


def test_a_renamed_cursor_column_is_named_with_its_nearest(sqlite: Sql, drive: Drive) -> None:
    """Row 6 of the faults."""
    sqlite("CREATE TABLE t (changed_id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);")
    driver = drive(table_whitelist="t", poll_interval_ms="1", incrementing_column_name="changed_id")
    assert driver.values("changed_id") == [1]
    sqlite("ALTER TABLE t RENAME COLUMN changed_id TO changes_id")
    with pytest.raises(RetriableError, match="did you mean 'changes_id'") as raised:
        driver.drain()
    assert raised.value.code == "sql.missing_column"
    sqlite("ALTER TABLE t RENAME COLUMN changes_id TO changed_id; INSERT INTO t VALUES (2);")
    assert driver.values("changed_id") == [2]
