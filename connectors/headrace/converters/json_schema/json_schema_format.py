"""JSON Schema as a format of schemas in a registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from headrace import DataError, Schema, Type, json_bytes
from headrace.converters.json_columns import JsonColumn
from headrace.converters.json_leaves import NeedsExactNumbers
from headrace.converters.json_schema.configuration import JsonSchemaConverterConfig
from headrace.converters.json_schema.decoding import decoding_column
from headrace.converters.json_schema.document import JsonSchemaDocument, parse_json_schema
from headrace.converters.json_schema.encoding import encoding_column
from headrace.converters.json_schema.from_connect import JsonSchemas
from headrace.converters.json_schema.to_connect import JsonConnectSchemas
from headrace.converters.json_texts import loads, loads_exactly
from headrace.converters.schema_registry.registry_client import SchemaText
from headrace.converters.schema_registry.schema_format import OwnSchema, SchemaFormat, ValueReader, ValueWriter
from headrace.converters.schema_registry.wire_format import MessagePath

if TYPE_CHECKING:
    from headrace.converters.json_schema.validation import JsonSchemaValidator


class JsonSchemaFormat(SchemaFormat[JsonSchemaDocument]):
    """Translates with the settings of a converter."""

    kind: ClassVar = "JSON"

    def __init__(self, config: JsonSchemaConverterConfig) -> None:
        self._config = config
        self._numeric = config.decimal_format == "NUMERIC"
        self._schemas = JsonSchemas(additional_properties=config.additional_properties, numeric=self._numeric)

    def parse(self, text: SchemaText, path: MessagePath) -> JsonSchemaDocument:
        return parse_json_schema(text)

    def own_schema(self, schema: Schema) -> OwnSchema[JsonSchemaDocument]:
        text = orjson.dumps(self._schemas.translate(schema)).decode()
        return OwnSchema(text, parse_json_schema(SchemaText(text)))

    def record_name(self, parsed: JsonSchemaDocument) -> str:
        return parsed.title

    def title(self, parsed: JsonSchemaDocument) -> str:
        return parsed.title or "without title"

    def connect_schema(self, parsed: JsonSchemaDocument) -> Schema:
        config = self._config
        return JsonConnectSchemas(
            parsed, optional_if_not_required=config.optional_if_not_required, flattens_single=config.flattens_single
        ).translate()

    def writer(self, schema: Schema, parsed: JsonSchemaDocument, label: str, *, latest: bool) -> ValueWriter:
        if latest and self._config.latest_strict:
            _check_fields(schema, parsed, label)
        column = encoding_column(schema, replace_nulls=not self._config.ignore_defaults, numeric=self._numeric)
        return _JsonWriter(column, self._validator(parsed, label))

    def reader(self, parsed: JsonSchemaDocument, label: str, reads_as: JsonSchemaDocument | None) -> ValueReader:
        shape = reads_as or parsed
        return _JsonReader(decoding_column(self.connect_schema(shape)), self._validator(shape, label))

    def _validator(self, parsed: JsonSchemaDocument, label: str) -> JsonSchemaValidator | None:
        if not self._config.validates:
            return None
        from headrace.converters.json_schema.validation import JsonSchemaValidator  # may not be installed

        return JsonSchemaValidator(parsed, label)


class _JsonWriter:
    def __init__(self, column: JsonColumn, validator: JsonSchemaValidator | None) -> None:
        self._column = column
        self._validator = validator

    def write(self, values: Sequence[Any], prefix: bytes) -> list[bytes]:
        try:
            texts = json_bytes(self._column.run([*values]))
        except TypeError as error:  # for example texts that are not valid Unicode
            raise DataError(f"cannot be written as JSON: {error}") from error
        if self._validator is not None:
            self._validator.check([*map(loads, texts)])
        return [prefix + text for text in texts]


class _JsonReader:
    def __init__(self, column: JsonColumn, validator: JsonSchemaValidator | None) -> None:
        self._column = column
        self._validator = validator

    def read(self, values: Sequence[bytes], offset: int) -> list[Any]:
        texts = [value[offset:] for value in values]
        found = [*map(loads, texts)]
        if self._validator is not None:
            self._validator.check(found)
        try:
            return self._column.run(found)
        except NeedsExactNumbers:
            return self._column.run([*map(loads_exactly, texts)])


def _check_fields(schema: Schema, parsed: JsonSchemaDocument, label: str) -> None:
    """Raise DataError when records have fields that the latest version does not allow."""
    root = parsed.root
    if schema.type is not Type.STRUCT or not isinstance(root, dict) or root.get("additionalProperties") is not False:
        return
    if missing := [field.name for field in schema.fields if field.name not in root.get("properties", {})]:
        raise DataError(
            f"the latest version of the schema {label} has no field {', '.join(missing)}",
            code="schema_registry.unknown_field",
            hint="register a version with it, or set latest.compatibility.strict: false",
        )
