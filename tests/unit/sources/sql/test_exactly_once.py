"""With exactly-once delivery a stored position is after exactly the rows that were sent before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace import SourceBatch
from headrace.testing.driver import SourceDriver
from headrace_sources.sql.connector import SqlSourceConnector
from tests.unit.sources.sql.test_gap_free import hiding_transactions

Sql = Callable[[str], list[Any]]
Drive = Callable[..., SourceDriver]


@pytest.mark.parametrize("make_dialect", [hiding_transactions])
def test_rows_are_read_when_none_can_appear_before_them_and_a_restart_repeats_none(sqlite: Sql, drive: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (20);")
    first = drive(exactly_once=True, table_whitelist="t", cursor_overlap="10")
    assert first.values("id") == [1], "rows up to 10 less than the last id are settled"
    sqlite("INSERT INTO t VALUES (12), (31)")
    assert first.values("id") == [12, 20]
    first.stop()
    sqlite("INSERT INTO t VALUES (50)")

    again = drive(first.offsets, exactly_once=True, table_whitelist="t", cursor_overlap="10")
    assert again.values("id") == [31]


def test_a_batch_that_ends_between_rows_of_one_position_is_unfinished(sqlite: Sql, drive: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT NOT NULL)")
    for number in range(5):
        sqlite(f"INSERT INTO t VALUES ({number}, '2026-01-01 00:00:00')")
    sqlite("INSERT INTO t VALUES (9, '2026-01-02 00:00:00')")
    keys = {"mode": "timestamp", "timestamp_column_name": "at", "batch_max_rows": "2"}
    driver = drive(exactly_once=True, table_whitelist="t", **keys)
    batches: list[SourceBatch] = []
    while sum(map(len, batches)) < 6:
        batches.append(driver.batch())

    assert [batch.unfinished for batch in batches if len(batch)] == [True, True, False]
    assert [batch.source_offset for batch in batches[:2]] == [None, None], "nothing may be stored yet"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"mode": "incrementing"}, None),
        ({"mode": "bulk"}, "reads all rows again and again"),
        ({"mode": "nonsense"}, None),
        ({"delete_detection": "reconcile", "delete_ledger_directory": "/tmp/x"}, "sends deletions again"),
    ],
)
def test_what_is_not_exactly_once_is_named(
    properties: Callable[..., dict[str, str]], keys: dict[str, str], problem: str | None
) -> None:
    found = SqlSourceConnector().exactly_once_problem(properties(table_whitelist="t", pk_mode="primary_key", **keys))
    assert (found is None) if problem is None else (problem in (found or ""))
