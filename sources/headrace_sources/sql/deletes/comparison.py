"""Rows that are gone, without change data capture: from time to time the table's keys against those that were sent.

One comparison goes over ledger and table in the order of the key, ten thousand keys at a time between the polls. The
database counts and hashes the keys of such a part; only where that is not what the ledger has, the keys themselves are
read. What is in the ledger alone is asked for once more by its key, and becomes a tombstone if it is not there.

That the database sorts keys as the ledger does is assumed and checked with every key that is read. Where it does not (a
collation), all keys of the table are read and marked in the ledger, and what bears no mark is gone. See
docs/decisions/0021-deletes-by-a-ledger.md.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam
from sqlalchemy.types import NullType

from headrace import Schedule, SourceBatch
from headrace_sources.sql.deletes.ledger import Ledger
from headrace_sources.sql.dialects import Database
from headrace_sources.sql.rows.ledger_keys import Key, decoded, encoded
from headrace_sources.sql.rows.row_schema import row_schema_of
from headrace_sources.sql.rows.types import Column, TypeMapping
from headrace_sources.sql.tables.queries import Relation, keys_among, keys_hashed, keys_within

PAGE = 10_000
"""Keys that are read at a time."""
_ASKED = 500
"""Keys that one statement asks for, and most tombstones of a batch."""
_HOPELESS = 3
"""Parts with differences, one after the other, from which on hashes are not asked for until a part has none."""
_FEW = 10
"""So many deletions never trip the fuse."""


class _Phase(enum.Enum):
    IDLE = enum.auto()
    COMPARING = enum.auto()
    MARKING = enum.auto()
    DELETING = enum.auto()


@dataclass(frozen=True)
class ComparedTable:
    """What is compared. ``columns``: those of the key, in its order."""

    relation: Relation
    columns: tuple[Column, ...]
    topic: str
    partition: dict[str, Any]
    mapping: TypeMapping


class KeyComparison:
    """The comparisons of one table. Used from the task's thread."""

    def __init__(
        self, swept: ComparedTable, database: Database, ledger: Ledger, schedule: Schedule, fraction: float
    ) -> None:
        self._swept = swept
        self._database = database
        self.ledger = ledger
        self._schedule = schedule
        self._fraction = fraction
        self._phase = _Phase.IDLE
        self._ordered = True  # as far as we know, the database sorts keys as the ledger does
        self._place = b""  # up to where was compared, encoded
        self._last: Key | None = None  # the same as the database has it
        self._differed = 0  # so many parts before this one had differences, one after the other
        self._flying: list[tuple[SourceBatch, Sequence[Key], int]] = []  # tombstones on their way
        self._row_schema = row_schema_of(swept.columns, None, swept.mapping, database.normaliser)
        self._hash = database.key_hash(swept.columns, [swept.relation.column(name) for name in self._names])
        self.due = schedule.next_after(datetime.now(UTC))
        self._began = 0.0
        self.problem: str | None = None
        """Why deletions are not sent, for the status."""
        self.statements = 0
        """That the last comparison took."""
        self.read = 0
        """Keys of the table that it had to read."""
        self.sent = 0
        """Tombstones that it gave."""
        self.seconds = 0.0
        """That it took, polls of rows in between included."""

    @property
    def relation(self) -> Relation:
        """What is compared."""
        return self._swept.relation

    @property
    def active(self) -> bool:
        """Whether a comparison is going on."""
        return self._phase is not _Phase.IDLE

    def step(self, connection: Connection) -> SourceBatch | None:
        """Go on a little: some keys, or a batch of tombstones. Call while :attr:`active`, or when it is due."""
        if self._phase is _Phase.IDLE:
            self._begin(_Phase.COMPARING if self._ordered else _Phase.MARKING)
            self.statements, self.read, self.sent, self._began = 0, 0, 0, time.monotonic()
        if self._phase is _Phase.DELETING:
            return self._delete(connection)
        if (self._compare if self._phase is _Phase.COMPARING else self._mark)(connection):
            self._judge()
        return None

    def _begin(self, phase: _Phase) -> None:
        self.ledger.begin_walk()
        self._phase, self._place, self._last, self._differed = phase, b"", None, 0

    def _compare(self, connection: Connection) -> bool:
        """The next part of the ledger with the same part of the table; whether it was the last."""
        part = self.ledger.part(self._place, PAGE)
        upper = None if part is None else decoded(part.last)
        if part is not None and self._hash is not None and self._differed < _HOPELESS:
            asked = keys_hashed(self._swept.relation, self._names, self._hash, self._bounds(upper), part.keys + 1)
            [(count, hashes)] = self._read(connection, asked)
            if count == part.keys and hashes == part.hashes:
                self._place, self._last, self._differed = part.last, upper, 0
                return False
        keys = self._read(connection, keys_within(self._swept.relation, self._names, self._bounds(upper), PAGE))
        self.read += len(keys)
        whole = len(keys) < PAGE
        found = {encoded(key): key for key in keys}
        end = part.last if part is not None and whole else None
        if not all(self._place < place and (end is None or place <= end) for place in found):
            # The database sorts them otherwise. Nothing is wrong so far, but it would take too long.
            self._ordered = False
            self._begin(_Phase.MARKING)
            return False
        if not whole:
            end = max(found)
        self._differed = self._differed + 1 if self.ledger.compare(self._place, end, found) else 0
        self._place = self._place if end is None else end
        self._last = upper if whole else keys[-1]
        return part is None and whole

    def _mark(self, connection: Connection) -> bool:
        """The next keys of the table, each of them marked in the ledger; whether they were the last."""
        keys = self._read(connection, keys_within(self._swept.relation, self._names, self._bounds(None), PAGE))
        self.read += len(keys)
        if keys:
            self.ledger.add(keys)
            self._last = keys[-1]
        if len(keys) == PAGE:
            return False
        self.ledger.unmet_are_gone()
        return True

    def _judge(self) -> None:
        """All keys were compared: is it credible that so many are gone?"""
        gone, all_keys = self.ledger.gone_count(), len(self.ledger)
        if gone > max(_FEW, self._fraction * all_keys):
            self.problem = (
                f"{gone} of {all_keys} keys of {self._swept.relation} are gone, more than delete.max.fraction "
                f"{self._fraction:g} allows: nothing is deleted. If that is right, set it to 1 for one comparison"
            )
            self._end()
            return
        self.problem = None
        self._phase, self._last = _Phase.DELETING, None

    def _delete(self, connection: Connection) -> SourceBatch | None:
        candidates = self.ledger.gone(self._last, _ASKED)
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
        self.sent += len(gone)
        self._flying.append((batch, gone, self.ledger.walk))
        return batch

    def _tombstones(self, keys: Sequence[Key]) -> SourceBatch:
        values = self._row_schema.convert(keys)
        single = len(self._names) == 1
        return SourceBatch(
            self._swept.topic,
            [None] * len(keys),
            keys=[value[self._names[0]] for value in values] if single else values,
            key_schema=self._row_schema.schema.by_name[self._names[0]] if single else self._row_schema.schema,
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
        self.seconds = time.monotonic() - self._began
        self.due = self._schedule.next_after(datetime.now(UTC))

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self._swept.columns)

    def _bounds(self, upper: Key | None) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]:
        return _bound(self._last), _bound(upper)

    def _read(self, connection: Connection, query: Any) -> list[Key]:
        self.statements += 1
        stream = self._database.stream(connection, query)
        try:
            return [tuple(row) for row in stream.fetchmany(PAGE)]
        finally:
            stream.close()


def _bound(key: Key | None) -> tuple[Any, ...] | None:
    """As parameters whose types the database finds out by itself: the driver gave them, it will take them."""
    return None if key is None else tuple(bindparam(None, value, type_=NullType()) for value in key)
