"""Tables share snapshots of open transactions until these expire, and each table uses one once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from headrace_sources.sql.cursor.transaction_snapshots import TransactionSnapshots


class RecordingDatabase:
    """A database that records queries."""

    snapshot_ttl = 0.2

    def __init__(self) -> None:
        self.said: list[str] = []

    def now(self, _: Any) -> datetime:
        self.said.append("clock")
        return datetime(2026, 1, 1, tzinfo=UTC)

    def open_transactions(self, _: Any) -> list[Any]:
        self.said.append("transactions")
        return []


def test_the_clock_is_read_before_the_open_transactions() -> None:
    database: Any = RecordingDatabase()
    TransactionSnapshots(database).take(None)  # type: ignore[arg-type]
    assert database.said == ["clock", "transactions"]


def test_a_fresh_snapshot_is_shared_with_tables_that_have_not_used_it() -> None:
    now = [100.0]
    database: Any = RecordingDatabase()
    sightings = TransactionSnapshots(database, lambda: now[0])
    assert sightings.shared(0) is None
    first = sightings.take(None)  # type: ignore[arg-type]
    now[0] += 0.11
    assert sightings.shared(0) is first
    assert sightings.shared(first.number) is None
    now[0] += 0.11
    assert sightings.shared(0) is None
    second = sightings.take(None)  # type: ignore[arg-type]
    assert sightings.shared(first.number) is second


def test_snapshots_are_not_shared_where_queries_are_cheap() -> None:
    database: Any = RecordingDatabase()
    database.snapshot_ttl = 0.0
    sightings = TransactionSnapshots(database)
    sightings.take(None)  # type: ignore[arg-type]
    assert sightings.shared(0) is None
