"""Deleted rows become tombstones, found by comparing the keys in the table with those that were sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event
from structlog.testing import capture_logs

from headrace import ConfigError, InfrastructureError, SourceBatch
from headrace.runtime.schedule import schedule
from headrace.testing.contexts import Offsets
from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually
from headrace_sources.sql import SqlSourceConnector
from headrace_sources.sql.deletes.comparison import ComparedTable, KeyComparison
from headrace_sources.sql.deletes.ledger import Ledger
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.dialects.sqlite import Sqlite
from headrace_sources.sql.rows.types import Column, Kind, TypeMapping
from headrace_sources.sql.tables.queries import Relation
from headrace_sources.sql.tuning import Tuning
from tests.sql_tasks import comparison_of
from tests.unit.sources.sql.reconciling import Topic, compare_once, settle

Drive = Callable[..., SourceDriver]
Sql = Callable[[str], list[Any]]


@pytest.fixture
def reconciled(drive: Drive, tmp_path: Path) -> Drive:
    def start(offsets: Offsets | None = None, /, **keys: str) -> SourceDriver:
        wanted = {
            "delete_detection": "reconcile",
            "delete_reconcile_schedule": "5",
            "delete_ledger_directory": str(tmp_path / "ledgers"),
            "delete_max_fraction": "1",
            "table_whitelist": "t",
        }
        return drive(offsets, **{**wanted, **keys})

    return start


def test_keys_are_not_compared_while_a_result_is_open(sqlite: Sql, reconciled: Drive) -> None:
    """A deleted row may still be in the result, and would be sent after its own tombstone."""
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY, at TIMESTAMP NOT NULL);")
    sqlite("".join(f"INSERT INTO t VALUES ({number}, '2024-01-01 00:00:0{number}');" for number in range(1, 6)))
    driver = reconciled(mode="timestamp", timestamp_column_name="at", batch_max_rows="1")
    comparison = comparison_of(driver)
    first = driver.batch()
    walk = comparison.ledger.walk
    eventually(lambda: comparison.due <= datetime.now(UTC))
    polled = [driver.poll() for _ in range(4)]  # the last row ends the result
    assert [batch.keys for batch in (first, *polled) if isinstance(batch, SourceBatch)] == [[1], [2], [3], [4], [5]]
    assert comparison.ledger.walk == walk
    compare_once(driver, Topic())


# Marked rows.


@pytest.mark.parametrize("how", ["soft", "reconcile"])
def test_a_table_without_a_key_is_an_error(sqlite: Sql, soft: Drive, how: str) -> None:
    sqlite("CREATE TABLE t (id INTEGER NOT NULL, gone INTEGER)")
    with pytest.raises(ConfigError) as caught:
        soft(delete_detection=how, incrementing_column_name="id")

    assert "sql.no_primary_key" in [finding.code for finding in caught.value.findings]


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        ({"delete.detection": "soft"}, "delete.soft.column"),
        ({"delete.detection": "reconcile", "pk.mode": "none"}, "pk.mode"),
        ({"delete.detection": "reconcile", "delete.reconcile.schedule": "often"}, "delete.reconcile.schedule"),
        ({"delete.detection": "reconcile", "delete.max.fraction": "2"}, "delete.max.fraction"),
        ({"delete.detection": "hard"}, "delete.detection"),
    ],
)
def test_an_invalid_configuration_is_an_error_of_its_key(keys: dict[str, str], wrong: str) -> None:
    given = {"connection.url": "sqlite:///x.db", "table.whitelist": "t", "mode": "incrementing", **keys}
    _, findings = SqlSourceConnector.config_model.validate_properties(given)

    assert [finding.key for finding in findings if finding.severity == "error"] == [wrong]


# Comparing.


def test_a_deleted_row_becomes_a_tombstone(sqlite: Sql, reconciled: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c');")
    driver, topic = reconciled(), Topic()
    settle(driver, topic, {1, 2, 3})
    sqlite("DELETE FROM t WHERE id = 2")
    settle(driver, topic, {1, 3})
    compare_once(driver, topic)

    assert topic.tombstones == [2]


def test_trial_9_a_comparison_without_deleted_rows_is_not_logged_at_info(sqlite: Sql, reconciled: Drive) -> None:
    """Each table is compared every few seconds: ten tables would fill the log."""
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2);")
    with capture_logs() as logs:
        driver, topic = reconciled(), Topic()
        settle(driver, topic, {1, 2})
        compare_once(driver, topic)
        sqlite("DELETE FROM t WHERE id = 2")
        settle(driver, topic, {1})

    compared = [(entry["log_level"], entry["tombstones"]) for entry in logs if entry["event"] == "keys compared"]
    assert set(compared) == {("debug", 0), ("info", 1)}


def test_keys_of_several_columns_and_types_become_tombstones(sqlite: Sql, reconciled: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER NOT NULL, a TEXT NOT NULL, b DECIMAL(9, 2) NOT NULL, PRIMARY KEY (a, b))")
    for number in range(25):
        sqlite(f"INSERT INTO t VALUES ({number}, 'it''s {number % 5}', {number // 5}.25)")
    driver, topic = reconciled(incrementing_column_name="id"), Topic()
    wanted = {(f"it's {number % 5}", Decimal(f"{number // 5}.25")) for number in range(25)}
    settle(driver, topic, wanted)
    sqlite("DELETE FROM t WHERE id IN (0, 7, 24)")

    settle(
        driver, topic, wanted - {("it's 0", Decimal("0.25")), ("it's 2", Decimal("1.25")), ("it's 4", Decimal("4.25"))}
    )


@pytest.mark.parametrize("tuning", [Tuning(keys_per_page=7, keys_per_query=3)])
def test_a_comparison_of_many_pages_finds_all_deleted_rows(sqlite: Sql, reconciled: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    for number in range(100):
        sqlite(f"INSERT INTO t VALUES ({number})")
    driver, topic = reconciled(), Topic()
    settle(driver, topic, {*range(100)})
    sqlite("DELETE FROM t WHERE id % 3 = 0")
    settle(driver, topic, {number for number in range(100) if number % 3})
    compare_once(driver, topic)

    assert sorted(topic.tombstones) == [*range(0, 100, 3)]


def test_above_the_maximum_fraction_no_tombstone_is_sent_and_rows_are_still_read(
    sqlite: Sql, reconciled: Drive
) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    for number in range(50):
        sqlite(f"INSERT INTO t VALUES ({number})")
    driver, topic = reconciled(delete_max_fraction="0.5"), Topic()
    settle(driver, topic, {*range(50)})
    sqlite("DELETE FROM t")
    compare_once(driver, topic)
    compare_once(driver, topic)
    sqlite("INSERT INTO t VALUES (99)")
    settle(driver, topic, {*range(50), 99})

    assert topic.tombstones == []
    assert driver.status_reasons.current is not None
    assert "50 of 5" in driver.status_reasons.current
    assert "delete.max.fraction 0.5" in driver.status_reasons.current


def test_the_maximum_fraction_counts_only_missing_keys(sqlite: Sql, reconciled: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    sqlite(f"INSERT INTO t VALUES {', '.join(f'({number})' for number in range(100))}")
    driver, topic = reconciled(delete_max_fraction="0.15"), Topic()
    settle(driver, topic, {*range(100)})
    sqlite("DELETE FROM t WHERE id < 15")

    settle(driver, topic, {*range(15, 100)})


def test_the_maximum_fraction_is_not_reported_after_the_rows_are_back(sqlite: Sql, reconciled: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    rows = ", ".join(f"({number})" for number in range(50))
    sqlite(f"INSERT INTO t VALUES {rows}")
    driver, topic = reconciled(delete_max_fraction="0.5"), Topic()
    settle(driver, topic, {*range(50)})
    sqlite("DELETE FROM t")
    compare_once(driver, topic)
    assert driver.status_reasons.current
    sqlite(f"INSERT INTO t VALUES {rows}")
    compare_once(driver, topic)

    assert driver.status_reasons.current is None
    assert topic.tombstones == []


def test_rows_deleted_while_no_task_ran_are_found_after_a_restart(sqlite: Sql, reconciled: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2);")
    first, topic = reconciled(), Topic()
    settle(first, topic, {1, 2})
    first.stop()
    sqlite("DELETE FROM t WHERE id = 1")
    settle(reconciled(first.offsets), topic, {2})


def test_an_unacknowledged_tombstone_is_sent_again(sqlite: Sql, reconciled: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2);")
    first, topic = reconciled(), Topic()
    settle(first, topic, {1, 2})
    sqlite("DELETE FROM t WHERE id = 1")
    lost = first.batch()
    assert lost.keys == [1]
    assert lost.values == [None]
    first.stop()  # as after a crash: it was not acknowledged
    settle(reconciled(first.offsets), topic, {2})

    assert topic.tombstones == [1]


def test_a_key_inserted_again_before_its_tombstone_is_acknowledged_stays_in_the_ledger(
    sqlite: Sql, reconciled: Drive
) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL UNIQUE); INSERT INTO t VALUES (1, 1), (2, 2);")
    driver, topic = reconciled(incrementing_column_name="n"), Topic()
    settle(driver, topic, {1, 2})
    sqlite("DELETE FROM t WHERE id = 1")
    tombstone = driver.batch()
    assert tombstone.values == [None]
    sqlite("INSERT INTO t VALUES (1, 3)")
    row = driver.batch()
    assert row.keys == [1]
    for batch in (tombstone, row):
        driver.store(batch)
        topic.take([batch])
    settle(driver, topic, {1, 2})
    sqlite("DELETE FROM t WHERE id = 1")

    settle(driver, topic, {2})


def test_a_missing_ledger_is_created_again(sqlite: Sql, reconciled: Drive, tmp_path: Path) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3);")
    first, topic = reconciled(), Topic()
    settle(first, topic, {1, 2, 3})
    first.stop()
    for file in (tmp_path / "ledgers").iterdir():
        file.unlink()
    sqlite("DELETE FROM t WHERE id = 1")
    second = reconciled(first.offsets)
    compare_once(second, topic)
    sqlite("DELETE FROM t WHERE id = 2")
    settle(second, topic, {1, 3})  # the ledger does not contain 1, see docs/deletes.md


def test_an_unusable_ledger_is_named_with_the_reason(sqlite: Sql, reconciled: Drive, tmp_path: Path) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    (tmp_path / "ledgers").mkdir()
    (tmp_path / "ledgers" / "test.t.ledger").write_text("no database at all, but some text")
    with pytest.raises(InfrastructureError) as caught:
        reconciled()

    assert caught.value.code == "sql.ledger"
    assert "test.t.ledger" in str(caught.value)


@pytest.mark.parametrize("tuning", [Tuning(keys_per_page=10)])
def test_equal_ranges_need_one_statement_and_no_key_is_read(sqlite: Sql, reconciled: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    sqlite(f"INSERT INTO t VALUES {', '.join(f'({number})' for number in range(100))}")
    driver, topic = reconciled(), Topic()
    settle(driver, topic, {*range(100)})
    compare_once(driver, topic)
    comparison = comparison_of(driver)

    assert (comparison.read, comparison.statements) == (0, 11)  # ten ranges, and the one after them
    sqlite("DELETE FROM t WHERE id = 55")
    settle(driver, topic, {*range(100)} - {55})
    compare_once(driver, topic)
    assert topic.tombstones == [55]


@pytest.mark.parametrize("tuning", [Tuning(keys_per_page=10)])
def test_only_ranges_that_differ_are_read(sqlite: Sql, reconciled: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    sqlite(f"INSERT INTO t VALUES {', '.join(f'({number})' for number in range(100))}")
    driver, topic = reconciled(delete_reconcile_schedule="1h"), Topic()
    settle(driver, topic, {*range(100)})
    sqlite("DELETE FROM t WHERE id = 55")
    comparison = comparison_of(driver)
    comparison.due = datetime.now(UTC)
    settle(driver, topic, {*range(100)} - {55})

    assert (comparison.read, comparison.statements) == (9, 13)  # the range that differs, and the key itself


@pytest.mark.parametrize("tuning", [Tuning(keys_per_page=10)])
def test_no_more_hashes_are_requested_after_several_different_ranges(sqlite: Sql, reconciled: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    sqlite(f"INSERT INTO t VALUES {', '.join(f'({number})' for number in range(100))}")
    driver, topic = reconciled(delete_reconcile_schedule="1h"), Topic()
    settle(driver, topic, {*range(100)})
    sqlite("DELETE FROM t WHERE id < 80 AND id % 10 = 5")
    comparison = comparison_of(driver)
    comparison.due = datetime.now(UTC)
    settle(driver, topic, {number for number in range(100) if number >= 80 or number % 10 != 5})

    # Three ranges hashed and read, five read, the ninth (which is equal) read, the last hashed; then the range after
    # them, and the eight keys themselves.
    assert (comparison.statements, comparison.read) == (3 * 2 + 5 + 1 + 1 + 1 + 1, 8 * 9 + 10)


def test_a_new_row_in_the_same_range_does_not_hide_a_deleted_one(sqlite: Sql, reconciled: Drive) -> None:
    """The number of keys in the range is unchanged; only their hashes differ."""
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL UNIQUE); INSERT INTO t VALUES (1, 1), (5, 5);")
    driver, topic = reconciled(incrementing_column_name="n", poll_interval_ms="1h"), Topic()
    driver.drain()
    compare_once(driver, topic)
    sqlite("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (2, 9);")
    compare_once(driver, topic)

    assert topic.tombstones == [1]


def test_keys_that_were_sent_without_a_ledger_are_read_from_the_table(sqlite: Sql, reconciled: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (5);")
    first, topic = reconciled(), Topic()
    settle(first, topic, {1, 5})
    first.stop()
    sqlite("INSERT INTO t VALUES (6), (7)")
    without = reconciled(first.offsets, delete_detection="none")
    settle(without, topic, {1, 5, 6, 7})
    without.stop()
    third = reconciled(first.offsets)
    compare_once(third, topic)
    sqlite("DELETE FROM t WHERE id IN (1, 7)")

    settle(third, topic, {5, 6})


@pytest.mark.parametrize("tuning", [Tuning(keys_per_page=3)])
def test_a_table_with_another_sort_order_of_keys_is_compared(sqlite: Sql, reconciled: Drive) -> None:
    names = ["a", "B", "c", "D", "e", "F", "g", "H"]
    sqlite("CREATE TABLE t (id INTEGER NOT NULL UNIQUE, name TEXT COLLATE NOCASE PRIMARY KEY NOT NULL)")
    for number, name in enumerate(names):
        sqlite(f"INSERT INTO t VALUES ({number}, '{name}')")
    driver, topic = reconciled(incrementing_column_name="id"), Topic()
    settle(driver, topic, {*names})
    sqlite("DELETE FROM t WHERE name IN ('a', 'F', 'H')")
    settle(driver, topic, {"B", "c", "D", "e", "g"})
    compare_once(driver, topic)

    assert sorted(topic.tombstones) == ["F", "H", "a"]
    assert not comparison_of(driver).ordered  # otherwise each key in another position would be queried separately


def test_a_dropped_table_gives_no_tombstones(sqlite: Sql, reconciled: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2);")
    sqlite("CREATE TABLE u (id INTEGER PRIMARY KEY); INSERT INTO u VALUES (3);")
    driver, topic = reconciled(table_whitelist="t,u"), Topic()
    settle(driver, topic, {1, 2, 3})
    sqlite("DROP TABLE t")
    sqlite("DELETE FROM u")
    settle(driver, topic, {1, 2})

    def is_reported() -> bool:
        """the status names the table"""
        topic.take(driver.drain())
        return "table t is left out" in (driver.status_reasons.current or "")

    eventually(is_reported)
    assert topic.tombstones == [3]


# Steps in any order.


def test_a_key_inserted_again_during_the_comparison_is_not_deleted(sqlite: Sql, path: Path, tmp_path: Path) -> None:
    """The comparison has passed the key, and no poll has read the row yet: the key is queried again."""
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (2), (3);")
    ledger = Ledger(tmp_path / "l")
    ledger.add([(1,), (2,), (3,)])
    table = Relation(TableName(None, "t"))
    columns = (Column("id", Kind.INT64, False),)
    swept = ComparedTable(table, columns, "t", {"table": "t"}, TypeMapping("none", "connect_logical", UTC))
    comparison = KeyComparison(swept, Sqlite(UTC), ledger, schedule("1h"), 1.0, Tuning(keys_per_page=1))
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", lambda raw, _: Sqlite(UTC).prepare(raw))
    batches = []
    with engine.connect() as connection:
        comparison.step(connection)  # passes 2
        sqlite("INSERT INTO t VALUES (1)")
        while comparison.active:
            batches.append(comparison.step(connection))
    engine.dispose()
    ledger.close()

    assert [batch for batch in batches if batch is not None] == []
