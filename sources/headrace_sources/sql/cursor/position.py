"""Cursor positions of rows, and the source partition and offset under which they are stored.

Partitions and offsets are byte for byte those of the JDBC source connector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from headrace import OffsetReader, TaskError
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.rows.timestamps import TimestampCodec, from_json, to_json
from headrace_sources.sql.tables.queries import LARGEST_ID

Row = Sequence[Any]
"""Values as the database's driver gives them."""

CursorPosition = tuple[Any, ...]
"""Values of the cursor columns as the database compares them. Rows are ordered by it."""

BEGINNING: CursorPosition = ()
"""Before all rows."""

SMALLEST_ID = -(2**63) - 1
"""Less than every id: a position between two timestamps."""

QUERY_PARTITION: Mapping[str, Any] = {"query": "query"}


class BadCursorError(Exception):
    """A row has a cursor value that cannot be used. ``column`` is the index of the value in the row."""

    def __init__(self, column: int, row: Row, reason: str) -> None:
        super().__init__(reason)
        self.column, self.row, self.reason = column, row, reason


@dataclass(frozen=True, slots=True)
class StoredPosition:
    """Everything up to here was read. ``timestamp`` is an aware datetime; None = nothing was read by that column."""

    timestamp: datetime | None = None
    incrementing: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the source offset."""
        offset: dict[str, Any] = {} if self.incrementing is None else {"incrementing": self.incrementing}
        return offset if self.timestamp is None else offset | to_json(self.timestamp)


@dataclass(frozen=True)
class CursorCodec:
    """Positions of rows with these columns, and their stored form.

    ``timestamps``, ``incrementing`` (-1 = none) and ``identity`` are indexes of values in a row. ``codec`` is None
    where the cursor has no timestamp.
    """

    timestamps: Sequence[int]
    incrementing: int
    identity: Sequence[int]
    codec: TimestampCodec | None

    def of(self, row: Row) -> CursorPosition:
        """Return the row's position. Raise BadCursorError."""
        if self.codec is None:
            return (self._id(row),)
        try:
            timestamp = self.codec.resume(self.timestamp(row))
        except (ValueError, OverflowError) as error:
            # temporal.out.of.range has replaced it by null or text, from which reading cannot continue.
            reason = "a cursor needs timestamps of the years 1 to 9999"
            raise BadCursorError(self.timestamps[0], row, reason) from error
        return (timestamp, LARGEST_ID if self.incrementing < 0 else self._id(row))

    def changed(self, row: Row) -> int | None:
        """Return the row's timestamp in epoch milliseconds; None without one, and where it cannot be a position."""
        if self.codec is None:
            return None
        try:
            moment = self.codec.to_moment(self.codec.resume(self.timestamp(row)))
        except (ValueError, OverflowError):
            return None  # reported as a bad position where the row is taken
        return round(moment.timestamp() * 1000)

    def timestamp(self, row: Row) -> Any:
        """Return the cursor's timestamp as the database stores it: the first that is not NULL."""
        return next((row[index] for index in self.timestamps if row[index] is not None), None)

    def _id(self, row: Row) -> int:
        value = row[self.incrementing]
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
            number = int(value)
        else:
            raise BadCursorError(self.incrementing, row, f"{value!r} is not a whole number")
        if number > LARGEST_ID:
            raise BadCursorError(self.incrementing, row, f"{number} is more than an INT64 holds")
        return number

    def to_stored(self, position: CursorPosition) -> StoredPosition:
        """Return ``position`` as it is stored. Raise ValueError and OverflowError for a timestamp that cannot be."""
        if position == BEGINNING:
            return StoredPosition()
        if self.codec is None:
            return StoredPosition(incrementing=position[0])
        known = self.incrementing >= 0 and SMALLEST_ID < position[1] < LARGEST_ID
        return StoredPosition(self.codec.to_moment(position[0]), position[1] if known else None)

    def from_stored(self, stored: StoredPosition) -> CursorPosition:
        """Return the position that was stored."""
        if self.codec is None:
            return BEGINNING if stored.incrementing is None else (stored.incrementing,)
        if stored.timestamp is None:
            return BEGINNING
        timestamp = self.codec.to_stored(stored.timestamp)
        if self.incrementing < 0:
            return (timestamp, LARGEST_ID)
        return (timestamp, SMALLEST_ID if stored.incrementing is None else stored.incrementing)


