"""Operators without state: filter, select, add, branch, flat_map, key_by, lookup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace import RetriableError, Segments
from headrace_streams.expressions import Projection
from headrace_streams.operators.operator import Operator, StepPlace, StepRefusal, StepResult, Tables
from headrace_streams.rows import Rows

_NOT_A_CONDITION = "the condition is neither true, false nor null"


def evaluate(
    projection: Projection, rows: Rows, place: StepPlace
) -> tuple[Rows, list[tuple[Any, ...]], list[StepRefusal]]:
    """Return the rows that the expressions accept, their values, and the refusals."""
    values, refused = projection.evaluate(rows.values)
    if not refused:
        return rows, values, []
    refusals = []
    for item in refused:
        expression = projection.expressions[item.name]
        refusals.append(place.refusal(rows.origins[item.row], expression.text, item.error, key=expression.key))
    bad = {item.row for item in refused}
    return rows.only([row for row in range(len(rows)) if row not in bad]), values, refusals


def _choices(
    projection: Projection, rows: Rows, place: StepPlace
) -> tuple[Rows, list[tuple[Any, ...]], list[StepRefusal]]:
    """Evaluate conditions, which must give true, false or null."""
    rows, values, refusals = evaluate(projection, rows, place)
    if not {item.__class__ for row in values for item in row} <= {bool, type(None)}:
        odd = [n for n, row in enumerate(values) if not {item.__class__ for item in row} <= {bool, type(None)}]
        what = ", ".join(item.text for item in projection.expressions.values())
        refusals += [place.refusal(rows.origins[n], what, _NOT_A_CONDITION, "stream.wrong_type") for n in odd]
        good = [n for n in range(len(rows)) if n not in set(odd)]
        return rows.only(good), [values[n] for n in good], refusals
    return rows, values, refusals


@dataclass(frozen=True)
class Filter(Operator):
    """Keeps the rows for which the condition is true; null is not true."""

    condition: Projection
    place: StepPlace

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        rows, values, refusals = _choices(self.condition, rows, self.place)
        kept = [number for number, (value,) in enumerate(values) if value]
        return StepResult({"": rows.only(kept)}, refusals, dropped=len(rows) - len(kept))

    def describe(self) -> str:
        return f"filter {next(iter(self.condition.expressions.values())).text}"


@dataclass(frozen=True)
class Select(Operator):
    """Computes columns. ``keep``: the other columns of the row remain."""

    columns: Projection
    place: StepPlace
    keep: bool

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        made = self.columns.extend(rows.values, keep=self.keep)
        if made is not None:
            return StepResult({"": rows.with_values(made)})
        good, _, refusals = evaluate(self.columns, rows, self.place)
        made = self.columns.extend(good.values, keep=self.keep)
        assert made is not None
        return StepResult({"": good.with_values(made)}, refusals)

    def describe(self) -> str:
        written = ", ".join(f"{name} = {item.text}" for name, item in self.columns.expressions.items())
        return f"{'add' if self.keep else 'select'} {written}"


@dataclass(frozen=True)
class Branch(Operator):
    """Sends each row to the first branch whose condition is true; rows of no branch are dropped."""

    conditions: Projection
    place: StepPlace

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        rows, values, refusals = _choices(self.conditions, rows, self.place)
        names = list(self.conditions.expressions)
        places: dict[str, list[int]] = {name: [] for name in names}
        for number, row in enumerate(values):
            if True in row:
                places[names[row.index(True)]].append(number)
        dropped = len(rows) - sum(map(len, places.values()))
        return StepResult({name: rows.only(kept) for name, kept in places.items()}, refusals, dropped=dropped)

    def describe(self) -> str:
        return "branch " + ", ".join(f"{name}: {item.text}" for name, item in self.conditions.expressions.items())


@dataclass(frozen=True)
class FlatMap(Operator):
    """Makes one row of each element of an array, which becomes a column; null and an empty array give no row."""

    array: Projection
    column: str
    place: StepPlace

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        rows, values, refusals = evaluate(self.array, rows, self.place)
        what = self.array.expressions[self.column].text
        places: list[int] = []
        elements: list[Any] = []
        empty = 0
        for number, (items,) in enumerate(values):
            if not items and (items is None or isinstance(items, list)):
                empty += 1
            elif isinstance(items, list):
                places += [number] * len(items)
                elements += items
            else:
                error = "the value is not an array"
                refusals.append(self.place.refusal(rows.origins[number], what, error, "stream.wrong_type"))
        made = rows.only(places)
        column = self.column
        new = [{**row, column: element} for row, element in zip(made.values, elements, strict=True)]
        return StepResult({"": made.with_values(new)}, refusals, dropped=empty)

    def describe(self) -> str:
        return f"flat_map {self.column} = each of {self.array.expressions[self.column].text}"


@dataclass(frozen=True)
class Merge(Operator):
    """Passes on the rows of several streams."""

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        return StepResult({"": rows})

    def describe(self) -> str:
        return "merge"


@dataclass(frozen=True)
class KeyBy(Operator):
    """Replaces the keys: by a value, or of several columns by an object."""

    columns: Projection
    place: StepPlace

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        rows, values, refusals = evaluate(self.columns, rows, self.place)
        keys = [record_key(tuple(self.columns.expressions), value) for value in values]
        return StepResult({"": Rows(keys, rows.values, rows.times, rows.origins, rows.headers)}, refusals)

    def describe(self) -> str:
        return "key_by " + ", ".join(item.text for item in self.columns.expressions.values())


def record_key(names: Sequence[str], values: tuple[Any, ...]) -> Any:
    """Return the record key of these columns."""
    return values[0] if len(names) == 1 else dict(zip(names, values, strict=True))


@dataclass(frozen=True)
class Lookup(Operator):
    """Adds the row of a table. ``missing``: ``null``, ``drop``, ``refuse`` or ``wait`` for rows without one."""

    key: Projection
    column: str
    table: str
    missing: str
    place: StepPlace

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        rows, values, refusals = evaluate(self.key, rows, self.place)
        find, column = self.rows_of(tables, state).get, self.column
        what = f"{self.table}[{self.key.expressions[column].text}]"
        try:
            found = [find(key) for (key,) in values]
        except TypeError:  # an array or object: no table has such a key
            good = [number for number, (key,) in enumerate(values) if not isinstance(key, (list, dict))]
            bad = sorted(set(range(len(rows))) - set(good))
            error = "the key is an array or an object"
            refusals += [self.place.refusal(rows.origins[n], what, error, "stream.wrong_type") for n in bad]
            rows, found = rows.only(good), [find(values[number][0]) for number in good]
        dropped = 0
        if self.missing != "null" and None in found:
            absent = [number for number, row in enumerate(found) if row is None]
            if self.missing == "wait":
                raise RetriableError(
                    f"step '{self.place.step}' waits for a row of table {self.table}: {what} has none yet",
                    code="stream.row_awaited",
                    hint="write the row, or set missing: null, drop or dead_letter",
                )
            if self.missing == "drop":
                dropped = len(absent)
            else:
                error = f"table {self.table} has no such row"
                refusals += [self.place.refusal(rows.origins[n], what, error, "stream.missing_row") for n in absent]
            kept = [number for number, row in enumerate(found) if row is not None]
            rows, found = rows.only(kept), [found[number] for number in kept]
        made = [{**row, column: other} for row, other in zip(rows.values, found, strict=True)]
        return StepResult({"": rows.with_values(made)}, refusals, dropped=dropped)

    def rows_of(self, tables: Tables, state: Segments) -> Mapping[Any, Any]:
        """Return the rows of the table by key."""
        return tables[self.table]

    def describe(self) -> str:
        return f"lookup {self.column} = {self.table}[{self.key.expressions[self.column].text}], missing: {self.missing}"
