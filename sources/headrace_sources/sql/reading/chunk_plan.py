"""A table divided into chunks by its primary key, and how far each of them is read: what a task stores meanwhile.

Chunks are read in the key's order, so one key says how far a chunk is. The split points are chosen once; a restart goes
on with the same ones. A plan is stored under a partition of its own, in addition to the table's position: other
connectors do not see it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from itertools import pairwise
from typing import Any

import orjson

from headrace import OffsetReader, SourceBatch
from headrace_sources.sql.cursor.position import partition_of
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reading.read_progress import share_of
from headrace_sources.sql.reading.read_spec import ReadSpec

KeyValues = tuple[Any, ...]
"""Values of the primary key's columns."""
_Partition = Mapping[str, Any]
_Offset = Mapping[str, Any]


@dataclass
class Chunk:
    """Rows in which the first column of the key is greater than ``above`` and at most ``up_to``; None = no bound.

    All rows up to ``after`` were read; empty = none.
    """

    above: Any = None
    up_to: Any = None
    after: KeyValues = ()

    def share(self) -> float:
        """Return about which part of the chunk was read."""
        return (share_of(self.above, self.after[0], self.up_to) or 0.0) if self.after else 0.0


@dataclass
class ChunkPlan:
    """The chunks that are not read to their end yet."""

    key: tuple[str, ...]
    """Columns of the primary key."""
    chunks: list[Chunk]
    mode: str
    final_offset: Mapping[str, Any] | None = None
    """The table's source offset once all chunks are read; None in mode bulk."""
    count: int = field(default=0)
    """How many chunks there were."""

    def __post_init__(self) -> None:
        self.count = self.count or len(self.chunks)

    def share(self) -> float:
        """Return about which part of the table was read, as if all chunks had equally many rows."""
        return (self.count - len(self.chunks) + sum(chunk.share() for chunk in self.chunks)) / max(1, self.count)

    def reached(self, chunk: Chunk, after: KeyValues, *, done: bool) -> None:
        """Note that ``chunk`` was read up to ``after``, or to its end."""
        chunk.after = after or chunk.after
        if done:
            self.chunks = [other for other in self.chunks if other is not chunk]

    def to_json(self) -> dict[str, Any] | None:
        """Return the source offset, of primitives as in Kafka Connect; None when a key value cannot be stored."""
        try:
            chunks = [[_stored(c.above), _stored(c.up_to), [*map(_stored, c.after)]] for c in self.chunks]
        except TypeError:
            return None
        return {
            "mode": self.mode,
            "key": _text(self.key),
            "chunks": _text(chunks),
            "cut": self.count,
            "behind": None if self.final_offset is None else _text(self.final_offset),
        }


class ChunkOffsets:
    """Offsets of the batches of one plan: with each batch the plan's state, with the last one that it is over.

    ``partition``: of the table's position. ``stored``: whether a plan is stored already.
    """

    def __init__(self, plan: ChunkPlan, plan_partition: _Partition, partition: _Partition, *, stored: bool) -> None:
        self.plan = plan
        self._plan_partition, self._partition = dict(plan_partition), dict(partition)
        self._stored = stored

    def attach(self, batch: SourceBatch) -> None:
        """Set the offsets of ``batch``, after :meth:`ChunkPlan.reached` and in the order in which batches are sent."""
        plan = self.plan
        if plan.chunks:
            batch.source_partition, batch.source_offset = self._plan_partition, plan.to_json()
            self._stored |= batch.source_offset is not None
            return
        over: list[tuple[_Partition, _Offset | None]] = []
        if plan.final_offset is not None:
            over.append((self._partition, plan.final_offset))
        if self._stored:
            over.append((self._plan_partition, None))
        if over:
            batch.source_partition, batch.more_offsets = self._plan_partition, over

    @property
    def last_batch_needed(self) -> bool:
        """Whether the plan must end with a batch, with or without rows."""
        return self._stored or self.plan.final_offset is not None


def chunk_offsets(spec: ReadSpec, plan: ChunkPlan, *, stored: bool) -> ChunkOffsets:
    """Return the offsets of a plan of the spec's table."""
    table = spec.relation.table
    assert table is not None
    partition = partition_of(table, spec.config.mode, spec.catalog)
    return ChunkOffsets(plan, chunk_plan_partition(table), partition, stored=stored)


def split_at(
    key: tuple[str, ...], points: Sequence[Any], mode: str, final_offset: Mapping[str, Any] | None = None
) -> ChunkPlan:
    """Return a plan that is split after each of ``points``, values of the key's first column."""
    edges = [None, *points, None]
    return ChunkPlan(key, [Chunk(low, high) for low, high in pairwise(edges)], mode, final_offset)


def from_json(offset: Mapping[str, Any] | None, key: Sequence[str], mode: str) -> ChunkPlan | None:
    """Return the stored plan; None without one, or when it is of another mode or key, or cannot be understood.

    Without a plan a table is read from its beginning: rows are sent again, and none is lost.
    """
    if offset is None or offset.get("mode") != mode:
        return None
    try:
        if orjson.loads(offset["key"]) != [*key]:
            return None
        chunks = [
            Chunk(_value(above), _value(up_to), tuple(map(_value, after)))
            for above, up_to, after in orjson.loads(offset["chunks"])
        ]
        final_offset = None if offset["behind"] is None else orjson.loads(offset["behind"])
        count = int(offset["cut"])
    except (KeyError, TypeError, ValueError):
        return None
    if any(len(chunk.after) not in (0, len(key)) for chunk in chunks) or (final_offset is None) != (mode == "bulk"):
        return None
    return ChunkPlan(tuple(key), chunks, mode, final_offset, count)


def chunk_plan_partition(table: TableName) -> dict[str, Any]:
    """Return the source partition under which a table's plan is stored."""
    return {"protocol": "1", "table": str(table), "part": "snapshot"}


def stored_chunk_plans(
    reader: OffsetReader, tables: Sequence[TableName | None]
) -> dict[TableName, Mapping[str, Any] | None]:
    """Return for each table the offset of the plan that an earlier task has stored. Raise RetriableError."""
    named = [table for table in tables if table is not None]
    return dict(zip(named, reader.offsets([chunk_plan_partition(table) for table in named]), strict=True))


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()


def _stored(value: Any) -> Any:
    """Return ``value`` exactly, so that the database reads the same value again. Raise TypeError."""
    if value is None or type(value) in (int, str, bool):
        return {"decimal": str(value)} if type(value) is int and abs(value) > _LARGEST else value
    for name, kind, write, _ in _FORMS:
        if type(value) is kind:
            return {name: write(value)}
    raise TypeError(f"{type(value).__name__} cannot be stored")


def _value(stored: Any) -> Any:
    if not isinstance(stored, dict):
        return stored
    [(name, text)] = stored.items()
    [read] = (read for known, _, _, read in _FORMS if known == name)
    return read(text)


_LARGEST = 2**63 - 1
_FORMS: Sequence[tuple[str, type, Any, Any]] = (
    ("decimal", Decimal, str, Decimal),
    ("moment", datetime, datetime.isoformat, datetime.fromisoformat),
    ("date", date, date.isoformat, date.fromisoformat),
    ("time", time, time.isoformat, time.fromisoformat),
    ("bytes", bytes, lambda value: base64.b64encode(value).decode(), base64.b64decode),
)
