"""MySQL and MariaDB through PyMySQL: types by the result's own description, rows unbuffered, sessions in UTC."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

import pymysql
from pymysql.constants import ER, FIELD_TYPE, FLAG
from pymysql.converters import conversions
from pymysql.cursors import SSCursor
from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    TextClause,
    cast,
    column,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.mysql import BIGINT
from sqlalchemy.sql import quoted_name

from headrace_sources.sql.dialects import innodb, mysql_locks
from headrace_sources.sql.dialects.dialect import Dialect, ErrorClass, OpenTransaction, TableName, run_raw
from headrace_sources.sql.rows.ledger_keys import HASH_DIGITS, SEPARATOR
from headrace_sources.sql.rows.server_json import Query, Stream
from headrace_sources.sql.rows.types import INTEGERS, Column, Kind, Normaliser

_HASHED = INTEGERS | {Kind.DATE, Kind.BYTES}
"""Of keys whose text is the same here and in Python."""
_BINARY = 63  # the character set of what is no text
_TEMPORAL = {
    FIELD_TYPE.DATE: Kind.DATE,
    FIELD_TYPE.NEWDATE: Kind.DATE,
    FIELD_TYPE.TIME: Kind.TIME,
    FIELD_TYPE.DATETIME: Kind.LOCAL,
    FIELD_TYPE.TIMESTAMP: Kind.MOMENT,
}
_AS_TEXT = {Kind.LOCAL: Kind.LOCAL_TEXT, Kind.MOMENT: Kind.MOMENT_TEXT, Kind.DATE: Kind.TEXT, Kind.TIME: Kind.TEXT}
# https://dev.mysql.com/doc/refman/8.4/en/integer-types.html: signed, unsigned (one width more).
_INTEGERS = {
    FIELD_TYPE.TINY: (Kind.INT8, Kind.INT16),
    FIELD_TYPE.SHORT: (Kind.INT16, Kind.INT32),
    FIELD_TYPE.YEAR: (Kind.INT16, Kind.INT16),
    FIELD_TYPE.INT24: (Kind.INT32, Kind.INT32),
    FIELD_TYPE.LONG: (Kind.INT32, Kind.INT64),
}
_TEXTS = frozenset(
    {
        FIELD_TYPE.STRING, FIELD_TYPE.VAR_STRING, FIELD_TYPE.VARCHAR, FIELD_TYPE.BLOB, FIELD_TYPE.TINY_BLOB,
        FIELD_TYPE.MEDIUM_BLOB, FIELD_TYPE.LONG_BLOB, FIELD_TYPE.ENUM, FIELD_TYPE.SET,
    }
)  # fmt: skip

_TABLES = """
    SELECT table_schema, table_name, CASE WHEN table_type LIKE '%VIEW' THEN 'VIEW' ELSE 'TABLE' END
    FROM information_schema.tables
    WHERE table_type IN ('BASE TABLE', 'VIEW', 'SYSTEM VERSIONED')
        AND table_schema NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys')
"""

_ROWS = """
    SELECT table_rows FROM information_schema.tables
    WHERE table_schema = :schema AND table_name = :name AND table_type <> 'VIEW'
"""

# Own questions: SQLAlchemy reads SHOW CREATE TABLE for these, and does not know every type in it.
_PRIMARY_KEY = """
    SELECT column_name FROM information_schema.statistics
    WHERE table_schema = :schema AND table_name = :name AND index_name = 'PRIMARY' ORDER BY seq_in_index
"""
_INDEX_HEADS = """
    SELECT * FROM information_schema.statistics
    WHERE table_schema = :schema AND table_name = :name AND seq_in_index = 1
