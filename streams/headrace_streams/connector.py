"""The plugin: checks the configuration of a stream application, and explains it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headrace import ConfigError, DataError, EvaluatedExpression, Finding, KnownRecords, StreamConnector, StreamTopology
from headrace_streams.configuration import ApplicationKeys
from headrace_streams.expressions import (
    Columns,
    Expression,
    ExpressionError,
    columns_of,
    compile_expressions,
    parse_expression,
)
from headrace_streams.plan import Plan
from headrace_streams.planning import make_plan
from headrace_streams.planning.builder import finding_of
from headrace_streams.planning.column_checks import column_findings
from headrace_streams.task import StreamApplicationTask

_VALUE = "value"


class StreamApplicationConfig(ApplicationKeys):
    """The configuration keys, and the rules of the plan that they describe."""

    def problems(self) -> Iterable[Finding]:
        return make_plan("", self)[1]


class StreamApplicationConnector(StreamConnector):
    """Processes the records of topics in steps that a file describes, and writes topics, exactly once."""

    config_model = StreamApplicationConfig
    task_class = StreamApplicationTask

    def topology(self, name: str, properties: Mapping[str, str]) -> StreamTopology:
        return _plan(name, properties).topology()

    def explain(self, name: str, properties: Mapping[str, str]) -> Sequence[str]:
        return list(_plan(name, properties).explain())

    def column_findings(
        self, name: str, properties: Mapping[str, str], topics: Mapping[str, KnownRecords]
    ) -> Sequence[Finding]:
        return column_findings(name, ApplicationKeys.parse(properties), topics)

    def evaluate(self, expression: str, record: Mapping[str, Any] | None) -> EvaluatedExpression:
        parsed: Expression | None = None
        try:
            parsed = parse_expression(expression)
            projection = compile_expressions(
                {_VALUE: parsed}, columns_of([record]) if record is not None else Columns()
            )
        except ExpressionError as error:
            found = finding_of(error, "", parsed or Expression(expression, None, written=expression))
            raise ConfigError(findings=[found]) from error
        except RecursionError as error:
            found = Finding("stream.syntax", "the expression is nested too deeply", hint="divide it into several steps")
            raise ConfigError(findings=[found]) from error
        values, refusals = projection.evaluate([record or {}])
        if refusals:
            refused = refusals[0].error
            raise DataError(refused.message, code=refused.code, hint=refused.hint)
        return EvaluatedExpression(values[0][0], projection.types[_VALUE].value)


def _plan(name: str, properties: Mapping[str, str]) -> Plan:
    plan, findings = make_plan(name, ApplicationKeys.parse(properties))
    if any(finding.severity == "error" for finding in findings):
        raise ConfigError(findings=findings)
    return plan
