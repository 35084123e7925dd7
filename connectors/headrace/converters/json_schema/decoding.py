"""Converts JSON values to those of their Connect schema, a column at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace import Schema, Type
from headrace.converters.json_columns import (
    Direction,
    JsonColumn,
    Leaf,
    MapColumn,
    StructColumn,
    Values,
    compile_column,
)
from headrace.converters.json_leaves import decoding_leaf, logical_name
from headrace.converters.json_schema.connect_names import ONE_OF
from headrace.schema import INTEGERS

_JSON_TYPES = frozenset({bool, int, float, str, list, dict})


def decoding_column(schema: Schema) -> JsonColumn:
    """Return the column that converts values of the schema. Raise DataError for an invalid schema."""
    return compile_column(schema, Direction(_leaf, encodes=False, replace_nulls=True, special=_special))


def is_text_map(schema: Schema) -> bool:
    """Return whether a MAP is an object in JSON, and not a list of entries."""
    keys = schema.keys
    return keys is not None and keys.type is Type.STRING and not keys.optional


def _special(described: Schema) -> type[JsonColumn] | None:
    if described.type is Type.STRUCT:
        return _ChoiceColumn if described.name == ONE_OF else _ObjectColumn
    if described.type is Type.MAP and not is_text_map(described):
        return _ReadEntriesColumn
    return None


def _leaf(described: Schema) -> Leaf:
    leaf = decoding_leaf(described)
    if described.type not in INTEGERS or logical_name(described) is not None:
        return leaf

    def convert(values: Values) -> Values:
        if float in set(map(type, values)):  # to JSON Schema 1.0 is a whole number
            values = [_whole(value) if isinstance(value, float) else value for value in values]
        return leaf.convert(values)

    return Leaf(leaf.accepted | {float}, convert)


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError("a number that is not whole")
    return int(value)


class _ObjectColumn(StructColumn):
    """Objects, of which a property may be missing: it is null then, or its default, also when it is required."""

    def _convert(self, values: Values) -> Values:
        if not self._names:
            return [{} for _ in values]
        cells = [self._cells(name, column, values) for name, column in zip(self._names, self._columns, strict=True)]
        return [dict(zip(self._names, row, strict=True)) for row in zip(*cells, strict=True)]

    def _cells(self, name: str, column: JsonColumn, rows: Values) -> Values:
        present = [row[name] for row in rows if name in row]
        read = column.run(present)
        if len(read) == len(rows):
            return read
        rest = iter(read)
        missing = column.schema.default
        return [next(rest) if name in row else missing for row in rows]


class _ChoiceColumn(StructColumn):
    """Values of a ``oneOf``: an object with the chosen member, as Connect finds it, since JSON does not name it."""

    accepted = _JSON_TYPES

    def _convert(self, values: Values) -> Values:
        chosen = [self._member(value) for value in values]
        rows = [dict.fromkeys(self._names) for _ in values]
        for place, (name, column) in enumerate(zip(self._names, self._columns, strict=True)):
            mine = [row for row, member in enumerate(chosen) if member == place]
            for row, cell in zip(mine, column.run([values[row] for row in mine]), strict=True):
                rows[row][name] = cell
        return rows

    def _member(self, value: Any) -> int:
        """Return the first simple type that the value has, or the object with most of its properties."""
        best, most = None, 0
        for place, field in enumerate(self.schema.fields):
            if type(value) in _simple_types(field.schema):
                return place
            if (common := _common_properties(field.schema, value)) > most:
                best, most = place, common
        if best is None:
            raise self._error("no member of the oneOf has the type of the value")
        return best


class _ReadEntriesColumn(MapColumn):
    """Maps as lists of objects with ``key`` and ``value``."""

    def __init__(self, schema: Schema, direction: Direction, path: str) -> None:
        super().__init__(schema, direction, path)
        self.accepted = frozenset({list})

    def _convert(self, values: Values) -> Values:
        entries = [entry for value in values for entry in value]
        if any(type(entry) is not dict or entry.keys() != {"key", "value"} for entry in entries):
            raise self._error("a MAP whose keys are no strings is a list of objects with key and value")
        keys = self._keys.run([entry["key"] for entry in entries])
        items = self._items.run([entry["value"] for entry in entries])
        pairs = iter(zip(keys, items, strict=True))
        return [dict(next(pairs) for _ in value) for value in values]


def _simple_types(described: Schema) -> Sequence[type]:
    if described.type in INTEGERS:
        return (int,)
    match described.type:
        case Type.FLOAT32 | Type.FLOAT64:
            return (int, float)
        case Type.BOOLEAN:
            return (bool,)
        case Type.STRING:
            return (str,)
        case Type.BYTES:
            return (str, float) if logical_name(described) is not None else (str,)
        case Type.ARRAY:
            return (list,)
        case Type.MAP:
            return (dict, list)
    return ()


def _common_properties(described: Schema, value: Any) -> int:
    if described.type is not Type.STRUCT or not isinstance(value, dict):
        return 0
    common = [field for field in described.fields if field.name in value]
    return len(common) + sum(_common_properties(field.schema, value[field.name]) for field in common)
