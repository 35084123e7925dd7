"""Rows that are marked as deleted become tombstones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from headrace import ConfigError
from headrace.testing.driver import SourceDriver
from headrace_sources.sql.reading.row_converter import deleted

Drive = Callable[..., SourceDriver]
Sql = Callable[[str], list[Any]]


def test_a_marked_row_becomes_a_tombstone_at_its_position(sqlite: Sql, soft: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY, gone INTEGER); INSERT INTO t VALUES (1, 0), (2, 1), (3, NULL);")
    [batch] = soft().drain()

    assert batch.keys == [1, 2, 3]
    assert [value and value["id"] for value in batch.values] == [1, None, 3]


@pytest.mark.parametrize("value", [None, False, 0, Decimal(0), "", " ", "f", "FALSE", "no", "0", b"", b"\0"])
def test_a_row_without_a_mark_value_is_not_deleted(value: Any) -> None:
    assert not deleted(value)


@pytest.mark.parametrize(
    "value", [True, 1, -1, Decimal("0.5"), "t", "yes", "deleted", b"\x01", datetime(2024, 1, 1), date.max]
)
def test_a_row_with_a_mark_value_is_deleted(value: Any) -> None:
    assert deleted(value)


def test_a_missing_mark_column_is_an_error_that_suggests_one(sqlite: Sql, soft: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY, deleted INTEGER)")
    with pytest.raises(ConfigError) as caught:
        soft(delete_soft_column="delete")

    [finding] = caught.value.findings
    assert (finding.code, finding.key) == ("sql.missing_column", "delete.soft.column")
    assert "deleted" in finding.hint
