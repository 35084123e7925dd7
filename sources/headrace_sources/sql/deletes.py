"""Rows that are gone, without change data capture: from time to time the table's keys against those that were sent.

One comparison is a walk over the table's keys, a page at a time between the polls, which marks each of them in the
ledger; what bears no mark afterwards is asked for once more by its key, and becomes a tombstone if it is not there.
Whatever is sent meanwhile is marked, too. See docs/decisions/0021-deletes-by-a-ledger.md.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam
from sqlalchemy.types import NullType

from headrace import Schedule, SourceBatch
from headrace_sources.sql.dialects import Database
from headrace_sources.sql.ledger import Key, Ledger
from headrace_sources.sql.queries import Relation, keys_among, keys_behind
from headrace_sources.sql.rows import shape_of
from headrace_sources.sql.types import Column, TypeMapping

PAGE = 10_000
"""Keys that are read at a time."""
_ASKED = 500
"""Keys that one statement asks for, and most tombstones of a batch."""
_FEW = 10
"""So many deletions never trip the fuse."""


class _Phase(enum.Enum):
    IDLE = enum.auto()
    WALKING = enum.auto()
    DELETING = enum.auto()


@dataclass(frozen=True)
class Swept:
    """What is compared. ``columns``: those of the key, in its order."""

    relation: Relation
    columns: tuple[Column, ...]
    topic: str
    partition: dict[str, Any]
    mapping: TypeMapping


class Sweep:
    """The comparisons of one table. Used from the task's thread."""

    def __init__(self, swept: Swept, database: Database, ledger: Ledger, schedule: Schedule, fraction: float) -> None:
        self._swept = swept
        self._database = database
        self.ledger = ledger
        self._schedule = schedule
        self._fraction = fraction
        self._phase = _Phase.IDLE
        self._last: Key | None = None
        self._flying: list[tuple[SourceBatch, Sequence[Key], int]] = []  # tombstones on their way
        self._shape = shape_of(swept.columns, None, swept.mapping, database.normaliser)
        self.due = schedule.next_after(datetime.now(UTC))
        self.problem: str | None = None
        """Why deletions are not sent, for the status."""
        self.walked = 0
        """Keys of the table that the last walk met."""

    @property
    def relation(self) -> Relation:
        """What is compared."""
        return self._swept.relation

    @property
    def active(self) -> bool:
        """Whether a comparison is going on."""
        return self._phase is not _Phase.IDLE

    def step(self, connection: Connection) -> SourceBatch | None:
        """Go on a little: a page of keys, or a batch of tombstones. Call while :attr:`active`, or when it is due."""
        if self._phase is _Phase.IDLE:
            self.ledger.begin_walk()
            self._phase, self._last, self.walked = _Phase.WALKING, None, 0
        if self._phase is _Phase.WALKING:
            self._walk(connection)
            return None
        return self._delete(connection)

    def _walk(self, connection: Connection) -> None:
        keys = self._read(connection, keys_behind(self._swept.relation, self._names, _bound(self._last), PAGE))
        if keys:
            self.ledger.add(keys)
            self._last = keys[-1]
            self.walked += len(keys)
        if len(keys) == PAGE:
            return
        missing, all_keys = self.ledger.missing_count(), len(self.ledger)
        if missing > max(_FEW, self._fraction * all_keys):
            self.problem = (
                f"{missing} of {all_keys} keys of {self._swept.relation} are gone, more than delete.max.fraction "
                f"{self._fraction:g} allows: nothing is deleted. If that is right, set it to 1 for one comparison"
            )
            self._end()
            return
        self.problem = None
        self._phase, self._last = _Phase.DELETING, None

    def _delete(self, connection: Connection) -> SourceBatch | None:
        candidates = self.ledger.missing(self._last, _ASKED)
        if not candidates:
            self._end()
            return None
        self._last = candidates[-1]
        asked = keys_among(self._swept.relation, self._names, [_bound(key) or () for key in candidates])
        there = set(self._read(connection, asked))
        self.ledger.add(there)
        gone = [key for key in candidates if key not in there]
        if not gone:
            return None
        batch = self._tombstones(gone)
        self._flying.append((batch, gone, self.ledger.walk))
        return batch

    def _tombstones(self, keys: Sequence[Key]) -> SourceBatch:
        values = self._shape.convert(keys)
        single = len(self._names) == 1
        return SourceBatch(
            self._swept.topic,
            [None] * len(keys),
            keys=[value[self._names[0]] for value in values] if single else values,
            key_schema=self._shape.schema.by_name[self._names[0]] if single else self._shape.schema,
            source_partition=dict(self._swept.partition),
        )

    def acknowledged(self, batch: SourceBatch) -> None:
        """Tombstones that are in Kafka need not be known any longer."""
        for place, (flying, keys, walk) in enumerate(self._flying):
            if flying is batch:
                self.ledger.remove(keys, walk)
                del self._flying[place]
                return

    def break_off(self) -> None:
        """After an error: the comparison begins again when it is due."""
        if self.active:
            self._end()

    def _end(self) -> None:
        self._phase = _Phase.IDLE
        self.due = self._schedule.next_after(datetime.now(UTC))

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self._swept.columns)

    def _read(self, connection: Connection, query: Any) -> list[Key]:
        stream = self._database.stream(connection, query)
        try:
            return [tuple(row) for row in stream.fetchmany(PAGE)]
        finally:
            stream.close()


def _bound(key: Key | None) -> tuple[Any, ...] | None:
    """As parameters whose types the database finds out by itself: the driver gave them, it will take them."""
    return None if key is None else tuple(bindparam(None, value, type_=NullType()) for value in key)


def deleted(value: Any) -> bool:
    """Whether a value of ``delete.soft.column`` marks its row as deleted."""
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "f", "false", "n", "no")
    return value is not None and value is not False and value != 0