def partition_of(table: TableName | None, mode: str, catalog: str = "") -> dict[str, Any]:
    """Return the source partition of a table, or of the query (None). ``catalog``: see :attr:`Dialect.catalog`."""
    if table is None:
        return dict(QUERY_PARTITION)
    if mode == "bulk":
        return {"table": table.name}
    return {"protocol": "1", "table": f"{catalog}.{table}" if catalog else str(table)}


def stored_positions(
    reader: OffsetReader, tables: Sequence[TableName | None], mode: str, catalog: str = "", database: str = ""
) -> dict[TableName | None, StoredPosition | None]:
    """Return the stored position of each table. Raise TaskError.

    Some versions of JDBC drivers put the ``database`` in front of the table, and older connectors stored bare table
    names; those count, in this order, where nothing is stored under the table's own partition.
    """
    forms = [
        [partition_of(table, mode, catalog), partition_of(table, mode, database), partition_of(table, "bulk")]
        for table in tables
    ]
    found = iter(reader.offsets([form for of_table in forms for form in of_table]))
    positions = {}
    for table, of_table in zip(tables, forms, strict=True):
        offsets = [next(found) for _ in of_table]
        positions[table] = position_of(next((offset for offset in offsets if offset is not None), None), mode)
    return positions


def stored_catalogs(
    reader: OffsetReader, tables: Sequence[TableName | None], mode: str, catalog: str = "", database: str = ""
) -> dict[TableName | None, str]:
    """Return what comes before each table in the partition of its positions: ``catalog``, or the ``database`` where a
    JDBC driver has stored the position so and nothing is stored under the table's own partition.

    Positions stay in the partition in which they were found: the JVM's connector must be able to continue them, too.
    """
    forms = [(partition_of(table, mode, catalog), partition_of(table, mode, database)) for table in tables]
    found = iter(reader.offsets([form for of_table in forms for form in of_table]))
    catalogs = {}
    for table in tables:
        own, with_database = next(found), next(found)
        catalogs[table] = catalog if own is not None or with_database is None else database
    return catalogs


def position_of(offset: Mapping[str, Any] | None, mode: str) -> StoredPosition | None:
    """Return a source offset as a position; None where this mode cannot use it. Raise TaskError."""
    if offset is None:
        return None
    millis = _number(offset, "timestamp") if "timestamp" in mode else None
    nanos = _number(offset, "timestamp_nanos")
    incrementing = _number(offset, "incrementing") if "incrementing" in mode else None
    if millis is None and "timestamp" in mode:
        return None  # an id alone, from another mode, does not determine a position among timestamps
    if millis is None and incrementing is None:
        return None
    try:
        return StoredPosition(None if millis is None else from_json(millis, nanos), incrementing)
    except OverflowError as error:
        raise _unusable(offset) from error


def _number(offset: Mapping[str, Any], name: str) -> int | None:
    value = offset.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise _unusable(offset)


def _unusable(offset: Mapping[str, Any]) -> TaskError:
    return TaskError(
        f"the stored offset {dict(offset)} cannot be used: incrementing, timestamp (epoch milliseconds) and "
        "timestamp_nanos (of the second) must be whole numbers",
        code="sql.offset",
        hint="run `headrace connectors stop NAME`; then `headrace connectors offsets NAME` with --set to correct the "
        "offset, or with --reset to read from the beginning; then resume",
    )
