"""Aggregate functions: the code that a window runs for each record, over accumulators that are flat lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from headrace import nearest
from headrace_streams.expressions import Expression, ExpressionError, parse_expression
from headrace_streams.expressions.types import ColumnType
from headrace_streams.operators.distinct_count import add_distinct, distinct_count, merge_distinct
from headrace_streams.operators.quantile_sketch import add_sketch, add_value, quantile


@dataclass(frozen=True)
class AggregateFunction:
    """One aggregate function. In the code ``{v}`` is the argument, ``{a}`` and ``{b}`` are its places in the list,
    ``{x}`` and ``{y}`` those of another accumulator."""

    initial: tuple[int | None, ...]
    update: tuple[str, ...]
    """Statements; a null argument does not reach them."""
    merge: tuple[str, ...]
    """Statements that add another accumulator; empty: it cannot be done."""
    result: str
    numeric: bool = False
    """Whether the argument must be a number."""
    copy: tuple[str, ...] = ()
    """Statements that replace what ``update`` changes in place by a copy, in an accumulator that was just copied."""


def _of_one_value(update: str, condition: str) -> AggregateFunction:
    return AggregateFunction(
        (None,), (update,), (f"if {{x}} is not None and ({{a}} is None or {condition}): {{a}} = {{x}}",), "{a}"
    )


_SUM = AggregateFunction(
    (None,),
    ("{a} = {v} if {a} is None else {a} + {v}",),
    ("if {x} is not None: {a} = {x} if {a} is None else {a} + {x}",),
    "{a}",
    numeric=True,
)
_AVERAGE = AggregateFunction(
    (0, 0),
    ("{a} += {v}", "{b} += 1"),
    ("{a} += {x}", "{b} += {y}"),
    "({a} / {b} if {b} else None)",
    numeric=True,
)
_DISTINCT = AggregateFunction(
    (None,),
    ("{a} = add_distinct({a}, {v})",),
    ("{a} = merge_distinct({a}, {x})",),
    "distinct_count({a})",
)
FUNCTIONS: Mapping[str, AggregateFunction] = {
    "COUNT": AggregateFunction((0,), ("{a} += 1",), ("{a} += {x}",), "{a}"),
    "SUM": _SUM,
    "MIN": _of_one_value("if {a} is None or {v} < {a}: {a} = {v}", "{x} < {a}"),
    "MAX": _of_one_value("if {a} is None or {v} > {a}: {a} = {v}", "{x} > {a}"),
    "AVG": _AVERAGE,
    "FIRST": AggregateFunction((None,), ("if {a} is None: {a} = {v}",), (), "{a}"),
    "LAST": AggregateFunction((None,), ("{a} = {v}",), (), "{a}"),
    "APPROX_DISTINCT": _DISTINCT,
    "APPROX_COUNT_DISTINCT": _DISTINCT,
    "APPROX_QUANTILE": AggregateFunction(
        (None,),
        ("if {a} is None: {a} = {{}}", "add_value({a}, {v})"),
        ("if {x} is not None:", " if {a} is None: {a} = {{}}", " add_sketch({a}, {x})"),
        "quantile({a}, {share})",
        numeric=True,
        copy=("if {a} is not None: {a} = dict({a})",),
    ),
}
"""First and last are those with the lowest and highest offset; all functions ignore null, as in SQL."""


def _numbered(update: str, condition: str) -> AggregateFunction:
    """Keeps the number of the record with the value."""
    merge = f"if {{x}} is not None and ({{a}} is None or {condition}): {{a}}, {{b}} = {{x}}, {{y}}"
    return AggregateFunction((None, None), (update,), (merge,), "{a}")


MERGEABLE_FUNCTIONS: Mapping[str, AggregateFunction] = {
    **FUNCTIONS,
    "FIRST": _numbered("if {a} is None: {a}, {b} = {v}, number", "{y} < {b}"),
    "LAST": _numbered("{a}, {b} = {v}, number", "{y} > {b}"),
}
"""For accumulators that are merged: first and last know which record they come from."""


NAMESPACE: Mapping[str, Any] = {
    function.__name__: function
    for function in (add_distinct, merge_distinct, distinct_count, add_value, add_sketch, quantile)
}
"""The functions that the statements call."""
_TYPES = {
    "COUNT": ColumnType.INTEGER,
    "AVG": ColumnType.DOUBLE,
    "APPROX_DISTINCT": ColumnType.INTEGER,
    "APPROX_COUNT_DISTINCT": ColumnType.INTEGER,
    "APPROX_QUANTILE": ColumnType.DOUBLE,
}
"""The types of results; those of the others are the arguments' types."""


@dataclass(frozen=True)
class Aggregate:
    """An aggregate of a window: ``views: count(*)``. ``argument`` None: it counts records."""

    name: str
    text: str
    function: AggregateFunction
    argument: Expression | None
    type: ColumnType


def parse_aggregate(name: str, text: str, functions: Mapping[str, AggregateFunction] = FUNCTIONS) -> Aggregate:
    """Parse an aggregate. Raise ExpressionError."""
    parsed = parse_expression(text)
    node = parsed.node
    called = node.name if isinstance(node, exp.Anonymous) else node.sql_name() if isinstance(node, exp.Func) else ""
    function = functions.get(called.upper())
    if function is None:
        hint = nearest(called.upper(), functions) or f"supported: {', '.join(functions)}"
        raise ExpressionError(f"'{text}' is not an aggregate", code="stream.unsupported", hint=hint)
    if isinstance(node, exp.ApproxQuantile):
        function = replace(function, result=function.result.replace("{share}", repr(_share(text, node))))
    if isinstance(node.this, exp.Distinct) or node.args.get("expressions"):
        raise ExpressionError(f"'{text}': an aggregate has one argument, without DISTINCT", code="stream.unsupported")
    kind = _TYPES.get(called.upper(), ColumnType.ANY)
    if isinstance(node.this, exp.Star):
        if called.upper() != "COUNT":
            raise ExpressionError(f"'{text}': only COUNT takes '*'", code="stream.unsupported", hint="name a column")
        return Aggregate(name, text, function, None, kind)
    if node.this is None:
        raise ExpressionError(f"'{text}' has no argument", code="stream.unsupported", hint=f"write {called}(column)")
    return Aggregate(name, text, function, parsed.part(node.this), kind)


def _share(text: str, node: exp.ApproxQuantile) -> float:
    share = node.args.get("quantile")
    if isinstance(share, exp.Literal) and not share.is_string and 0 <= float(share.name) <= 1:
        return float(share.name)
    hint = "write approx_quantile(column, 0.95)"
    raise ExpressionError(f"'{text}' needs a quantile from 0 to 1", code="stream.unsupported", hint=hint)
