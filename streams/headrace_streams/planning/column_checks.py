"""Compares an application with what is known of the records of its topics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from headrace import Finding, KnownRecords
from headrace_streams.configuration import ApplicationKeys, InputKeys, NamedKeys, TableKeys, read_section
from headrace_streams.expressions import Columns, ColumnType, columns_of, columns_of_schemas
from headrace_streams.expressions.types import DECLARABLE
from headrace_streams.planning.planner import make_plan

_BY_EXAMPLES = "as far as the newest records show"


def column_findings(application: str, keys: ApplicationKeys, topics: Mapping[str, KnownRecords]) -> list[Finding]:
    """Return unknown columns and wrong types: errors if schemas show them, warnings if examples do."""
    certain = {
        topic: columns_of_schemas(records.schemas, plain=records.plain)
        for topic, records in topics.items()
        if records.schemas and not records.examples
    }
    shown = dict(certain)
    for topic, records in topics.items():
        objects = [item for item in records.examples if isinstance(item, dict)]
        if objects:
            examples = columns_of(objects)
            others = columns_of_schemas(records.schemas, plain=records.plain)
            shown[topic] = Columns({**others.types, **examples.types}, complete=True)
    found = [*make_plan(application, keys, certain)[1], *_declarations(keys, certain)]
    reported = {(item.key, item.code) for item in found}
    for item in (*make_plan(application, keys, shown)[1], *_declarations(keys, shown)):
        if (item.key, item.code) not in reported:
            found.append(replace(item, severity="warning", message=f"{item.message}, {_BY_EXAMPLES}"))
    return found


def _declarations(keys: ApplicationKeys, topics: Mapping[str, Columns]) -> Iterator[Finding]:
    """Yield declared columns that have another type in the topic."""
    declared: list[NamedKeys[InputKeys] | NamedKeys[TableKeys]] = [
        *read_section("inputs", keys.inputs, InputKeys)[0],
        *read_section("tables", keys.tables, TableKeys)[0],
    ]
    for entry in declared:
        topic = entry.keys.topic or entry.name
        columns = topics.get(topic, Columns())
        for name, text in entry.keys.columns.items():
            known, wanted = columns.types.get(name, ColumnType.ANY), DECLARABLE[text.strip().lower()]
            kind = ColumnType.OBJECT if isinstance(known, Columns) else known
            if wanted is ColumnType.ANY or kind.may_be(wanted) or (kind.numeric and wanted.numeric):
                continue
            problem = f"column '{name}' is declared {wanted}, and is {kind} in topic {topic}"
            key = f"{entry.prefix}.columns.{name}"
            yield Finding("stream.wrong_type", problem, key, f"write {name}: {kind}, or correct the records")
