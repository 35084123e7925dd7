"""Removes duplicates: keeps the first record of each key within an interval of event time.

State: the event times of the records that were kept, by key, in segments as long as the interval. Records of one key
that were kept have more than the interval between them, so a segment has at most one of each key. A segment is deleted
when no record that is not late can be a duplicate of a record in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace import Changes, Segments
from headrace_streams.expressions import Projection
from headrace_streams.operators.grouping import TIME_SEGMENT
from headrace_streams.operators.operator import Operator, StepPlace, StepResult, Tables
from headrace_streams.operators.state_account import stored_account, time_and_account
from headrace_streams.operators.stateless import evaluate
from headrace_streams.rows import Rows


@dataclass(frozen=True)
class Deduplicate(Operator):
    """Drops a row if a row of its key was kept whose event time is at most ``within`` before or after."""

    by: Projection
    within: int
    grace: int
    place: StepPlace
    stateful = True

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        rows, groups, refusals = evaluate(self.by, rows, self.place)
        if refusals:  # the records are refused, and the framework processes the batch without them
            return StepResult({"": rows.only([])}, refusals)
        if not len(rows):
            return StepResult({"": rows, "late": rows})
        keys: Sequence[Any] = [group[0] for group in groups] if len(self.by.expressions) == 1 else groups
        before = state.get(TIME_SEGMENT, {}).get("time")
        now: int = rows.times[0] if before is None else before
        changes: Changes = {}
        kept: list[int] = []
        late: list[int] = []
        for row, (key, moment) in enumerate(zip(keys, rows.times, strict=True)):
            now = max(now, moment)
            try:
                hash(key)
            except TypeError:
                refusal = self.place.refusal(
                    rows.origins[row], self._text, "the key is an array or an object", "stream.wrong_type"
                )
                return StepResult({"": rows.only([])}, [refusal])
            if moment < now - self.grace:
                late.append(row)
            elif not self._is_duplicate(key, moment, state, changes):
                kept.append(row)
                changes.setdefault(moment // self.within, {})[key] = moment
        if now != before:
            self._forget(state, changes, now)
        dropped = len(rows) - len(kept) - len(late)
        amounts = {"received": len(rows), "results": len(kept), "dropped": dropped, "late": len(late)}
        changes[TIME_SEGMENT] = time_and_account(state, now, amounts)
        return StepResult({"": rows.only(kept), "late": rows.only(late)}, [], changes, dropped, len(late))

    def _is_duplicate(self, key: Any, moment: int, state: Segments, changes: Changes) -> bool:
        segment = moment // self.within
        for near in (segment, segment - 1, segment + 1):
            for known in (changes.get(near), state.get(near)):
                if known is not None:
                    other = known.get(key)
                    if other is not None and abs(moment - other) <= self.within:
                        return True
        return False

    def _forget(self, state: Segments, changes: Changes, now: int) -> None:
        first = (now - self.grace - self.within) // self.within  # the first segment with times that may be needed
        for segment in {*state, *changes} - {TIME_SEGMENT}:
            if segment < first:
                changes[segment] = dict.fromkeys({**state.get(segment, {}), **changes.get(segment, {})})

    def accounts(self, state: Segments) -> Mapping[str, Mapping[str, int]]:
        return {"": stored_account(state)}

    def shown_state(self, key: Any, state: Segments) -> list[dict[str, Any]]:
        """Return the event times of the records that were kept, oldest first."""
        return [{"time": entries[key]} for _, entries in sorted(state.items())]

    @property
    def _text(self) -> str:
        return ", ".join(item.text for item in self.by.expressions.values())

    def describe(self) -> str:
        return f"deduplicate by {self._text}: the first record within {self.within} ms, grace {self.grace} ms"
