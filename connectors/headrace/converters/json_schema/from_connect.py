"""Translates Connect's schemas to JSON Schemas (draft 7), as JsonSchemaData does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headrace import DataError, Schema, Type
from headrace.converters.json_leaves import logical_name
from headrace.converters.json_schema.connect_names import (
    BYTES,
    ENUM,
    INDEX,
    MAP,
    NAMESPACE,
    NULL_SYMBOL,
    ONE_OF,
    PARAMETERS,
    TYPE,
    VERSION,
)
from headrace.converters.json_schema.decoding import is_text_map
from headrace.converters.json_schema.encoding import encoding_column
from headrace.schema import DECIMAL

_NUMBERS = {
    Type.INT8: ("integer", "int8"),
    Type.INT16: ("integer", "int16"),
    Type.INT32: ("integer", "int32"),
    Type.INT64: ("integer", "int64"),
    Type.FLOAT32: ("number", "float32"),
    Type.FLOAT64: ("number", "float64"),
}


class JsonSchemas:
    """Translates with the settings of a converter."""

    def __init__(self, *, additional_properties: bool, numeric: bool) -> None:
        self._additional_properties = additional_properties
        self._numeric = numeric

    def translate(self, schema: Schema, index: int | None = None) -> dict[str, Any]:
        """Return a JSON Schema; ``index``: the place of a field. Raise DataError for a schema that is not complete."""
        place = {} if index is None else {INDEX: index}
        if schema.type is Type.STRUCT and schema.name == ONE_OF:
            members = [self._single(replace(field.schema, optional=False), at) for at, field in _numbered(schema)]
            return {"oneOf": [*([{"type": "null"}] if schema.optional else []), *members], **place}
        if not schema.optional:
            return self._single(schema, index)
        return {"oneOf": [{"type": "null"}, self._single(replace(schema, optional=False), None)], **place}

    def _single(self, schema: Schema, index: int | None) -> dict[str, Any]:
        """Return the schema of values that are not null."""
        if schema.type is Type.STRUCT and schema.name == ONE_OF:
            return self.translate(schema, index)
        made: dict[str, Any] = {}
        if schema.name is not None:
            made["title"] = schema.name
        if schema.doc is not None:
            made["description"] = schema.doc
        if schema.default is not None:
            column = encoding_column(replace(schema, default=None), replace_nulls=True, numeric=False)
            made["default"] = column.run([schema.default])[0]
        made |= self._typed(schema)
        if schema.version is not None:
            made[VERSION] = schema.version
        if shown := {name: text for name, text in schema.parameters if not name.startswith(NAMESPACE)}:
            made[PARAMETERS] = shown
        if index is not None:
            made[INDEX] = index
        return made

    def _typed(self, schema: Schema) -> dict[str, Any]:
        kind = schema.type
        if kind in _NUMBERS:
            name, connect = _NUMBERS[kind]
            return {"type": name, TYPE: connect}
        if kind is Type.STRING and schema.parameter(ENUM) is not None:
            return {"enum": _symbols(schema)}
        if kind is Type.BYTES:
            is_number = self._numeric and logical_name(schema) == DECIMAL
            return {"type": "number" if is_number else "string", TYPE: BYTES}
        if kind is Type.ARRAY:
            return {"type": "array", "items": self.translate(_part(schema.items))}
        if kind is Type.MAP:
            return self._map(schema)
        if kind is Type.STRUCT:
            properties = {field.name: self.translate(field.schema, at) for at, field in _numbered(schema)}
            closed = {} if self._additional_properties else {"additionalProperties": False}
            return {"type": "object", "properties": properties, **closed}
        return {"type": "boolean" if kind is Type.BOOLEAN else "string"}

    def _map(self, schema: Schema) -> dict[str, Any]:
        if is_text_map(schema):
            return {"type": "object", "additionalProperties": self.translate(_part(schema.items)), TYPE: MAP}
        entry = {"key": self.translate(_part(schema.keys), 0), "value": self.translate(_part(schema.items), 1)}
        return {"type": "array", "items": {"type": "object", "properties": entry}, TYPE: MAP}


def _numbered(schema: Schema) -> list[tuple[int, Any]]:
    return list(enumerate(schema.fields))


def _symbols(schema: Schema) -> list[str | None]:
    prefix = f"{ENUM}."
    symbols = [name.removeprefix(prefix) for name, _ in schema.parameters if name.startswith(prefix)]
    return [None if symbol == NULL_SYMBOL else symbol for symbol in symbols]


def _part(schema: Schema | None) -> Schema:
    if schema is None:
        raise DataError("the schema of an ARRAY or MAP does not say what is in it", code="json_schema.invalid_schema")
    return schema
