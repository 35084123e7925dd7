"""What the gap-free cursor asks of a database and of a configuration: fences, the clock, how far to look back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from headrace import Finding
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.cursor.watermark import BEGINNING, Fence, Place, Transaction, Watermark
from headrace_sources.sql.dialects import Database
from headrace_sources.sql.dialects.dialect import OpenTransaction

LEAST_SPAN = timedelta(seconds=2)
"""A transaction takes its time a moment before the database lists it, and a column may round it to the second."""
_JITTER = timedelta(milliseconds=200)


@dataclass(frozen=True)
class Lookback:
    """How late commits are caught. ``span`` and ``ids``: how far each read goes back at least, in time and in ids."""

    asks: bool = False
    """Whether the database is asked for its open transactions."""
    span: timedelta = timedelta(0)
    ids: int = 0
    memory: int = 100_000
    """Most rows to remember as sent."""

    @property
    def looks_back(self) -> bool:
        """False: what was read is all there is, as Kafka Connect has it."""
        return self.asks or self.ids > 0 or self.span > timedelta(0)


def lookback_for(connection: Connection, database: Database, config: SqlSourceConfig) -> tuple[Lookback, list[Finding]]:
    """What the configuration asks for and the database can tell; what is wrong or unwise about it."""
    if config.mode == "bulk" or config.gap_free == "off":
        return Lookback(), []
    overlap = config.overlap_ids if config.mode == "incrementing" else config.overlap_span
    blind = database.blindness(connection)
    if blind is None or overlap:
        span = timedelta(milliseconds=config.overlap_span or 0)
        if config.mode == "incrementing":
            return Lookback(blind is None, ids=config.overlap_ids or 0, memory=config.memory_rows), []
        return Lookback(blind is None, max(span, LEAST_SPAN), memory=config.memory_rows), []
    if database.commits_in_order:
        return Lookback(), []
    text = f"a transaction that commits late can be passed over: {blind}"
    example = "1000 (ids)" if config.mode == "incrementing" else "5m (longer than your longest writing transaction)"
    hint = f"set cursor.overlap, for example to {example}; or, to accept it, cursor.gap.free to off"
    severity = "error" if config.gap_free == "on" else "warning"
    return Lookback(), [Finding("sql.gaps", text, "cursor.overlap", hint, severity=severity)]


def fence_at(place: Place, found: Sequence[OpenTransaction], place_of: Callable[[datetime], Place]) -> Fence:
    """The fence at ``place``; ``place_of``: behind which place a transaction writes that began at a moment."""
    return Fence(
        place,
        [
            Transaction(item.name, BEGINNING if item.began is None else place_of(item.began), item.line, item.heir_of)
            for item in found
        ],
    )


class DatabaseClock:
    """Notices that the database's clock was set back (or the column's zone left summer time)."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._before = self._after = self._last = 0.0
        self._place: Any = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around asking the database for the time."""
        before = self._monotonic()
        yield
        self.read(before, self._monotonic())

    def read(self, before: float, after: float) -> None:
        """The database was asked for the time between these moments."""
        self._last, self._before, self._after = self._after, before, after

    def earliest(self, place: Any) -> Any:
        """The earliest that was written since the last time, if that is behind what was so then; else None.

        ``place``: as the column stores it, what the database's clock says now (or a fixed span before).
        """
        previous, self._place = self._place, place
        if not isinstance(place, datetime) or previous is None:
            return None
        # What was written just after the clock was set back, at most as long ago as the last time:
        least: datetime = place - timedelta(seconds=max(0.0, self._before - self._last))
        return least if least < previous - _JITTER else None

    def forget(self) -> None:
        """Times are stored in another way from now on."""
        self._place = None


@dataclass(frozen=True)
class BlockingTransaction:
    """An open transaction that holds the stored position back. ``age`` in seconds, at least so much."""

    who: str
    age: float
    exact: bool

    def __str__(self) -> str:
        """For people."""
        return f"{self.who}, open for {'' if self.exact else 'at least '}{format_duration(self.age)}"


def blocker(
    watermark: Watermark, found: Mapping[str, OpenTransaction], since: Mapping[str, float], now: float
) -> BlockingTransaction | None:
    """Whoever holds the watermark back most. ``since``: when each was first seen, on the same clock as ``now``."""
    held = watermark.open
    if not held or watermark.oldest >= watermark.resume:
        return None
    name = min(held, key=lambda item: held[item])
    seen = max(0.0, now - since.get(name, now))
    facts = found.get(name)
    if facts is None:
        return None
    return BlockingTransaction(facts.who, max(seen, facts.age or 0.0), facts.age is not None)


def format_duration(seconds: float) -> str:
    """A duration as people say it."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
