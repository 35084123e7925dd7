"""Values that differ from the column's type in SQLite, and values that a record cannot contain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from headrace import ConfigError, SourceBatch, TaskError
from headrace.testing.driver import SourceDriver
from headrace.testing.values import mismatch

Drive = Callable[..., SourceDriver]
Sqlite = Callable[[str], list[Any]]
BY_ID = {"table_whitelist": "a", "incrementing_column_name": "id"}
BY_TIME = {"table_whitelist": "a", "mode": "timestamp", "timestamp_column_name": "at"}
ONCE = {"table_whitelist": "a", "mode": "bulk", "poll_interval_ms": "1h"}
"""A busy machine must not find it due again between two polls."""


@pytest.fixture
def table(sqlite: Sqlite) -> None:
    sqlite("CREATE TABLE a (id INTEGER PRIMARY KEY, at TIMESTAMP NOT NULL, note TEXT)")


def add(sqlite: Sqlite, *rows: tuple[int, str] | tuple[int, str, str | None]) -> None:
    for identity, at, *note in rows:
        text = "NULL" if note in ([], [None]) else f"'{note[0]}'"
        sqlite(f"INSERT INTO a VALUES ({identity}, '{at}', {text})")


def at(second: int) -> str:
    return f"2024-05-01 12:00:{second:02d}"


def offsets_of(batches: Sequence[SourceBatch]) -> list[dict[str, Any] | None]:
    return [None if batch.source_offset is None else dict(batch.source_offset) for batch in batches]


def stamp(second: int) -> dict[str, int]:
    return {"timestamp": 1714564800000 + second * 1000, "timestamp_nanos": 0}


def test_a_null_in_a_primary_key_of_text_is_read(drive: Drive, sqlite: Sqlite) -> None:
    """SQLite accepts NULL in a primary key that is not INTEGER."""
    sqlite("CREATE TABLE a (id INTEGER NOT NULL, code TEXT PRIMARY KEY); INSERT INTO a VALUES (1, 'x'), (2, NULL)")

    batches = drive(**BY_ID).drain()

    assert [value for batch in batches for value in batch.values] == [{"id": 1, "code": "x"}, {"id": 2, "code": None}]
    for batch in batches:
        assert batch.value_schema is not None
        assert [mismatch(batch.value_schema, value) for value in batch.values] == [None] * len(batch)


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("INTEGER", "'seven'", "not a whole number"),
        ("BOOLEAN", "7", "neither 0 nor 1"),
        ("NUMERIC(5,2)", "'abc'", "ConversionSyntax"),
        ("DATE", "'31.12.2024'", "isoformat"),
        ("TIMESTAMP", "'soon'", "isoformat"),
    ],
)
def test_e16_a_value_that_does_not_fit_names_row_and_column(
    drive: Drive, sqlite: Sqlite, kind: str, value: str, reason: str
) -> None:
    sqlite(f"CREATE TABLE a (id INTEGER PRIMARY KEY, v {kind}); INSERT INTO a VALUES (1, NULL), (7, {value})")

    with pytest.raises(TaskError) as raised:
        drive(**BY_ID).drain()

    assert raised.value.code == "sql.bad_value"
    assert "'v'" in raised.value.message
    assert "id=7" in raised.value.message
    assert reason in raised.value.message


def test_e15_an_id_that_is_not_an_integer_stops_the_task(drive: Drive, sqlite: Sqlite) -> None:
    sqlite("CREATE TABLE a (id NUMERIC(20,0) NOT NULL); INSERT INTO a VALUES (7)")
    assert drive(**BY_ID).drain()[0].source_offset == {"incrementing": 7}

    sqlite("DELETE FROM a; INSERT INTO a VALUES (7.25)")
    with pytest.raises(TaskError) as raised:
        drive(**BY_ID).drain()
    assert raised.value.code == "sql.bad_value"


def test_values_of_another_type_than_their_column_are_converted(drive: Drive, sqlite: Sqlite) -> None:
    sqlite(
        """
        CREATE TABLE a (id INTEGER PRIMARY KEY, i INT, f REAL, b BOOLEAN, n NUMERIC(10,2), u NUMERIC, t TEXT, y BLOB,
                        d DATE, c TIME, at TIMESTAMP, x);
        INSERT INTO a VALUES
            (1, 9223372036854775807, 1, 1, 9.5, 0.1, 7, x'00ff', '2024-02-29', '12:00:00.5', '2024-05-01 12:00:00', 5),
            (2, -9223372036854775808, 1.5, 0, 7, 123456789012345, x'6162', 'text', '0001-01-01', '00:00', 1714564800,
             'word');
        """
    )
    [batch] = drive(**BY_ID).drain()
    first, second = batch.values

    assert batch.value_schema is not None
    assert [mismatch(batch.value_schema, value) for value in batch.values] == [None, None]
    assert (first["i"], second["i"]) == (2**63 - 1, -(2**63))
    assert (first["f"], second["f"]) == (1.0, 1.5)
    assert (first["b"], second["b"]) == (True, False)
    assert (first["n"], second["n"]) == (Decimal("9.50"), Decimal("7.00"))
    assert (first["u"], second["u"]) == ("0.1", "123456789012345")
    assert (first["t"], second["t"]) == ("7", "ab")
    assert (first["y"], second["y"]) == (b"\x00\xff", b"text")
    assert first["at"] == second["at"] == datetime(2024, 5, 1, 12, tzinfo=UTC)
    assert (first["x"], second["x"]) == ("5", "word")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("TEXT", ["'2024-05-01 12:00:01'", "'2024-05-01 12:00:01.5'", "'2024-05-01 12:00:02'"]),
        ("TEXT", ["'2024-05-01T12:00:01.000Z'", "'2024-05-01T12:00:01.500Z'", "'2024-05-01T12:00:02.000Z'"]),
        ("INTEGER", ["1714564801", "1714564802", "1714564803"]),
        ("INTEGER", ["1714564801000", "1714564801500", "1714564802000"]),
    ],
)
def test_timestamps_of_sqlite_are_read_as_text_and_numbers(
    drive: Drive, sqlite: Sqlite, kind: str, values: list[str]
) -> None:
    """KCJ#664: the JVM's connector cannot read any of these."""
    sqlite(f"CREATE TABLE a (id INTEGER PRIMARY KEY, at {kind} NOT NULL)")
    for number, value in enumerate(values[:2], 1):
        sqlite(f"INSERT INTO a VALUES ({number}, {value})")
    driver = drive(**BY_TIME)
    assert driver.values("id") == [1, 2]

    sqlite(f"INSERT INTO a VALUES (3, {values[2]})")
    assert driver.values("id") == [3]
    assert drive(driver.offsets, **BY_TIME).values("id") == []


def test_timestamps_that_do_not_sort_are_refused(drive: Drive, sqlite: Sqlite) -> None:
    sqlite("CREATE TABLE a (id INTEGER PRIMARY KEY, at TEXT NOT NULL); INSERT INTO a VALUES (1, '1.5.2024')")

    with pytest.raises(ConfigError) as raised:
        drive(**BY_TIME).drain()
    assert raised.value.code == "sql.cursor_type"
