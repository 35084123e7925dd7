"""The state of a plan while it is made: streams, tables, steps so far, and the problems that were found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from headrace import Finding, nearest
from headrace_streams.configuration import NamedKeys
from headrace_streams.expressions import (
    Columns,
    ColumnType,
    Expression,
    ExpressionError,
    Projection,
    compile_expressions,
    parse_expression,
)
from headrace_streams.expressions.types import DECLARABLE
from headrace_streams.operators.operator import Operator
from headrace_streams.plan import PlannedOutput, PlannedStep, PlannedTable, Repartition

_SELECT = "SELECT "
_DIVIDE = "divide it into several steps"


@dataclass(frozen=True)
class StreamInfo:
    """What is known of a stream when the plan is made."""

    columns: Columns
    topics: tuple[str, ...]
    """Where its records come from: inputs or repartition topics."""
    keyed_by: tuple[str, ...] | None = None
    """The columns that are the key; None: not known."""


class PlanError(Exception):
    """A part of the plan cannot be made. Without findings: the reason is reported already."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__(*findings)
        self.findings = findings


def finding_of(error: ExpressionError, key: str, expression: Expression) -> Finding:
    """Return an error of an expression as a finding about its place in the text of a key."""
    return Finding(error.code, error.message, key, error.hint, at=expression.place_of(error))


class ReportedAt:
    """Context manager that converts an ExpressionError to a finding about a key."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ExpressionError):
            raise PlanError(Finding(error.code, error.message, self._key, error.hint)) from error


class PlanBuilder:
    """Collects the parts of one plan. Problems go to ``findings``; a part with a problem is left out."""

    def __init__(self, application: str, known: Mapping[str, Columns] | None = None) -> None:
        """``known``: the columns of topics whose columns the configuration does not declare."""
        self.application = application
        self._known = known or {}
        self.findings: list[Finding] = []
        self.streams: dict[str, StreamInfo] = {}
        self.failed: set[str] = set()
        """Names whose definition has a problem, so that what refers to them is not reported as well."""
        self.tables: dict[str, PlannedTable] = {}
        self.partitioned_tables: dict[str, PlannedTable] = {}
        """Those that a step looks up."""
        self.aligned: list[tuple[str, str]] = []
        """See :attr:`Plan.aligned`."""
        self.steps: list[PlannedStep] = []
        self.repartitions: list[Repartition] = []
        self.followed: list[tuple[str, str]] = []
        self.used: set[str] = set()
        self.experiments: dict[str, Any] = {}
        """Of :class:`headrace_streams.exploration.experiment.Experiment`, which needs an extra."""
        self.outputs: list[PlannedOutput] = []
        """Of steps, besides those that are configured."""
        self.shared: dict[str, Mapping[str, str]] = {}

    def add_step(
        self, name: str, sources: tuple[str, ...], operator: Operator, streams: Mapping[str, StreamInfo]
    ) -> None:
        self.steps.append(PlannedStep(name, sources, operator))
        for suffix, stream in streams.items():
            self.streams[f"{name}.{suffix}" if suffix else name] = stream

    def groups(self, key: str, text: str, columns: Columns) -> Projection:
        """Compile a list of expressions; each has a name: that of its column, or its alias."""
        try:
            query = sqlglot.parse_one(f"{_SELECT}{text}")
        except SqlglotError as error:
            raise PlanError(Finding("stream.syntax", f"'{text}' is not a list of expressions", key)) from error
        if not isinstance(query, exp.Select) or any(query.args[name] for name in query.args if name != "expressions"):
            raise PlanError(Finding("stream.syntax", f"'{text}' is not a list of expressions", key))
        named: dict[str, Expression] = {}
        for node in query.expressions:
            if not node.alias_or_name:
                hint = f"write {node.sql()} AS <name>"
                raise PlanError(Finding("stream.syntax", f"'{node.sql()}' has no name", key, hint))
            inner = node.this if isinstance(node, exp.Alias) else node
            named[node.alias_or_name] = Expression(inner.sql(), inner, written=text, skipped=len(_SELECT))
        return self.compiled(key, named, columns)

    def parse(self, key: str, text: str) -> Expression:
        try:
            return parse_expression(text)
        except ExpressionError as error:
            raise PlanError(finding_of(error, key, Expression(text, None, written=text))) from error

    def compile(self, key: str, texts: Mapping[str, str], columns: Columns, *, each: bool = False) -> Projection:
        """Compile expressions. ``each``: the configuration key of each is ``key.<name>``."""
        parsed = {name: self.parse(f"{key}.{name}" if each else key, text) for name, text in texts.items()}
        return self.compiled(key, parsed, columns, each=each)

    def compiled(
        self, key: str, parsed: Mapping[str, Expression], columns: Columns, *, each: bool = False
    ) -> Projection:
        failed = False
        keys = {name: f"{key}.{name}" if each else key for name in parsed}
        parsed = {name: replace(expression, key=keys[name]) for name, expression in parsed.items()}
        for name, expression in parsed.items():  # one by one, so that each problem is reported at its line
            try:
                compile_expressions({name: expression}, columns)
            except ExpressionError as error:
                self.findings.append(finding_of(error, keys[name], expression))
                failed = True
        if failed:
            raise PlanError()
        return compile_expressions(parsed, columns)

    def require_boolean(self, key: str, conditions: Projection) -> None:
        for name, kind in conditions.types.items():
            if not kind.may_be(ColumnType.BOOLEAN):
                text = f"'{conditions.expressions[name].text}' is of type {kind}, not a condition"
                place = key if name == "filter" else f"{key}.{name}"
                raise PlanError(Finding("stream.wrong_type", text, place, "write a comparison"))

    def columns_of_topic(self, key: str, topic: str, declared: Mapping[str, str]) -> Columns:
        """Return the columns of an input or table. ``key``: of the declared ones."""
        return self.declared(key, declared) if declared else self._known.get(topic, Columns())

    def require_column(self, key: str, columns: Columns, name: str) -> None:
        try:
            columns.type_of((name,))
        except ExpressionError as error:
            self.report(error.code, error.message, key, error.hint)

    def declared(self, key: str, texts: Mapping[str, str]) -> Columns:
        types: dict[str, ColumnType | Columns] = {}
        for name, text in texts.items():
            kind = DECLARABLE.get(text.strip().lower())
            if kind is None:
                hint = nearest(text, DECLARABLE) or f"types: {', '.join(DECLARABLE)}"
                self.report("config.invalid_value", f"unknown type '{text}'", f"{key}.{name}", hint)
            types[name] = kind or ColumnType.ANY
        return Columns(types, complete=bool(texts))

    def about(self, key: str) -> ReportedAt:
        return ReportedAt(key)

    def guarded(self, entry: NamedKeys[Any], make: Callable[[], object]) -> None:
        try:
            make()
        except PlanError as error:
            self.findings += error.findings
            self.failed.add(entry.name)
        except RecursionError:
            self.report("stream.syntax", f"an expression of '{entry.name}' is nested too deeply", entry.prefix, _DIVIDE)
            self.failed.add(entry.name)

    def report_unknown_stream(self, key: str, name: str, *, later: bool = False) -> None:
        hint = nearest(name, self.streams) or f"there are: {', '.join(self.streams) or 'none'}"
        if later:
            hint = "it is defined below: move it before the step that reads it"
        self.report("stream.unknown_stream", f"unknown stream '{name}'", key, hint)

    def report(self, code: str, message: str, key: str, hint: str = "", severity: str = "error") -> None:
        self.findings.append(Finding(code, message, key, hint, severity=severity))
