"""SQLite: columns accept values of any type, so values are checked; timestamps are text or numbers."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any

from sqlalchemy import URL, ColumnElement, Connection, FromClause, Select, TextClause, func, inspect, select

from headrace import ConfigError, InfrastructureError
from headrace_sources.sql.dialects.dialect import Dialect, ErrorClass, Listed, TableName, column_of, run_raw
from headrace_sources.sql.rows.ledger_keys import key_hash
from headrace_sources.sql.rows.server_json import Stream
from headrace_sources.sql.rows.timestamps import SECOND, LocalCodec, TimestampCodec, floor
from headrace_sources.sql.rows.types import INTEGERS, Column, Kind, Normaliser

_VIEW = "headrace_query"
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d)([ T])(\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|\+00:00)?")
_TWICE = re.compile(r"(.+):\d+", re.DOTALL)
_MILLISECONDS = 100_000_000_000
"""Numbers from here on are milliseconds since the epoch (as Java's driver stores them), below it seconds."""


class Sqlite(Dialect):
    """SQLite files. A result that is being read holds a read lock: use the journal mode WAL if others write."""

    system_schemas = frozenset()
    timestamps_by_value = True
    commits_in_order = True  # one writer at a time, which takes its timestamps while it holds the lock
    text_type = "TEXT"
    cancel_method = "interrupt"
    clock_statement = r"SELECT strftime('%Y-%m-%d %H\:%M\:%f', 'now')"

    def connect_args(self, url: URL) -> dict[str, Any]:
        path = url.database
        if path and path != ":memory:" and not path.startswith("file:") and not Path(path).is_file():
            # SQLite would make an empty one.
            raise InfrastructureError(
                f"there is no SQLite file '{path}'",
                code="sql.missing_database",
                hint="correct connection.url; four slashes begin an absolute path: sqlite:////var/lib/app.db",
            )
        return {"timeout": 5.0}

    def prepare(self, dbapi_connection: Any, *, read_only: bool = False, timeout_ms: int = 0) -> None:
        super().prepare(dbapi_connection, read_only=read_only, timeout_ms=timeout_ms)
        dbapi_connection.create_function("headrace_key_hash", -1, lambda *key: key_hash(key), deterministic=True)

    def key_hash(
        self, columns: Sequence[Column], expressions: Sequence[ColumnElement[Any]]
    ) -> ColumnElement[int] | None:
        return func.headrace_key_hash(*expressions)

    def error_class(self, error: Exception) -> ErrorClass:
        message = str(error)
        if message.startswith("no such table"):
            return ErrorClass.MISSING_TABLE
        if message.startswith("no such column"):
            return ErrorClass.MISSING_COLUMN
        if "unable to open" in message or "not a database" in message:
            return ErrorClass.MISSING_DATABASE
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        busy = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_SCHEMA)
        return ErrorClass.BUSY if code in busy else ErrorClass.OTHER

    def stream(self, connection: Connection, query: Select[Any] | TextClause) -> Stream:
        return run_raw(connection, connection.connection.cursor(), query)

    def list_tables(self, connection: Connection, kinds: Collection[str]) -> list[Listed]:
        inspector = inspect(connection)  # SQLite's only schema is no part of a table's name
        found = [Listed(TableName(None, name), "TABLE") for name in inspector.get_table_names()]
        return found + [Listed(TableName(None, name), "VIEW") for name in inspector.get_view_names()]

    def columns(self, connection: Connection, table: TableName | None, query: str, result: Any) -> tuple[Column, ...]:
        if table is not None:
            return tuple(map(_widened, super().columns(connection, table, query, result)))
        # A view knows the declared types of the columns it passes on; a temporary one changes nothing in the file.
        raw = connection.connection.cursor()
        raw.execute(f"CREATE TEMP VIEW {_VIEW} AS {query.strip().rstrip(';')}")
        try:
            found = inspect(connection).get_columns(_VIEW)
        finally:
            raw.execute(f"DROP VIEW temp.{_VIEW}")
        # SQLite numbers names that are there twice when a query is wrapped: id, id:1.
        wrapped = [column[0] for column in result.description]
        names = [match[1] if (match := _TWICE.fullmatch(name)) and match[1] in wrapped else name for name in wrapped]
        return tuple(_widened(column_of(name, item["type"], True)) for name, item in zip(names, found, strict=True))

    def normaliser(self, column: Column) -> Normaliser | None:
        if column.kind is Kind.LOCAL:
            return _timestamps(self.zone)
        return _NORMALISERS.get(column.kind) or super().normaliser(column)

    def codec(
        self, connection: Connection, relation: FromClause, expression: ColumnElement[Any], columns: Sequence[Column]
    ) -> TimestampCodec | None:
        """Return the codec for the form of the greatest timestamp: text or number."""
        greatest = connection.execute(select(func.max(expression)).select_from(relation)).scalar_one()
        if greatest is None:
            return None
        if isinstance(greatest, int):
            return NumberCodec(1000 if abs(greatest) >= _MILLISECONDS else 1)
        if isinstance(greatest, str) and (match := _TIMESTAMP.fullmatch(greatest)):
            zone = UTC if match[5] else self.zone
            return TextCodec(match[2], match[5] or "", len(match[4] or "") if match[5] else None, LocalCodec(zone))
        raise ConfigError(
            f"the timestamp column holds {greatest!r}, which is no timestamp that sorts by time",
            code="sql.cursor_type",
            hint="store '2024-05-01 12:00:00' in UTC (or in db.timezone), or whole seconds or milliseconds",
        )


