"""Names of subjects: under which name a registry keeps the schemas of a topic."""

from __future__ import annotations

from headrace import DataError
from headrace.converters.avro.avro_types import AvroType
from headrace.converters.avro.configuration import Strategy


def subject_name(strategy: Strategy, topic: str, described: AvroType | None, *, is_key: bool) -> str:
    """Return the subject of a schema. Raise DataError when the strategy needs the name of a record, and it has none."""
    if strategy == "TopicNameStrategy":
        return f"{topic}-{'key' if is_key else 'value'}"
    name = described.record_name if described is not None else ""
    if not name:
        word = "key" if is_key else "value"
        raise DataError(
            f"{strategy} names the subject after the record, and the {word} is no record with a schema",
            code="avro.no_record_name",
            hint=f"use {word}.subject.name.strategy: TopicNameStrategy",
        )
    return name if strategy == "RecordNameStrategy" else f"{topic}-{name}"
