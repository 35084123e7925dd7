"""The first records of each group and tumbling window in an order.

State: a segment for each window start, which holds by group key the best records so far, in order, each with the value
that orders it; and a segment for the stream time. Windows close as those of aggregates do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace import Changes, Segments
from headrace_streams.operators.grouping import NO_ORIGIN, TIME_SEGMENT, Grouping, advanced_time
from headrace_streams.operators.operator import Operator, StepRefusal, StepResult, Tables
from headrace_streams.operators.state_account import stored_account, time_and_account
from headrace_streams.rows import Rows

Entries = list[list[Any]]
"""Pairs of a value and a record."""


@dataclass(frozen=True)
class Top(Operator):
    """At most ``limit`` rows for each group and window, when it closes; of equal values the earlier record is first."""

    grouping: Grouping
    """Without aggregates; its argument ``order`` is the value that orders the rows."""
    descending: bool
    limit: int
    size: int
    grace: int
    stateful = True

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        rows, keys, arguments, refusals = self.grouping.read(rows)
        refusals += [
            self._refusal(rows, row) for row, (value,) in enumerate(arguments) if isinstance(value, (list, dict))
        ]
        if refusals:  # the records are refused, and the framework processes the batch without them
            return StepResult({"": rows.only([])}, refusals)
        if not len(rows):
            return StepResult({"": rows, "late": rows})
        before = state.get(TIME_SEGMENT, {}).get("time")
        now: int = rows.times[0] if before is None else before
        changes: Changes = {}
        late: list[int] = []
        dropped = 0
        for row, (key, moment, (value,)) in enumerate(zip(keys, rows.times, arguments, strict=True)):
            now = max(now, moment)
            start = moment - moment % self.size
            try:
                hash(key)
                if start + self.size + self.grace <= now:
                    late.append(row)
                else:
                    dropped += self._enter(start, key, [value, rows.values[row]], state, changes)
            except TypeError:
                return StepResult({"": rows.only([])}, [self._refusal(rows, row)])
        results = self._close(state, changes, now)
        amounts = {"received": len(rows), "late": len(late), "dropped": dropped, "results": len(results)}
        amounts["open"] = len(rows) - len(late) - dropped - len(results)
        changes[TIME_SEGMENT] = time_and_account(state, now, amounts)
        return StepResult({"": results, "late": rows.only(late)}, [], changes, late=len(late))

    def advance_time(self, silent: int, sides: Collection[str], state: Segments) -> StepResult:
        changes: Changes = {}
        if (now := advanced_time(state, silent)) is None:
            return StepResult({})
        results = self._close(state, changes, now)
        amounts = {"results": len(results), "open": -len(results)}
        changes[TIME_SEGMENT] = time_and_account(state, now, amounts)
        return StepResult({"": results}, changes=changes)

    def accounts(self, state: Segments) -> Mapping[str, Mapping[str, int]]:
        return {"": stored_account(state)}

    def open_records(self, state: Segments) -> Mapping[str, int]:
        starts = (start for start in state if start != TIME_SEGMENT)
        return {"": sum(len(entries) for start in starts for entries in state[start].values())}

    def span(self) -> int:
        return self.size + self.grace

    def shown_state(self, key: Any, state: Segments) -> list[dict[str, Any]]:
        """Return the rows of the open windows of a group as they would be now, oldest window first."""
        return [
            row
            for start, entries in sorted(state.items())
            for row in self._values(key, start, (record for _, record in entries[key]))
        ]

    def _refusal(self, rows: Rows, row: int) -> StepRefusal:
        text = "the group key or the value of the order has a type that does not fit the others"
        what = f"{self.grouping.by}, {self._order}"
        return self.grouping.place.refusal(rows.origins[row], what, text, "stream.wrong_type")

    def _enter(self, start: int, key: Any, entry: list[Any], state: Segments, changes: Changes) -> bool:
        """Add a record to the first ones, if it is one. Return whether a record is behind the limit now."""
        segment = changes.setdefault(start, {})
        entries: Entries = segment[key] if key in segment else state.get(start, {}).get(key, [])
        place = next((n for n, other in enumerate(entries) if self._is_before(entry[0], other[0])), len(entries))
        if place < self.limit:
            segment[key] = [*entries[:place], entry, *entries[place : self.limit - 1]]
        return len(entries) == self.limit

    def _is_before(self, value: Any, other: Any) -> bool:
        """Nulls are last."""
        if value is None or other is None:
            return other is None and value is not None
        return bool(value > other if self.descending else value < other)

    def _close(self, state: Segments, changes: Changes, now: int) -> Rows:
        """Return the rows of all windows that have closed, oldest first, and delete their state."""
        made = Rows([], [], [], [])
        last = now - self.size - self.grace
        for start in sorted(item for item in {*state, *changes} if TIME_SEGMENT < item <= last):
            segment = {**state.get(start, {}), **changes.get(start, {})}
            for group, entries in segment.items():
                made.keys += [self.grouping.record_key(group)] * len(entries)
                made.values += self._values(group, start, (record for _, record in entries))
                made.times += [start + self.size - 1] * len(entries)
            changes[start] = dict.fromkeys(segment)
        made.origins += [NO_ORIGIN] * len(made.keys)
        return made

    def _values(self, group: Any, start: int, records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        window = self.grouping.result(group, start, start + self.size, ())
        return [{**record, **window, "rank": rank} for rank, record in enumerate(records, 1)]

    @property
    def _order(self) -> str:
        return f"{self.grouping.arguments.expressions['order'].text} {'DESC' if self.descending else 'ASC'}"

    def describe(self) -> str:
        return (
            f"top {self.limit} by {self._order} in each tumbling window of {self.size} ms, grace {self.grace} ms, "
            f"by {self.grouping.by}"
        )