@dataclass(frozen=True)
class NumberCodec:
    """Whole seconds (``per_second`` 1) or milliseconds (1000) since the epoch."""

    per_second: int

    def to_moment(self, value: Any) -> datetime:
        if not isinstance(value, int):
            raise ValueError(f"{value!r} is not a whole number, as other timestamps of the column are")  # noqa: TRY004
        return _EPOCH + timedelta(milliseconds=value * 1000 // self.per_second)

    def resume(self, value: Any) -> Any:
        return value

    def to_stored(self, moment: datetime) -> Any:
        return (moment - _EPOCH) // timedelta(milliseconds=1000 // self.per_second)

    def bound(self, moment: datetime) -> Any:
        return self.to_stored(floor(moment, SECOND))


@dataclass(frozen=True)
class TextCodec:
    """``2024-05-01 12:00:00``, with or without a fraction; ``digits`` of it where text sorts by time only if all agree.

    Without a suffix a moment is written as short as can be: ``12:00:00`` sorts before ``12:00:00.5`` and also before
    ``12:00:00.000``, so a position that is read back never comes after its row.
    """

    separator: str
    suffix: str
    digits: int | None
    local: LocalCodec

    def to_moment(self, value: Any) -> datetime:
        match = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
        if match is None or match[2] != self.separator or (match[5] or "") != self.suffix:
            raise ValueError(f"{value!r} is not written like other timestamps of the column")
        if self.digits is not None and len(match[4] or "") != self.digits:
            raise ValueError(f"{value!r} has not {self.digits} digits after the second, as others of the column have")
        return self.local.to_moment(datetime.fromisoformat(f"{match[1]} {match[3]}.{(match[4] or '0')[:6]:0<6}"))

    def resume(self, value: Any) -> Any:
        return value

    def to_stored(self, moment: datetime) -> Any:
        naive = self.local.to_stored(moment)
        fraction = f"{naive.microsecond:06d}"
        kept = fraction.rstrip("0") if self.digits is None else f"{fraction:0<{self.digits}}"[: self.digits]
        return f"{naive.isoformat(self.separator, 'seconds')}{'.' if kept else ''}{kept}{self.suffix}"

    def bound(self, moment: datetime) -> Any:
        return self.to_stored(floor(moment, SECOND))


def _widened(column: Column) -> Column:
    # An INTEGER of SQLite has up to 64 bits, a REAL always has 64; a zone is never stored.
    if column.kind in INTEGERS:
        return Column(column.name, Kind.INT64, column.nullable)
    if column.kind is Kind.FLOAT32:
        return Column(column.name, Kind.FLOAT64, column.nullable)
    return column


def _timestamps(zone: tzinfo) -> Callable[[Any], datetime]:
    def convert(value: Any) -> datetime:
        if isinstance(value, int):
            seconds = value / 1000 if abs(value) >= _MILLISECONDS else value
            moment = _EPOCH + timedelta(seconds=seconds)
        else:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                return moment
        return moment.astimezone(zone).replace(tzinfo=None)

    return convert


def _checked(kind: type, name: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is kind:
            return value
        raise ValueError(f"it is not {name}")

    return check


def _boolean(value: Any) -> bool:
    if value in (0, 1):
        return bool(value)
    raise ValueError("it is neither 0 nor 1")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NORMALISERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.BOOLEAN: _boolean,
    Kind.INT64: _checked(int, "a whole number"),
    Kind.FLOAT64: float,
    Kind.DATE: date.fromisoformat,
    Kind.TIME: time.fromisoformat,
    Kind.TEXT: _text,
    Kind.BYTES: _bytes,
}
