"""The database's clock and its open transactions, asked in this order, and shared by the tables of a task.

A fence says of every table what it says of one, so where asking is dear (InnoDB renews its list ten times a second at
most) a table takes the fence that another one has just taken. It must be younger than the last that the table itself
has used, and what is read afterwards begins after it, as if the table had asked and then waited a moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from headrace_sources.sql.dialects import Database
from headrace_sources.sql.dialects.dialect import OpenTransaction


@dataclass(frozen=True)
class TransactionSnapshot:
    """``now``: what the clock said before the transactions were asked for. ``asked``: when, on this process' clock."""

    number: int
    now: datetime
    asked: tuple[float, float]
    transactions: Sequence[OpenTransaction]


class TransactionSnapshots:
    """Of one database. Used from the task's thread."""

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._last: TransactionSnapshot | None = None
        self._ended = 0.0

    def shared(self, used: int) -> TransactionSnapshot | None:
        """A young one that came after number ``used``; None when there is none, or the database is asked cheaply."""
        last = self._last
        if last is None or last.number <= used or self._monotonic() - self._ended >= self._database.snapshot_ttl:
            return None
        return last

    def take(self, connection: Connection) -> TransactionSnapshot:
        """A new one. Raises what the database raises."""
        before = self._monotonic()
        now = self._database.now(connection)
        asked = (before, self._monotonic())
        found = self._database.open_transactions(connection)
        self._ended = self._monotonic()
        number = 1 if self._last is None else self._last.number + 1
        self._last = TransactionSnapshot(number, now, asked, found)
        return self._last
