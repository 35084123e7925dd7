"""Aggregates over tumbling windows of event time.

State: a segment for each window start, which holds the accumulators by group key, and a segment for the stream time.
The stream time is the highest event time that the partition has seen. A window closes when the stream time reaches its
end plus the grace; a record that comes later is late and changes nothing. As both depend on the records only, the
results are the same however the records are divided into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

from headrace import Changes, Segments
from headrace_streams.expressions import Projection
from headrace_streams.operators.aggregates import Aggregate
from headrace_streams.operators.operator import Operator, StepPlace, StepRefusal, StepResult, Tables
from headrace_streams.operators.stateless import evaluate, record_key
from headrace_streams.rows import Rows

NO_ORIGIN = -1
"""The origin of a row that several records made, such as the result of a closed window."""
TIME_SEGMENT = -(1 << 62)
"""Holds the stream time, under the key ``time``. Before all windows."""
WINDOW_COLUMNS = ("window_start", "window_end")

Emit = Literal["close", "change"]
_Update = Callable[..., tuple[int, list[int], list[tuple[Any, ...]]]]


class RowError(Exception):
    """A row that the aggregates cannot take."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


@dataclass(frozen=True)
class TumblingWindow(Operator):
    """One result for each group and window: when the window closes, or for each record that changes it."""

    groups: Projection
    """The expressions of ``by``."""
    arguments: Projection
    """The arguments of those aggregates that have one, by the aggregates' names."""
    aggregates: tuple[Aggregate, ...]
    size: int
    grace: int
    emit: Emit
    place: StepPlace
    stateful = True

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        rows, groups, refusals = evaluate(self.groups, rows, self.place)
        rows, arguments, refused = evaluate(self.arguments, rows, self.place)
        if refused:  # the records are refused, and the framework processes the batch without them
            return StepResult({"": rows.only([])}, refusals + refused)
        refusals += self._not_numbers(rows, arguments)
        if refusals:
            return StepResult({"": rows.only([])}, refusals)
        if not len(rows):
            return StepResult({"": rows, "late": rows})
        keys: Sequence[Any] = [group[0] for group in groups] if len(self.groups.expressions) == 1 else groups
        times = state.get(TIME_SEGMENT, {})
        before = times.get("time")
        changes: Changes = {}
        try:
            now, late, updates = self._update(keys, rows.times, arguments, state, changes, before)
        except RowError as error:
            text = "the group key or the value of an aggregate has a type that does not fit the others"
            what = ", ".join([self._by, *(item.text for item in self.aggregates)])
            refusal = self.place.refusal(rows.origins[error.row], what, text, "stream.wrong_type")
            return StepResult({"": rows.only([])}, [refusal])
        if now != before:
            changes[TIME_SEGMENT] = {"time": now}
        if self.emit == "close":
            results = self._closed(state, changes, now)
        else:
            results = self._changed(rows, updates)
            self._drop_closed(state, changes, now)
        return StepResult({"": results, "late": rows.only(late)}, [], changes, late=len(late))

    def _not_numbers(self, rows: Rows, arguments: Sequence[tuple[Any, ...]]) -> list[StepRefusal]:
        refusals = []
        numeric = {item.name for item in self.aggregates if item.function.numeric}
        for column, name in enumerate(self.arguments.expressions):
            if name not in numeric:
                continue
            odd = {item[column].__class__ for item in arguments} - _NUMERIC
            if odd:
                text = self.arguments.expressions[name].text
                refusals += [
                    self.place.refusal(rows.origins[row], text, "the value is not a number", "stream.wrong_type")
                    for row, item in enumerate(arguments)
                    if item[column].__class__ in odd
                ]
        return refusals

    def _closed(self, state: Segments, changes: Changes, now: int) -> Rows:
        """Return the results of all windows that have closed, oldest first, and delete their state."""
        keys: list[Any] = []
        values: list[dict[str, Any]] = []
        times: list[int] = []
        names = tuple(self.groups.expressions)
        for start in self._starts_to_close(state, changes, now):
            segment = {**state.get(start, {}), **changes.get(start, {})}
            end = start + self.size
            for group, accumulator in segment.items():
                keys.append(record_key(names, group if len(names) > 1 else (group,)))
                values.append(self._value(group, start, end, self._results(accumulator)))
            times += [end - 1] * len(segment)
            changes[start] = dict.fromkeys(segment)
        return Rows(keys, values, times, [NO_ORIGIN] * len(keys))

    def _drop_closed(self, state: Segments, changes: Changes, now: int) -> None:
        for start in self._starts_to_close(state, changes, now):
            changes[start] = dict.fromkeys({**state.get(start, {}), **changes.get(start, {})})

    def _starts_to_close(self, state: Segments, changes: Changes, now: int) -> Iterator[int]:
        last = now - self.size - self.grace
        return iter(sorted(start for start in {*state, *changes} if TIME_SEGMENT < start <= last))

    def _changed(self, rows: Rows, updates: Sequence[tuple[Any, ...]]) -> Rows:
        names = tuple(self.groups.expressions)
        keys = [record_key(names, group if len(names) > 1 else (group,)) for _, _, group, _ in updates]
        values = [self._value(group, start, start + self.size, results) for _, start, group, results in updates]
        times = [rows.times[row] for row, _, _, _ in updates]
        return Rows(keys, values, times, [rows.origins[row] for row, _, _, _ in updates])

    def _value(self, group: Any, start: int, end: int, results: Sequence[Any]) -> dict[str, Any]:
        names = tuple(self.groups.expressions)
        value = dict(zip(names, group, strict=True)) if len(names) > 1 else {names[0]: group}
        value["window_start"], value["window_end"] = start, end
        value.update(zip((item.name for item in self.aggregates), results, strict=True))
        return value

    @cached_property
    def _by(self) -> str:
        return ", ".join(item.text for item in self.groups.expressions.values())

    @cached_property
    def _update(self) -> _Update:
        return self._functions[0]

    @cached_property
    def _results(self) -> Callable[[list[Any]], tuple[Any, ...]]:
        return self._functions[1]

    @cached_property
    def _functions(self) -> tuple[_Update, Callable[[list[Any]], tuple[Any, ...]]]:
        """The loop over a batch and the results of an accumulator, generated for these aggregates."""
        initial: list[int | None] = []
        updates: list[str] = []
        results: list[str] = []
        columns = {name: number for number, name in enumerate(self.arguments.expressions)}
        for aggregate in self.aggregates:
            first = len(initial)
            initial += aggregate.function.initial
            value = f"v{columns[aggregate.name]}" if aggregate.argument is not None else "1"
            names = {"a": f"acc[{first}]", "b": f"acc[{first + 1}]", "v": value}
            statements = [line.format(**names) for line in aggregate.function.update]
            if aggregate.argument is None:
                updates += [f"   {line}" for line in statements]
            else:
                updates += [f"   if {value} is not None:", *(f"    {line}" for line in statements)]
            results.append(aggregate.function.result.format(**names))
        values = "".join(f"v{number}, " for number in columns.values())
        result = f"({''.join(f'{item}, ' for item in results)})"
        emit = [f"   updates.append((row, start, key, {result}))"] if self.emit == "change" else []
        source = "\n".join(
            [
                "def update(keys, times, arguments, state, changes, now):",
                " late, updates, row = [], [], -1",
                " if now is None and times: now = times[0]",
                " try:",
                f"  for row, (key, moment, ({values})) in enumerate(zip(keys, times, arguments)):",
                "   if moment > now: now = moment",
                f"   start = moment - moment % {self.size}",
                f"   if start + {self.size + self.grace} <= now:",
                "    late.append(row)",
                "    continue",
                "   segment = changes.get(start)",
                "   if segment is None: segment = changes[start] = {}",
                "   acc = segment.get(key)",
                "   if acc is None:",
                "    known = state.get(start)",
                "    acc = known.get(key) if known is not None else None",
                f"    acc = segment[key] = {initial} if acc is None else acc[:]",
                *updates,
                *emit,
                " except TypeError as error:",
                "  raise RowError(row) from error",
                " return now, late, updates",
                "def results(acc):",
                f" return {result}",
            ]
        )
        namespace: dict[str, Any] = {"RowError": RowError}
        exec(compile(source, "<window>", "exec"), namespace)  # of numbers and the texts of this module
        return namespace["update"], namespace["results"]

    def describe(self) -> str:
        written = ", ".join(f"{item.name} = {item.text}" for item in self.aggregates)
        return (
            f"tumbling window of {self.size} ms, grace {self.grace} ms, by {self._by}: {written}; "
            f"results on {self.emit}"
        )


_NUMERIC = frozenset({int, float, Decimal, type(None)})
