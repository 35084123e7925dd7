"""Avro as a format of schemas in a registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import orjson

from headrace import DataError, Schema, Type
from headrace.converters.avro.avro_types import AvroType, parse_avro
from headrace.converters.avro.codec import AvroReader, AvroWriter
from headrace.converters.avro.configuration import AvroConverterConfig
from headrace.converters.avro.decoding import Change, decoding_change
from headrace.converters.avro.encoding import encoding_column
from headrace.converters.avro.from_connect import AvroSchemas, allowed_name
from headrace.converters.avro.to_connect import ConnectSchemas
from headrace.converters.json_columns import JsonColumn
from headrace.converters.schema_registry.registry_client import SchemaText
from headrace.converters.schema_registry.schema_format import OwnSchema, SchemaFormat, ValueReader, ValueWriter
from headrace.converters.schema_registry.wire_format import MessagePath


class AvroFormat(SchemaFormat[AvroType]):
    """Translates with the settings of a converter."""

    kind: ClassVar = "AVRO"

    def __init__(self, config: AvroConverterConfig) -> None:
        self._config = config
        self._connect_schemas = ConnectSchemas(enhanced=config.enhanced, meta_data=config.meta_data)

    def parse(self, text: SchemaText, path: MessagePath) -> AvroType:
        return parse_avro(text.text, tuple(reference.text for reference in text.references))

    def own_schema(self, schema: Schema) -> OwnSchema[AvroType]:
        config = self._config
        translator = AvroSchemas(
            enhanced=config.enhanced,
            meta_data=config.meta_data,
            scrub_names=config.scrub_names,
            optional_map_keys=config.optional_map_keys,
        )
        text = orjson.dumps(translator.translate(schema)).decode()
        return OwnSchema(text, parse_avro(text))

    def record_name(self, parsed: AvroType) -> str:
        return parsed.record_name

    def title(self, parsed: AvroType) -> str:
        return parsed.record_name or parsed.kind

    def connect_schema(self, parsed: AvroType) -> Schema:
        return self._connect_schemas.translate(parsed)

    def writer(self, schema: Schema, parsed: AvroType, label: str, *, latest: bool) -> ValueWriter:
        config = self._config
        strict = latest and config.latest_strict
        if strict:
            _check_fields(schema, parsed, label)
        column = encoding_column(
            schema,
            replace_nulls=not config.ignore_defaults,
            enums=config.enhanced and not latest,
            optional_map_keys=config.optional_map_keys,
        )
        return _ColumnWriter(column, AvroWriter(parsed, self._connect_schemas.member_name, label, strict=strict))

    def reader(self, parsed: AvroType, label: str, reads_as: AvroType | None) -> ValueReader:
        shape = reads_as or parsed
        reader = AvroReader(parsed, self._connect_schemas.member_name, label, reads_as)
        change = decoding_change(shape, self.connect_schema(shape), resolved=reads_as is not None)
        return reader if change is None else _ChangingReader(reader, change)


class _ColumnWriter(NamedTuple):
    column: JsonColumn
    writer: AvroWriter

    def write(self, values: Sequence[Any], prefix: bytes) -> list[bytes]:
        return self.writer.write(self.column.run([*values]), prefix)


class _ChangingReader(NamedTuple):
    reader: AvroReader
    change: Change

    def read(self, values: Sequence[bytes], offset: int) -> list[Any]:
        return self.change(self.reader.read(values, offset))


def _check_fields(schema: Schema, described: AvroType, label: str) -> None:
    """Raise DataError when records have fields that the record of the latest version does not have."""
    if schema.type is not Type.STRUCT or not described.record_name:
        return
    known = {field.name for field in (described.nullable or described).fields}
    if missing := [field.name for field in schema.fields if allowed_name(field.name) not in known]:
        raise DataError(
            f"the latest version of the schema {label} has no field {', '.join(missing)}",
            code="schema_registry.unknown_field",
            hint="register a version with it, or leave it out by latest.compatibility.strict: false",
        )
