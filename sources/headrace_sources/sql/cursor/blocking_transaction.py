"""Finds the open transaction that holds the stored position back, for the status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace_sources.sql.cursor.watermark import Watermark
from headrace_sources.sql.dialects.dialect import OpenTransaction


@dataclass(frozen=True)
class BlockingTransaction:
    """An open transaction that holds the stored position back. ``age`` in seconds, exact or a lower limit."""

    who: str
    age: float
    exact: bool

    def __str__(self) -> str:
        return f"{self.who}, open for {'' if self.exact else 'at least '}{format_duration(self.age)}"


def blocking_transaction(
    watermark: Watermark, found: Mapping[str, OpenTransaction], since: Mapping[str, float], now: float
) -> BlockingTransaction | None:
    """Return the transaction that holds the watermark back most.

    ``since``: when each transaction was first seen, on the same clock as ``now``.
    """
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
    """Return a duration for people, rounded to one unit."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
