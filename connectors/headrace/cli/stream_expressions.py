"""Evaluates an expression of stream applications for ``headrace stream try``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from headrace.errors import CommandError, ConfigError
from headrace.pipeline.stream import state_codec
from headrace.plugin import EvaluatedExpression, StreamConnector
from headrace.registry import PluginKind, Registry


def parse_record(text: str) -> dict[str, Any]:
    """Return the record of ``--record``. Raise CommandError."""
    try:
        record = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        hint = """write it in quotes: --record '{"cpi": 3, "loi": 2}'"""
        raise CommandError(f"--record is not JSON ({place}: {error.msg})", code="cli.bad_record", hint=hint) from error
    if not isinstance(record, dict):
        raise CommandError("--record is not a JSON object", code="cli.bad_record", hint="write columns and values")
    return record


def evaluate(expression: str, record: Mapping[str, Any] | None) -> EvaluatedExpression:
    """Return value and type. Raise ConfigError, DataError."""
    connector: StreamConnector = Registry().find(PluginKind.CONNECTOR, "Stream").cls()
    return connector.evaluate(expression, record)


def value_text(value: Any) -> str:
    """Return a value as JSON that keeps all types."""
    return state_codec.encode([value])[0].decode() if value is not None else "null"


def problem_lines(expression: str, error: ConfigError) -> Iterator[str]:
    """Yield what is wrong, the line of the expression with a caret, and what to do."""
    for finding in error.findings:
        yield f"{finding.code}: {finding.message}"
        if finding.at is not None:
            line, column = finding.at
            yield f"  {(expression.splitlines() or [''])[line - 1]}"
            yield f"  {' ' * (column - 1)}^"
        if finding.hint:
            yield f"  → {finding.hint}"
