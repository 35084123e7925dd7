"""Payloads of outbox events that are JSON texts, as values with an inferred schema."""

from __future__ import annotations

from typing import Any

import orjson

from headrace import Field, Schema, Type
from headrace import schema as schemas

_OPTIONAL_BYTES = schemas.BYTES.as_optional()


class _NoCommonTypeError(Exception):
    """Elements of a list have different types."""


def parse_payload(text: str, schema: Schema | None, *, nulls: bool) -> tuple[Any, Schema | None]:
    """Return the value of a JSON object or list with its schema; any other text as it is. ``nulls``: keep nulls.

    A text without a schema is parsed to a value without one.
    """
    if not text.startswith(("{", "[")):
        return text, schema
    try:
        value = orjson.loads(text)
        if schema is None:
            return value, None
        described = _schema_of(value, "payload", nulls=nulls)
    except (orjson.JSONDecodeError, _NoCommonTypeError):
        return text, schema
    return (text, schema) if described is None else (_shaped(value, described), described)


def _schema_of(value: Any, name: str, *, nulls: bool) -> Schema | None:
    match value:
        case None:
            return _OPTIONAL_BYTES if nulls else None
        case bool():
            return schemas.BOOLEAN.as_optional()
        case int():
            return (schemas.INT32 if -(2**31) <= value < 2**31 else schemas.INT64).as_optional()
        case float():
            return schemas.FLOAT64.as_optional()
        case str():
            return schemas.STRING.as_optional()
        case list():
            return _list_schema(value, name, nulls=nulls)
    found = {key: _schema_of(item, f"{name}.{key}", nulls=nulls) for key, item in value.items()}
    fields = tuple(Field(key, described) for key, described in found.items() if described is not None)
    return Schema(Type.STRUCT, optional=True, name=name, fields=fields)


def _list_schema(values: list[Any], name: str, *, nulls: bool) -> Schema | None:
    """Return the schema of a list; None when it is empty. Structs of a list get the fields of all of them."""
    kinds = [kind for value in values if (kind := _schema_of(value, name, nulls=nulls)) is not None]
    if not kinds:
        return None
    if len({kind.type for kind in kinds}) > 1:
        raise _NoCommonTypeError
    items = kinds[0]
    if items.type is Type.STRUCT:
        fields = {field.name: field for kind in kinds for field in kind.fields}
        items = Schema(Type.STRUCT, name=name, fields=tuple(fields.values()))
    return Schema(Type.ARRAY, optional=True, items=items)


def _shaped(value: Any, schema: Schema) -> Any:
    """Return the value with the fields of the schema."""
    if schema.type is Type.STRUCT and value is not None:
        return {field.name: _shaped(value.get(field.name), field.schema) for field in schema.fields}
    if schema.type is Type.ARRAY and value is not None and schema.items is not None:
        return [_shaped(item, schema.items) for item in value]
    return value
