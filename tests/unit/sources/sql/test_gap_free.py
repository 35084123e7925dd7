"""The gap-free cursor: its configuration, status reasons, and the memory of sent rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import Any

import pytest
from sqlalchemy import URL

from headrace import ConfigError
from headrace.testing.driver import SourceDriver
from headrace_sources.sql import SqlSourceConnector
from headrace_sources.sql.cursor.blocking_transaction import blocking_transaction, format_duration
from headrace_sources.sql.cursor.sent_rows import SentRows
from headrace_sources.sql.cursor.transaction_snapshots import DatabaseClock
from headrace_sources.sql.cursor.watermark import Fence, Transaction, Watermark
from headrace_sources.sql.dialects.dialect import Dialect, OpenTransaction
from headrace_sources.sql.dialects.sqlite import Sqlite

Drive = Callable[..., SourceDriver]
Sql = Callable[[str], list[Any]]


@pytest.mark.parametrize(
    ("mode", "overlap", "problem"),
    [
        ("incrementing", "1000", None),
        ("incrementing", "5m", "config.invalid_value"),
        ("timestamp", "5m", None),
        ("timestamp", "soon", "config.invalid_value"),
        ("bulk", "5m", "config.no_effect"),
    ],
)
def test_an_overlap_is_ids_or_a_duration(mode: str, overlap: str, problem: str | None) -> None:
    given = {
        "connection.url": "sqlite:///x.db",
        "table.whitelist": "t",
        "mode": mode,
        "timestamp.column.name": "at",
        "cursor.overlap": overlap,
    }
    _, findings = SqlSourceConnector.config_model.validate_properties(given)

    assert [item.code for item in findings if item.key == "cursor.overlap"] == ([problem] if problem else [])


class BlindSqlite(Sqlite):
    """A database that does not show its transactions."""

    commits_in_order = False


def hiding_transactions(url: URL, zone: tzinfo, granularity: str, temporal: str) -> Dialect:
    return BlindSqlite(zone)


without_transactions = pytest.mark.parametrize("make_dialect", [hiding_transactions])


@without_transactions
def test_a_database_that_hides_its_transactions_is_refused_by_gap_free_on(sqlite: Sql, drive: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    with pytest.raises(ConfigError) as caught:
        drive(table_whitelist="t", cursor_gap_free="on")

    [finding] = caught.value.findings
    assert (finding.code, finding.key) == ("sql.gaps", "cursor.overlap")


@without_transactions
def test_a_database_that_hides_its_transactions_is_read_with_an_overlap(sqlite: Sql, drive: Drive) -> None:
    """A row with an id below the last one, within the overlap, is read; no row is sent twice."""
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (20);")
    driver = drive(table_whitelist="t", cursor_overlap="10")
    assert driver.values("id") == [1, 20]
    sqlite("INSERT INTO t VALUES (9), (10), (11)")

    assert driver.values("id") == [11]
    sqlite("UPDATE t SET id = 15 WHERE id = 11")
    assert driver.values("id") == [15]


@without_transactions
def test_a_restart_begins_before_the_overlap(sqlite: Sql, drive: Drive) -> None:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (20);")
    first = drive(table_whitelist="t", cursor_overlap="10")
    first.drain()
    first.stop()

    assert drive(first.offsets, table_whitelist="t", cursor_overlap="10").values("id") == [20]


# The transaction that a position waits for.


def test_the_blocking_transaction_is_the_one_with_the_lowest_position() -> None:
    mark = Watermark()
    mark.observe(Fence((10,), [Transaction("old")]))
    mark.observe(Fence((20,), [Transaction("old"), Transaction("new")]))
    mark.reached((20,))
    facts = {"old": OpenTransaction("old", "process 7", age=150.0), "new": OpenTransaction("new", "process 8")}
    found = blocking_transaction(mark, facts, {"old": 5.0, "new": 8.0}, 10.0)

    assert str(found) == "process 7, open for 2 min"


def test_no_transaction_blocks_when_the_position_does_not_wait() -> None:
    mark = Watermark()
    mark.observe(Fence((10,)))
    mark.reached((10,))

    assert blocking_transaction(mark, {}, {}, 10.0) is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (200_000, "2 d")]
)
def test_durations_are_formatted_in_readable_units(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


# The clock.


def test_only_a_clock_that_is_set_back_is_detected() -> None:
    now = [100.0]
    clock = DatabaseClock(lambda: now[0])
    start = datetime(2024, 1, 1)
    found = []
    for worker, database in ((0, 0), (5, 5), (10, 7), (15, 12)):
        now[0] = 100.0 + worker
        with clock.reading():
            pass
        found.append(clock.earliest(start + timedelta(seconds=database)))

    # Between the second and the third check it was set back by three seconds, to at least two seconds after the start.
    assert found == [None, None, start + timedelta(seconds=2), None]


# The memory of sent rows.


def memory(limit: int = 10, identity: tuple[int, ...] = (0,)) -> SentRows:
    made = SentRows(limit)
    made.identity = identity
    return made


def send(memory: SentRows, row: tuple[Any, ...], place: int = 1) -> bool:
    entry = memory.unsent(row, (place,))
    memory.remember([entry] if entry else [])
    return entry is not None


def test_only_the_last_sent_version_of_a_row_is_compared() -> None:
    sent = memory()

    assert [send(sent, (1, version)) for version in ("A", "A", "B", "B", "A")] == [True, False, True, False, True]


def test_rows_without_a_key_are_counted() -> None:
    sent = memory(identity=())
    first = [send(sent, row) for row in ((1,), (1,), (2,))]
    sent.begin()
    second = [send(sent, row) for row in ((1,), (1,), (1,), (2,))]

    assert first == [True, True, True]
    assert second == [False, False, True, False]


def test_rows_beyond_the_memory_bound_are_sent_again() -> None:
    sent = memory(limit=2)
    for number in range(3):
        send(sent, (number,))

    assert (len(sent), sent.forgotten) == (2, 1)
    assert not send(sent, (2,))
    assert send(sent, (0,))


def test_rows_after_the_watermark_are_kept_and_others_removed() -> None:
    sent = memory()
    for number in range(5):
        send(sent, (number,), place=number)
    sent.forget((2,))

    assert len(sent) == 2


@pytest.mark.parametrize(("one", "other"), [((1, -1), (1, -2)), ((1, 1), (1, True)), ((1, "1"), (1, 1))])
def test_versions_of_different_types_are_different(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    sent = memory()

    assert send(sent, one)
    assert send(sent, other)
