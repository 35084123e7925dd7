"""Aggregates over sliding windows: all records of a group that are at most ``size`` apart from each other.

The windows are those of Kafka Streams. A record at time t defines two, with both ends included: one that ends with it,
from t - size to t, and one that begins behind it, from t + 1 to t + 1 + size, if there is a record in it. So there is
a result for each set of records that a moving window of this size can contain. A window closes when the stream time is
more than the grace after its end.

A record counts in each window that contains it and is open when it comes. It is late if there is none: its own window
has closed, and no other record defines an open window that contains it.

State: the records of each group in segments by their time, not accumulators: a record changes many windows, and is
stored once. A record has its time, the stream time when it came, which tells the windows that had closed by then, its
number, and the arguments of the aggregates. The results of a window are computed when it closes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from headrace import Changes, Segments
from headrace_streams.operators.accumulators import AccumulatorFunctions, accumulator_functions
from headrace_streams.operators.grouping import NO_ORIGIN, TIME_SEGMENT, GroupedRows, Grouping, advanced_time
from headrace_streams.operators.operator import Operator, StepRefusal, StepResult, Tables
from headrace_streams.operators.state_account import stored_account, time_and_account
from headrace_streams.rows import Rows

_SEGMENTS_PER_SIZE = 4
_TIME, _SEEN, _NUMBER, _ARGUMENTS = 0, 1, 2, 3
"""Places in a stored record."""
_Stored = list[Any]


@dataclass(frozen=True)
class SlidingWindow(Operator):
    """One result for each group and window, when it closes."""

    grouping: Grouping
    size: int
    """Between the first and the last moment of a window."""
    grace: int
    stateful = True

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        return self.grouping.process(rows, lambda grouped: self._aggregate(grouped, state))

    def _aggregate(self, grouped: GroupedRows, state: Segments) -> StepResult:
        rows = grouped.rows
        batch = _SlidingBatch(self, state, rows.times[0])
        late = grouped.late(batch.take)
        results = batch.close({"received": len(rows), "late": len(late)})
        return StepResult({"": results, "late": rows.only(late)}, batch.refusals, batch.changes, late=len(late))

    def advance_time(self, silent: int, sides: Collection[str], state: Segments) -> StepResult:
        if (now := advanced_time(state, silent)) is None:
            return StepResult({})
        batch = _SlidingBatch(self, state, now)
        results = batch.close({"received": 0, "late": 0}, now)
        return StepResult({"": results}, batch.refusals, batch.changes)

    def accounts(self, state: Segments) -> Mapping[str, Mapping[str, int]]:
        return {"": stored_account(state)}

    def open_records(self, state: Segments) -> Mapping[str, int]:
        segments = (segment for segment in state if segment != TIME_SEGMENT)
        return {"": sum(len(records) for segment in segments for records in state[segment].values())}

    def span(self) -> int:
        return 2 * self.size + self.grace

    def shown_state(self, key: Any, state: Segments) -> list[dict[str, Any]]:
        """Return the records of a group that a window may still need, by time, with the aggregates' arguments."""
        names = tuple(self.grouping.arguments.expressions)
        records = sorted((record for entries in state.values() for record in entries[key]), key=_time_of)
        return [{"time": item[_TIME], **dict(zip(names, item[_ARGUMENTS:], strict=True))} for item in records]

    @cached_property
    def functions(self) -> AccumulatorFunctions:
        return accumulator_functions(self.grouping.aggregates, self.grouping.arguments.expressions)

    def state_definition(self) -> str:
        return f"sliding windows of {self.size} ms {self.grouping.definition()}"

    def describe(self) -> str:
        return f"sliding windows of {self.size} ms, grace {self.grace} ms, {self.grouping.describe()}"


