"""Source partitions and offsets, byte for byte those of the JDBC source connector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headrace import OffsetReader, TaskError
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.rows.timestamps import from_json, to_json

QUERY_PARTITION: Mapping[str, Any] = {"query": "query"}


@dataclass(frozen=True, slots=True)
class Position:
    """Everything up to here was read. ``timestamp`` is an aware datetime; None = nothing was read by that column."""

    timestamp: datetime | None = None
    incrementing: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The source offset."""
        offset: dict[str, Any] = {} if self.incrementing is None else {"incrementing": self.incrementing}
        return offset if self.timestamp is None else offset | to_json(self.timestamp)


def partition_of(table: TableName | None, mode: str, catalog: str = "") -> dict[str, Any]:
    """The source partition of a table, or of the query. ``catalog``: of :attr:`Database.catalog`."""
    if table is None:
        return dict(QUERY_PARTITION)
    if mode == "bulk":
        return {"table": table.name}
    return {"protocol": "1", "table": f"{catalog}.{table}" if catalog else str(table)}


def stored_positions(
    reader: OffsetReader, tables: Sequence[TableName | None], mode: str, catalog: str = ""
) -> dict[TableName | None, Position | None]:
    """Where each table was left. Older connectors stored bare table names; those count where there is nothing newer."""
    partitions = [partition_of(table, mode, catalog) for table in tables]
    older = [partition_of(table, "bulk") for table in tables]
    found = reader.offsets([*partitions, *older])
    return {
        table: position_of(found[place] if found[place] is not None else found[place + len(tables)], mode)
        for place, table in enumerate(tables)
    }


def position_of(offset: Mapping[str, Any] | None, mode: str) -> Position | None:
    """A stored offset; None where nothing is stored that this mode can use. Raises TaskError."""
    if offset is None:
        return None
    millis = _number(offset, "timestamp") if "timestamp" in mode else None
    nanos = _number(offset, "timestamp_nanos")
    incrementing = _number(offset, "incrementing") if "incrementing" in mode else None
    if millis is None and "timestamp" in mode:
        return None  # an id alone, from another mode, says nothing about the order of timestamps
    if millis is None and incrementing is None:
        return None
    try:
        return Position(None if millis is None else from_json(millis, nanos), incrementing)
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
        hint="`headrace connectors stop NAME`; then `headrace connectors offsets NAME` with --set to mend it, or with "
        "--reset to begin anew; then resume",
    )