"""

# https://mariadb.com/kb/en/mariadb-error-code-reference/, https://dev.mysql.com/doc/mysql-errors/8.4/en/
_CODES: Mapping[int, ErrorClass] = {
    ER.DBACCESS_DENIED_ERROR: ErrorClass.AUTHENTICATION,
    ER.ACCESS_DENIED_ERROR: ErrorClass.AUTHENTICATION,
    1698: ErrorClass.AUTHENTICATION,  # by the operating system's user
    ER.BAD_DB_ERROR: ErrorClass.MISSING_DATABASE,
    ER.NO_SUCH_TABLE: ErrorClass.MISSING_TABLE,
    ER.BAD_TABLE_ERROR: ErrorClass.MISSING_TABLE,
    ER.BAD_FIELD_ERROR: ErrorClass.MISSING_COLUMN,
    ER.TABLEACCESS_DENIED_ERROR: ErrorClass.FORBIDDEN,
    ER.COLUMNACCESS_DENIED_ERROR: ErrorClass.FORBIDDEN,
    ER.CON_COUNT_ERROR: ErrorClass.BUSY,
    ER.TOO_MANY_USER_CONNECTIONS: ErrorClass.BUSY,
    ER.OUT_OF_RESOURCES: ErrorClass.BUSY,
    ER.LOCK_WAIT_TIMEOUT: ErrorClass.BUSY,
    ER.LOCK_DEADLOCK: ErrorClass.BUSY,
    ER.QUERY_INTERRUPTED: ErrorClass.BUSY,
    ER.TABLE_DEF_CHANGED: ErrorClass.BUSY,
    1969: ErrorClass.BUSY,  # max_statement_time (MariaDB)
    3024: ErrorClass.BUSY,  # max_execution_time (MySQL)
    ER.SERVER_SHUTDOWN: ErrorClass.LOST,
    1927: ErrorClass.LOST,  # killed (MariaDB)
    2006: ErrorClass.LOST,  # gone away
    2013: ErrorClass.LOST,  # lost during a query
    2014: ErrorClass.LOST,  # out of step
    4031: ErrorClass.LOST,  # closed because it was idle (MySQL)
}


class _Cursor(SSCursor):
    """Unbuffered. ``fields``: the original columns, where the statement converts them."""

    fields: Sequence[Any] = ()


_DIAGNOSIS_TIMEOUT = 2  # seconds; the user waits for the answer


class MySql(Dialect):
    """MySQL and MariaDB. ``temporal``: what to do with zero dates and with times outside of a day."""

    catalog_is_schema = True
    reads_in_parallel = True
    snapshot_ttl = 0.2
    text_type = "CHAR"
    session_statements = ("SET SESSION time_zone = '+00:00'",)  # TIMESTAMP columns then arrive in UTC
    read_only_statement = "SET SESSION TRANSACTION READ ONLY"
    application_parameter = "program_name"
    clock_statement = "SELECT UTC_TIMESTAMP(6)"
    tables_statement = _TABLES
    primary_key_statement = _PRIMARY_KEY
    asks_page_ends = True  # MariaDB's WITH TIES sorts the whole table for each page, MySQL has none

    def __init__(self, zone: tzinfo, *, temporal: str = "fail") -> None:
        super().__init__(zone)
        self._as_text = temporal == "text"
        self._as_null = temporal == "null"
        self._floats = False  # whether a column of single precision was seen
        self._connect: Callable[[], pymysql.Connection[Any]] | None = None

    def connect_args(self, url: URL) -> dict[str, Any]:
        wanted: dict[str, Any] = {}
        if "connect_timeout" not in url.query:
            wanted["connect_timeout"] = 10  # seconds; a poll must not hang as long as TCP would
        if "charset" not in url.query:
            wanted["charset"] = "utf8mb4"
        if self._as_text:
            wanted["conv"] = {kind: use for kind, use in conversions.items() if kind not in _TEMPORAL}
        if self._as_null:
            wanted["conv"] = conversions | {kind: _nullable(conversions[kind], _PYTHON[kind]) for kind in _PYTHON}

        def connect() -> pymysql.Connection[Any]:
            arguments, keywords = url.get_dialect()().create_connect_args(url)
            return pymysql.connect(*arguments, **keywords)

        self._connect = connect
        return wanted

    def prepare(self, dbapi_connection: Any, *, read_only: bool = False, timeout_ms: int = 0) -> None:
        super().prepare(dbapi_connection, read_only=read_only)
        if timeout_ms:
            mariadb = "MariaDB" in dbapi_connection.get_server_info()
            limit = f"max_statement_time = {timeout_ms / 1000}" if mariadb else f"max_execution_time = {timeout_ms}"
            with dbapi_connection.cursor() as cursor:
                cursor.execute(f"SET SESSION {limit}")

    def cancel(self, dbapi_connection: Any) -> None:
        if self._connect is not None:
            with closing(self._connect()) as other, other.cursor() as cursor:
                cursor.execute(f"KILL QUERY {dbapi_connection.thread_id()}")

    def waits_for(self, dbapi_connection: Any, url: URL, *, discreet: bool = False) -> str | None:
        arguments, keywords = url.get_dialect()().create_connect_args(url)
        limits = {"connect_timeout": _DIAGNOSIS_TIMEOUT, "read_timeout": _DIAGNOSIS_TIMEOUT}
        with closing(pymysql.connect(*arguments, **{**keywords, **limits})) as other, other.cursor() as cursor:
            return mysql_locks.waits_for(cursor, dbapi_connection.thread_id(), discreet=discreet)

    def error_class(self, error: Exception) -> ErrorClass:
        code = error.args[0] if error.args else None
        if isinstance(code, int) and code in _CODES:
            return _CODES[code]
        # PyMySQL's own, about a connection that is not there any more, have the code 0.
        return ErrorClass.LOST if isinstance(error, pymysql.err.InterfaceError) else ErrorClass.OTHER

    def grantee(self, connection: Connection) -> str:
        user, _, host = str(connection.execute(text("SELECT CURRENT_USER()")).scalar_one()).rpartition("@")
        return f"'{user}'@'{host}'"

    def key_hash(
        self, columns: Sequence[Column], expressions: Sequence[ColumnElement[Any]]
    ) -> ColumnElement[int] | None:
        if not {column.kind for column in columns} <= _HASHED:
            return None
        texts = [
            func.lower(func.hex(expression)) if column.kind is Kind.BYTES else expression
            for column, expression in zip(columns, expressions, strict=True)
        ]
        digits = func.substr(func.md5(func.concat_ws(SEPARATOR, *texts)), 1, HASH_DIGITS)
        return cast(func.conv(digits, 16, 10), BIGINT(unsigned=True))

    def hidden_transactions_reason(self, connection: Connection) -> str | None:
        return innodb.hidden_transactions_reason(connection)

    def open_transactions(self, connection: Connection) -> Sequence[OpenTransaction]:
        return innodb.open_transactions(connection)

    def pages_by(self, columns: Sequence[Column]) -> bool:
        # An ENUM sorts by another order than it is compared in, a FLOAT is not equal to what it is printed as, and of a
        # text the connection's collation may decide.
        return all(column.kind in INTEGERS or column.kind is Kind.DECIMAL for column in columns)

    def estimate(self, connection: Connection, table: TableName | None, query: Query) -> int | None:
        if table is None:
            return None  # EXPLAIN multiplies guesses
        found = connection.execute(text(_ROWS), table._asdict()).scalar_one_or_none()
        return None if found is None else int(found)

    def stream(self, connection: Connection, query: Query) -> Stream:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, pymysql.Connection)
        cursor = raw.cursor(_Cursor)
        found = run_raw(connection, cursor, self._exact(connection, query, cursor) if self._floats else query)

        def close() -> None:
            if not connection.closed:
                self.abandon(connection)
            cursor.close()

        return Stream(cursor, found.fetchmany, close)

    def abandon(self, connection: Connection) -> None:
        # Otherwise the rest of an unbuffered result would be read now, however long it is.
        raw: Any = None if connection.invalidated else connection.connection.dbapi_connection
        if raw is not None and raw._result is not None and raw._result.unbuffered_active:
            raw._result.unbuffered_active, raw._result.connection = False, None
            connection.invalidate()

    def _exact(self, connection: Connection, query: Query, cursor: _Cursor) -> Query:
        """Return a query for the same rows with all digits of every FLOAT; the server sends six by default."""
        inner = query if isinstance(query, Select) else select(literal_column("*")).select_from(_derived(query))
        looked = connection.execute(inner.limit(0))
        cursor.fields = looked.cursor._result.fields
        looked.close()
        if all(field.type_code != FIELD_TYPE.FLOAT for field in cursor.fields):
            return query
        chosen = []
        for field in cursor.fields:
            named: ColumnElement[Any] = column(quoted_name(field.name, True))
            exact = named.op("+")(literal_column("0e0")).label(quoted_name(field.name, True))
            chosen.append(exact if field.type_code == FIELD_TYPE.FLOAT else named)
        return inner.with_only_columns(*chosen, maintain_column_froms=True)

    def index_heads(self, connection: Connection, table: TableName) -> list[str]:
        # MySQL has a column for expressions, which MariaDB lacks.
        rows = connection.execute(text(_INDEX_HEADS), table._asdict()).mappings()
        named = ({name.lower(): value for name, value in row.items()} for row in rows)
        return [str(row["column_name"] or row.get("expression") or "") for row in named]

    def columns(self, connection: Connection, table: TableName | None, query: str, result: Any) -> tuple[Column, ...]:
        found = tuple(map(self._column, result._result.fields))
        self._floats |= any(item.kind is Kind.FLOAT32 for item in found)
        return found

    def signature(self, result: Any) -> object:
        return tuple(
            (field.name, field.type_code, field.flags & FLAG.UNSIGNED, field.charsetnr, field.length, field.scale)
            for field in getattr(result, "fields", ()) or result._result.fields
        )

    def normaliser(self, column: Column) -> Normaliser | None:
        if column.kind is Kind.DECIMAL:
            return super().normaliser(column)
        return _NORMALISERS.get(column.kind)

    def _column(self, field: Any) -> Column:
        nullable = not field.flags & FLAG.NOT_NULL
        kind = _TEMPORAL.get(field.type_code)
        if kind is not None:
            digits = field.scale if field.scale <= 6 else 0
            return Column(field.name, _AS_TEXT[kind] if self._as_text else kind, nullable, digits)
        unsigned = bool(field.flags & FLAG.UNSIGNED)
        if field.type_code in _INTEGERS:
            return Column(field.name, _INTEGERS[field.type_code][unsigned], nullable)
        if field.type_code == FIELD_TYPE.LONGLONG:
            # Half of its values are more than an INT64 holds.
            wide = (Kind.DECIMAL, nullable, 20, 0) if unsigned else (Kind.INT64, nullable)
            return Column(field.name, *wide)
        if field.type_code in (FIELD_TYPE.NEWDECIMAL, FIELD_TYPE.DECIMAL):
            # The length counts the point and the sign.
            precision = field.length - (field.scale > 0) - (not unsigned)
            return Column(field.name, Kind.DECIMAL, nullable, precision, field.scale)
        if field.type_code == FIELD_TYPE.BIT:
            return Column(field.name, Kind.INT8 if field.length == 1 else Kind.BYTES, nullable)
        if field.type_code in _TEXTS:
            return Column(field.name, Kind.BYTES if field.charsetnr == _BINARY else Kind.TEXT, nullable)
        return Column(field.name, _OTHERS.get(field.type_code, Kind.TEXT), nullable)


_OTHERS = {
    FIELD_TYPE.FLOAT: Kind.FLOAT32,
    FIELD_TYPE.DOUBLE: Kind.FLOAT64,
    FIELD_TYPE.JSON: Kind.TEXT,
    FIELD_TYPE.GEOMETRY: Kind.BYTES,  # four bytes of SRID, then well-known binary
    FIELD_TYPE.NULL: Kind.UNKNOWN,
    242: Kind.BYTES,  # VECTOR
}


def _derived(query: TextClause) -> FromClause:
    return text(f"(\n{query.text}\n) headrace_query")  # type: ignore[return-value]  # select_from() takes text, as SQLAlchemy documents


def _single(value: float) -> float:
    """Return the shortest number that is equal in single precision: 0.1, not 0.10000000149011612."""
    exact = struct.pack("f", value)
    shorter = (float(f"{value:.{digits}g}") for digits in (6, 7, 8))
    return next((number for number in shorter if struct.pack("f", number) == exact), value)


def _nullable(convert: Callable[[str], Any], fits: Callable[[Any], Any]) -> Callable[[str], Any]:
    def nullable(text: str) -> Any:
        value = convert(text)
        try:
            fits(value)
        except ValueError:
            return None
        return value

    return nullable


def _small(value: Any) -> int:
    return value if isinstance(value, int) else int.from_bytes(value, "big")  # BIT(1) comes as a byte


def _date(value: Any) -> date:
    if type(value) is date:
        return value
    raise ValueError(f"{value} is out of range")  # PyMySQL returns the text of an invalid date: 0000-00-00


def _time(value: Any) -> time:
    # https://dev.mysql.com/doc/refman/8.4/en/time.html: from -838:59:59 to 838:59:59
    if isinstance(value, timedelta) and timedelta(0) <= value < timedelta(days=1):
        return (datetime(1, 1, 1, tzinfo=UTC) + value).time()
    raise ValueError(f"{value} is not a time of a day")


def _local(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    raise ValueError(f"{value} is out of range")


def _moment(value: Any) -> datetime:
    return _local(value).replace(tzinfo=UTC)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else value.decode()


_PYTHON = {FIELD_TYPE.DATE: _date, FIELD_TYPE.TIME: _time, FIELD_TYPE.DATETIME: _local, FIELD_TYPE.TIMESTAMP: _local}
_NORMALISERS: Mapping[Kind, Normaliser] = {
    Kind.INT8: _small,
    Kind.FLOAT32: _single,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.LOCAL: _local,
    Kind.MOMENT: _moment,
    Kind.TEXT: _text,
}
