"""InsertField: fields with the topic, partition, offset or timestamp of the record, or with a fixed text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from headrace import DataError, Field, Finding, RecordColumns, Schema, key
from headrace import schema as schemas
from headrace_transforms.keys import ReplaceNullConfig, invalid
from headrace_transforms.sides import (
    JVM,
    SideTransform,
    basics,
    remembered,
    require_maps,
    require_struct,
    with_defaults,
)

_PURPOSE = "InsertField"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPTIONAL = " A `?` after the name (default) makes the field optional, a `!` required."


class InsertFieldConfig(ReplaceNullConfig):
    """Keys of Kafka Connect's InsertField."""

    topic: str | None = key("topic.field", default=None, doc=f"Field for the topic.{_OPTIONAL}")
    partition: str | None = key(
        "partition.field", default=None, doc=f"Field for the Kafka partition; sources do not know it.{_OPTIONAL}"
    )
    offset: str | None = key("offset.field", default=None, doc=f"Field for the Kafka offset; only in sinks.{_OPTIONAL}")
    timestamp: str | None = key("timestamp.field", default=None, doc=f"Field for the record's timestamp.{_OPTIONAL}")
    static: str | None = key("static.field", default=None, doc=f"Field for `static.value`.{_OPTIONAL}")
    static_value: str | None = key("static.value", default=None, doc="The text of `static.field`.")

    def problems(self) -> Iterable[Finding]:
        fields = (self.topic, self.partition, self.offset, self.timestamp, self.static)
        if not any(fields):
            yield Finding("config.missing_key", "No field insertion configured", "static.field", "set one of the keys")
        for name, written in zip(("topic", "partition", "offset", "timestamp", "static"), fields, strict=True):
            if written in ("?", "!"):
                yield invalid(
                    f"{name}.field", written, "the name of the field is empty", "write a name before the sign"
                )
        if self.static and self.static_value is None:
            text = f"No value specified for static field: {self.static}"
            yield Finding("config.missing_key", text, "static.value", "set the text of the field")


class _Insertion(NamedTuple):
    name: str
    optional: bool


def _insertion(text: str | None) -> _Insertion | None:
    if not text:
        return None
    return _Insertion(text[:-1], text[-1] == "?") if text[-1] in "?!" else _Insertion(text, optional=True)


class InsertField(SideTransform):
    """Adds fields to maps and structs."""

    config_model = InsertFieldConfig

    def configure(self, properties: Mapping[str, str]) -> None:
        config = InsertFieldConfig.parse(properties)
        self._replace_null = config.replace_null
        self._topic, self._partition = _insertion(config.topic), _insertion(config.partition)
        self._offset, self._timestamp = _insertion(config.offset), _insertion(config.timestamp)
        self._static, self._static_value = _insertion(config.static), config.static_value
        self._schema_of = remembered(self._extended)

    def convert(
        self, schema: Schema | None, values: Sequence[Any], batch: RecordColumns
    ) -> tuple[Schema | None, list[Any]]:
        if schema is None:
            require_maps(values, _PURPOSE)
        else:
            require_struct(schema, values, _PURPOSE)
            values = with_defaults(schema, values, replace_null=self._replace_null)
        extended = None if schema is None else self._schema_of(schema)
        same: dict[str, Any] = {}  # of all records
        if self._topic:
            same[self._topic.name] = batch.topic
        if self._partition and batch.partition is not None:
            same[self._partition.name] = batch.partition
        if self._static:
            same[self._static.name] = self._static_value
        if self._offset is None and self._timestamp is None:
            return extended, [{**value, **same} for value in values]
        if self._offset is not None and batch.offsets is None:
            raise DataError(
                "InsertField: 'offset.field' is set, and records of a source have no offset yet",
                code="transform.no_offset",
                hint="remove 'offset.field', or use it in a sink",
            )
        own = [same] * len(values)
        if self._offset is not None:
            name = self._offset.name
            own = [{**fields, name: offset} for fields, offset in zip(own, batch.places, strict=True)]
        if self._timestamp is not None:
            own = self._with_timestamps(own, batch.timestamps, self._timestamp, with_schema=schema is not None)
        return extended, [{**value, **fields} for value, fields in zip(values, own, strict=True)]

    def _with_timestamps(
        self, own: list[dict[str, Any]], moments: Sequence[int | None], insertion: _Insertion, *, with_schema: bool
    ) -> list[dict[str, Any]]:
        if with_schema and not insertion.optional and None in moments:
            raise DataError(
                f"InsertField: the record has no timestamp for the required field '{insertion.name}'",
                code="transform.no_timestamp",
                hint=f"write '{insertion.name}?' so that the field is optional",
            )
        return [
            fields
            if moment is None
            else {**fields, insertion.name: _EPOCH + timedelta(milliseconds=moment) if with_schema else moment}
            for fields, moment in zip(own, moments, strict=True)
        ]

    def _extended(self, schema: Schema) -> Schema:
        fields = list(schema.fields)
        for insertion, described in (
            (self._topic, schemas.STRING),
            (self._partition, schemas.INT32),
            (self._offset, schemas.INT64),
            (self._timestamp, schemas.TIMESTAMP_SCHEMA),
            (self._static, schemas.STRING),
        ):
            if insertion is None:
                continue
            if any(field.name == insertion.name for field in fields):
                raise DataError(
                    f"InsertField: the struct has a field '{insertion.name}' already",
                    code="transform.field_exists",
                    hint="choose another name, or remove the field with ReplaceField before",
                )
            fields.append(Field(insertion.name, replace(described, optional=insertion.optional)))
        return basics(schema, fields=tuple(fields))


class InsertFieldKey(InsertField):
    """InsertField for keys."""

    on_key = True
    aliases = (f"{JVM}InsertField$Key",)


class InsertFieldValue(InsertField):
    """InsertField for values."""

    on_key = False
    aliases = (f"{JVM}InsertField$Value",)
