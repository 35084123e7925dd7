"""The state of a learning step while a batch is processed: the stored entries, and the changes on top of them.

Selections without a label are in segments of their time, of a 48th of the window, so that those that reach an age are
found without a search over all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from headrace import Changes, Segments

MODELS, FACTS, UNITS, SCORES, EARLY = -1, -2, -3, -4, -5
"""Segments: the records of the models; single facts; counts by version and unit; scores that were written, by version
and candidate; labels whose selections are not read yet."""
_SEGMENTS_PER_WINDOW = 48

SELECTED_AT, BOOKED, ROW, VERSION, ASSIGNED, UNIT, TRAFFIC, PREDICTED, CALIBRATED, DELAY = range(10)
"""Places in the entry of an open selection. ``DELAY``: seconds until its conversion; null without one."""


class LearningState:
    """A view of a state with changes. Entries are replaced, and never changed in place."""

    def __init__(self, state: Segments, window: int) -> None:
        self._state = state
        self._width = max(1, window // _SEGMENTS_PER_WINDOW)
        self.changes: Changes = {}

    def get(self, segment: int, key: Any) -> Any:
        changed = self.changes.get(segment)
        if changed is not None and key in changed:
            return changed[key]
        known = self._state.get(segment)
        return known.get(key) if known is not None else None

    def put(self, segment: int, key: Any, value: Any) -> None:
        """Set an entry; None deletes it."""
        self.changes.setdefault(segment, {})[key] = value

    def items(self, segment: int) -> Iterator[tuple[Any, Any]]:
        """Yield the entries of a segment."""
        for key, value in {**self._state.get(segment, {}), **self.changes.get(segment, {})}.items():
            if value is not None:
                yield key, value

    def segment(self, segment: int) -> Mapping[Any, Any]:
        """Return the stored entries of a segment, without the changes."""
        return self._state.get(segment, {})

    # Open selections

    def open(self, selected_at: int, key: Any) -> list[Any] | None:
        """Return the entry of an open selection."""
        found: list[Any] | None = self.get(self._segment_of(selected_at), key)
        return found

    def put_open(self, key: Any, entry: list[Any]) -> None:
        self.put(self._segment_of(entry[SELECTED_AT]), key, entry)

    def close(self, selected_at: int, key: Any) -> None:
        self.put(self._segment_of(selected_at), key, None)

    def selected_between(self, after: int | None, until: int) -> list[tuple[Any, list[Any]]]:
        """Return the open selections with ``after`` < time <= ``until``, by time."""
        found = []
        for segment in {*self._state, *self.changes}:
            start = segment * self._width
            if segment >= 0 and start <= until and (after is None or start + self._width > after):
                found += [
                    (key, entry)
                    for key, entry in self.items(segment)
                    if entry[SELECTED_AT] <= until and (after is None or entry[SELECTED_AT] > after)
                ]
        found.sort(key=lambda item: (item[1][SELECTED_AT], str(item[0])))
        return found

    def count_open(self) -> int:
        """Return the number of selections without a label."""
        return sum(
            entry[DELAY] is None
            for segment in {*self._state, *self.changes}
            if segment >= 0
            for _, entry in self.items(segment)
        )

    def _segment_of(self, selected_at: int) -> int:
        return max(selected_at, 0) // self._width
