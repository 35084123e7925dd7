"""Checks values of a Connect schema and converts them to JSON values, a column at a time."""

from __future__ import annotations

from headrace import Schema, Type
from headrace.converters.json_columns import Direction, JsonColumn, MapColumn, StructColumn, Values, compile_column
from headrace.converters.json_leaves import encoding_leaf
from headrace.converters.json_schema.connect_names import ONE_OF
from headrace.converters.json_schema.decoding import is_text_map


def encoding_column(schema: Schema, *, replace_nulls: bool, numeric: bool) -> JsonColumn:
    """Return the column that converts values of the schema. Raise DataError for an invalid schema.

    ``numeric``: decimals become JSON numbers.
    """
    direction = Direction(encoding_leaf(numeric=numeric), encodes=True, replace_nulls=replace_nulls, special=_special)
    return compile_column(schema, direction)


def _special(described: Schema) -> type[JsonColumn] | None:
    if described.type is Type.STRUCT and described.name == ONE_OF:
        return _MemberColumn
    if described.type is Type.MAP and not is_text_map(described):
        return _ListColumn
    return None


class _MemberColumn(StructColumn):
    """A ``oneOf``: the value of the member that is set."""

    def _convert(self, values: Values) -> Values:
        found = [next((value for value in row.values() if value is not None), None) for row in super()._convert(values)]
        if not self.schema.optional and None in found:
            raise self._error("null where a member of a oneOf is required")
        return found


class _ListColumn(MapColumn):
    def _convert(self, values: Values) -> Values:
        converted = super()._convert(values)
        pairs = [value.items() if isinstance(value, dict) else value for value in converted]
        return [[{"key": name, "value": item} for name, item in entries] for entries in pairs]
