"""A table cut into chunks by its key, and how far each of them is read: what a task stores while it reads them.

Chunks are read in the key's order, so one key says how far one is. The cuts are chosen once; a restart goes on with the
same ones. A grid is stored under a partition of its own, beside the table's position and not instead of it: other
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

from headrace import SourceBatch
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reading.paging import share_of

Key = tuple[Any, ...]
SourcePartition = Mapping[str, Any]
SourceOffset = Mapping[str, Any]


@dataclass
class Chunk:
    """Rows whose first column of the key is greater than ``above`` and not greater than ``up_to``; None = no bound.

    Everything up to ``after`` (values of the whole key) was read; empty = nothing yet.
    """

    above: Any = None
    up_to: Any = None
    after: Key = ()

    def share(self) -> float:
        """About which part of it was read."""
        return (share_of(self.above, self.after[0], self.up_to) or 0.0) if self.after else 0.0


@dataclass
class ChunkPlan:
    """Chunks that are not read to their end yet."""

    key: tuple[str, ...]
    """Columns of the primary key."""
    chunks: list[Chunk]
    mode: str
    behind: Mapping[str, Any] | None = None
    """The table's position once all chunks are read; None in mode bulk."""
    cut: int = field(default=0)
    """How many chunks there were."""

    def __post_init__(self) -> None:
        self.cut = self.cut or len(self.chunks)

    @property
    def begun(self) -> bool:
        """Whether something was read."""
        return len(self.chunks) < self.cut or any(chunk.after for chunk in self.chunks)

    def share(self) -> float:
        """About which part of the table was read, as if all chunks had equally many rows."""
        return (self.cut - len(self.chunks) + sum(chunk.share() for chunk in self.chunks)) / max(1, self.cut)

    def reached(self, chunk: Chunk, after: Key, *, done: bool) -> None:
        """``chunk`` was read up to ``after``, or to its end."""
        chunk.after = after or chunk.after
        if done:
            self.chunks = [other for other in self.chunks if other is not chunk]

    def to_json(self) -> dict[str, Any] | None:
        """The source offset, of primitives as Kafka Connect has it; None when a value of the key cannot be stored."""
        try:
            chunks = [[_stored(c.above), _stored(c.up_to), [*map(_stored, c.after)]] for c in self.chunks]
        except TypeError:
            return None
        return {
            "mode": self.mode,
            "key": _text(self.key),
            "chunks": _text(chunks),
            "cut": self.cut,
            "behind": None if self.behind is None else _text(self.behind),
        }


class Record:
    """What is stored of the reading of one grid: with each batch, how far it is; with the last, that it is over.

    ``table``: the partition of the table's position. ``stored``: a grid is stored already.
    """

    def __init__(self, grid: ChunkPlan, part: Mapping[str, Any], table: Mapping[str, Any], *, stored: bool) -> None:
        self.grid = grid
        self._part, self._table = dict(part), dict(table)
        self._stored = stored

    def stamp(self, batch: SourceBatch) -> None:
        """After :meth:`ChunkPlan.reached`. What is acknowledged is stored in the order in which batches are stamped."""
        grid = self.grid
        if grid.chunks:
            batch.source_partition, batch.source_offset = self._part, grid.to_json()
            self._stored |= batch.source_offset is not None
            return
        over: list[tuple[SourcePartition, SourceOffset | None]] = []
        if grid.behind is not None:
            over.append((self._table, grid.behind))
        if self._stored:
            over.append((self._part, None))
        if over:
            batch.source_partition, batch.more_offsets = self._part, over

    @property
    def stored(self) -> bool:
        """Whether a last batch must come, with or without rows."""
        return self._stored or self.grid.behind is not None


def split_at(
    key: tuple[str, ...], cuts: Sequence[Any], mode: str, behind: Mapping[str, Any] | None = None
) -> ChunkPlan:
    """A table cut behind each of some values of the first column of its key."""
    edges = [None, *cuts, None]
    return ChunkPlan(key, [Chunk(low, high) for low, high in pairwise(edges)], mode, behind)


def from_json(offset: Mapping[str, Any] | None, key: Sequence[str], mode: str) -> ChunkPlan | None:
    """What was stored; None when nothing was, or it is of another mode or key, or nothing that can be understood.

    Without it a table is read from its beginning: rows are sent again, none is lost.
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
        behind = None if offset["behind"] is None else orjson.loads(offset["behind"])
        cut = int(offset["cut"])
    except (KeyError, TypeError, ValueError):
        return None
    if any(len(chunk.after) not in (0, len(key)) for chunk in chunks) or (behind is None) != (mode == "bulk"):
        return None
    return ChunkPlan(tuple(key), chunks, mode, behind, cut)


def chunk_plan_partition(table: TableName) -> dict[str, Any]:
    """The source partition under which a table's grid is stored."""
    return {"protocol": "1", "table": str(table), "part": "snapshot"}


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()


def _stored(value: Any) -> Any:
    """Exactly, so that the database takes it for the same value again. Raises TypeError."""
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
