"""Names of subjects: under which name a registry keeps the schemas of a topic."""

from __future__ import annotations

from headrace import DataError
from headrace.converters.schema_registry.configuration import Strategy


def subject_name(strategy: Strategy, topic: str, record_name: str, *, is_key: bool) -> str:
    """Return the subject of a schema. Raise DataError when the strategy needs the name of a record, and it has none."""
    if strategy == "TopicNameStrategy":
        return f"{topic}-{'key' if is_key else 'value'}"
    if not record_name:
        word = "key" if is_key else "value"
        raise DataError(
            f"{strategy} names the subject after the record, and the {word} is no record with a schema",
            code="schema_registry.no_record_name",
            hint=f"use {word}.subject.name.strategy: TopicNameStrategy",
        )
    return record_name if strategy == "RecordNameStrategy" else f"{topic}-{record_name}"
