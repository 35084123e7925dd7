"""Converts defaults of fields between Connect's values and JSON, in which Avro schemas have them."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

from headrace import DataError, Schema, Type
from headrace.converters.avro.avro_types import AvroType
from headrace.converters.avro.connect_names import UNION
from headrace.converters.avro.leaves import decoding_leaf, encoding_leaf

_JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    "null": (NoneType,),
    "boolean": (bool,),
    "int": (int,),
    "long": (int,),
    "float": (float, int),
    "double": (float, int),
    "bytes": (str,),
    "fixed": (str,),
    "string": (str,),
    "enum": (str,),
    "array": (list,),
    "map": (dict,),
    "record": (dict,),
}


def read_default(schema: Schema, value: Any) -> Any:
    """Return the value of a default in JSON. Raise DataError when it does not fit the schema."""
    try:
        return _read(schema, value)
    except (ValueError, ArithmeticError, TypeError, AttributeError, KeyError) as error:
        raise _unusable() from error


def write_default(schema: Schema, value: Any) -> Any:
    """Return the JSON of a default. Raise DataError when it does not fit the schema."""
    try:
        return _write(schema, value)
    except (ValueError, ArithmeticError, TypeError, AttributeError, KeyError) as error:
        raise _unusable() from error


def complete_default(described: AvroType, value: Any) -> Any:
    """Return a default in JSON with all fields of its records. Raise DataError when it does not fit the type."""
    if described.kind == "union":
        for member in described.members:
            if type(value) in _JSON_TYPES[member.kind]:
                return complete_default(member, value)
    elif type(value) in _JSON_TYPES[described.kind]:
        match described.kind:
            case "record":
                return {
                    field.name: complete_default(field.type, value.get(field.name, field.default))
                    for field in described.fields
                }
            case "array":
                return [complete_default(described.part, item) for item in value]
            case "map":
                return {name: complete_default(described.part, item) for name, item in value.items()}
            case "float" | "double":
                return float(value)
        return value
    raise _unusable()


def is_avro_map(schema: Schema, *, optional_keys: bool = False) -> bool:
    """Return whether a MAP is a map in Avro, whose keys are texts, and not a list of entries."""
    keys = schema.keys
    return keys is not None and keys.type is Type.STRING and (optional_keys or not keys.optional)


def _read(schema: Schema, value: Any) -> Any:
    if value is None:
        return None
    match schema.type:
        case Type.STRUCT if schema.name == UNION:
            first = schema.fields[0]  # a default belongs to the first member
            return {field.name: None for field in schema.fields} | {first.name: _read(first.schema, value)}
        case Type.STRUCT:
            return {
                field.name: _read(field.schema, value[field.name]) if field.name in value else field.schema.default
                for field in schema.fields
            }
        case Type.ARRAY:
            return [_read(_part(schema.items), item) for item in value]
        case Type.MAP if isinstance(value, dict):
            return {name: _read(_part(schema.items), item) for name, item in value.items()}
        case Type.MAP:
            pairs = [(item["key"], item["value"]) if isinstance(item, dict) else item for item in value]
            return {_read(_part(schema.keys), name): _read(_part(schema.items), item) for name, item in pairs}
        case Type.BYTES if isinstance(value, str):
            value = value.encode("latin-1")
    leaf = decoding_leaf(schema)
    if type(value) not in leaf.accepted:
        raise TypeError
    return leaf.convert([value])[0]


def _write(schema: Schema, value: Any) -> Any:
    if value is None:
        return None
    match schema.type:
        case Type.STRUCT if schema.name == UNION:
            return next(
                (
                    _write(field.schema, value[field.name])
                    for field in schema.fields
                    if value.get(field.name) is not None
                ),
                None,
            )
        case Type.STRUCT:
            return {field.name: _write(field.schema, value.get(field.name)) for field in schema.fields}
        case Type.ARRAY:
            return [_write(_part(schema.items), item) for item in value]
        case Type.MAP if is_avro_map(schema):
            return {name: _write(_part(schema.items), item) for name, item in value.items()}
        case Type.MAP:
            return [
                {"key": _write(_part(schema.keys), name), "value": _write(_part(schema.items), item)}
                for name, item in value.items()
            ]
    leaf = encoding_leaf(schema, enums=False)
    if type(value) not in leaf.accepted:
        raise TypeError
    written = leaf.convert([value])[0]
    return written.decode("latin-1") if isinstance(written, bytes) else written


def _part(schema: Schema | None) -> Schema:
    if schema is None:
        raise TypeError
    return schema


def _unusable() -> DataError:
    return DataError("a default does not fit the schema of its field", code="avro.invalid_schema")
