"""Derives the mapping of an index from a value schema, by default as Kafka Connect's Elasticsearch sink does.

It differs where that sink is wrong: a map that is written as an object is mapped as an object, and a field whose name
has dots is mapped as the object that Elasticsearch makes of it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from headrace import Schema, TaskError, Type
from headrace import schema as schemas
from headrace_sinks.elasticsearch.documents.json_fields import JsonFields

_PRIMITIVES = {
    Type.BOOLEAN: "boolean",
    Type.INT8: "byte",
    Type.INT16: "short",
    Type.INT32: "integer",
    Type.INT64: "long",
    Type.FLOAT32: "float",
    Type.FLOAT64: "double",
    Type.BYTES: "binary",
}
_LOGICAL = {schemas.DATE: "date", schemas.TIME: "date", schemas.TIMESTAMP: "date"}
_NO_NULL_VALUE = ("text", "binary")
_LARGEST_SCALE = 18
"""A scaled_float is stored as a 64-bit integer."""
OBJECTS = ("object", "nested", "passthrough")


@dataclass(frozen=True)
class MappingPolicy:
    """Options for mapping types, with the values of the ``mapping.*`` keys."""

    strings: str = "text+keyword"
    ignore_above: int = 256
    decimals: str = "double"
    maps: str = "object"
    compact_maps: bool = True
    json_fields: tuple[str, ...] = ()


def document_mapping(schema: Schema, policy: MappingPolicy = MappingPolicy()) -> dict[str, Any]:
    """Return the mapping of documents of this schema. Raise TaskError."""
    return merged(mapping(schema, policy), JsonFields(policy.json_fields, schema).mapped(policy.maps))


def mapping(schema: Schema, policy: MappingPolicy = MappingPolicy()) -> dict[str, Any]:
    """Return the mapping of a field, or of the document when ``schema`` is its STRUCT. Raise TaskError."""
    if schema.name == schemas.DECIMAL:
        return _with_default(_decimal(schema, policy), schema)
    if (kind := _LOGICAL.get(schema.name or "") or _PRIMITIVES.get(schema.type)) is not None:
        return _with_default({"type": kind}, schema)
    if schema.type is Type.STRING:
        return _string(schema, policy)
    if schema.type is Type.STRUCT:
        return {"properties": _properties({item.name: mapping(item.schema, policy) for item in schema.fields})}
    assert schema.items is not None
    if schema.type is Type.ARRAY:
        return mapping(schema.items, policy)
    assert schema.keys is not None
    if policy.compact_maps and schema.keys.type is Type.STRING:
        return {"type": policy.maps}
    return {"properties": {"key": mapping(schema.keys, policy), "value": mapping(schema.items, policy)}}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two mappings; ``above`` has precedence: objects are merged, other fields replaced."""
    result = {**below, **{name: value for name, value in above.items() if name != "properties"}}
    properties = dict(below.get("properties", {}))
    for name, definition in above.get("properties", {}).items():
        both_objects = is_object(definition) and is_object(properties.get(name, {"type": "?"}))
        properties[name] = merged(properties[name], definition) if both_objects else definition
    if properties:
        result["properties"] = properties
    return result


def is_object(definition: Mapping[str, Any]) -> bool:
    """Return whether the field contains fields."""
    return definition.get("type", "object") in OBJECTS


def _string(schema: Schema, policy: MappingPolicy) -> dict[str, Any]:
    keyword = {"type": "keyword", "ignore_above": policy.ignore_above}
    if policy.strings == "keyword":
        return _with_default(keyword, schema)
    return {"type": "text", "fields": {"keyword": keyword}} if policy.strings == "text+keyword" else {"type": "text"}


def _decimal(schema: Schema, policy: MappingPolicy) -> dict[str, Any]:
    scale = int(schema.parameter("scale") or 0)
    if policy.decimals == "scaled_float" and 0 <= scale <= _LARGEST_SCALE:
        return {"type": "scaled_float", "scaling_factor": 10**scale}
    return {"type": "keyword" if policy.decimals == "keyword" else "double"}


def _properties(fields: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return fields with dotted names as the objects that Elasticsearch creates for them."""
    result: dict[str, Any] = {}
    for name, definition in fields.items():
        *parents, last = name.split(".")
        inner = result
        for parent in parents:
            holder = inner.setdefault(parent, {"properties": {}})
            if "properties" not in holder:
                raise _dotted(name, parent)
            inner = holder["properties"]
        if last in inner:
            raise _dotted(name, last)
        inner[last] = definition
    return result


def _dotted(name: str, other: str) -> TaskError:
    return TaskError(
        f"the schema has a field '{name}' and a field '{other}', and Elasticsearch reads the first as a field of an "
        f"object '{other}'",
        code="elasticsearch.dotted_names",
        hint="rename one of the two where the records come from, or with a transform",
    )


def _with_default(field: dict[str, Any], schema: Schema) -> dict[str, Any]:
    if schema.default is not None and field["type"] not in _NO_NULL_VALUE:
        value = _json(schema.default)
        field["null_value"] = str(schema.default) if field["type"] == "keyword" else value
    return field


def _json(value: Any) -> Any:
    match value:
        case Decimal():
            return float(value)
        case datetime() | date():
            return value.isoformat()
        case time():
            return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000 + value.microsecond // 1_000
        case bytes():
            return base64.b64encode(value).decode()
    return value
