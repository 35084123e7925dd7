"""The code of a window's aggregates: one accumulator, a flat list, holds the values of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from headrace_streams.operators.aggregates import NAMESPACE, Aggregate

RECORDS = -1
"""The place of the number of records in an accumulator."""


@dataclass(frozen=True)
class AccumulatorCode:
    """Statements and expressions over the accumulator ``acc`` and the arguments of a record."""

    initial: list[int | None]
    """An accumulator without records."""
    arguments: str
    """The pattern that a record's arguments are assigned to."""
    updates: Sequence[str]
    """Add a record to ``acc``; ``number`` is that of the record."""
    copies: Sequence[str]
    """Make a shallow copy of an accumulator one that may be changed."""
    merges: Sequence[str]
    """Add the accumulator ``other`` to ``acc``."""
    results: str
    """The results of ``acc``, a tuple."""


def accumulator_code(aggregates: Iterable[Aggregate], arguments: Iterable[str], first: int = 0) -> AccumulatorCode:
    """Return the code of these aggregates.

    ``arguments``: the names of those that have one, in the order of values. ``first``: where their values begin in
    ``acc``; what is before is not in ``initial``.
    """
    initial: list[int | None] = []
    updates: list[str] = []
    copies: list[str] = []
    merges: list[str] = []
    results: list[str] = []
    columns = {name: number for number, name in enumerate(arguments)}
    for aggregate in aggregates:
        place = first + len(initial)
        initial += aggregate.function.initial
        value = f"v{columns[aggregate.name]}" if aggregate.argument is not None else "1"
        names = {"a": f"acc[{place}]", "b": f"acc[{place + 1}]", "v": value}
        names |= {"x": f"other[{place}]", "y": f"other[{place + 1}]"}
        statements = [line.format(**names) for line in aggregate.function.update]
        if aggregate.argument is None:
            updates += statements
        else:
            updates += [f"if {value} is not None:", *(f" {line}" for line in statements)]
        copies += [line.format(**names) for line in aggregate.function.copy]
        merges += [line.format(**names) for line in aggregate.function.merge]
        results.append(aggregate.function.result.format(**names))
    initial.append(0)
    updates.append(f"acc[{RECORDS}] += 1")
    merges.append(f"acc[{RECORDS}] += other[{RECORDS}]")
    pattern = f"({''.join(f'v{number}, ' for number in columns.values())})"
    return AccumulatorCode(initial, pattern, updates, copies, merges, f"({''.join(f'{item}, ' for item in results)})")


class AccumulatorFunctions(NamedTuple):
    """The code of the aggregates as functions, for windows whose records are not added in one generated loop."""

    initial: list[int | None]
    copy: Callable[[list[Any]], list[Any]]
    """Return a copy of an accumulator that may be changed."""
    add: Callable[[list[Any], Sequence[Any], int], None]
    """Add the arguments of a record with a number to an accumulator."""
    merge: Callable[[list[Any], list[Any]], None]
    """Add another accumulator to the first one."""
    results: Callable[[list[Any]], tuple[Any, ...]]


def accumulator_functions(
    aggregates: Iterable[Aggregate], arguments: Iterable[str], first: int = 0
) -> AccumulatorFunctions:
    """Return the functions of these aggregates; see :func:`accumulator_code`."""
    code = accumulator_code(aggregates, arguments, first)
    source = "\n".join(
        [
            "def add(acc, values, number):",
            f" {code.arguments} = values",
            *indented(1, code.updates),
            "def copy(acc):",
            " acc = acc[:]",
            *indented(1, code.copies),
            " return acc",
            "def merge(acc, other):",
            *indented(1, code.merges),
            "def results(acc):",
            f" return {code.results}",
        ]
    )
    namespace: dict[str, Any] = dict(NAMESPACE)
    exec(compile(source, "<accumulator>", "exec"), namespace)  # of numbers and the texts of this package
    made = (namespace[name] for name in ("copy", "add", "merge", "results"))
    return AccumulatorFunctions(code.initial, *made)


def indented(depth: int, lines: Iterable[str]) -> list[str]:
    """Return lines of code in a deeper block."""
    return [" " * depth + line for line in lines]
