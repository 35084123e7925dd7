"""SQL Server through pyodbc: written from the documentation, unit-tested, not tested against a server."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, text

from headrace import ConfigError, Finding
from headrace_sources.sql.dialects.dialect import Dialect, ErrorClass, OpenTransaction, TableName
from headrace_sources.sql.rows.timestamps import TimestampCodec
from headrace_sources.sql.rows.types import Column, Kind, Normaliser

# https://learn.microsoft.com/sql/t-sql/data-types/data-types-transact-sql
_KINDS: Mapping[str, Kind] = {
    "bit": Kind.INT8,  # as the JVM's connector has it
    "tinyint": Kind.INT16,  # 0 to 255
    "smallint": Kind.INT16,
    "int": Kind.INT32,
    "bigint": Kind.INT64,
    "real": Kind.FLOAT32,
    "float": Kind.FLOAT64,
    "date": Kind.DATE,
    "time": Kind.TIME,
    "datetime": Kind.LOCAL,
    "datetime2": Kind.LOCAL,
    "smalldatetime": Kind.LOCAL,
    "datetimeoffset": Kind.MOMENT,
    **dict.fromkeys(("binary", "varbinary", "image", "timestamp", "rowversion"), Kind.BYTES),
    **dict.fromkeys(
        ("char", "varchar", "text", "nchar", "nvarchar", "ntext", "xml", "uniqueidentifier", "sysname", "json"),
        Kind.TEXT,
    ),
}
_MONEY = {"money": (19, 4), "smallmoney": (10, 4)}
_INSTEAD = {
    "geography": "{c}.STAsText() AS {c}",
    "geometry": "{c}.STAsText() AS {c}",
    "hierarchyid": "{c}.ToString() AS {c}",
}
_COARSE = -1
"""As a column's precision: its values are no decimal fractions of a second, so it cannot be a cursor."""

# Describes a statement without running it.
_COLUMNS = """
    SELECT name, system_type_name, precision, scale, is_nullable
    FROM sys.dm_exec_describe_first_result_set(:statement, NULL, 0) WHERE is_hidden = 0 ORDER BY column_ordinal
"""
_TABLES = """
    SELECT s.name, o.name, CASE o.type WHEN 'V' THEN 'VIEW' ELSE 'TABLE' END
    FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id
    WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0
"""

# Type 1 reads and writes, 4 is distributed; the server's own and those that only read are others. Single statements,
# which belong to no session's transaction, and transactions in other databases are among them: those only hold the
# stored position back. Their start is in local time, which may jump, so only the age is used, in messages.
# https://learn.microsoft.com/sql/relational-databases/system-dynamic-management-views/sys-dm-tran-active-transactions-transact-sql
_OPEN = """
    SELECT t.transaction_id, s.session_id, e.login_name, e.program_name,
        DATEDIFF(second, t.transaction_begin_time, GETDATE())
    FROM sys.dm_tran_active_transactions t
    LEFT JOIN sys.dm_tran_session_transactions s ON s.transaction_id = t.transaction_id
    LEFT JOIN sys.dm_exec_sessions e ON e.session_id = s.session_id
    WHERE t.transaction_type IN (1, 4) AND t.transaction_id <> CURRENT_TRANSACTION_ID()
"""
_PERMITTED = """
    SELECT HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER STATE'),
        HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER PERFORMANCE STATE'),
        DATABASEPROPERTYEX(DB_NAME(), 'Updateability')
"""

# SQLSTATEs of the ODBC driver, and numbers of the server where those say more.
_STATES: Mapping[str, ErrorClass] = {
    "28000": ErrorClass.AUTHENTICATION,
    "42S02": ErrorClass.MISSING_TABLE,
    "42S22": ErrorClass.MISSING_COLUMN,
    "40001": ErrorClass.BUSY,  # deadlock
    "HYT00": ErrorClass.BUSY,  # timeout
    "HY008": ErrorClass.BUSY,  # cancelled
    "08S01": ErrorClass.LOST,
    "08003": ErrorClass.LOST,
    "08007": ErrorClass.LOST,
}
_NUMBERS: Mapping[int, ErrorClass] = {
    4060: ErrorClass.MISSING_DATABASE,
    18456: ErrorClass.AUTHENTICATION,
    208: ErrorClass.MISSING_TABLE,
    207: ErrorClass.MISSING_COLUMN,
    229: ErrorClass.FORBIDDEN,
    230: ErrorClass.FORBIDDEN,  # on a column
    1205: ErrorClass.BUSY,
    1222: ErrorClass.BUSY,  # a lock was not acquired in time
    3960: ErrorClass.BUSY,  # snapshot isolation, update conflict
}


