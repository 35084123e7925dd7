"""Converts rows of a result to records by one function, which is compiled for the columns.

Columns that need no conversion cost only their entry in the dictionary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from headrace import Schema, TaskError, schema
from headrace_sources.sql.rows.types import Column, Conversion, Normaliser, TypeMapping

Rows = Sequence[Sequence[Any]]


class NullInRequiredError(Exception):
    """A column that was NOT NULL when the table was inspected holds NULL."""


@dataclass(frozen=True)
class RowSchema:
    """Columns of a result, and the schema and conversion of its records."""

    columns: tuple[Column, ...]
    schema: Schema
    convert: Callable[[Rows], list[dict[str, Any]]]
    """Raises NullInRequiredError, and one of :data:`REFUSALS` for a value that does not fit."""
    conversions: tuple[Conversion, ...]

    def index(self, name: str) -> int:
        """Return the index of a column, see :func:`find_column`."""
        return find_column([column.name for column in self.columns], name)

    def find_refused_value(self, rows: Rows) -> tuple[int, Column, str]:
        """Return the row, the column and the reason for which :attr:`convert` refused ``rows``."""
        singles = [
            compile_rows([column], [conversion])
            for column, conversion in zip(self.columns, self.conversions, strict=True)
        ]
        for place, row in enumerate(rows):
            for column, single, value in zip(self.columns, singles, row, strict=True):
                try:
                    single([(value,)])
                except REFUSALS as error:
                    return place, column, str(error) or type(error).__name__
        raise AssertionError("no value is refused by itself")


REFUSALS = (ValueError, TypeError, AttributeError, ArithmeticError)


def find_column(names: Sequence[str], name: str) -> int:
    """Return the index of ``name``: an exact match, else the only match without regard to case. Raise KeyError."""
    if name in names:
        return list(names).index(name)
    [*places] = (place for place, other in enumerate(names) if other.lower() == name.lower())
    if len(places) != 1:
        raise KeyError(name)
    return places[0]


def row_schema_of(
    columns: Sequence[Column], name: str | None, mapping: TypeMapping, normaliser: Callable[[Column], Normaliser | None]
) -> RowSchema:
    """Return the schema ``name`` over ``columns``; ``normaliser`` returns what driver values need before conversion."""
    names = [column.name for column in columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TaskError(
            f"the query's result has more than one column {', '.join(map(repr, twice))}",
            code="sql.duplicate_column",
            hint="give each column a name of its own: SELECT a.id AS a_id, b.id AS b_id …",
        )
    value_schema = schema.struct({column.name: mapping.schema_of(column) for column in columns}, name)
    conversions = tuple(_full(mapping.conversion(column), normaliser(column)) for column in columns)
    return RowSchema(tuple(columns), value_schema, compile_rows(columns, conversions), conversions)


def _full(conversion: Conversion, normalise: Normaliser | None) -> Conversion:
    if normalise is None:
        return conversion
    if conversion.code == "{v}":
        return Conversion("{f}({v})", normalise)
    then = _single_value(conversion)
    return Conversion("{f}({v})", lambda value: then(normalise(value)))


def _single_value(conversion: Conversion) -> Callable[[Any], Any]:
    namespace: dict[str, Any] = {"f": conversion.argument}
    source = f"lambda v: {conversion.code.format(v='v', f='f')}"
    found: Callable[[Any], Any] = eval(source, namespace)
    return found


def compile_rows(
    columns: Sequence[Column],
    conversions: Sequence[Conversion],
    *,
    picked: Collection[str] | None = None,
    more: int = 0,
) -> Callable[[Rows], list[dict[str, Any]]]:
    """Return a function from rows to records with the ``picked`` columns; None = all.

    Rows have ``more`` further values, which are ignored. The compiled source consists of column names (as literals)
    and of the templates in ``types`` only.
    """
    namespace: dict[str, Any] = {"NullInRequiredError": NullInRequiredError}
    targets, members, required, guards = [], [], [], []
    for place, (column, conversion) in enumerate(zip(columns, conversions, strict=True)):
        value, argument = f"c{place}", f"f{place}"
        namespace[argument] = conversion.argument
        code = conversion.code.format(v=value, f=argument)
        if column.nullable and code != value:
            code = f"None if {value} is None else {code}"
        targets.append(value)
        if picked is not None and column.name not in picked:
            continue
        members.append(f"{column.name!r}: {code}")
        if not column.nullable:
            required.append(f"{value} is None")
        if conversion.guard:
            guards.append((value, conversion.guard.format(v=value)))
    targets += [f"m{place}" for place in range(more)]
    target = ", ".join([*targets, ""]) or "_"  # a table may have no columns
    lines = ["def convert(rows):", " records = []", " append = records.append", f" for {target} in rows:"]
    if required:
        lines += [f"  if {' or '.join(required)}: raise NullInRequiredError"]
    for value, guard in guards:
        lines += [f"  if {value} is not None and not {guard}: raise ValueError(f'{{{value}}} is not a number')"]
    lines += [f"  append({{{', '.join(members)}}})", " return records"]
    exec("\n".join(lines), namespace)
    convert: Callable[[Rows], list[dict[str, Any]]] = namespace["convert"]
    return convert
