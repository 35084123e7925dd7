"""The groups of windows: reads groups and arguments of a batch, and makes results with the columns of ``by``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

from headrace import Segments
from headrace_streams.expressions import Projection, parse_expression
from headrace_streams.operators.aggregates import Aggregate
from headrace_streams.operators.operator import StepPlace, StepRefusal, StepResult
from headrace_streams.operators.stateless import evaluate, record_key
from headrace_streams.rows import Rows

NO_ORIGIN = -1
"""The origin of a row that several records made, such as the result of a closed window."""
TIME_SEGMENT = -(1 << 62)
"""The segment of a state that holds the stream time, under the key ``time``. Before all windows."""
WINDOW_COLUMNS = ("window_start", "window_end")


def advanced_time(state: Segments, silent: int) -> int | None:
    """Return the stream time ``silent`` milliseconds later; None when nothing is open that could close."""
    if len(state) < 2 or TIME_SEGMENT not in state:
        return None
    now: int = state[TIME_SEGMENT]["time"]
    return now + silent


class RowError(Exception):
    """A row that the aggregates cannot take."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


class GroupedRows(NamedTuple):
    """The rows of a batch with their groups and arguments. With refusals the other fields must not be used."""

    rows: Rows
    keys: Sequence[Any]
    """The groups: values, or tuples of several."""
    arguments: Sequence[tuple[Any, ...]]
    refusals: list[StepRefusal]

    def late(self, take: Callable[[Any, int, tuple[Any, ...]], bool]) -> list[int]:
        """Give group, time and arguments of each row to ``take``; return the rows that it does not take as late.

        Raise RowError for one whose values do not fit.
        """
        late: list[int] = []
        for row, (key, moment, values) in enumerate(zip(self.keys, self.rows.times, self.arguments, strict=True)):
            try:
                if not take(key, moment, values):
                    late.append(row)
            except TypeError as error:
                raise RowError(row) from error
        return late


@dataclass(frozen=True)
class Grouping:
    """The columns of ``by`` and the aggregates of a window."""

    groups: Projection
    """The expressions of ``by``."""
    arguments: Projection
    """The arguments of those aggregates that have one, by the aggregates' names."""
    aggregates: tuple[Aggregate, ...]
    place: StepPlace

    def process(self, rows: Rows, aggregate: Callable[[GroupedRows], StepResult]) -> StepResult:
        """Return the result of ``aggregate``, which may raise RowError, or the refusals of rows that cannot be read."""
        grouped = self.read(rows)
        if grouped.refusals:  # the records are refused, and the framework processes the batch without them
            return StepResult({"": grouped.rows.only([])}, grouped.refusals)
        if not len(grouped.rows):
            return StepResult({"": grouped.rows, "late": grouped.rows})
        try:
            return aggregate(grouped)
        except RowError as error:
            return StepResult({"": grouped.rows.only([])}, [self._refusal(grouped.rows, error)])

    def read(self, rows: Rows) -> GroupedRows:
        rows, groups, refusals = evaluate(self.groups, rows, self.place)
        rows, arguments, refused = evaluate(self.arguments, rows, self.place)
        if not refused:  # otherwise the arguments belong to fewer rows than the groups
            refused = self._not_numbers(rows, arguments)
        keys: Sequence[Any] = [group[0] for group in groups] if len(self._names) == 1 else groups
        return GroupedRows(rows, keys, arguments, refusals + refused)

    def _not_numbers(self, rows: Rows, arguments: Sequence[tuple[Any, ...]]) -> list[StepRefusal]:
        refusals = []
        numeric = {item.name for item in self.aggregates if item.function.numeric}
        for column, name in enumerate(self.arguments.expressions):
            if name not in numeric:
                continue
            odd = {item[column].__class__ for item in arguments} - _NUMERIC
            if odd:
                argument, problem = self.arguments.expressions[name], "the value is not a number"
                refusals += [
                    self.place.refusal(rows.origins[row], argument.text, problem, "stream.wrong_type", key=argument.key)
                    for row, item in enumerate(arguments)
                    if item[column].__class__ in odd
                ]
        return refusals

    def _refusal(self, rows: Rows, error: RowError) -> StepRefusal:
        text = "the group key or the value of an aggregate has a type that does not fit the others"
        what = ", ".join([self.by, *(item.text for item in self.aggregates)])
        return self.place.refusal(rows.origins[error.row], what, text, "stream.wrong_type")

    def result_refusal(self, group: Any, start: int, end: int) -> StepRefusal:
        """Return the refusal of the result of a window: its records have values that do not fit each other."""
        what = ", ".join(item.text for item in self.aggregates)
        text = "the values of the window have types that do not fit each other"
        refusal = self.place.refusal(NO_ORIGIN, what, text, "stream.wrong_type")
        columns = dict(zip(self._names, group if len(self._names) > 1 else (group,), strict=True))
        value = {**columns, "window_start": start, "window_end": end}
        return refusal._replace(result=(self.record_key(group), value, end))

    def record_key(self, group: Any) -> Any:
        """Return the key of a group's results."""
        return record_key(self._names, group if len(self._names) > 1 else (group,))

    def result(self, group: Any, start: int, end: int, results: Sequence[Any]) -> dict[str, Any]:
        """Return the value of a result. ``results``: of the aggregates."""
        value = dict(zip(self._names, group, strict=True)) if len(self._names) > 1 else {self._names[0]: group}
        value["window_start"], value["window_end"] = start, end
        value.update(zip((item.name for item in self.aggregates), results, strict=True))
        return value

    @cached_property
    def by(self) -> str:
        """The expressions as text."""
        return ", ".join(item.text for item in self.groups.expressions.values())

    def describe(self) -> str:
        """Return the groups and aggregates as text."""
        return f"by {self.by}: " + ", ".join(f"{item.name} = {item.text}" for item in self.aggregates)

    def definition(self) -> str:
        """Return groups and aggregates in one spelling, for :meth:`Operator.state_definition`."""
        groups = ", ".join(f"{name} = {item.node.sql()}" for name, item in self.groups.expressions.items())
        aggregates = ", ".join(f"{item.name} = {parse_expression(item.text).node.sql()}" for item in self.aggregates)
        return f"by {groups}: {aggregates}; with the number of records"

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self.groups.expressions)


_NUMERIC = frozenset({int, float, Decimal, type(None)})
