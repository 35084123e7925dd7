"""A value's schema → the mapping of a new index, as in Kafka Connect's Elasticsearch sink.

It differs where that one is wrong: a map that is written as an object is mapped as an object.
"""

from __future__ import annotations

import base64
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from headrace import Schema, Type
from headrace.schema import DATE, DECIMAL, TIME, TIMESTAMP

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
_LOGICAL = {DECIMAL: "double", DATE: "date", TIME: "date", TIMESTAMP: "date"}
_NO_NULL_VALUE = ("text", "binary")


def mapping(schema: Schema, *, compact_maps: bool = True) -> dict[str, Any]:
    """The mapping of one field, or of the document when ``schema`` is its STRUCT."""
    if (kind := _LOGICAL.get(schema.name or "") or _PRIMITIVES.get(schema.type)) is not None:
        return _with_default({"type": kind}, schema)
    if schema.type is Type.STRING:
        return {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}}
    if schema.type is Type.STRUCT:
        return {"properties": {item.name: mapping(item.schema, compact_maps=compact_maps) for item in schema.fields}}
    assert schema.items is not None
    if schema.type is Type.ARRAY:
        return mapping(schema.items, compact_maps=compact_maps)
    assert schema.keys is not None
    if compact_maps and schema.keys.type is Type.STRING:
        return {"type": "object"}
    return {
        "properties": {
            "key": mapping(schema.keys, compact_maps=compact_maps),
            "value": mapping(schema.items, compact_maps=compact_maps),
        }
    }


def _with_default(field: dict[str, Any], schema: Schema) -> dict[str, Any]:
    if schema.default is not None and field["type"] not in _NO_NULL_VALUE:
        field["null_value"] = _json(schema.default)
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
