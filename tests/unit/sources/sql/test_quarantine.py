"""Tables of a pattern of which some cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace import ConfigError
from headrace.testing.driver import SourceDriver

Drive = Callable[..., SourceDriver]
Sql = Callable[[str], list[Any]]


def test_an_unreadable_table_of_a_pattern_stops_no_other(sqlite: Sql, drive: Drive) -> None:
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