def sqlserver_column(name: str, type_name: str, precision: int, scale: int, nullable: bool) -> Column:
    """A column as the server describes it (``decimal(10,2)``). Raises ConfigError for what ODBC cannot read."""
    base = re.split(r"[(\s]", type_name, maxsplit=1)[0].lower()
    if base in ("decimal", "numeric"):
        return Column(name, Kind.DECIMAL, nullable, precision, scale)
    if base in _MONEY:
        return Column(name, Kind.DECIMAL, nullable, *_MONEY[base])
    if base not in _KINDS:
        instead = _INSTEAD.get(base, "CAST({c} AS nvarchar(max)) AS {c}").format(c=f"[{name}]")
        text_ = f"column '{name}' is of type {base}, which the driver cannot read"
        raise ConfigError(findings=[Finding("sql.unsupported_type", text_, "query", f"read it by a query: {instead}")])
    digits = _COARSE if base in ("datetime", "smalldatetime") else scale if base in ("datetime2", "time") else None
    return Column(name, _KINDS[base], nullable, digits)


class SqlServer(Dialect):
    """SQL Server; not tested against a server."""

    system_schemas = frozenset({"sys", "INFORMATION_SCHEMA"})
    text_type = "nvarchar(max)"
    clock_statement = "SELECT SYSUTCDATETIME()"
    tables_statement = _TABLES

    def __init__(self, zone: tzinfo, catalog: str = "") -> None:
        super().__init__(zone)
        self.catalog = catalog

    def error_class(self, error: Exception) -> ErrorClass:
        state = str(error.args[0]) if error.args else ""
        number = re.search(r"\((\d+)\) \(SQL", str(error))
        found = _NUMBERS.get(int(number[1])) if number else None
        return found or _STATES.get(state, ErrorClass.OTHER)

    def hidden_transactions_reason(self, connection: Connection) -> str | None:
        [(state, performance, updateability)] = connection.execute(text(_PERMITTED)).all()
        if updateability != "READ_WRITE":
            return "the database is read-only, a replica, which does not know the transactions open on its primary"
        if 1 in (state, performance):
            return None
        return "the user may not see open transactions; GRANT VIEW SERVER STATE TO its login"

    def open_transactions(self, connection: Connection) -> Sequence[OpenTransaction]:
        return [
            OpenTransaction(f"transaction {number}", _owner(number, session, login, program), age=float(age))
            for number, session, login, program, age in connection.execute(text(_OPEN)).all()
        ]

    def create_index(self, table: str, name: str, expressions: Sequence[str]) -> str:
        if expressions[0].startswith("("):
            # An expression is indexed as a column that is computed by it.
            added = f"ALTER TABLE {table} ADD changed AS {expressions[0]} PERSISTED"
            return f"{added}; CREATE INDEX {name} ON {table} (changed)"
        return super().create_index(table, name, expressions)

    def columns(self, connection: Connection, table: TableName | None, query: str, result: Any) -> tuple[Column, ...]:
        quote = connection.dialect.identifier_preparer.quote_identifier
        statement = query or f"SELECT * FROM {'.'.join(quote(part) for part in table or () if part)}"
        return tuple(
            sqlserver_column(name, kind, precision, scale, bool(nullable))
            for name, kind, precision, scale, nullable in connection.execute(text(_COLUMNS), {"statement": statement})
        )

    def signature(self, result: Any) -> object:
        return tuple((item[0], item[1], item[3], item[4], item[5]) for item in result.description)

    def normaliser(self, column: Column) -> Normaliser | None:
        if column.kind is Kind.INT8:
            return int  # BIT comes as bool
        return _utc if column.kind is Kind.MOMENT else super().normaliser(column)

    def codec(
        self, connection: Connection, relation: FromClause, expression: ColumnElement[Any], columns: Sequence[Column]
    ) -> TimestampCodec | None:
        if coarse := [column.name for column in columns if column.precision == _COARSE]:
            raise ConfigError(
                f"the timestamp column {coarse[0]} is a DATETIME or SMALLDATETIME, whose values are rounded to 1/300 "
                "of a second or to minutes: rows would be read again and again, or passed over",
                code="sql.cursor_type",
                hint="ALTER it to DATETIME2, or use mode incrementing",
            )
        return super().codec(connection, relation, expression, columns)


def _owner(number: int, session: int | None, login: str | None, program: str | None) -> str:
    if session is None:
        return f"transaction {number}, a statement or a distributed transaction"
    return f"transaction {number} of session {session} (login {login}, program '{(program or '').strip()}')"


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)
