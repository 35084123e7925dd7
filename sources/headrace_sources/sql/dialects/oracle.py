"""Oracle through python-oracledb: written from the documentation, unit-tested, not tested against a server."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text

from headrace import ConfigError, Finding
from headrace_sources.sql.dialects.dialect import Dialect, ErrorClass, Listed, TableName
from headrace_sources.sql.rows.types import Column, Kind, Normaliser

# https://python-oracledb.readthedocs.io/en/latest/api_manual/module.html#database-type-objects, by their names.
_KINDS: Mapping[str, Kind] = {
    "DB_TYPE_BINARY_INTEGER": Kind.INT64,
    "DB_TYPE_BINARY_FLOAT": Kind.FLOAT32,
    "DB_TYPE_BINARY_DOUBLE": Kind.FLOAT64,
    "DB_TYPE_BOOLEAN": Kind.BOOLEAN,
    "DB_TYPE_RAW": Kind.BYTES,
    "DB_TYPE_LONG_RAW": Kind.BYTES,
    "DB_TYPE_BLOB": Kind.BYTES,
    "DB_TYPE_DATE": Kind.LOCAL,  # it has a time, too
    "DB_TYPE_TIMESTAMP": Kind.LOCAL,
    "DB_TYPE_TIMESTAMP_LTZ": Kind.MOMENT,  # in the session's zone, which is UTC
    **dict.fromkeys(
        (
            "DB_TYPE_VARCHAR", "DB_TYPE_NVARCHAR", "DB_TYPE_CHAR", "DB_TYPE_NCHAR", "DB_TYPE_LONG",
            "DB_TYPE_LONG_NVARCHAR", "DB_TYPE_CLOB", "DB_TYPE_NCLOB", "DB_TYPE_ROWID", "DB_TYPE_UROWID",
            "DB_TYPE_XMLTYPE", "DB_TYPE_JSON", "DB_TYPE_INTERVAL_DS", "DB_TYPE_INTERVAL_YM",
        ),
        Kind.TEXT,
    ),
}  # fmt: skip
_INSTEAD = {
    # The driver returns a naive value in an unknown zone.
    "DB_TYPE_TIMESTAMP_TZ": "SYS_EXTRACT_UTC({c}) AS {c}, with db.timezone UTC",
    "DB_TYPE_OBJECT": "its attributes, or JSON_OBJECT({c}) AS {c}",
    "DB_TYPE_BFILE": "TO_BLOB({c}) AS {c}",
    "DB_TYPE_VECTOR": "FROM_VECTOR({c}) AS {c}",
}

_TABLES = """
    SELECT owner, object_name, object_type FROM all_objects
    WHERE object_type IN ('TABLE', 'VIEW', 'MATERIALIZED VIEW') AND oracle_maintained = 'N' AND temporary = 'N'
"""
_PRIMARY_KEY = """
    SELECT cc.column_name FROM all_constraints c
    JOIN all_cons_columns cc ON cc.owner = c.owner AND cc.constraint_name = c.constraint_name
    WHERE c.owner = :schema AND c.table_name = :name AND c.constraint_type = 'P' ORDER BY cc.position
"""
_INDEX_HEADS = """
    SELECT column_name FROM all_ind_columns
    WHERE table_owner = :schema AND table_name = :name AND column_position = 1
