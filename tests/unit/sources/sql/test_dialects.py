"""Types and errors of database products, from their documentation. Oracle and SQL Server are not run here."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pymysql
import pytest
from sqlalchemy import column, make_url, table

from headrace import ConfigError
from headrace_sources.sql.dialects import dialect_for
from headrace_sources.sql.dialects.dialect import ErrorClass
from headrace_sources.sql.dialects.mysql import MySql
from headrace_sources.sql.dialects.oracle import Oracle, oracle_column
from headrace_sources.sql.dialects.postgres import PostgreSql
from headrace_sources.sql.dialects.sqlite import Sqlite
from headrace_sources.sql.dialects.sqlserver import SqlServer, sqlserver_column
from headrace_sources.sql.rows.types import Column, Kind


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql+psycopg://h/d", PostgreSql),
        ("sqlite:///a.db", Sqlite),
        ("mysql+pymysql://h/d", MySql),
        ("oracle+oracledb://h/d", Oracle),
        ("mssql+pyodbc://h/d", SqlServer),
    ],
)
def test_each_dialect_has_its_properties(url: str, expected: type) -> None:
    assert type(dialect_for(make_url(url), UTC, "connect_logical")) is expected


@pytest.mark.parametrize(
    ("kind", "precision", "scale", "expected"),
    [
        ("NUMBER", 10, 2, Column("C", Kind.DECIMAL, True, 10, 2)),
        ("NUMBER", 5, -2, Column("C", Kind.DECIMAL, True, 5, -2)),
        ("NUMBER", 0, -127, Column("C", Kind.DECIMAL, True)),  # NUMBER
        ("NUMBER", 126, -127, Column("C", Kind.DECIMAL, True)),  # FLOAT
        ("BINARY_FLOAT", None, None, Column("C", Kind.FLOAT32, True)),
        ("BINARY_DOUBLE", None, None, Column("C", Kind.FLOAT64, True)),
        ("DATE", None, None, Column("C", Kind.LOCAL, True, 0)),
        ("TIMESTAMP", 0, 6, Column("C", Kind.LOCAL, True, 6)),
        ("TIMESTAMP_LTZ", 0, 3, Column("C", Kind.MOMENT, True, 3)),
        ("CLOB", None, None, Column("C", Kind.TEXT, True)),
        ("RAW", None, None, Column("C", Kind.BYTES, True)),
        ("ROWID", None, None, Column("C", Kind.TEXT, True)),
    ],
)
def test_columns_of_oracle_have_the_documented_types(
    kind: str, precision: int | None, scale: int | None, expected: Column
) -> None:
    assert oracle_column("C", f"DB_TYPE_{kind}", precision, scale, True) == expected


@pytest.mark.parametrize(
    ("kind", "precision", "scale", "expected"),
    [
        ("bit", 1, 0, Column("c", Kind.INT8)),
        ("tinyint", 3, 0, Column("c", Kind.INT16)),
        ("bigint", 19, 0, Column("c", Kind.INT64)),
        ("decimal(10,2)", 10, 2, Column("c", Kind.DECIMAL, True, 10, 2)),
        ("money", 19, 4, Column("c", Kind.DECIMAL, True, 19, 4)),
        ("smallmoney", 10, 4, Column("c", Kind.DECIMAL, True, 10, 4)),
        ("real", 24, 0, Column("c", Kind.FLOAT32)),
        ("float", 53, 0, Column("c", Kind.FLOAT64)),
        ("nvarchar(max)", 0, 0, Column("c", Kind.TEXT)),
        ("uniqueidentifier", 0, 0, Column("c", Kind.TEXT)),
        ("varbinary(8)", 0, 0, Column("c", Kind.BYTES)),
        ("timestamp", 0, 0, Column("c", Kind.BYTES)),  # rowversion
        ("datetime2(3)", 23, 3, Column("c", Kind.LOCAL, True, 3)),
        ("datetimeoffset(7)", 34, 7, Column("c", Kind.MOMENT)),
        ("date", 10, 0, Column("c", Kind.DATE)),
    ],
)
def test_columns_of_sql_server_have_the_documented_types(
    kind: str, precision: int, scale: int, expected: Column
) -> None:
    assert sqlserver_column("c", kind, precision, scale, True) == expected


@pytest.mark.parametrize(
    ("describe", "hint"),
    [
        (lambda: oracle_column("C", "DB_TYPE_TIMESTAMP_TZ", None, 6, True), "SYS_EXTRACT_UTC(C)"),
        (lambda: oracle_column("C", "DB_TYPE_OBJECT", None, None, True), "JSON_OBJECT(C)"),
        (lambda: oracle_column("C", "DB_TYPE_CURSOR", None, None, True), "CAST(C AS VARCHAR2(4000))"),
        (lambda: sqlserver_column("c", "geography", 0, 0, True), "[c].STAsText()"),
        (lambda: sqlserver_column("c", "hierarchyid", 0, 0, True), "[c].ToString()"),
        (lambda: sqlserver_column("c", "sql_variant", 0, 0, True), "CAST([c] AS nvarchar(max))"),
    ],
)
def test_an_unsupported_column_is_named_with_a_fix(describe: Any, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        describe()

    [finding] = raised.value.findings
    assert finding.code == "sql.unsupported_type"
    assert "'c'" in finding.message.lower()
    assert hint in finding.hint


@pytest.mark.parametrize("kind", ["datetime", "smalldatetime"])
def test_coarse_timestamps_of_sql_server_are_refused_as_cursor(kind: str) -> None:
    found = sqlserver_column("at", kind, 23, 3, False)

    with pytest.raises(ConfigError) as raised:
        SqlServer(UTC).codec(None, table("t"), column("at"), [found])  # type: ignore[arg-type]
    assert raised.value.code == "sql.cursor_type"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1017, ErrorClass.AUTHENTICATION),
        (942, ErrorClass.MISSING_TABLE),
        (904, ErrorClass.MISSING_COLUMN),
        (12514, ErrorClass.MISSING_DATABASE),
        (3113, ErrorClass.LOST),
        (1555, ErrorClass.BUSY),
        (1476, ErrorClass.OTHER),
    ],
)
def test_errors_of_oracle_have_their_class(code: int, expected: ErrorClass) -> None:
    assert Oracle(UTC).error_class(Exception(SimpleNamespace(code=code))) is expected


@pytest.mark.parametrize(
    ("state", "message", "expected"),
    [
        (
            "28000",
            "[28000] [Microsoft] Login failed for user 'x'. (18456) (SQLDriverConnect)",
            ErrorClass.AUTHENTICATION,
        ),
        ("42000", '[42000] Cannot open database "x" (4060) (SQLDriverConnect)', ErrorClass.MISSING_DATABASE),
        ("42S02", "[42S02] Invalid object name 'x'. (208) (SQLExecDirectW)", ErrorClass.MISSING_TABLE),
        ("42S22", "[42S22] Invalid column name 'x'. (207) (SQLExecDirectW)", ErrorClass.MISSING_COLUMN),
        ("08S01", "[08S01] TCP Provider: Error code 0x68 (104) (SQLExecDirectW)", ErrorClass.LOST),
        ("40001", "[40001] deadlock victim (1205) (SQLExecDirectW)", ErrorClass.BUSY),
        ("22012", "[22012] Divide by zero (8134) (SQLExecDirectW)", ErrorClass.OTHER),
    ],
)
def test_errors_of_sql_server_have_their_class(state: str, message: str, expected: ErrorClass) -> None:
    assert SqlServer(UTC).error_class(Exception(state, message)) is expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1045, ErrorClass.AUTHENTICATION),
        (1049, ErrorClass.MISSING_DATABASE),
        (1146, ErrorClass.MISSING_TABLE),
        (1054, ErrorClass.MISSING_COLUMN),
        (2013, ErrorClass.LOST),
        (1205, ErrorClass.BUSY),
        (1064, ErrorClass.OTHER),
    ],
)
def test_errors_of_mysql_have_their_class(code: int, expected: ErrorClass) -> None:
    assert MySql(UTC).error_class(pymysql.err.OperationalError(code, "…")) is expected
    assert MySql(UTC).error_class(pymysql.err.InterfaceError(0, "")) is ErrorClass.LOST


def test_errors_of_sqlite_have_their_class() -> None:
    error_class = Sqlite(UTC).error_class

    assert error_class(sqlite3.OperationalError("no such table: a")) is ErrorClass.MISSING_TABLE
    assert error_class(sqlite3.OperationalError("no such column: a")) is ErrorClass.MISSING_COLUMN
    assert error_class(sqlite3.OperationalError("near x: syntax error")) is ErrorClass.OTHER


def test_values_of_oracle_and_sql_server_are_normalised() -> None:
    lob = SimpleNamespace(read=lambda: "long")
    noon = datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    moment = Column("c", Kind.MOMENT)

    for database, kind, given, expected in (
        (Oracle(UTC), Column("c", Kind.TEXT), lob, "long"),
        (Oracle(UTC), moment, datetime(2024, 5, 1, 12), datetime(2024, 5, 1, 12, tzinfo=UTC)),
        (SqlServer(UTC), moment, noon, datetime(2024, 5, 1, 10, tzinfo=UTC)),
        (SqlServer(UTC), Column("c", Kind.INT8), True, 1),
    ):
        convert = database.normaliser(kind)
        assert convert is not None
        assert convert(given) == expected


class Answers:
    """A connection that returns one row."""

    def __init__(self, *rows: tuple[Any, ...]) -> None:
        self._rows = rows

    def execute(self, statement: Any) -> Any:
        return SimpleNamespace(all=lambda: list(self._rows))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((1, None, "READ_WRITE"), None),  # before SQL Server 2022 the other permission does not exist
        ((0, 1, "READ_WRITE"), None),
        ((0, 0, "READ_WRITE"), "GRANT VIEW SERVER STATE"),
        ((None, None, "READ_WRITE"), "GRANT VIEW SERVER STATE"),
        ((1, 1, "READ_ONLY"), "replica"),
    ],
)
def test_sql_server_needs_a_privilege_for_the_gap_free_cursor(answer: tuple[Any, ...], told: str | None) -> None:
    found = SqlServer(UTC).hidden_transactions_reason(Answers(answer))  # type: ignore[arg-type]
    assert found is None if told is None else told in str(found)


def test_open_transactions_of_sql_server_are_read() -> None:
    rows = (4711, 52, "app", "batch  ", 12), (4712, None, None, None, 0)
    session, statement = SqlServer(UTC).open_transactions(Answers(*rows))  # type: ignore[arg-type]
    assert (session.name, session.age, session.began) == ("transaction 4711", 12.0, None)
    assert session.who == "transaction 4711 of session 52 (login app, program 'batch')"
    assert "4712" in statement.who
