"""Compare a value with its schema exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from headrace.schema import DATE, DECIMAL, INTEGERS, TIME, TIMESTAMP, Schema, Type

_BITS = {Type.INT8: 8, Type.INT16: 16, Type.INT32: 32, Type.INT64: 64}
_PLAIN: Mapping[Type, type] = {
    Type.BOOLEAN: bool,
    Type.FLOAT32: float,
    Type.FLOAT64: float,
    Type.STRING: str,
    Type.BYTES: bytes,
}


def mismatch(schema: Schema, value: Any) -> str | None:
    """Return why ``value`` does not match ``schema``, with the path to the mismatch; None if it matches."""
    if value is None:
        return None if schema.optional else "null is not allowed"
    if schema.name in _LOGICAL:
        return None if _LOGICAL[schema.name](schema, value) else f"{value!r} is no {schema.name}"
    if schema.type is Type.STRUCT:
        return _struct(schema, value)
    if schema.type in (Type.ARRAY, Type.MAP):
        return _container(schema, value)
    if schema.type in INTEGERS:
        limit = 1 << (_BITS[schema.type] - 1)
        fits = type(value) is int and -limit <= value < limit
    else:
        fits = type(value) is _PLAIN[schema.type]
    return None if fits else f"{value!r} is no {schema.type.value}"


def _struct(schema: Schema, value: Any) -> str | None:
    if not isinstance(value, dict) or value.keys() != schema.by_name.keys():
        return f"{value!r} has not the fields {', '.join(schema.by_name)}"
    found = ((name, mismatch(member, value[name])) for name, member in schema.by_name.items())
    return next((f"{name}: {reason}" for name, reason in found if reason), None)


def _container(schema: Schema, value: Any) -> str | None:
    assert schema.items is not None
    if schema.type is Type.ARRAY:
        if not isinstance(value, list):
            return f"{value!r} is no array"
        return next((reason for item in value if (reason := mismatch(schema.items, item))), None)
    assert schema.keys is not None
    if not isinstance(value, dict):
        return f"{value!r} is no map"
    parts = [*((schema.keys, key) for key in value), *((schema.items, item) for item in value.values())]
    return next((reason for part, item in parts if (reason := mismatch(part, item))), None)


def _decimal(schema: Schema, value: Any) -> bool:
    exponent = value.as_tuple().exponent if isinstance(value, Decimal) else None
    return isinstance(exponent, int) and -exponent == int(schema.parameter("scale") or 0)


def _timestamp(schema: Schema, value: Any) -> bool:
    return isinstance(value, datetime) and value.utcoffset() == timedelta(0)


_LOGICAL: Mapping[str | None, Callable[[Schema, Any], bool]] = {
    DECIMAL: _decimal,
    DATE: lambda _, value: type(value) is date,
    TIME: lambda _, value: isinstance(value, time) and value.tzinfo is None,
    TIMESTAMP: _timestamp,
}
