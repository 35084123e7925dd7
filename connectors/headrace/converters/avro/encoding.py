"""Checks values of a Connect schema and converts them to those that the codec writes, a column at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

from headrace import Schema, Type
from headrace.converters.avro.avro_types import is_name
from headrace.converters.avro.connect_names import UNION
from headrace.converters.avro.defaults import is_avro_map
from headrace.converters.avro.from_connect import allowed_name
from headrace.converters.avro.leaves import encoding_leaf
from headrace.converters.json_columns import Direction, JsonColumn, MapColumn, StructColumn, Values, compile_column


def encoding_column(schema: Schema, *, replace_nulls: bool, enums: bool, optional_map_keys: bool) -> JsonColumn:
    """Return the column that converts values of the schema. Raise DataError for an invalid schema.

    A value of a union becomes an object with the name of the member. A map whose keys are no texts becomes a list of
    entries. Names that Avro does not allow are replaced. ``enums``: texts with symbols are checked.
    """

    def special(described: Schema) -> type[JsonColumn] | None:
        if described.type is Type.STRUCT and described.name == UNION:
            return _UnionColumn
        if described.type is Type.STRUCT and not all(is_name(field.name) for field in described.fields):
            return _RenamedColumn
        if described.type is Type.MAP and not is_avro_map(described, optional_keys=optional_map_keys):
            return _EntriesColumn
        return None

    leaf = partial(encoding_leaf, enums=enums)
    return compile_column(schema, Direction(leaf, encodes=True, replace_nulls=replace_nulls, special=special))


class _UnionColumn(StructColumn):
    def _convert(self, values: Values) -> Values:
        return [self._member(row) for row in super()._convert(values)]

    def _member(self, row: dict[str, Any]) -> dict[str, Any] | None:
        for name, value in row.items():
            if value is not None:
                return {name: value}
        if not self.schema.optional:
            raise self._error("null where a member of a union is required")
        return None


class _RenamedColumn(StructColumn):
    def _convert(self, values: Values) -> Values:
        names = [allowed_name(field.name) for field in self.schema.fields]
        return [dict(zip(names, row.values(), strict=True)) for row in super()._convert(values)]


class _EntriesColumn(MapColumn):
    def _convert(self, values: Values) -> Values:
        converted = super()._convert(values)
        pairs = [value.items() if isinstance(value, dict) else value for value in converted]
        return [[{"key": name, "value": item} for name, item in entries] for entries in pairs]
