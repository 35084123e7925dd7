"""Aggregates over windows of a fixed size of event time: tumbling, or hopping, which overlap.

State: a segment for each window start, which holds the accumulators by group key, and a segment for the stream time.
The stream time is the highest event time that the partition has seen. A window closes when the stream time reaches its
end plus the grace; a record does not change windows that have closed, and is late when all of its windows have. Both
depend on the records only, so the results do not depend on how the records are divided into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from headrace import Changes, Segments
from headrace_streams.operators.accumulators import RECORDS, accumulator_code, indented
from headrace_streams.operators.aggregates import NAMESPACE
from headrace_streams.operators.grouping import NO_ORIGIN, TIME_SEGMENT, GroupedRows, Grouping, RowError, advanced_time
from headrace_streams.operators.operator import Operator, StepResult, Tables
from headrace_streams.operators.state_account import stored_account, time_and_account
from headrace_streams.rows import Rows

Emit = Literal["close", "change"]
_Update = Callable[..., tuple[int, list[int], int, list[tuple[Any, ...]]]]


@dataclass(frozen=True)
class TimeWindow(Operator):
    """One result for each group and window: when the window closes, or for each record that changes it.

    Windows begin at the multiples of ``advance``, which is at most ``size``; tumbling windows advance by their size.
    """

    grouping: Grouping
    size: int
    advance: int
    grace: int
    emit: Emit
    stateful = True

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        return self.grouping.process(rows, lambda grouped: self._aggregate(grouped, state))

    def _aggregate(self, grouped: GroupedRows, state: Segments) -> StepResult:
        rows = grouped.rows
        before = state.get(TIME_SEGMENT, {}).get("time")
        changes: Changes = {}
        now, late, counted, updates = self._update(grouped.keys, rows.times, grouped.arguments, state, changes, before)
        results, closed = self._close(state, changes, now)
        if self.emit == "change":
            results = self._changed(rows, updates)
        amounts = {"received": counted + len(late), "late": len(late), "results": closed, "open": counted - closed}
        changes[TIME_SEGMENT] = time_and_account(state, now, amounts)
        return StepResult({"": results, "late": rows.only(late)}, [], changes, late=len(late))

    def advance_time(self, silent: int, sides: Collection[str], state: Segments) -> StepResult:
        changes: Changes = {}
        if (now := advanced_time(state, silent)) is None:
            return StepResult({})
        results, closed = self._close(state, changes, now)
        amounts = {"results": closed, "open": -closed}
        changes[TIME_SEGMENT] = time_and_account(state, now, amounts)
        return StepResult({"": results}, changes=changes)

    def accounts(self, state: Segments) -> Mapping[str, Mapping[str, int]]:
        return {"": stored_account(state)}

    def open_records(self, state: Segments) -> Mapping[str, int]:
        starts = (start for start in state if start != TIME_SEGMENT)
        return {"": sum(accumulator[RECORDS] for start in starts for accumulator in state[start].values())}

    def span(self) -> int:
        return self.size + self.grace

    def shown_state(self, key: Any, state: Segments) -> list[dict[str, Any]]:
        """Return the open windows of a group as their results would be now, oldest first."""
        return [
            self.grouping.result(key, start, start + self.size, self._results(entries[key]))
            for start, entries in sorted(state.items())
        ]

    def _close(self, state: Segments, changes: Changes, now: int) -> tuple[Rows, int]:
        """Delete the windows that have closed. Return their results, oldest first, and the number of their records.

        Without results if they were emitted on change.
        """
        records = 0
        keys: list[Any] = []
        values: list[dict[str, Any]] = []
        times: list[int] = []
        for start in self._starts_to_close(state, changes, now):
            segment = {**state.get(start, {}), **changes.get(start, {})}
            end = start + self.size
            records += sum(accumulator[RECORDS] for accumulator in segment.values())
            changes[start] = dict.fromkeys(segment)
            if self.emit == "change":
                continue
            for group, accumulator in segment.items():
                keys.append(self.grouping.record_key(group))
                values.append(self.grouping.result(group, start, end, self._results(accumulator)))
            times += [end - 1] * len(segment)
        return Rows(keys, values, times, [NO_ORIGIN] * len(keys)), records

    def _starts_to_close(self, state: Segments, changes: Changes, now: int) -> Iterator[int]:
        last = now - self.size - self.grace
        return iter(sorted(start for start in {*state, *changes} if TIME_SEGMENT < start <= last))

    def _changed(self, rows: Rows, updates: Sequence[tuple[Any, ...]]) -> Rows:
        keys = [self.grouping.record_key(group) for _, _, group, _ in updates]
        values = [
            self.grouping.result(group, start, start + self.size, results) for _, start, group, results in updates
        ]
        times = [rows.times[row] for row, _, _, _ in updates]
        return Rows(keys, values, times, [rows.origins[row] for row, _, _, _ in updates])

    @cached_property
    def _update(self) -> _Update:
        return self._functions[0]

    @cached_property
    def _results(self) -> Callable[[list[Any]], tuple[Any, ...]]:
        return self._functions[1]

    @cached_property
    def _functions(self) -> tuple[_Update, Callable[[list[Any]], tuple[Any, ...]]]:
        """The loop over a batch and the results of an accumulator, generated for these aggregates."""
        code = accumulator_code(self.grouping.aggregates, self.grouping.arguments.expressions)
        emit = [f"updates.append((row, start, key, {code.results}))"] if self.emit == "change" else []
        add = [
            "segment = changes.get(start)",
            "if segment is None: segment = changes[start] = {}",
            "acc = segment.get(key)",
            "if acc is None:",
            " known = state.get(start)",
            " acc = known.get(key) if known is not None else None",
            f" acc = segment[key] = {code.initial} if acc is None else acc[:]",
            *indented(1, code.copies),
            *code.updates,
            "counted += 1",
            *emit,
        ]
        if self.advance < self.size:
            first = f"max(moment - {self.size}, now - {self.size + self.grace})"  # the last start that takes nothing
            starts = f"range(({first}) // {self.advance} * {self.advance} + {self.advance}, start + 1, {self.advance})"
            add = [f"for start in {starts}:", *indented(1, add)]
        source = "\n".join(
            [
                "def update(keys, times, arguments, state, changes, now):",
                " late, updates, row, counted = [], [], -1, 0",
                " if now is None and times: now = times[0]",
                " try:",
                f"  for row, (key, moment, {code.arguments}) in enumerate(zip(keys, times, arguments)):",
                "   if moment > now: now = moment",
                f"   start = moment - moment % {self.advance}",
                f"   if start + {self.size + self.grace} <= now:",
                "    late.append(row)",
                "    continue",
                *indented(3, add),
                " except TypeError as error:",
                "  raise RowError(row) from error",
                " return now, late, counted, updates",
                "def results(acc):",
                f" return {code.results}",
            ]
        )
        namespace: dict[str, Any] = {"RowError": RowError, **NAMESPACE}
        exec(compile(source, "<window>", "exec"), namespace)  # of numbers and the texts of this package
        return namespace["update"], namespace["results"]

    def state_definition(self) -> str:
        return f"windows of {self.size} ms every {self.advance} ms {self.grouping.definition()}"

    def describe(self) -> str:
        kind = "tumbling" if self.advance == self.size else "hopping"
        hop = "" if self.advance == self.size else f" every {self.advance} ms"
        return (
            f"{kind} window of {self.size} ms{hop}, grace {self.grace} ms, {self.grouping.describe()}; "
            f"results on {self.emit}"
        )
