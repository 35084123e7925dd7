"""Converts schemas to their JSON form and back, with keys in Connect's order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headrace import DataError, Field, Schema, Type
from headrace.converters.json_columns import Direction, compile_column
from headrace.converters.json_leaves import decoding_leaf, encoding_leaf

_TYPES = {kind.value: kind for kind in Type}


def schema_to_json(schema: Schema, *, numeric: bool = False) -> dict[str, Any]:
    """Return the JSON form of a schema; ``numeric``: decimal defaults become JSON numbers."""
    written: dict[str, Any] = {"type": schema.type.value}
    if schema.type is Type.ARRAY:
        written["items"] = _nested(schema.items, numeric)
    elif schema.type is Type.MAP:
        written["keys"], written["values"] = _nested(schema.keys, numeric), _nested(schema.items, numeric)
    elif schema.type is Type.STRUCT:
        written["fields"] = [
            {**schema_to_json(field.schema, numeric=numeric), "field": field.name} for field in schema.fields
        ]
    written["optional"] = schema.optional
    if schema.name is not None:
        written["name"] = schema.name
    if schema.version is not None:
        written["version"] = schema.version
    if schema.doc is not None:
        written["doc"] = schema.doc
    if schema.parameters:
        written["parameters"] = dict(schema.parameters)
    if schema.default is not None:
        direction = Direction(encoding_leaf(numeric=numeric), encodes=True, replace_nulls=True)
        written["default"] = compile_column(schema, direction, "default").run([schema.default])[0]
    return written


def schema_from_json(written: Any) -> Schema:
    """Return the schema of parsed JSON, in which decimals have to be exact for exact defaults. Raise DataError."""
    if not isinstance(written, dict):
        raise DataError("a schema must be a JSON object")
    kind = _TYPES.get(str(written.get("type")))
    if kind is None:
        raise DataError(f"unknown schema type {written.get('type')!r}")
    parts: dict[str, Any] = {}
    if kind is Type.ARRAY:
        parts["items"] = _member(written, "items", "array")
    elif kind is Type.MAP:
        parts["keys"], parts["items"] = _member(written, "keys", "map"), _member(written, "values", "map")
    elif kind is Type.STRUCT:
        parts["fields"] = tuple(map(_field, _typed(written, "fields", list, required=True)))
    parameters = _typed(written, "parameters", dict) or {}
    if not all(isinstance(value, str) for value in parameters.values()):
        raise DataError("parameters of a schema must be texts")
    version = _typed(written, "version", int)
    schema = Schema(
        kind,
        optional=written.get("optional") is True,  # missing or anything else: required, as in Connect
        name=_typed(written, "name", str),
        version=version,
        doc=_typed(written, "doc", str),
        parameters=tuple(parameters.items()),
        **parts,
    )
    default = written.get("default")
    if default is None:
        return schema
    direction = Direction(decoding_leaf, encodes=False, replace_nulls=True)
    value = compile_column(schema, direction, "default").run([default])[0]
    return replace(schema, default=value)


def _nested(schema: Schema | None, numeric: bool) -> dict[str, Any]:
    if schema is None:
        raise DataError("the schema of an ARRAY or MAP does not say what is in it")
    return schema_to_json(schema, numeric=numeric)


def _member(written: dict[str, Any], name: str, kind: str) -> Schema:
    if name not in written:
        raise DataError(f"the schema of a {kind} has no '{name}'")
    return schema_from_json(written[name])


def _field(written: Any) -> Field:
    if not isinstance(written, dict) or not isinstance(written.get("field"), str):
        raise DataError("a field of a struct's schema has no name ('field')")
    return Field(written["field"], schema_from_json(written))


def _typed(written: dict[str, Any], name: str, kind: type, *, required: bool = False) -> Any:
    value = written.get(name)
    if (value is None and required) or (value is not None and type(value) is not kind):
        raise DataError(f"'{name}' of a schema must be {kind.__name__}")
    return value
