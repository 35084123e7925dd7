"""Translates Avro schemas to Connect's, as AvroData does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from headrace import DataError, Field, Schema, Type
from headrace.converters.avro.avro_types import NO_DEFAULT, AvroField, AvroType
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
from headrace.converters.avro.defaults import read_default
from headrace.schema import DATE, DECIMAL, TIME, TIMESTAMP

_ANONYMOUS = re.compile(re.escape(DEFAULT_NAME) + r"\d*")
_TYPES = {
    "boolean": Type.BOOLEAN,
    "int": Type.INT32,
    "long": Type.INT64,
    "float": Type.FLOAT32,
    "double": Type.FLOAT64,
    "bytes": Type.BYTES,
    "fixed": Type.BYTES,
    "string": Type.STRING,
    "enum": Type.STRING,
    "array": Type.ARRAY,
    "map": Type.MAP,
    "record": Type.STRUCT,
}
_SMALL = {"int8": Type.INT8, "int16": Type.INT16}
_LOGICAL = {
    ("int", "date"): DATE,
    ("int", "time-millis"): TIME,
    ("long", "timestamp-millis"): TIMESTAMP,
    ("bytes", "decimal"): DECIMAL,
    ("fixed", "decimal"): DECIMAL,
}


class ConnectSchemas:
    """Translates with the settings of a converter."""

    def __init__(self, *, enhanced: bool, meta_data: bool) -> None:
        self._enhanced = enhanced
        self._meta_data = meta_data

    def translate(self, described: AvroType, *, optional: bool = False) -> Schema:
        """Return Connect's schema. Raise DataError for what Connect cannot express."""
        return self._translate(described, optional, NO_DEFAULT)

    def member_name(self, member: AvroType) -> str:
        """Return the name of the field for a member of a union."""
        if not member.name:
            return member.kind
        return member.name if self._enhanced else member.name.rpartition(".")[2]

    def _translate(self, described: AvroType, optional: bool, default: Any) -> Schema:
        if described.kind == "union":
            nullable = described.nullable
            # A default of the field belongs to the union, of which Connect's schema has the other member only.
            return self._union(described) if nullable is None else self._translate(nullable, True, NO_DEFAULT)
        if described.kind == "null":
            raise DataError("a type that is always null has no schema in Connect", code="avro.null_type")
        schema = self._typed(described)
        parameters = dict(schema.parameters)
        if self._meta_data:
            parameters |= self._texts(described)
        value = described.properties.get("connect.default") if self._meta_data else None
        if default not in (NO_DEFAULT, None):
            if value is None and self._meta_data:
                parameters[FIELD_DEFAULT] = "true"
            value = default
        schema = replace(
            schema,
            optional=optional,
            doc=described.text("connect.doc") if self._meta_data else None,
            version=schema.version if schema.version is not None else self._version(described),
            name=schema.name or self._name(described),
            parameters=tuple(parameters.items()),
        )
        return schema if value is None else replace(schema, default=read_default(schema, value))

    def _typed(self, described: AvroType) -> Schema:
        """Return the type with the parts and parameters that come from Avro itself."""
        kind, logical = described.kind, described.text("logicalType")
        name = _LOGICAL.get((kind, logical or ""))
        if name == DECIMAL:
            return _decimal(described)
        if name is not None:
            return Schema(_TYPES[kind], name=name, version=1)
        if kind == "int" and logical is None and (small := described.text("connect.type")) in _SMALL:
            return Schema(_SMALL[small])
        if kind == "array":
            return self._array(described.part)
        if kind == "map":
            return Schema(Type.MAP, keys=Schema(Type.STRING), items=self.translate(described.part))
        if kind == "record":
            return self._record(described)
        if kind == "enum":
            return Schema(Type.STRING, parameters=self._enum_parameters(described))
        if kind == "fixed" and self._meta_data:
            return Schema(Type.BYTES, parameters=((FIXED_SIZE, str(described.size)),))
        return Schema(_TYPES[kind])

    def _array(self, items: AvroType) -> Schema:
        if not is_map_entry(items):
            return Schema(Type.ARRAY, items=self.translate(items))
        parts = {field.name: field.type for field in items.fields}
        if parts.keys() != {"key", "value"}:
            raise DataError("the entries of a map are not records of key and value", code="avro.invalid_schema")
        return Schema(Type.MAP, keys=self.translate(parts["key"]), items=self.translate(parts["value"]))

    def _record(self, described: AvroType) -> Schema:
        parameters = {}
        doc = described.text("doc")
        if self._meta_data:
            parameters = {RECORD_DOC: doc} if doc is not None else {}
            parameters |= {FIELD_DOC + field.name: field.doc for field in described.fields if field.doc is not None}
        fields = tuple(self._field(field) for field in described.fields)
        return Schema(Type.STRUCT, fields=fields, parameters=tuple(parameters.items()))

    def _field(self, field: AvroField) -> Field:
        return Field(field.name, self._translate(field.type, False, field.default))

    def _enum_parameters(self, described: AvroType) -> tuple[tuple[str, str], ...]:
        short = described.name.rpartition(".")[2]
        parameters = {}
        if self._meta_data:
            texts = {ENUM_DOC + short: described.text("doc"), ENUM_DEFAULT + short: described.text("default")}
            parameters = {name: text for name, text in texts.items() if text is not None}
        parameters[ENUM] = described.name
        parameters |= {f"{ENUM}.{symbol}": symbol for symbol in described.symbols}
        return tuple(parameters.items())

    def _union(self, described: AvroType) -> Schema:
        present = [member for member in described.members if member.kind != "null"]
        if not present:
            return self.translate(described.members[0])
        names = [self.member_name(member) for member in present]
        if len(set(names)) < len(names):
            raise DataError(
                "two members of a union have one name",
                code="avro.ambiguous_union",
                hint="set enhanced.avro.schema.support: true, which names them with their namespaces",
            )
        fields = tuple(
            Field(name, self.translate(member, optional=True)) for name, member in zip(names, present, strict=True)
        )
        return Schema(Type.STRUCT, optional=len(present) < len(described.members), name=UNION, fields=fields)

    def _texts(self, described: AvroType) -> dict[str, str]:
        """Return the parameters that a schema of Connect had, and Avro's own keys that begin with "avro"."""
        given = described.properties.get("connect.parameters") or {}
        if not isinstance(given, Mapping) or not all(isinstance(value, str) for value in given.values()):
            raise DataError("connect.parameters of a schema are not texts", code="avro.invalid_schema")
        own = {name: str(value) for name, value in described.properties.items() if name.startswith("avro")}
        return {**given, **own}

    def _version(self, described: AvroType) -> int | None:
        version = described.properties.get("connect.version")
        if version is not None and type(version) is not int:
            raise DataError("connect.version of a schema is no whole number", code="avro.invalid_schema")
        return version

    def _name(self, described: AvroType) -> str | None:
        name = described.text("connect.name")
        if name is None:
            name = described.name or None
        return None if name is None or _ANONYMOUS.fullmatch(name) else name


def is_map_entry(items: AvroType) -> bool:
    """Return whether records are the entries of a map whose keys are not texts."""
    is_entry = items.name == MAP_ENTRY or items.text("connect.internal.type") == "MapEntry"
    return items.kind == "record" and is_entry


def _decimal(described: AvroType) -> Schema:
    scale, precision = described.properties.get("scale", 0), described.properties.get("precision")
    if type(scale) is not int or (precision is not None and type(precision) is not int):
        raise DataError("scale or precision of a decimal is no whole number", code="avro.invalid_schema")
    parameters = [("scale", str(scale))]
    if precision not in (None, USUAL_PRECISION):
        parameters.append((PRECISION, str(precision)))
    return Schema(Type.BYTES, name=DECIMAL, version=1, parameters=tuple(parameters))