"""

# https://docs.oracle.com/en/error-help/db/
_CODES: Mapping[int, ErrorClass] = {
    1017: ErrorClass.AUTHENTICATION,
    28000: ErrorClass.AUTHENTICATION,  # the account is locked
    28001: ErrorClass.AUTHENTICATION,  # the password has expired
    12505: ErrorClass.MISSING_DATABASE,
    12514: ErrorClass.MISSING_DATABASE,
    942: ErrorClass.MISSING_TABLE,
    904: ErrorClass.MISSING_COLUMN,
    1031: ErrorClass.FORBIDDEN,
    18: ErrorClass.BUSY,  # too many sessions
    20: ErrorClass.BUSY,
    54: ErrorClass.BUSY,  # locked
    60: ErrorClass.BUSY,  # deadlock
    1013: ErrorClass.BUSY,  # cancelled
    1555: ErrorClass.BUSY,  # snapshot too old
    8177: ErrorClass.BUSY,  # cannot serialize
    28: ErrorClass.LOST,  # killed
    1012: ErrorClass.LOST,
    2396: ErrorClass.LOST,  # idle for too long
    3113: ErrorClass.LOST,
    3114: ErrorClass.LOST,
    3135: ErrorClass.LOST,
}


def oracle_column(name: str, type_name: str, precision: int | None, scale: int | None, nullable: bool) -> Column:
    """A column as a cursor of python-oracledb describes it. Raises ConfigError for what cannot be read as it is."""
    if type_name == "DB_TYPE_NUMBER":
        # NUMBER without precision, and FLOAT: the scale is -127, any number of digits.
        unconstrained = not precision or scale is None or scale == -127
        return Column(name, Kind.DECIMAL, nullable, *((None, None) if unconstrained else (precision, scale)))
    if type_name not in _KINDS:
        instead = _INSTEAD.get(type_name, "CAST({c} AS VARCHAR2(4000)) AS {c}").format(c=name)
        text_ = f"column '{name}' is of type {type_name.removeprefix('DB_TYPE_')}, which cannot be read without loss"
        raise ConfigError(findings=[Finding("sql.unsupported_type", text_, "query", f"read it by a query: {instead}")])
    kind = _KINDS[type_name]
    digits = 0 if type_name == "DB_TYPE_DATE" else scale
    return Column(name, kind, nullable, digits if kind in (Kind.LOCAL, Kind.MOMENT) else None)


class Oracle(Dialect):
    """Oracle; not tested against a server."""

    text_type = "VARCHAR2(4000)"
    session_statements = ("ALTER SESSION SET TIME_ZONE = 'UTC'",)
    cancel_method = "cancel"
    user_statement = "SELECT USER FROM dual"
    clock_statement = "SELECT SYS_EXTRACT_UTC(SYSTIMESTAMP) FROM dual"
    primary_key_statement = _PRIMARY_KEY

    def error_class(self, error: Exception) -> ErrorClass:
        code = getattr(error.args[0], "code", None) if error.args else None
        return _CODES.get(code, ErrorClass.OTHER) if isinstance(code, int) else ErrorClass.OTHER

    def list_tables(self, connection: Connection, kinds: Collection[str]) -> list[Listed]:
        # A materialized view is listed as a table, too.
        found: dict[TableName, str] = {}
        for schema, name, kind in connection.execute(text(_TABLES)):
            if found.get(TableName(schema, name)) != "MATERIALIZED VIEW":
                found[TableName(schema, name)] = kind
        return [Listed(table, kind) for table, kind in found.items()]

    def index_heads(self, connection: Connection, table: TableName) -> list[str]:
        return list(connection.execute(text(_INDEX_HEADS), table._asdict()).scalars())

    def columns(self, connection: Connection, table: TableName | None, query: str, result: Any) -> tuple[Column, ...]:
        return tuple(
            oracle_column(name, kind.name, precision, scale, bool(nullable))
            for name, kind, _, _, precision, scale, nullable in map(_seven, result.description)
        )

    def signature(self, result: Any) -> object:
        return tuple((item[0], item[1].name, item[3], item[4], item[5]) for item in result.description)

    def normaliser(self, column: Column) -> Normaliser | None:
        if column.kind is Kind.MOMENT:
            return _utc
        if column.kind in (Kind.TEXT, Kind.BYTES):
            inner = super().normaliser(column)
            return lambda value: inner(value.read() if hasattr(value, "read") else value) if inner else value
        return super().normaliser(column)


def _seven(description: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(description[place] for place in range(7))


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
