"""Compiles SQL expressions to one Python function over a batch of values.

A record whose values an expression does not accept makes the whole batch fail. :meth:`Projection.evaluate` then
evaluates record by record, so that only the bad record is refused, and reports which expression refused it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError, TokenError

from headrace_streams.expressions import semantics
from headrace_streams.expressions.errors import ExpressionError
from headrace_streams.expressions.generator import CodeGenerator
from headrace_streams.expressions.positions import line_and_column, offset_of_error
from headrace_streams.expressions.types import Columns, ColumnType

Row = Mapping[str, Any]
_Evaluate = Callable[[Sequence[Row]], list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Expression:
    """A parsed expression: ``text`` as the user wrote it."""

    text: str
    node: Any
    """Of sqlglot."""
    key: str = field(default="", compare=False)
    """The configuration key where it is written, for errors of records."""
    written: str = field(default="", compare=False)
    """The text that positions in ``node`` count from, after ``skipped`` characters; empty: not known."""
    skipped: int = field(default=0, compare=False)

    def part(self, node: Any) -> Expression:
        """Return a part of the expression as one of its own."""
        return replace(self, text=node.sql(), node=node)

    def place_of(self, error: ExpressionError) -> tuple[int, int] | None:
        """Return line and column, from 1, that an error is about; None when they are not known."""
        if not self.written or error.offset is None:
            return None
        return line_and_column(self.written, max(0, error.offset - self.skipped))

    @property
    def column(self) -> str | None:
        """Return the name when the expression is a plain column."""
        if isinstance(self.node, exp.Column) and len(self.node.parts) == 1:
            return str(self.node.name)
        return None


def parse_expression(text: str) -> Expression:
    """Parse one SQL expression. Raise ExpressionError with the position of a syntax error."""
    try:
        node = sqlglot.parse_one(text)
    except TokenError as error:
        problem = f"'{text}' is not an expression: a quote is not closed"
        raise ExpressionError(problem, code="stream.syntax", offset=0) from error
    except SqlglotError as error:
        details = getattr(error, "errors", None) or [{}]
        place = f" at character {details[0]['col']}" if details[0].get("col") else ""
        problem = str(details[0].get("description") or "not readable").rstrip(".")
        if problem.startswith("Required keyword"):  # the text names a class of the parser
            problem = f"an operand of '{details[0].get('highlight')}' is missing"
        offset = offset_of_error(text, details[0])
        problem = f"'{text}' is not an expression: {problem}{place}"
        raise ExpressionError(problem, code="stream.syntax", offset=offset) from error
    if isinstance(node, (exp.Query, exp.Command, exp.DDL, exp.DML, exp.Alias)):
        raise ExpressionError(f"'{text}' is a statement, not an expression", code="stream.syntax", offset=0)
    return Expression(text, node, written=text)


@dataclass(frozen=True)
class Refusal:
    """A record that an expression refuses: its place in the batch, the expression's name, and why."""

    row: int
    name: str
    error: ExpressionError


@dataclass(frozen=True)
class Projection:
    """Several expressions, evaluated in one loop."""

    expressions: Mapping[str, Expression]
    types: Mapping[str, ColumnType]
    source: str
    """The generated code, for tests and debugging."""
    _run: _Evaluate = field(compare=False)
    _columns: Columns

    def extend(self, rows: Sequence[Row], *, keep: bool) -> list[dict[str, Any]] | None:
        """Return the rows with the values as columns, in place of others unless ``keep``; None if a row is refused.

        :meth:`evaluate` reports which row is refused, and why.
        """
        try:
            return (self._extend if keep else self._select)(rows)
        except Exception:  # what was raised is found again row by row
            return None

    @cached_property
    def _extend(self) -> Callable[[Sequence[Row]], list[dict[str, Any]]]:
        return _compiled(self.expressions, self._columns, _Shape.EXTENDED)[0]

    @cached_property
    def _select(self) -> Callable[[Sequence[Row]], list[dict[str, Any]]]:
        return _compiled(self.expressions, self._columns, _Shape.OBJECT)[0]

    def evaluate(self, rows: Sequence[Row]) -> tuple[list[tuple[Any, ...]], list[Refusal]]:
        """Return the values of all expressions for each row, and the refused rows, whose values are missing."""
        try:
            return self._run(rows), []
        except Exception:  # an ExpressionError, or an error of Python for unexpected values: found row by row below
            return self._evaluate_rows(rows)

    def _evaluate_rows(self, rows: Sequence[Row]) -> tuple[list[tuple[Any, ...]], list[Refusal]]:
        values, refusals = [], []
        for place, row in enumerate(rows):
            try:
                values += self._run([row])
            except Exception:
                refusals.append(self._refusal(place, row))
        return values, refusals

    def _refusal(self, place: int, row: Row) -> Refusal:
        for name, single in self._singles.items():
            try:
                single([row])
            except ExpressionError as error:
                return Refusal(place, name, error)
            except Exception as error:
                text = f"the values do not fit the expression ({type(error).__name__})"
                return Refusal(place, name, ExpressionError(text, code="stream.wrong_type"))
        raise RuntimeError("an expression failed in the batch and succeeds alone")

    @cached_property
    def _singles(self) -> dict[str, _Evaluate]:
        return {name: _compiled({name: item}, self._columns)[0] for name, item in self.expressions.items()}


def compile_expressions(expressions: Mapping[str, Expression], columns: Columns) -> Projection:
    """Compile expressions over records with these columns. Raise ExpressionError."""
    run, types, source = _compiled(expressions, columns)
    return Projection(dict(expressions), types, source, run, columns)


class _Shape(enum.Enum):
    """The result of the generated function for each row."""

    VALUES = "values"
    OBJECT = "object"
    EXTENDED = "extended"


def _compiled(
    expressions: Mapping[str, Expression], columns: Columns, shape: _Shape = _Shape.VALUES
) -> tuple[Callable[[Sequence[Row]], list[Any]], dict[str, ColumnType], str]:
    generator = CodeGenerator(columns)
    codes = {name: generator.generate(item.node) for name, item in expressions.items()}
    lines = ["def run(rows):", " found = []", " append = found.append", " for row in rows:"]
    if generator.reads:
        lines.append("  get = row.get")
    field = "_field"
    generator.namespace[field] = semantics.field
    for path, local in generator.reads.items():
        parent = generator.reads.get(path[:-1])
        if parent is None:
            lines.append(f"  {local} = get({path[0]!r})")
        else:
            fast = f"{parent}.get({path[-1]!r}) if {parent}.__class__ is dict"
            lines.append(f"  {local} = {fast} else {field}({parent}, {path[-1]!r})")
    if shape is _Shape.VALUES:
        made = f"({''.join(f'{code.text}, ' for code in codes.values())})"
    else:
        fields = ", ".join(f"{name!r}: {code.text}" for name, code in codes.items())
        made = f"{{**row, {fields}}}" if shape is _Shape.EXTENDED else f"{{{fields}}}"
    lines += [f"  append({made})", " return found"]
    source = "\n".join(lines)
    namespace = dict(generator.namespace)
    try:
        exec(compile(source, "<expression>", "exec"), namespace)  # names and literals are written by repr only
    except (SyntaxError, MemoryError) as error:  # of Python's parser, for more than some 100 parentheses
        hint = "divide it into several steps"
        raise ExpressionError("the expression is nested too deeply", code="stream.syntax", hint=hint) from error
    return namespace["run"], {name: code.type for name, code in codes.items()}, source
