"""The results of windows and joins that have no record of their own: which one a later step refuses."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from headrace_streams.operators.grouping import NO_ORIGIN, WINDOW_COLUMNS
from headrace_streams.rows import Rows

_FIRST = -(1 << 40)
"""Results are before all records, in the order in which they were made."""


class MadeResult(NamedTuple):
    """A result of a step."""

    step: str
    key: Any
    value: Any
    time: int


class WindowResults:
    """Numbers the results that the steps make of one batch, as their origins."""

    def __init__(self) -> None:
        self._next = _FIRST
        self._starts: list[int] = []
        self._made: list[tuple[str, Rows]] = []

    def numbered(self, step: str, rows: Rows) -> Rows:
        """Return rows whose results have origins of their own."""
        if NO_ORIGIN not in rows.origins:
            return rows
        first, self._next = self._next, self._next + len(rows)
        self._starts.append(first)
        self._made.append((step, rows))
        origins = [first + place if origin == NO_ORIGIN else origin for place, origin in enumerate(rows.origins)]
        return Rows(rows.keys, rows.values, rows.times, origins, rows.headers)

    def of(self, origin: int) -> MadeResult:
        """Return the result with an origin."""
        number = bisect_right(self._starts, origin) - 1
        step, rows = self._made[number]
        place = origin - self._starts[number]
        return MadeResult(step, rows.keys[place], rows.values[place], rows.times[place])

    def details_of(self, origin: int) -> dict[str, str]:
        """Return headers of a dead letter that say which result has an origin."""
        return result_details(self.of(origin))


def without(rows: Rows, origins: Iterable[int]) -> Rows:
    """Return the rows that have other origins."""
    bad = set(origins)
    return rows.only([place for place, origin in enumerate(rows.origins) if origin not in bad])


def result_details(result: MadeResult) -> dict[str, str]:
    """Return headers of a dead letter that say which result was refused."""
    details = {"result.step": result.step, "result.key": _text(result.key)}
    if isinstance(result.value, dict):
        details |= {name: _text(result.value[name]) for name in WINDOW_COLUMNS if name in result.value}
    return details


def _text(value: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
