"""Progress of reading a large table: rows, rate, remaining time. Computed when the status is reported."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from headrace_sources.sql.cursor.blocking_transaction import format_duration


@dataclass
class ReadProgress:
    """One reading of a table, from its first row to where the table ended when it began.

    The share that was read is an estimate: where the last row is in the range of the cursor's values, as if rows were
    spread evenly over it.
    """

    subject: str
    monotonic: Callable[[], float] = time.monotonic
    rows: int = 0
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the reading began."""
        return self.monotonic() - self.began

    def remaining(self, share: float | None) -> int:
        """Return about how many rows are still to be read; 0 = unknown."""
        return round(self.rows * (1 - share) / share) if share else 0

    def describe(self, share: float | None) -> str:
        """Return the status message. ``share``: which part of all rows was read; None = unknown."""
        seconds = max(self.seconds, 1e-6)
        text = f"reading {self.subject}: {self.rows:,} rows, {self.rows / seconds:,.0f} a second"
        if not share:
            return text
        rest = format_duration(seconds * (1 - share) / share)
        return f"{text}, about {self.remaining(share):,} to come, {rest} at this rate"


def share_of(first: Any, last: Any, end: Any) -> float | None:
    """Return which part of the range from ``first`` to ``end`` is up to ``last``; None unless all are comparable."""
    if not (_numbers(first, last, end) or _timestamps(first, last, end)) or not first < last or not first < end:
        return None
    return float(min((last - first) / (end - first), 1.0))


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _timestamps(*values: Any) -> bool:
    return all(isinstance(value, datetime) for value in values) and len({v.tzinfo is None for v in values}) == 1
