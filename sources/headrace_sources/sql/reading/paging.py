"""How much of a table one statement reads, and how far the reading of a large table is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from headrace_sources.sql.cursor.lookback import format_duration

_GROWTH = 64
"""A page has at most so many times the least number of rows."""
_SHOWN = 5.0
"""Seconds that a reading lasts before the status tells of it, and between two of its sentences."""


class Paging(Enum):
    """How a table is cut into pages."""

    NONE = "one statement reads it all"
    ROWS = "a number of rows, of which no two have the same cursor"
    KEY = "a number of rows in the order of the primary key; there is no cursor"
    TIES = "a number of rows, and all that have the cursor of the last one"


@dataclass
class PageSize:
    """Rows of a page, adapted so that a page keeps the database busy for ``target`` seconds."""

    least: int
    target: float
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.rows = self.least

    def took(self, rows: int, seconds: float) -> None:
        """A page of ``rows`` took so long. Only one that was full says something of the next."""
        if rows < self.rows:
            return
        wanted = rows * self.target / max(seconds, 1e-6)
        # By steps: one measurement may be an accident.
        self.rows = round(min(max(wanted, self.rows / 4, self.least), self.rows * 2, self.least * _GROWTH))


@dataclass
class Reading:
    """One reading of a table, from its first row to where the table ended when it began.

    How much is still to come is estimated from where in the range of the cursor's values it is, as if rows were spread
    evenly over it.
    """

    subject: str
    monotonic: Callable[[], float] = time.monotonic
    rows: int = 0
    remaining: int | None = field(init=False, default=None)
    """Rows still to come, about; None = nobody knows."""
    began: float = field(init=False)
    _shown: float = field(init=False)
    _first: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.began = self._shown = self.monotonic()

    def reached(self, rows: int, first: Any, last: Any, end: Any) -> str | None:
        """A page of ``rows`` was read; the cursor's values at its ends, and that where all ends (None = unknown).

        A sentence for the status, now and then.
        """
        if self._first is None:
            self._first = first
        return self.went(rows, share_of(self._first, last, end))

    def went(self, rows: int, share: float | None) -> str | None:
        """``rows`` more were read, with which ``share`` of all is behind us (None = unknown); as :meth:`reached`."""
        self.rows += rows
        self.remaining = round(self.rows * (1 - share) / share) if share else None
        now = self.monotonic()
        if now - self._shown < _SHOWN:
            return None
        self._shown = now
        seconds = now - self.began
        text = f"reading {self.subject}: {self.rows:,} rows, {self.rows / seconds:,.0f} a second"
        if share is None or self.remaining is None:
            return text
        return (
            f"{text}, about {self.remaining:,} to come, {format_duration(seconds * (1 - share) / share)} at this rate"
        )


def share_of(first: Any, last: Any, end: Any) -> float | None:
    """Which part of the way from ``first`` to ``end`` is behind ``last``: numbers, or moments of one kind."""
    if not (_numbers(first, last, end) or _moments(first, last, end)) or not first < last or not first < end:
        return None
    return float(min((last - first) / (end - first), 1.0))


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _moments(*values: Any) -> bool:
    return all(isinstance(value, datetime) for value in values) and len({v.tzinfo is None for v in values}) == 1
