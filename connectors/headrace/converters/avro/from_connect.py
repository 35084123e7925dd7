"""Translates Connect's schemas to Avro's, as AvroData does. The results are JSON, in a fixed order of keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote_plus

from headrace import DataError, Schema, Type
from headrace.converters.avro.avro_types import is_full_name, is_name
from headrace.converters.avro.connect_names import (
    DEFAULT_NAME,
    ENUM,
    ENUM_DEFAULT,
    ENUM_DOC,
    FIELD_DEFAULT,
    FIELD_DOC,
    FIXED_SIZE,
    MAP_ENTRY,
    PRECISION,
    RECORD_DOC,
    UNION,
    USUAL_PRECISION,
)
from headrace.converters.avro.defaults import is_avro_map, write_default
from headrace.converters.avro.leaves import enum_symbols
from headrace.converters.json_leaves import logical_name, scale_of
from headrace.schema import DATE, DECIMAL, TIME, TIMESTAMP

_TYPES = {
    Type.BOOLEAN: "boolean",
    Type.INT8: "int",
    Type.INT16: "int",
    Type.INT32: "int",
    Type.INT64: "long",
    Type.FLOAT32: "float",
    Type.FLOAT64: "double",
    Type.STRING: "string",
    Type.BYTES: "bytes",
}
_LOGICAL = {DATE: "date", TIME: "time-millis", TIMESTAMP: "timestamp-millis"}
_NO_NAME_CHARACTER = re.compile("[^A-Za-z0-9_]")


class AvroSchemas:
    """Translates one schema: named types are written where they occur first, and named after that."""

    def __init__(self, *, enhanced: bool, meta_data: bool, scrub_names: bool, optional_map_keys: bool) -> None:
        self._enhanced = enhanced
        self._meta_data = meta_data
        self._scrub_names = scrub_names
        self._optional_map_keys = optional_map_keys
        self._written: dict[str, Schema] = {}

    def translate(self, schema: Schema) -> Any:
        """Return the JSON of an Avro schema. Raise DataError for what Avro cannot express."""
        if schema.name == UNION and schema.type is Type.STRUCT:
            members = [self._base(replace(field.schema, optional=False)) for field in schema.fields]
            return ["null", *members] if schema.optional else members
        base = self._base(schema)
        if not schema.optional:
            return base
        return ["null", base] if schema.default is None else [base, "null"]

    def _base(self, schema: Schema) -> Any:
        """Return the type without null."""
        schema = replace(schema, optional=False)
        kind = schema.type
        if kind is Type.STRUCT and schema.name == UNION:
            raise DataError("a union is a member of another union", code="avro.nested_union")
        if kind is Type.STRUCT:
            return self._record(schema)
        if kind is Type.ARRAY:
            return {"type": "array", "items": self.translate(_part(schema.items)), **self._properties(schema)}
        if kind is Type.MAP:
            return self._map(schema)
        if kind is Type.STRING and self._enhanced and (name := schema.parameter(ENUM)) is not None:
            return name if self._is_written(name, schema) else self._enum(name, schema)
        if kind is Type.BYTES and schema.name is not None and (size := schema.parameter(FIXED_SIZE)) is not None:
            name = self._full_name(schema.name)
            if self._is_written(name, schema):
                return name
            return {"type": "fixed", "name": name, "size": int(size), **self._properties(schema)}
        properties = self._properties(schema)
        return {"type": _TYPES[kind], **properties} if properties else _TYPES[kind]

    def _record(self, schema: Schema) -> Any:
        name = self._full_name(schema.name) if schema.name is not None else self._anonymous_name(DEFAULT_NAME, schema)
        if self._is_written(name, schema):
            return name
        parameters = dict(schema.parameters)
        made: dict[str, Any] = {"type": "record", "name": name}
        if RECORD_DOC in parameters:
            made["doc"] = parameters[RECORD_DOC]
        fields = [
            self._field(field.name, field.schema, parameters.get(FIELD_DOC + field.name)) for field in schema.fields
        ]
        if len({field["name"] for field in fields}) < len(fields):
            raise DataError("two fields have one name in Avro", code="avro.invalid_name", hint="rename one of them")
        return {**made, "fields": fields, **self._properties(schema)}

    def _field(self, name: str, schema: Schema, doc: str | None = None) -> dict[str, Any]:
        written: dict[str, Any] = {"name": self._field_name(name), "type": self.translate(schema)}
        if doc is not None:
            written["doc"] = doc
        if schema.default is not None:
            written["default"] = write_default(schema, schema.default)
        elif schema.optional:
            written["default"] = None
        return written

    def _map(self, schema: Schema) -> Any:
        if is_avro_map(schema, optional_keys=self._optional_map_keys):
            return {"type": "map", "values": self.translate(_part(schema.items)), **self._properties(schema)}
        name = self._full_name(schema.name) if schema.name is not None else self._anonymous_name(MAP_ENTRY, schema)
        items: Any = name
        if not self._is_written(name, schema):
            fields = [self._field("key", _part(schema.keys)), self._field("value", _part(schema.items))]
            items = {"type": "record", "name": name, "fields": fields}
            if name != MAP_ENTRY:
                items["connect.internal.type"] = "MapEntry"
        return {"type": "array", "items": items, **self._properties(schema)}

    def _enum(self, name: str, schema: Schema) -> dict[str, Any]:
        short = name.rpartition(".")[2]
        made: dict[str, Any] = {"type": "enum", "name": name}
        if (doc := schema.parameter(ENUM_DOC + short)) is not None:
            made["doc"] = doc
        made["symbols"] = enum_symbols(schema)
        if (default := schema.parameter(ENUM_DEFAULT + short)) is not None:
            made["default"] = default
        return {**made, **self._properties(schema)}

    def _is_written(self, name: str, schema: Schema) -> bool:
        """Return whether the named type was written before, and note that it is. Raise DataError for another type."""
        if name not in self._written:
            self._written[name] = schema
            return False
        if self._written[name] != schema:
            raise DataError(
                f"two different types have the name '{name}', which is unique in an Avro schema",
                code="avro.duplicate_name",
                hint="name one of them otherwise, for example with SetSchemaMetadata",
            )
        return True

    def _anonymous_name(self, name: str, schema: Schema) -> str:
        """Return the name, with a number when another schema has it."""
        numbered, number = name, 1
        while self._written.get(numbered, schema) != schema:
            number += 1
            numbered = f"{name}{number}"
        return numbered

    def _full_name(self, name: str) -> str:
        if self._scrub_names:
            return ".".join(map(allowed_name, name.split(".")))
        if not is_full_name(name):
            raise _invalid_name(name)
        return name

    def _field_name(self, name: str) -> str:
        if not self._scrub_names and not is_name(name):
            raise _invalid_name(name)
        return allowed_name(name)

    def _properties(self, schema: Schema) -> dict[str, Any]:
        """Return what Avro's type does not say of Connect's."""
        found: dict[str, Any] = {}
        logical = logical_name(schema)
        parameters: Mapping[str, str] = dict(schema.parameters)
        if logical == DECIMAL:
            found |= _decimal(schema, parameters)
        if self._meta_data:
            if schema.doc is not None:
                found["connect.doc"] = schema.doc
            if schema.version is not None:
                found["connect.version"] = schema.version
            if shown := {name: text for name, text in parameters.items() if name != FIELD_DEFAULT}:
                found["connect.parameters"] = shown
            if schema.default is not None and FIELD_DEFAULT not in parameters:
                found["connect.default"] = write_default(schema, schema.default)
            if schema.name is not None:
                found["connect.name"] = schema.name
            if schema.type in (Type.INT8, Type.INT16):
                found["connect.type"] = schema.type.value
        if logical is not None and logical != DECIMAL:
            found["logicalType"] = _LOGICAL[logical]
        return found | {name: text for name, text in parameters.items() if name.startswith("avro")}


def _decimal(schema: Schema, parameters: Mapping[str, str]) -> dict[str, Any]:
    try:
        scale, precision = scale_of(schema), int(parameters.get(PRECISION, USUAL_PRECISION))
    except ValueError as error:
        raise DataError(f"the schema of a Decimal cannot be used: {error}", code="avro.invalid_schema") from error
    return {"scale": scale, "precision": precision, "logicalType": "decimal"}


def _part(schema: Schema | None) -> Schema:
    if schema is None:
        raise DataError("the schema of an ARRAY or MAP does not say what is in it", code="avro.invalid_schema")
    return schema


def allowed_name(name: str) -> str:
    """Return a name that Avro allows, as AvroData makes it: as in a URL, then without what is no letter or digit."""
    if is_name(name):
        return name
    encoded = quote_plus(name, safe="*").replace("~", "%7E")
    if not encoded or not (encoded[0].isascii() and (encoded[0].isalpha() or encoded[0] == "_")):
        encoded = f"x{encoded}"
    return _NO_NAME_CHARACTER.sub("_", encoded)


def _invalid_name(name: str) -> DataError:
    return DataError(
        f"'{name}' is no name that Avro allows (letters, digits and _, the first no digit)",
        code="avro.invalid_name",
        hint="set scrub.invalid.names: true, or rename it with ReplaceField",
    )
