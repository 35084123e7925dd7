"""Rows that PostgreSQL formats as JSON equal those of the general path byte for byte, for all types and settings."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from headrace import HeadraceError, JsonValues, SourceBatch, SourceTask
from headrace.converters.json import JsonConverter
from headrace.testing.contexts import make_source_context
from headrace_sources.sql import SqlSourceConnector

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
LETTERS = st.text("abcÄ€😀 '\"\\{},:%\n\t\x01\x7f\u2028", max_size=8)
DATES = st.dates().map(str)
MOMENTS = st.datetimes().map(str)


def integers(bits: int) -> st.SearchStrategy[str]:
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1).map(str)


def decimals(digits: int, scale: int) -> st.SearchStrategy[str]:
    limit = 10 ** (digits - scale)
    return st.decimals(-limit + 1, limit - 1, allow_nan=False, places=max(scale, 0)).map(lambda d: format(d, "f"))


# Every type that the source reads: its declaration, and texts of values of it.
TYPES: dict[str, st.SearchStrategy[str]] = {
    "boolean": st.booleans().map(str),
    "smallint": integers(16),
    "integer": integers(32),
    "bigint": integers(64),
    "oid": st.integers(0, 2**32 - 1).map(str),
    "real": st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    "double precision": st.floats(allow_nan=False, allow_infinity=False).map(repr),
    "numeric": st.one_of(decimals(40, 12), st.sampled_from(["NaN", "Infinity", "-Infinity", "0.00000001", "-0.10"])),
    "numeric(10,2)": decimals(10, 2),
    "numeric(9,6)": decimals(9, 6),
    "numeric(12,9)": decimals(12, 9),
    "numeric(4,0)": decimals(4, 0),
    "numeric(30,0)": decimals(30, 0),
    "numeric(5,-2)": decimals(5, 0),
    "money": decimals(10, 2),
    "text": st.one_of(TEXT, LETTERS),
    "varchar(12)": TEXT,
    "char(9)": st.text("ab ü", max_size=9),
    "name": st.text("abc_", max_size=9),
    '"char"': st.sampled_from(["a", "", "Z"]),
    "bytea": st.binary(max_size=90).map(lambda data: "\\x" + data.hex()),
    "date": DATES,
    "time": st.times().map(str),
    "time(0)": st.times().map(lambda value: str(value.replace(hour=min(value.hour, 22)))),
    "timetz": st.times().map(lambda value: f"{value}+05:30"),
    "timestamp": MOMENTS,
    "timestamp(3)": MOMENTS,
    "timestamptz": st.datetimes().map(lambda value: f"{value}+00"),
    "interval": st.timedeltas().map(lambda value: f"{value.days} days {value.seconds} seconds"),
    "uuid": st.uuids().map(str),
    "inet": st.ip_addresses().map(str),
    "cidr": st.ip_addresses().map(str),
    "macaddr": st.just("08:00:2b:01:02:03"),
    "json": LETTERS.map(lambda text: f'{{"a" :  {json.dumps(text)}, "a":1e400}}'),
    "jsonb": st.sampled_from(['{"b": [1, null], "a": "x\\"y"}', "3", "null", '"ü"']),
    "integer[]": st.lists(st.sampled_from(["1", "-20", "NULL"])).map(lambda items: "{" + ",".join(items) + "}"),
    "text[]": st.sampled_from(['{"a,b","c\\"d",NULL}', "{}", "{ä}"]),
    "int4range": st.sampled_from(["[1,5)", "empty", "(,3]"]),
    "tstzrange": st.sampled_from(['["2024-01-01 00:00:00+00","2024-02-01 00:00:00.5+00")', "empty"]),
    "bit(4)": st.sampled_from(["0000", "1010"]),
    "varbit": st.sampled_from(["", "1", "10101"]),
    "point": st.sampled_from(["(1,2)", "(0.1,-1e+20)"]),
    "tsvector": st.sampled_from(["a:1 b:2", ""]),
    "mood": st.sampled_from(["so so", 'gr"eat']),
    "pair": st.sampled_from(["(1,)", '(,"a b")', "(,)", '(2,"c""d")']),
    "short_text": st.text("ab", max_size=3),
}
DAYS = st.sampled_from(["infinity", "-infinity", "0044-03-15 BC", "10000-01-01"])
# Values that Python lacks; accepted if the configuration defines their form.
BEYOND: dict[str, list[st.SearchStrategy[str]]] = {
    **{type_: [DAYS] for type_ in ("date", "timestamp", "timestamp(3)", "timestamptz")},
    "time": [st.just("24:00")],
}
SETUP = """
CREATE TYPE mood AS ENUM ('so so', 'gr"eat');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN short_text AS varchar(3);
"""
GRANULARITIES = [
    "connect_logical", "micros_long", "micros_string", "micros_iso_datetime_string", "nanos_long", "nanos_string",
    "nanos_iso_datetime_string",
]  # fmt: skip
MAPPINGS = ["none", "precision_only", "best_fit", "best_fit_eager_double"]
NAMES = ["plain", "Upper", 'with "quotes"', "per%cent", "ü€", "new\nline", "{b}"]


@dataclass
class Read:
    """The output of a path for a table."""

    messages: list[tuple[bytes | None, bytes | None]]
    offsets: list[Mapping[str, Any] | None]
    error: str
    lazily: int


def read(url: str, properties: Mapping[str, str], converter: Mapping[str, str], *, fast: bool) -> Read:
    keys, values = JsonConverter(), JsonConverter()
    keys.configure({"schemas.enable": "true"}, is_key=True)
    values.configure(converter, is_key=False)
    found = Read([], [], "", 0)
    with running({"connection.url": url, **properties}, values if fast else None) as task:
        try:
            while isinstance(batch := task.poll(), SourceBatch):
                found.lazily += isinstance(batch.values, JsonValues)
                key_bytes = keys.to_bytes("t", batch.key_schema, batch.keys or [None] * len(batch))
                found.messages += zip(key_bytes, values.to_bytes("t", batch.value_schema, batch.values), strict=True)
                found.offsets.append(batch.source_offset)
        except HeadraceError as error:
            found.error = f"{error.code}: {error.message}"
    return found


@contextmanager
def running(properties: Mapping[str, str], values: JsonConverter | None) -> Iterator[SourceTask]:
    stop_event = threading.Event()
    task = SqlSourceConnector.task_class()
    form = values.json_form() if values is not None else None
    task.start(make_source_context(properties, stop_event=stop_event, json_form=form))
    try:
        yield task
    finally:
        stop_event.set()
        task.stop()


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    plain = make_url(database).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(SETUP)
        yield connection


def column_names(types: list[str]) -> list[str]:
    return [f"{NAMES[place % len(NAMES)]}{place}" for place in range(len(types))]


def make_table(connection: psycopg.Connection, types: list[str], rows: list[tuple[str | None, ...]]) -> None:
    names = [name.replace('"', '""') for name in column_names(types)]
    columns = ", ".join(f'"{name}" {type_}' for name, type_ in zip(names, types, strict=True))
    connection.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, {columns})")
    marks = ", ".join(f"%s::text::{type_}" for type_ in types)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO t VALUES (%s, {marks})", [(number, *row) for number, row in enumerate(rows, 1)]
        )


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.data())
def test_both_paths_write_the_same_bytes(database: str, connection: psycopg.Connection, data: st.DataObject) -> None:
    types = data.draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=4, max_size=24))
    temporal = data.draw(st.sampled_from(["fail", "null", "text"]))
    beyond = BEYOND if temporal != "fail" else {}
    row = st.tuples(*(st.one_of(st.none(), TYPES[type_], *beyond.get(type_, ())) for type_ in types))
    rows = data.draw(st.lists(row, min_size=1, max_size=5))
    make_table(connection, types, rows)
    properties = {
        "tables": '[["public", "t"]]',  # as the connector writes it into a task's configuration
        "mode": "incrementing",
        "incrementing.column.name": "id",
        "pk.mode": data.draw(st.sampled_from(["none", "primary_key"])),
        "batch.max.rows": "2",
        "timestamp.granularity": data.draw(st.sampled_from(GRANULARITIES)),
        "numeric.mapping": data.draw(st.sampled_from(MAPPINGS)),
        "temporal.out.of.range": temporal,
        "cursor.gap.free": "off",  # whether a position waits depends on what else is open
        "db.timezone": data.draw(st.sampled_from(["UTC", "Europe/Berlin"])),
    }
    converter = {
        "schemas.enable": data.draw(st.sampled_from(["true", "false"])),
        "decimal.format": data.draw(st.sampled_from(["NUMERIC", "BASE64"])),
    }

    plain = read(database, properties, converter, fast=False)
    fast = read(database, properties, converter, fast=True)

    assert fast.messages == plain.messages
    assert fast.offsets == plain.offsets
    assert fast.error == plain.error
    assert plain.lazily == 0


COMMON = {
    "tables": '[["public", "t"]]',
    "mode": "incrementing",
    "incrementing.column.name": "id",
    "cursor.gap.free": "off",
}
PLAIN_JSON = {"schemas.enable": "false", "decimal.format": "NUMERIC"}
USUAL = [
    "boolean", "smallint", "integer", "bigint", "numeric", "numeric(10,2)", "text", "varchar(12)", "char(9)", "bytea",
    "date", "time", "timestamp", "timestamptz", "uuid", "jsonb", "text[]", "mood", "interval", "inet",
]  # fmt: skip


@pytest.mark.parametrize("type_", USUAL)
def test_the_fast_path_is_used_for_supported_tables(database: str, connection: psycopg.Connection, type_: str) -> None:
    make_table(connection, [type_, type_], [(None, None)])

    assert read(database, COMMON, PLAIN_JSON, fast=True).lazily == 1


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("numeric(10,2)", "NaN"),
        ("date", "infinity"),
        ("date", "0044-03-15 BC"),
        ("date", "10000-01-01"),
        ("time", "24:00"),
        ("timestamp", "-infinity"),
        ("timestamp", "10000-01-01"),
        ("timestamptz", "0001-01-01 00:00+01"),
        ("timestamptz", "9999-12-31 23:59:59.999999-01"),
        ("double precision", "NaN"),
    ],
)
@pytest.mark.parametrize("granularity", ["connect_logical", "micros_iso_datetime_string", "micros_long"])
def test_the_fast_path_refuses_the_same_values_with_the_same_message(
    database: str, connection: psycopg.Connection, type_: str, value: str, granularity: str
) -> None:
    make_table(connection, [type_, "text", "text"], [(None, "a", "b"), (None, "a", "b"), (value, "a", "b")])
    properties = {**COMMON, "batch.max.rows": "2", "timestamp.granularity": granularity}

    plain = read(database, properties, PLAIN_JSON, fast=False)
    fast = read(database, properties, PLAIN_JSON, fast=True)

    assert plain.error
    assert fast.error == plain.error
    # The driver refuses all rows of a fetch, the database only the bad one.
    assert len(fast.messages) == 2
    assert fast.messages[: len(plain.messages)] == plain.messages


@pytest.mark.parametrize(
    ("change", "values"),
    [
        ("ALTER TABLE t ADD COLUMN more text DEFAULT 'new'", "3, 3, 'c', 'more'"),
        ("ALTER TABLE t DROP COLUMN number", "3, 'c'"),
        ("ALTER TABLE t RENAME COLUMN number TO other", "3, 3, 'c'"),
        ("ALTER TABLE t ALTER COLUMN number TYPE text", "3, 'three', 'c'"),
        ("ALTER TABLE t ALTER COLUMN word TYPE bytea USING '\\x00'", "3, 3, '\\xff'"),
        ("ALTER TABLE t ALTER COLUMN number DROP NOT NULL", "3, NULL, 'c'"),
        ("DROP TABLE t; CREATE TABLE t (id bigint PRIMARY KEY, price float8)", "3, 0.5"),
    ],
)
def test_a_changed_table_is_read_with_its_new_columns(
    database: str, connection: psycopg.Connection, change: str, values: str
) -> None:
    properties = {"connection.url": database, **COMMON, "poll.interval.ms": "0"}
    found: dict[bool, list[bytes | None]] = {}
    for fast in (False, True):
        connection.execute(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, number int NOT NULL, word text)"
        )
        connection.execute("INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b')")
        converter = JsonConverter()
        converter.configure({"schemas.enable": "true"}, is_key=False)
        with running(properties, converter if fast else None) as task:
            batches = [task.poll()]
            connection.execute(change.encode())
            connection.execute(f"INSERT INTO t VALUES ({values})".encode())
            batches.append(task.poll())
            connection.execute(f"INSERT INTO t VALUES ({values.replace('3', '4', 1)})".encode())
            batches.append(task.poll())
        found[fast] = []
        for batch in batches:
            assert isinstance(batch, SourceBatch)
            found[fast] += converter.to_bytes("t", batch.value_schema, batch.values)

    assert found[True] == found[False]
    assert len(found[True]) == 4


def test_mode_bulk_continues_after_a_row_that_the_database_formats_differently(
    database: str, connection: psycopg.Connection
) -> None:
    make_table(connection, ["date"], [("infinity" if number in (17, 44) else "2024-01-01",) for number in range(60)])
    properties = {
        "tables": COMMON["tables"],
        "mode": "bulk",
        "batch.max.rows": "5",
        "poll.interval.ms": "1h",
        "temporal.out.of.range": "null",
    }

    fast = read(database, properties, PLAIN_JSON, fast=True)
    assert fast.messages == read(database, properties, PLAIN_JSON, fast=False).messages
    assert len(fast.messages) == 60
    assert 0 < fast.lazily < 12
