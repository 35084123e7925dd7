"""Finds deleted rows without change data capture: the table's keys are compared with those that were sent.

One comparison walks through ledger and table in the order of the key, ten thousand keys at a time between the polls.
The database counts and hashes the keys of such a part; only where the result differs from the ledger's, the keys
themselves are read. A key that only the ledger has is looked up once more, and becomes a tombstone if it is missing.

That the database sorts keys as the ledger does is assumed, and checked with every key that is read. Where it does not
(because of a collation), all keys of the table are read and marked in the ledger, and keys without a mark are gone. See
docs/decisions/0021-deletes-by-a-ledger.md.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam
from sqlalchemy.types import NullType

from headrace import Schedule, SourceBatch
from headrace_sources.sql.deletes.ledger import Ledger
from headrace_sources.sql.dialects import Dialect
from headrace_sources.sql.rows.ledger_keys import Key, decoded, encoded
from headrace_sources.sql.rows.row_schema import row_schema_of
from headrace_sources.sql.rows.types import Column, TypeMapping
from headrace_sources.sql.tables.queries import Relation, keys_among, keys_hashed, keys_within
from headrace_sources.sql.tuning import Tuning

_DIFFERENT_PARTS = 3
"""After so many parts with differences in a row hashes are not asked for, until a part has none."""
_FEW = 10
"""So many deletions are always allowed (delete.max.fraction)."""


class _Phase(enum.Enum):
    IDLE = enum.auto()
    COMPARING = enum.auto()
    MARKING = enum.auto()
    DELETING = enum.auto()


@dataclass(frozen=True)
class ComparedTable:
    """What is compared. ``columns``: of the key, in its order."""

    relation: Relation
    columns: tuple[Column, ...]
    topic: str
    partition: dict[str, Any]
    mapping: TypeMapping


class KeyComparison:
    """The comparisons of one table, one after the other. Used from the task's thread."""

    def __init__(
        self,
        compared: ComparedTable,
        dialect: Dialect,
        ledger: Ledger,
        schedule: Schedule,
        fraction: float,
        tuning: Tuning,
    ) -> None:
        self._compared = compared
        self._dialect = dialect
        self.ledger = ledger
        self._schedule = schedule
        self._fraction = fraction
        self._page, self._query_keys = tuning.keys_per_page, tuning.keys_per_query
        self._phase = _Phase.IDLE
        self.ordered = True
        """Whether the database sorts keys as the ledger does, as far as is known."""
        self._position = b""  # up to where was compared, encoded
        self._last: Key | None = None  # the same as the database has it
        self._differed = 0  # so many parts before this one had differences in a row
        self._unacknowledged: list[tuple[SourceBatch, Sequence[Key], int]] = []  # tombstones
        self._row_schema = row_schema_of(compared.columns, None, compared.mapping, dialect.normaliser)
        self._hash = dialect.key_hash(compared.columns, [compared.relation.column(name) for name in self._names])
        self._now = tuning.now
        self.due = schedule.next_after(self._now())
        self._began = 0.0
        self.problem: str | None = None
        """Why deletions are not sent, for the status."""
        self.statements = 0
        """Of the last comparison."""
        self.read = 0
        """Keys of the table that it read."""
        self.sent = 0
        """Tombstones that it returned."""
        self.seconds = 0.0
        """That it took, including the polls of rows in between."""

    @property
    def relation(self) -> Relation:
        """What is compared."""
        return self._compared.relation

    @property
    def active(self) -> bool:
        """Whether a comparison is going on."""
        return self._phase is not _Phase.IDLE

    def step(self, connection: Connection) -> SourceBatch | None:
        """Compare some keys, or return a batch of tombstones. Call while :attr:`active`, and when it is due."""
        if self._phase is _Phase.IDLE:
            self._begin(_Phase.COMPARING if self.ordered else _Phase.MARKING)
            self.statements, self.read, self.sent, self._began = 0, 0, 0, time.monotonic()
        if self._phase is _Phase.DELETING:
            return self._delete(connection)
        if (self._compare if self._phase is _Phase.COMPARING else self._mark)(connection):
            self._check_fraction()
        return None

    def _begin(self, phase: _Phase) -> None:
        self.ledger.begin_walk()
        self._phase, self._position, self._last, self._differed = phase, b"", None, 0

    def _compare(self, connection: Connection) -> bool:
        """Compare the next part of the ledger with the table; return whether it was the last."""
        part = self.ledger.part(self._position, self._page)
        upper = None if part is None else decoded(part.last)
        if part is not None and self._hash is not None and self._differed < _DIFFERENT_PARTS:
            asked = keys_hashed(self._compared.relation, self._names, self._hash, self._bounds(upper), part.keys + 1)
            [(count, hashes)] = self._read(connection, asked)
            if count == part.keys and hashes == part.hashes:
                self._position, self._last, self._differed = part.last, upper, 0
                return False
        keys = self._read(
            connection, keys_within(self._compared.relation, self._names, self._bounds(upper), self._page)
        )
        self.read += len(keys)
        whole = len(keys) < self._page
        found = {encoded(key): key for key in keys}
        end = part.last if part is not None and whole else None
        if not all(self._position < key and (end is None or key <= end) for key in found):
            # The database sorts keys in another order. Nothing is wrong so far, but comparing would take too long.
            self.ordered = False
            self._begin(_Phase.MARKING)
            return False
        if not whole:
            end = max(found)
        self._differed = self._differed + 1 if self.ledger.compare(self._position, end, found) else 0
        self._position = self._position if end is None else end
        self._last = upper if whole else keys[-1]
        return part is None and whole

    def _mark(self, connection: Connection) -> bool:
        """Mark the next keys of the table in the ledger; return whether they were the last."""
        keys = self._read(connection, keys_within(self._compared.relation, self._names, self._bounds(None), self._page))
        self.read += len(keys)
        if keys:
            self.ledger.add(keys)
            self._last = keys[-1]
        if len(keys) == self._page:
            return False
        self.ledger.unmarked_are_gone()
        return True

    def _check_fraction(self) -> None:
        """Begin to delete, unless more keys are gone than delete.max.fraction allows."""
        gone, all_keys = self.ledger.gone_count(), len(self.ledger)
        if gone > max(_FEW, self._fraction * all_keys):
            self.problem = (
                f"{gone} of {all_keys} keys of {self._compared.relation} are gone, more than delete.max.fraction "
                f"{self._fraction:g} allows: no tombstone is sent. If they were deleted, set it to 1 for one comparison"
            )
            self._end()
            return
        self.problem = None
        self._phase, self._last = _Phase.DELETING, None

    def _delete(self, connection: Connection) -> SourceBatch | None:
        candidates = self.ledger.gone(self._last, self._query_keys)
        if not candidates:
            self._end()
            return None
        self._last = candidates[-1]
        asked = keys_among(self._compared.relation, self._names, [_bound(key) or () for key in candidates])
        there = set(self._read(connection, asked))
        self.ledger.add(there)
        gone = [key for key in candidates if key not in there]
        if not gone:
            return None
        batch = self._tombstones(gone)
        self.sent += len(gone)
        self._unacknowledged.append((batch, gone, self.ledger.walk))
        return batch

    def _tombstones(self, keys: Sequence[Key]) -> SourceBatch:
        values = self._row_schema.convert(keys)
        single = len(self._names) == 1
        return SourceBatch(
            self._compared.topic,
            [None] * len(keys),
            keys=[value[self._names[0]] for value in values] if single else values,
            key_schema=self._row_schema.schema.by_name[self._names[0]] if single else self._row_schema.schema,
            source_partition=dict(self._compared.partition),
        )

    def acknowledged(self, batch: SourceBatch) -> None:
        """Forget keys whose tombstones are in Kafka."""
        for index, (sent, keys, walk) in enumerate(self._unacknowledged):
            if sent is batch:
                self.ledger.remove(keys, walk)
                del self._unacknowledged[index]
                return

    def break_off(self) -> None:
        """Abandon the comparison after an error. It begins again when it is due."""
        if self.active:
            self._end()

    def _end(self) -> None:
        self._phase = _Phase.IDLE
        self.seconds = time.monotonic() - self._began
        self.due = self._schedule.next_after(self._now())

    def follow_clock(self, now: datetime) -> None:
        """Note that the system clock was set: the next comparison is due at the latest as if one had ended now."""
        self.due = min(self.due, self._schedule.next_after(now))

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self._compared.columns)

    def _bounds(self, upper: Key | None) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]:
        return _bound(self._last), _bound(upper)

    def _read(self, connection: Connection, query: Any) -> list[Key]:
        self.statements += 1
        stream = self._dialect.stream(connection, query)
        try:
            return [tuple(row) for row in stream.fetchmany(self._page)]
        finally:
            stream.close()


def _bound(key: Key | None) -> tuple[Any, ...] | None:
    """Return parameters without a type: the database infers it, and the driver takes the values that it gave."""
    return None if key is None else tuple(bindparam(None, value, type_=NullType()) for value in key)
