"""Detects that the system clock was set, so that no table waits longer than its interval."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_LEAST = timedelta(seconds=5)
"""Smaller differences are corrections of the time server."""


def utc_now() -> datetime:
    """Return the time by the system clock."""
    return datetime.now(UTC)


class ClockWatch:
    """Compares the system clock with the monotonic clock. Used from one thread."""

    def __init__(self, now: Callable[[], datetime] = utc_now, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._monotonic = monotonic
        self._started = self._start()

    def moved(self) -> timedelta | None:
        """Return by how much the clock was set since the last call; None = it was not."""
        before, self._started = self._started, self._start()
        moved = self._started - before
        return moved if abs(moved) >= _LEAST else None

    def _start(self) -> datetime:
        """Return the time by the system clock at which the monotonic clock was 0."""
        return self._now() - timedelta(seconds=self._monotonic())


def describe_move(moved: timedelta) -> str:
    """Return the status reason."""
    seconds = abs(moved.total_seconds())
    if moved < timedelta():
        return f"the system clock was set back by {seconds:.0f} s; no table waits longer than its interval"
    return f"the system clock was set forward by {seconds:.0f} s, or the machine was suspended; tables are read at once"
