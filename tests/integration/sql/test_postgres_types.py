"""Every type of a real PostgreSQL is sent as a type of Connect or as the text of the database; no value is dropped."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from headrace import Schema, TaskError, schema
from headrace.testing.driver import SourceDriver
from headrace.testing.values import mismatch

Drive = Callable[..., SourceDriver]
Sql = Callable[..., list[Any]]

TEXTS = [
    ("text", "'a' || chr(1) || '\U0001f600'", "a\x01\U0001f600"),
    ("varchar(5)", "'ab'", "ab"),
    ("char(4)", "'ab'", "ab  "),
    ('"char"', "'x'", "x"),
    ("name", "'pg'", "pg"),
    ("uuid", "'123e4567-e89b-12d3-a456-426655440000'", "123e4567-e89b-12d3-a456-426655440000"),  # E55
    ("json", """'{"b": 1.0,  "a": 1e2}'""", '{"b": 1.0,  "a": 1e2}'),
    ("jsonb", """'{"b": 1.0,  "a": [null]}'""", '{"a": [null], "b": 1.0}'),  # E55
    ("text[]", """'{a,"b,c",NULL}'""", '{a,"b,c",NULL}'),  # E54
    ("int[][]", "'{{1,2},{3,4}}'", "{{1,2},{3,4}}"),
    ("timestamptz[]", "'{2024-05-01 12:00:00+02}'", '{"2024-05-01 10:00:00+00"}'),
    ("numeric", "12345678901234567890.123456789", "12345678901234567890.123456789"),
    ("numeric", "'NaN'", "NaN"),
    ("numeric", "1e40", "1" + "0" * 40),
    ("money", "'12.34'", "$12.34"),
    ("int4range", "'[1,5)'", "[1,5)"),
    ("tstzrange", "'[2024-05-01 12:00+00,)'", '["2024-05-01 12:00:00+00",)'),
    ("int4multirange", "'{[1,2),[5,6)}'", "{[1,2),[5,6)}"),
    ("interval", "'1 year 2 days 03:04:05.678'", "1 year 2 days 03:04:05.678"),
    ("timetz", "'12:00:00+02'", "12:00:00+02"),
    ("inet", "'192.168.0.1'", "192.168.0.1"),
    ("cidr", "'10.0.0.0/8'", "10.0.0.0/8"),
    ("macaddr", "'08:00:2b:01:02:03'", "08:00:2b:01:02:03"),
    ("bit(3)", "B'101'", "101"),
    ("varbit", "B'1'", "1"),
    ("point", "'(1,2.5)'", "(1,2.5)"),
    ("polygon", "'((0,0),(1,0),(0,1))'", "((0,0),(1,0),(0,1))"),
    ("path", "'[(0,0),(1,1)]'", "[(0,0),(1,1)]"),
    ("circle", "'<(0,0),1>'", "<(0,0),1>"),
    ("tsvector", "'a:1 b:2'", "'a':1 'b':2"),
    ("pg_lsn", "'16/B374D848'", "16/B374D848"),
    ("mood", "'ok'", "ok"),
    ("pair", "ROW(1, 'x,y')", '(1,"x,y")'),
    ("hstore", "'a=>1, b=>NULL'", '"a"=>"1", "b"=>NULL'),
]
OWN = [
    ("boolean", "true", schema.BOOLEAN, True),
    ("smallint", "-32768", schema.INT16, -(2**15)),
    ("int", "2147483647", schema.INT32, 2**31 - 1),
    ("bigint", "-9223372036854775808", schema.INT64, -(2**63)),
    ("oid", "4294967295", schema.INT64, 2**32 - 1),
    ("positive", "5", schema.INT32, 5),
    ("real", "0.1", schema.FLOAT32, 0.1),
    ("real", "16777217", schema.FLOAT32, 16777216.0),
    ("double precision", "0.1", schema.FLOAT64, 0.1),
    ("double precision", "1e-300", schema.FLOAT64, 1e-300),
    ("numeric(10, 2)", "-99999999.99", schema.decimal(2, 10), Decimal("-99999999.99")),
    ("numeric(5, -2)", "1234567", schema.decimal(-2, 5), Decimal("12346E+2")),
    ("numeric(50, 20)", "1", schema.decimal(20, 50), Decimal("1." + "0" * 20)),
    ("bytea", r"'\x00ff'", schema.BYTES, b"\x00\xff"),
    ("date", "'0001-01-01'", schema.DATE_SCHEMA, date(1, 1, 1)),
    ("time", "'23:59:59.999999'", schema.TIME_SCHEMA, time(23, 59, 59, 999999)),
    ("timestamp", "'2024-05-01 12:00:00.123456'", schema.TIMESTAMP_SCHEMA,
     datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)),
    ("timestamp(0)", "'9999-12-31 23:59:59'", schema.TIMESTAMP_SCHEMA, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ("timestamptz", "'2024-05-01 12:00:00+05:30'", schema.TIMESTAMP_SCHEMA, datetime(2024, 5, 1, 6, 30, tzinfo=UTC)),
]  # fmt: skip


@pytest.fixture(autouse=True)
def types(sql: Sql) -> None:
    sql(
        """
        CREATE EXTENSION IF NOT EXISTS hstore;
        CREATE TYPE mood AS ENUM ('sad', 'ok');
        CREATE TYPE pair AS (a int, b text);
        CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        """
    )


def read(drive: Drive, sql: Sql, kind: str, literal: str, **keys: str) -> tuple[Schema, Any]:
    """Return schema and value of a column of a table that also has a nullable column with NULL."""
    sql(f"CREATE TABLE a (id int PRIMARY KEY, v {kind} NOT NULL, n {kind})")
    sql(f"INSERT INTO a VALUES (1, {literal})")
    [batch] = drive(table_whitelist="a", incrementing_column_name="id", **keys).drain()
    [value] = batch.values
    assert batch.value_schema is not None
    assert mismatch(batch.value_schema, value) is None
    assert value["n"] is None
    members = batch.value_schema.by_name
    assert members["n"] == members["v"].as_optional()
    return members["v"], value["v"]


@pytest.mark.parametrize(("kind", "literal", "expected_schema", "expected"), OWN)
def test_types_of_connect_are_sent_with_their_schema(
    drive: Drive, sql: Sql, kind: str, literal: str, expected_schema: Schema, expected: object
) -> None:
    assert read(drive, sql, kind, literal) == (expected_schema, expected)


@pytest.mark.parametrize(("kind", "literal", "expected"), TEXTS)
def test_e54_e55_other_types_are_sent_as_text(drive: Drive, sql: Sql, kind: str, literal: str, expected: str) -> None:
    assert read(drive, sql, kind, literal) == (schema.STRING, expected)


def test_columns_of_a_query_have_the_text_of_the_database(drive: Drive, sql: Sql) -> None:
    members = ", ".join(f"{literal}::{kind} AS c{number}" for number, (kind, literal, _) in enumerate(TEXTS))
    [value] = drive(query=f"SELECT {members}", mode="bulk").values()

    assert list(value.values()) == [expected for _, _, expected in TEXTS]


def test_settings_of_the_role_do_not_change_values(drive: Drive, sql: Sql) -> None:
    [(database,)] = sql("SELECT current_database()")
    for setting in (
        "DateStyle = 'German'", "IntervalStyle = 'iso_8601'", "extra_float_digits = -15", "bytea_output = 'escape'",
        "TimeZone = 'Asia/Kathmandu'",
    ):  # fmt: skip
        sql(f"ALTER DATABASE {database} SET {setting}")
    query = (
        "SELECT date '2024-05-01' AS d, interval '1 day' AS i, float8 '0.1234567890123456' AS f, "
        "'\\x0041'::bytea AS b, timestamptz '2024-05-01 12:00+00' AS t, daterange('2024-05-01', NULL) AS r"
    )

    assert drive(query=query, mode="bulk").values() == [
        {
            "d": date(2024, 5, 1),
            "i": "1 day",
            "f": 0.1234567890123456,
            "b": b"\x00A",
            "t": datetime(2024, 5, 1, 12, tzinfo=UTC),
            "r": "[2024-05-01,)",
        }
    ]


@pytest.mark.parametrize(
    ("kind", "literal", "text"),
    [
        ("date", "'infinity'", "infinity"),
        ("date", "'0044-03-15 BC'", "0044-03-15 BC"),
        ("date", "'10000-01-01'", "10000-01-01"),
        ("time", "'24:00:00'", "24:00:00"),
        ("timestamp", "'-infinity'", "-infinity"),
        ("timestamp", "'0044-03-15 12:00:00 BC'", "0044-03-15 12:00:00 BC"),
        ("timestamptz", "'infinity'", "infinity"),
        ("timestamptz", "'294276-12-31 23:59:59+00'", "294276-12-31 23:59:59+00"),
    ],
)
@pytest.mark.parametrize("granularity", ["connect_logical", "micros_iso_datetime_string"])
def test_dates_that_connect_lacks_are_errors_unless_configured(
    drive: Drive, sql: Sql, kind: str, literal: str, text: str, granularity: str
) -> None:
    sql(f"CREATE TABLE a (id int PRIMARY KEY, v {kind} NOT NULL); INSERT INTO a VALUES (1, {literal})")
    keys = {"table_whitelist": "a", "timestamp_granularity": granularity}

    with pytest.raises(TaskError) as raised:
        drive(**keys).drain()
    assert raised.value.code == "sql.bad_value"
    assert "id=1" in raised.value.message
    assert "temporal.out.of.range" in raised.value.hint

    assert drive(**keys, temporal_out_of_range="text").values("v") == [text]
    [batch] = drive(**keys, temporal_out_of_range="null").drain()
    assert batch.value_schema is not None
    assert mismatch(batch.value_schema, batch.values[0]) is None
    assert batch.values[0]["v"] is None


@pytest.mark.parametrize("policy", ["fail", "null", "text"])
@pytest.mark.parametrize("literal", ["-infinity", "0044-03-15 BC"])
def test_f9a_a_cursor_value_without_position_names_its_row_and_advises_no_setting_that_fails(
    drive: Drive, sql: Sql, policy: str, literal: str
) -> None:
    sql("CREATE TABLE a (id int PRIMARY KEY, at timestamptz NOT NULL)")
    sql(f"INSERT INTO a VALUES (1, '2024-01-01Z'), (2, 'infinity'), (3, '2024-01-03Z'), (4, '{literal}')")
    keys = {"mode": "timestamp", "timestamp_column_name": "at", "temporal_out_of_range": policy}
    with pytest.raises(TaskError) as raised:
        drive(table_whitelist="a", **keys).drain()

    assert raised.value.code == "sql.bad_value"
    assert "id=4" in raised.value.message
    assert "temporal.out.of.range" not in raised.value.hint
    assert "query" in raised.value.hint
    query = drive(query="SELECT * FROM a WHERE at >= '0001-01-01'", **keys)
    assert query.values("id") == [1, 3]


def test_a_cursor_advances_when_dates_are_sent_as_text(drive: Drive, sql: Sql) -> None:
    sql("CREATE TABLE a (id int PRIMARY KEY, at timestamptz NOT NULL)")
    sql("INSERT INTO a VALUES (1, '2024-05-01 12:00:00.5Z'), (2, '2024-05-01 12:00:01Z'), (3, 'infinity')")
    keys = {
        "table_whitelist": "a", "mode": "timestamp", "timestamp_column_name": "at", "temporal_out_of_range": "text",
        "cursor_gap_free": "off",
    }  # fmt: skip
    driver = drive(**keys)

    assert driver.values("at") == ["2024-05-01 12:00:00.5+00", "2024-05-01 12:00:01+00"]
    assert drive(driver.offsets, **keys).values() == []