class _SlidingBatch:
    """One batch of one partition: the changes of the state so far."""

    def __init__(self, window: SlidingWindow, state: Segments, first: int) -> None:
        known = state.get(TIME_SEGMENT, {})
        self._window = window
        self._size, self._grace = window.size, window.grace
        self._width = max(1, window.size // _SEGMENTS_PER_SIZE)
        self._state = state
        self._before: int = known.get("time", first)
        self._now = self._before
        self._number: int = known.get("records", 0)
        self.changes: Changes = {}
        self.refusals: list[StepRefusal] = []
        """Of results."""

    def take(self, key: Any, moment: int, values: tuple[Any, ...]) -> bool:
        """Store a record. Return False when it is late. Raise TypeError for a group that is no key."""
        hash(key)
        number = self._number
        self._number += 1
        self._now = max(self._now, moment)
        first_open = self._now - self._grace  # the first end of a window that is open
        if moment < first_open and not self._is_in_open_window(key, moment, first_open):
            return False
        segment = moment // self._width
        changed = self.changes.setdefault(segment, {})
        if key not in changed:
            changed[key] = list(self._state.get(segment, {}).get(key, ()))
        changed[key].append([moment, self._now, number, *values])
        return True

    def close(self, counts: Mapping[str, int], now: int | None = None) -> Rows:
        """Return the results of the windows that have closed, by their ends, and delete records that no window needs.

        ``counts``: how many records were received and late. ``now``: the stream time, if no record shows it.
        """
        self._now = self._now if now is None else now
        ends = range(self._before - self._grace, self._now - self._grace)
        first = ends.start - self._size - 1  # the window behind a record of this time ends first
        closed: list[tuple[int, int, Any, list[_Stored]]] = []
        segments = self._segments(first, ends.stop)
        for key in self._keys_with_windows(ends) if ends else ():
            records = self._records(key, segments, first, ends.stop)
            closed += [(end, found[0][_NUMBER], key, found) for end, found in self._windows(records, ends)]
        closed.sort(key=lambda item: item[:2])
        deleted = self._delete() if ends else 0
        amounts = {**counts, "results": deleted, "open": counts["received"] - counts["late"] - deleted}
        self.changes[TIME_SEGMENT] = {**time_and_account(self._state, self._now, amounts), "records": self._number}
        made = Rows([], [], [], [])
        for end, _, key, found in closed:
            self._add_result(made, key, end, found)
        return made

    def _is_in_open_window(self, key: Any, moment: int, first_open: int) -> bool:
        """Return whether another record defines an open window that contains this moment."""
        first, last = moment - self._size - 1, moment + self._size
        segments = range(first // self._width, last // self._width + 1)
        for record in self._records(key, segments, first, last):
            time = record[_TIME]
            if time > moment and time >= first_open:
                return True  # the window that ends with it
            if moment > time and time + 1 + self._size >= first_open:
                return True  # the window behind it
        return False

    def _windows(self, records: Sequence[_Stored], ends: range) -> Iterator[tuple[int, list[_Stored]]]:
        """Yield the windows that end in the range, and their records by number. ``records``: by time."""
        times = [record[_TIME] for record in records]
        defined = {record[_TIME] for record in records if record[_SEEN] <= record[_TIME] + self._grace}
        defined |= {time + 1 + self._size for time in times}
        for end in sorted(item for item in defined if item in ends):
            part = records[bisect_left(times, end - self._size) : bisect_left(times, end + 1)]
            # Records that came after the window had closed are not in it.
            found = sorted((item for item in part if item[_SEEN] <= end + self._grace), key=_number_of)
            if found:
                yield end, found

    def _add_result(self, made: Rows, key: Any, end: int, records: Sequence[_Stored]) -> None:
        grouping, functions = self._window.grouping, self._window.functions
        accumulator = list(functions.initial)
        try:
            for record in records:
                functions.add(accumulator, record[_ARGUMENTS:], record[_NUMBER])
            value = grouping.result(key, end - self._size, end, functions.results(accumulator))
        except TypeError:  # such as the minimum of a number and a text
            self.refusals.append(grouping.result_refusal(key, end - self._size, end))
            return
        made.keys.append(grouping.record_key(key))
        made.values.append(value)
        made.times.append(end)
        made.origins.append(NO_ORIGIN)

    def _keys_with_windows(self, ends: range) -> list[Any]:
        """Return the groups that have records which may define a window that ends in the range."""
        before = self._size + 1
        near = {*self._segments(ends.start, ends.stop), *self._segments(ends.start - before, ends.stop - before)}
        return list(dict.fromkeys(key for segment in sorted(near) for key, _ in self._content(segment)))

    def _segments(self, first: int, last: int) -> list[int]:
        """Return the segments that have records from ``first`` to ``last``: time may advance by years at once."""
        numbers = range(first // self._width, last // self._width + 1)
        return sorted(item for item in {*self._state, *self.changes} if item in numbers)

    def _records(self, key: Any, segments: Iterable[int], first: int, last: int) -> list[_Stored]:
        """Return the records of a group from ``first`` to ``last``, by time."""
        found: list[_Stored] = []
        for segment in segments:
            changed = self.changes.get(segment, {})
            known = changed[key] if key in changed else self._state.get(segment, {}).get(key)
            found += [record for record in known or () if first <= record[_TIME] <= last]
        found.sort(key=_time_of)
        return found

    def _delete(self) -> int:
        """Delete the records whose last window has closed, the one behind them; return how many."""
        first = self._now - self._grace - self._size - 1  # the first time that is needed
        deleted = 0
        for segment in [item for item in {*self._state, *self.changes} if item != TIME_SEGMENT]:
            if segment * self._width >= first:
                continue
            for key, records in list(self._content(segment)):
                kept = [record for record in records if record[_TIME] >= first]
                if len(kept) < len(records):
                    self.changes.setdefault(segment, {})[key] = kept or None
                    deleted += len(records) - len(kept)
        return deleted

    def _content(self, segment: int) -> Iterator[tuple[Any, list[_Stored]]]:
        changed = self.changes.get(segment, {})
        for key, records in {**self._state.get(segment, {}), **changed}.items():
            if records:
                yield key, records


def _time_of(record: _Stored) -> int:
    moment: int = record[_TIME]
    return moment


def _number_of(record: _Stored) -> int:
    number: int = record[_NUMBER]
    return number
