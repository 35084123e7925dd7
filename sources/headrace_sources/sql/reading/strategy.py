"""Which reader a relation gets: by the cursor, by the primary key, or first by the one and then by the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection

from headrace import OffsetReader, SourceBatch
from headrace_sources.sql.cursor.offsets import Position
from headrace_sources.sql.cursor.table_cursor import TableCursor
from headrace_sources.sql.dialects import Database
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reading.chunk_plan import ChunkPlan, chunk_plan_partition
from headrace_sources.sql.reading.paging import Paging
from headrace_sources.sql.reading.read_spec import Source
from headrace_sources.sql.reading.snapshot import BulkReader, FirstReader, Parallelism, Snapshot
from headrace_sources.sql.reading.table_reader import TableReader


class Reader(Protocol):
    """See :class:`TableReader`, :class:`BulkReader` and :class:`FirstReader`. Used from the task's thread."""

    source: Source

    @property
    def open(self) -> bool: ...
    @property
    def more(self) -> bool: ...
    @property
    def soon(self) -> bool: ...
    @property
    def long(self) -> bool: ...
    @property
    def told(self) -> str | None: ...
    @property
    def remaining(self) -> int: ...
    @property
    def alone(self) -> str | None: ...
    @property
    def progress(self) -> TableCursor: ...
    @property
    def snapshot(self) -> Snapshot | None: ...
    def read(self, connection: Connection) -> SourceBatch | None: ...
    def gather(self, timeout: float) -> SourceBatch | None: ...
    def acknowledged(self, batch: SourceBatch) -> None: ...
    def close(self) -> None: ...
    def stop(self) -> None: ...


def stored_chunk_plans(
    reader: OffsetReader, tables: Sequence[TableName | None]
) -> dict[TableName, Mapping[str, Any] | None]:
    """For each table what an earlier task has left of a reading by its primary key. Raises RetriableError."""
    named = [table for table in tables if table is not None]
    return dict(zip(named, reader.offsets([chunk_plan_partition(table) for table in named]), strict=True))


def reader_for(
    source: Source,
    database: Database,
    position: Position | None,
    grid: ChunkPlan | None,
    initial: Position | None,
    crews: Parallelism,
) -> Reader:
    """``position`` and ``grid``: what is stored. ``initial``: where to begin without. ``crews``: one thread = none.

    A position is later than any grid: the snapshot is over.
    """
    if source.paging is Paging.KEY:
        return BulkReader(source, database, grid, crews)
    if position is None and source.cursor.names and (grid is not None or crews.threads > 1):
        return FirstReader(source, database, grid, crews)
    return TableReader(source, database, position or initial)
