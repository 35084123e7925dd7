"""The database's clock and its open transactions, asked in this order, and shared by the tables of a task.

One answer holds for every table. Where asking is expensive (InnoDB renews its list ten times a second at most) a table
uses the answer that another table has just received. It must be newer than the last one that the table used itself, and
what the table reads afterwards begins after it, as if the table had asked and then waited a moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from headrace_sources.sql.cursor.position import BEGINNING, CursorPosition
from headrace_sources.sql.cursor.watermark import Fence, Transaction
from headrace_sources.sql.dialects import Dialect
from headrace_sources.sql.dialects.dialect import OpenTransaction

_JITTER = timedelta(milliseconds=200)


@dataclass(frozen=True)
class TransactionSnapshot:
    """``now``: the database's clock before the transactions were listed. ``asked``: when, on this process' clock."""

    number: int
    now: datetime
    asked: tuple[float, float]
    transactions: Sequence[OpenTransaction]


class TransactionSnapshots:
    """Of one database. Used from the task's thread."""

    def __init__(self, dialect: Dialect, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._dialect = dialect
        self._monotonic = monotonic
        self._last: TransactionSnapshot | None = None
        self._ended = 0.0

    def shared(self, used: int) -> TransactionSnapshot | None:
        """Return a fresh snapshot with a number greater than ``used``; None where the caller has to take one."""
        last = self._last
        if last is None or last.number <= used or self._monotonic() - self._ended >= self._dialect.snapshot_ttl:
            return None
        return last

    def take(self, connection: Connection) -> TransactionSnapshot:
        """Ask the database. Raise what it raises."""
        before = self._monotonic()
        now = self._dialect.now(connection)
        asked = (before, self._monotonic())
        found = self._dialect.open_transactions(connection)
        self._ended = self._monotonic()
        number = 1 if self._last is None else self._last.number + 1
        self._last = TransactionSnapshot(number, now, asked, found)
        return self._last


def fence_at(
    position: CursorPosition,
    transactions: Sequence[OpenTransaction],
    position_at: Callable[[datetime], CursorPosition],
) -> Fence:
    """Return the fence at ``position``. ``position_at``: a transaction that began at a time writes after this."""
    return Fence(
        position,
        [
            Transaction(
                item.name, BEGINNING if item.began is None else position_at(item.began), item.lineage, item.continues
            )
            for item in transactions
        ],
    )


class DatabaseClock:
    """Detects that the database's clock was set back (or that the column's time zone left summer time)."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._before = self._after = self._last = 0.0
        self._fence: Any = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Wrap the statement that asks the database for its time."""
        before = self._monotonic()
        yield
        self.read(before, self._monotonic())

    def read(self, before: float, after: float) -> None:
        """Note that the database was asked for its time between these two moments."""
        self._last, self._before, self._after = self._after, before, after

    def earliest(self, fence: Any) -> Any:
        """Return the earliest timestamp written since the last call where that is before the last fence, else None.

        ``fence``: as the column stores it, the time of the database's clock now (or a fixed span before it).
        """
        previous, self._fence = self._fence, fence
        if not isinstance(fence, datetime) or previous is None:
            return None
        # The earliest timestamp of a row that was written after the clock was set back:
        least: datetime = fence - timedelta(seconds=max(0.0, self._before - self._last))
        return least if least < previous - _JITTER else None

    def forget(self) -> None:
        """Forget the last fence: timestamps are stored in another way from now on."""
        self._fence = None
