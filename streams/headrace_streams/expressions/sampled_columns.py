"""The columns of records as far as their schemas or examples show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from headrace import Schema, Type
from headrace import schema as schemas
from headrace_streams.expressions.types import Columns, ColumnType

_TYPES: Mapping[type, ColumnType] = {
    type(None): ColumnType.NULL,
    bool: ColumnType.BOOLEAN,
    int: ColumnType.INTEGER,
    float: ColumnType.DOUBLE,
    Decimal: ColumnType.DECIMAL,
    str: ColumnType.STRING,
    datetime: ColumnType.TIMESTAMP,
    list: ColumnType.ARRAY,
}

_OF_SCHEMAS: Mapping[Type, ColumnType] = {
    Type.BOOLEAN: ColumnType.BOOLEAN,
    Type.FLOAT32: ColumnType.DOUBLE,
    Type.FLOAT64: ColumnType.DOUBLE,
    Type.STRING: ColumnType.STRING,
    Type.ARRAY: ColumnType.ARRAY,
    Type.MAP: ColumnType.OBJECT,
}
"""All others are integers."""
_LOGICAL: Mapping[str, ColumnType] = {
    schemas.DECIMAL: ColumnType.DECIMAL,
    schemas.TIMESTAMP: ColumnType.TIMESTAMP,
}


def columns_of(records: Iterable[Mapping[str, Any]]) -> Columns:
    """Return the columns that occur in these records, each with its type; ``any`` when there are several.

    Integers and doubles in one column are doubles, because JSON writes 1.0 as 1 with many writers.
    """
    types: dict[str, ColumnType | Columns] = {}
    for record in records:
        for name, value in record.items():
            kind = columns_of([value]) if isinstance(value, dict) else _TYPES.get(value.__class__, ColumnType.ANY)
            types[name] = _common(types[name], kind) if name in types else kind
    return Columns(types, complete=True)


def columns_of_schemas(objects: Iterable[Schema], *, plain: bool = False) -> Columns:
    """Return the columns that occur in these schemas of objects. ``plain``: see :class:`headrace.KnownRecords`."""
    types: dict[str, ColumnType | Columns] = {}
    for schema in objects:
        for member in schema.fields:
            kind = _type_of(member.schema, plain)
            types[member.name] = _common(types[member.name], kind) if member.name in types else kind
    return Columns(types, complete=True)


def _type_of(schema: Schema, plain: bool) -> ColumnType | Columns:
    if schema.type is Type.STRUCT:
        return columns_of_schemas([schema], plain=plain)
    if schema.name is not None or schema.type is Type.BYTES:
        return ColumnType.ANY if plain else _LOGICAL.get(schema.name or "", ColumnType.ANY)
    return _OF_SCHEMAS.get(schema.type, ColumnType.INTEGER)


def _common(one: ColumnType | Columns, other: ColumnType | Columns) -> ColumnType | Columns:
    if one == other or other is ColumnType.NULL:
        return one
    if one is ColumnType.NULL:
        return other
    if isinstance(one, Columns) and isinstance(other, Columns):
        shared = {name: _common(one.types[name], kind) for name, kind in other.types.items() if name in one.types}
        return Columns({**one.types, **other.types, **shared}, complete=True)
    if {one, other} == {ColumnType.INTEGER, ColumnType.DOUBLE}:
        return ColumnType.DOUBLE
    return ColumnType.ANY
