"""Compare expected rows with records or documents, and list missing, stale, doubled and extra entries."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.testing.data_comparison.entries import DataEntry, Rows
from headrace.testing.data_comparison.values import differing

_SHOWN = 10
_POLL_INTERVAL = 0.2


@dataclass(frozen=True)
class Comparison:
    """Numbers of ``expected`` rows and ``found`` entries, and one sentence for each difference.

    ``missing``: no entry has the row's key. ``stale``: the last entry differs from the row. ``doubled``: in a topic, a
    record that repeats an earlier value of its key; in an index, another document with the same key. ``extra``: an
    entry without a row.
    """

    side: str
    expected: int
    found: int
    missing: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    at_least_once: bool = False

    @property
    def as_promised(self) -> bool:
        """Return whether it is exact, or complete for a topic, where records may be sent again after a crash."""
        return self.complete if self.at_least_once else self.exact

    @property
    def complete(self) -> bool:
        """Return whether no entry is missing, stale or extra."""
        return not (self.missing or self.stale or self.extra)

    @property
    def exact(self) -> bool:
        """Return whether it is complete and no entry is doubled."""
        return self.complete and not self.doubled

    def __str__(self) -> str:
        kinds = {"missing": self.missing, "stale": self.stale, "doubled": self.doubled, "extra": self.extra}
        counts = ", ".join(f"{len(found)} {kind}" for kind, found in kinds.items() if found)
        lines = [f"{self.side}: {self.expected} rows, {self.found} found: {counts or 'exact'}"]
        for kind, sentences in kinds.items():
            lines += [f"  {kind}: {sentence}" for sentence in sentences[:_SHOWN]]
            if len(sentences) > _SHOWN:
                lines.append(f"  {kind}: and {len(sentences) - _SHOWN} more")
        return "\n".join(lines)


def compare_topic(
    rows: Rows, entries: Iterable[DataEntry], *, ignored: Container[str] = (), side: str = "topic"
) -> Comparison:
    """Compare with a topic: the last record of each key counts, and a record without value is a deletion.

    A record that repeats an earlier value of its key counts as doubled: it was sent again after a crash.
    """
    states: dict[str, list[Any]] = {}
    last: dict[str, DataEntry] = {}
    doubled = []
    found = 0
    for entry in entries:
        found += 1
        before = states.setdefault(entry.key, [])
        if entry.value in before:
            doubled.append(f"{entry.key}: {entry.place} repeats an earlier record")
        else:
            before.append(entry.value)
        last[entry.key] = entry
    return _compare(side, rows, last, found, doubled, ignored, at_least_once=True)


def compare_index(
    rows: Rows, entries: Iterable[DataEntry], *, ignored: Container[str] = (), side: str = "index"
) -> Comparison:
    """Compare with an index: one document for each key."""
    last: dict[str, DataEntry] = {}
    doubled = []
    found = 0
    for entry in entries:
        found += 1
        if entry.key in last:
            doubled.append(f"{entry.key}: {last[entry.key].place} and {entry.place}")
        last[entry.key] = entry
    return _compare(side, rows, last, found, doubled, ignored, at_least_once=False)


def latest(entries: Iterable[DataEntry]) -> dict[str, Any]:
    """Return the last value of each key of a topic, to compare an index with it."""
    return {key: value for key, value in {entry.key: entry.value for entry in entries}.items() if value is not None}


def settle(look: Callable[[], Sequence[Comparison]], timeout: float) -> Sequence[Comparison]:
    """Compare until there is no difference. Raise AssertionError with the differences after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        comparisons = look()
        if all(comparison.as_promised for comparison in comparisons):
            return comparisons
        if time.monotonic() > deadline:
            raise AssertionError(f"not as promised within {timeout:g} s:\n" + "\n".join(map(str, comparisons)))
        time.sleep(_POLL_INTERVAL)


def _compare(
    side: str,
    rows: Rows,
    last: dict[str, DataEntry],
    found: int,
    doubled: list[str],
    ignored: Container[str],
    *,
    at_least_once: bool,
) -> Comparison:
    there = {key: entry for key, entry in last.items() if entry.value is not None}
    stale = []
    for key, row in rows.items():
        if key in there and (phrases := differing(row, there[key].value, ignored)):
            stale.append(f"{key}: {'; '.join(phrases)} ({there[key].place})")
    return Comparison(
        side,
        len(rows),
        found,
        missing=tuple(
            f"{key}: deleted by {last[key].place}" if key in last else key for key in rows if key not in there
        ),
        stale=tuple(stale),
        doubled=tuple(doubled),
        extra=tuple(f"{key}: {entry.place}" for key, entry in there.items() if key not in rows),
        at_least_once=at_least_once,
    )
