"""Aggregate functions: the code that a window runs for each record, over accumulators that are flat lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from headrace import nearest
from headrace_streams.expressions import Expression, ExpressionError, parse_expression
from headrace_streams.expressions.types import ColumnType


@dataclass(frozen=True)
class AggregateFunction:
    """One aggregate function. In the code ``{v}`` is the argument, ``{a}`` and ``{b}`` are its places in the list."""

    initial: tuple[int | None, ...]
    update: tuple[str, ...]
    """Statements; a null argument does not reach them."""
    result: str
    numeric: bool = False
    """Whether the argument must be a number."""


_EXTREME = "if {a} is None or {v} %s {a}: {a} = {v}"
FUNCTIONS: Mapping[str, AggregateFunction] = {
    "COUNT": AggregateFunction((0,), ("{a} += 1",), "{a}"),
    "SUM": AggregateFunction((None,), ("{a} = {v} if {a} is None else {a} + {v}",), "{a}", numeric=True),
    "MIN": AggregateFunction((None,), (_EXTREME % "<",), "{a}"),
    "MAX": AggregateFunction((None,), (_EXTREME % ">",), "{a}"),
    "AVG": AggregateFunction((0, 0), ("{a} += {v}", "{b} += 1"), "({a} / {b} if {b} else None)", numeric=True),
    "FIRST": AggregateFunction((None,), ("if {a} is None: {a} = {v}",), "{a}"),
    "LAST": AggregateFunction((None,), ("{a} = {v}",), "{a}"),
}
"""First and last are those with the lowest and highest offset; all functions ignore null, as in SQL."""


@dataclass(frozen=True)
class Aggregate:
    """An aggregate of a window: ``views: count(*)``. ``argument`` None: it counts records."""

    name: str
    text: str
    function: AggregateFunction
    argument: Expression | None
    type: ColumnType


def parse_aggregate(name: str, text: str) -> Aggregate:
    """Parse an aggregate. Raise ExpressionError."""
    node = parse_expression(text).node
    called = node.name if isinstance(node, exp.Anonymous) else node.sql_name() if isinstance(node, exp.Func) else ""
    function = FUNCTIONS.get(called.upper())
    if function is None:
        hint = nearest(called.upper(), FUNCTIONS) or f"supported: {', '.join(FUNCTIONS)}"
        raise ExpressionError(f"'{text}' is not an aggregate", code="stream.unsupported", hint=hint)
    if isinstance(node.this, exp.Distinct) or node.args.get("expressions"):
        raise ExpressionError(f"'{text}': an aggregate has one argument, without DISTINCT", code="stream.unsupported")
    kind = {"COUNT": ColumnType.INTEGER, "AVG": ColumnType.DOUBLE}.get(called.upper(), ColumnType.ANY)
    if isinstance(node.this, exp.Star):
        if called.upper() != "COUNT":
            raise ExpressionError(f"'{text}': only COUNT takes '*'", code="stream.unsupported", hint="name a column")
        return Aggregate(name, text, function, None, kind)
    if node.this is None:
        raise ExpressionError(f"'{text}' has no argument", code="stream.unsupported", hint=f"write {called}(column)")
    return Aggregate(name, text, function, Expression(node.this.sql(), node.this), kind)
