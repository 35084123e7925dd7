"""The records of a join in its state: left records that are open, and right records that may still have a match.

State: segments of each side, each for a part of the event time: key → its records, in the order in which they were
read. Those of the left side have even numbers. Many records of one key within an interval are written to the changelog
together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace import Changes, Segments
from headrace_streams.operators.grouping import TIME_SEGMENT

LEFT, RIGHT = "left", "right"
TIME, VALUE, MATCHED = 0, 1, 2
"""Places in a stored record; right records have no third."""
Record = list[Any]

_ODD = {LEFT: 0, RIGHT: 1}
_SEGMENTS_PER_INTERVAL = 8
"""More segments: fewer records are compared when the stream time advances, and more are searched for each record."""


class JoinRecords:
    """The records of one partition, with the changes of one batch."""

    def __init__(self, state: Segments, interval: int) -> None:
        self._state = state
        self._width = max(1, -(-interval // _SEGMENTS_PER_INTERVAL))
        self.changes: Changes = {}

    def find(self, side: str, key: Any, first: int, last: int) -> list[Record]:
        """Return the records from ``first`` to ``last``, by event time, then in the order in which they were read."""
        width, odd, changes, state = self._width, _ODD[side], self.changes, self._state
        found: list[Record] = []
        # This runs for each record of a batch, and most segments have no record of its key.
        for segment in range(first // width * 2 + odd, last // width * 2 + odd + 1, 2):
            changed = changes.get(segment)
            if changed is not None and key in changed:
                records = changed[key]
            elif (known := state.get(segment)) is not None:
                records = known.get(key)
            else:
                continue
            if records:
                found += [record for record in records if first <= record[TIME] <= last]
        if len(found) > 1:
            found.sort(key=_time_of)
        return found

    def between(self, side: str, first: int | None, end: int) -> Iterator[tuple[Any, Record]]:
        """Yield the records from ``first`` (None: the oldest) to before ``end``, with their keys."""
        for segment in self._segments(side, end):
            if first is not None and (segment // 2 + 1) * self._width <= first:
                continue
            for key, records in self._content(segment):
                for record in records:
                    if record[TIME] < end and (first is None or record[TIME] >= first):
                        yield key, record

    def add(self, side: str, key: Any, record: Record) -> None:
        segment = record[TIME] // self._width * 2 + _ODD[side]
        changed = self.changes.get(segment)
        if changed is None:
            changed = self.changes[segment] = {}
        if records := changed.get(key):
            records.append(record)  # lists in the changes are those of this batch
            return
        known = None if key in changed else self._state.get(segment)
        changed[key] = [record] if known is None else [*known.get(key, ()), record]

    def set_matched(self, key: Any, record: Record, *, keep: bool) -> None:
        """Note that a left record has a match; it is deleted unless it may have further results."""
        segment = record[TIME] // self._width * 2
        changed = self.changes.setdefault(segment, {})
        records: list[Record] = changed[key] if key in changed else self._state[segment][key]
        matched = [[record[TIME], record[VALUE], True]] if keep else []
        place = next(number for number, other in enumerate(records) if other is record)
        changed[key] = [*records[:place], *matched, *records[place + 1 :]] or None

    def close_left(self, end: int) -> list[tuple[Any, Record]]:
        """Delete the left records before ``end``, and return them with their keys."""
        closed: list[tuple[Any, Record]] = []
        for segment in self._segments(LEFT, end):
            kept: dict[Any, list[Record] | None] = {}
            for key, records in self._content(segment):
                if len(records) == 1:  # the usual case
                    if records[0][TIME] < end:
                        closed.append((key, records[0]))
                        kept[key] = None
                elif any(record[TIME] < end for record in records):
                    closed += [(key, record) for record in records if record[TIME] < end]
                    kept[key] = [record for record in records if record[TIME] >= end] or None
            if kept:
                self.changes.setdefault(segment, {}).update(kept)
        return closed

    def expire_right(self, end: int) -> int:
        """Delete the segments whose right records are all before ``end``, and return how many records they had."""
        expired = 0
        for segment in self._segments(RIGHT, end - self._width + 1):
            content = list(self._content(segment))
            expired += sum(len(records) for _, records in content)
            if content:
                self.changes.setdefault(segment, {}).update((key, None) for key, _ in content)
        return expired

    def _segments(self, side: str, before: int) -> list[int]:
        """Return the segments of a side that begin before a moment, oldest first."""
        odd, limit = _ODD[side], -(-before // self._width) * 2
        return sorted(
            segment
            for segment in {*self._state, *self.changes}
            if segment < limit and segment % 2 == odd and segment != TIME_SEGMENT
        )

    def _content(self, segment: int) -> Iterator[tuple[Any, list[Record]]]:
        """Yield the keys of a segment and their records."""
        changed = self.changes.get(segment, {})
        for key, records in self._state.get(segment, {}).items():
            if key not in changed:
                yield key, records
        for key, records in changed.items():
            if records:
                yield key, records


def open_records(state: Segments) -> dict[str, int]:
    """Count the right records, and the left records without a match."""
    counts = {LEFT: 0, RIGHT: 0}
    for segment, content in state.items():
        if segment == TIME_SEGMENT:
            continue
        if segment % 2 == _ODD[RIGHT]:
            counts[RIGHT] += sum(map(len, content.values()))
        else:
            counts[LEFT] += sum(not record[MATCHED] for records in content.values() for record in records)
    return counts


def _time_of(record: Record) -> int:
    moment: int = record[TIME]
    return moment
