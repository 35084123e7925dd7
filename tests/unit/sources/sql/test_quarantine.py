"""Tables of a pattern that cannot be read beside others that can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace import ConfigError
from headrace.testing.driver import SourceDriver

Drive = Callable[..., SourceDriver]
Sql = Callable[[str], list[Any]]


def test_a_table_that_a_pattern_found_and_nobody_can_read_stops_no_other(sqlite: Sql, drive: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1, 1);")
    sqlite("CREATE TABLE odd (name TEXT)")
    driver = drive(table_include_list=".*")

    assert driver.values("id") == [1]
    assert "table odd is left out" in (driver.status_reasons.current or "")
    assert "has no primary key of one integer column" in (driver.status_reasons.current or "")


def test_when_a_pattern_finds_nothing_that_can_be_read_all_mistakes_are_told(sqlite: Sql, drive: Drive) -> None:
    sqlite("CREATE TABLE odd (name TEXT); CREATE TABLE even (name TEXT);")
    with pytest.raises(ConfigError) as raised:
        drive(table_include_list=".*")

    assert [finding.code for finding in raised.value.findings] == ["sql.missing_column"] * 2
