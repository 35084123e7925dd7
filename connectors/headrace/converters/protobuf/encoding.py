"""Checks values of a Connect schema and converts them to what messages are made of, a column at a time."""

from __future__ import annotations

import struct
from dataclasses import replace
from functools import partial
from typing import Any

from google.protobuf.descriptor import Descriptor

from headrace import Schema, Type
from headrace import schema as s
from headrace.converters import json_leaves
from headrace.converters.decimals import unscaled
from headrace.converters.json_columns import (
    Direction,
    JsonColumn,
    Leaf,
    MapColumn,
    StructColumn,
    Values,
    compile_column,
)
from headrace.converters.json_leaves import logical_name, scale_of
from headrace.converters.protobuf.configuration import ProtobufConverterConfig
from headrace.converters.protobuf.connect_names import ENUM
from headrace.converters.protobuf.fields import fields_of
from headrace.converters.protobuf.from_connect import enum_values, is_union, proto_name, uses_wrapper


def encoding_column(schema: Schema, config: ProtobufConverterConfig) -> JsonColumn:
    """Return the column that converts values of the schema to arguments of a message's class.

    A ``oneof`` becomes the field of its member. Raise DataError for an invalid schema.
    """

    class _MessageColumn(StructColumn):
        def _convert(self, values: Values) -> Values:
            rows = super()._convert(values)
            if self._names == names(self.schema):
                return rows
            return [self._message(row) for row in rows]

        def _message(self, row: dict[str, Any]) -> dict[str, Any]:
            made: dict[str, Any] = {}
            for field, value in zip(self.schema.fields, row.values(), strict=True):
                if is_union(field.schema):
                    made |= value or {}
                else:
                    made[proto_name(field.name, scrubs=config.scrub_names)] = value
            return made

    class _OneofColumn(StructColumn):
        def _child(self, schema: Schema | None, step: str) -> JsonColumn:
            assert schema is not None
            inside = replace(self._direction, leaf=partial(_leaf, config=config, in_union=True))
            return compile_column(schema, inside, f"{self._path}{step}".removeprefix("."))

        def _convert(self, values: Values) -> Values:
            rows = super()._convert(values)
            return [self._member(row) for row in rows]

        def _member(self, row: dict[str, Any]) -> dict[str, Any] | None:
            for name, value in row.items():
                if value is not None:
                    return {proto_name(name, scrubs=config.scrub_names): value}
            if not self.schema.optional:
                raise self._error("null where a member of a oneof is required")
            return None

    def names(described: Schema) -> tuple[str, ...]:
        return tuple(
            "" if is_union(field.schema) else proto_name(field.name, scrubs=config.scrub_names)
            for field in described.fields
        )

    def special(described: Schema) -> type[JsonColumn] | None:
        if described.type is Type.STRUCT:
            return _OneofColumn if is_union(described) else _MessageColumn
        return _EntryColumn if described.type is Type.MAP else None

    direction = Direction(
        partial(_leaf, config=config, in_union=False),
        encodes=True,
        replace_nulls=not config.ignore_defaults,
        special=special,
    )
    return compile_column(schema, direction)


def with_maps(row: dict[str, Any], descriptor: Descriptor) -> dict[str, Any]:
    """Return the arguments for another message, in which maps may be maps of Protobuf and not lists of entries."""
    made = dict(row)
    for field in fields_of(descriptor):
        value = made.get(field.name)
        if value is None or not field.is_message:
            continue
        if field.is_repeated:
            value = [with_maps(item, field.message) for item in value]
            made[field.name] = {item["key"]: item["value"] for item in value} if field.is_true_map else value
        else:
            made[field.name] = with_maps(value, field.message)
    return made


class _EntryColumn(MapColumn):
    """Maps, whose keys and values Protobuf does not allow to be null."""

    def _convert(self, values: Values) -> Values:
        converted = [dict(value) for value in super()._convert(values)]
        if any(None in value or None in value.values() for value in converted):
            raise self._error("null in a map, which Protobuf does not have")
        return [[{"key": name, "value": item} for name, item in value.items()] for value in converted]


def _leaf(described: Schema, *, config: ProtobufConverterConfig, in_union: bool) -> Leaf:
    leaf = _plain_leaf(described)
    if not uses_wrapper(described, config, in_union=in_union):
        return leaf
    return Leaf(leaf.accepted, lambda values: [{"value": value} for value in leaf.convert(values)])


def _plain_leaf(described: Schema) -> Leaf:
    leaf = json_leaves.encoding_leaf(numeric=False)(described)
    match logical_name(described):
        case s.DECIMAL:
            scale = scale_of(described)
            return Leaf(leaf.accepted, lambda values: [_decimal(value, scale) for value in values])
        case s.DATE:
            return Leaf(leaf.accepted, lambda values: [_date(value) for value in values])
        case s.TIME:
            return Leaf(leaf.accepted, lambda values: [_time(value) for value in leaf.convert(values)])
        case s.TIMESTAMP:
            return Leaf(leaf.accepted, lambda values: [_timestamp(value) for value in leaf.convert(values)])
    if described.type is Type.BYTES:
        return Leaf(frozenset({bytes, bytearray, memoryview}), lambda values: list(map(bytes, values)))
    if described.type in (Type.FLOAT32, Type.FLOAT64):
        return Leaf(leaf.accepted, _floats if described.type is Type.FLOAT64 else _small_floats)
    if described.type is Type.STRING and described.parameter(ENUM) is not None:
        return Leaf(leaf.accepted, partial(_symbols, known=frozenset(enum_values(described))))
    return leaf


def _symbols(values: Values, known: frozenset[str]) -> Values:
    if not known.issuperset(values):
        raise ValueError("a text that is no symbol of the enum")
    return values


def _floats(values: Values) -> Values:
    return list(map(float, values))


def _small_floats(values: Values) -> Values:
    floats = _floats(values)
    try:
        struct.pack(f"<{len(floats)}f", *floats)  # a message would have infinity
    except OverflowError:
        raise ValueError("a number outside the range of FLOAT32") from None
    return floats


def _decimal(value: Any, scale: int) -> dict[str, Any]:
    written = unscaled(value, scale)
    digits = len(str(abs(int.from_bytes(written, "big", signed=True))))
    return {"value": written, "precision": digits, "scale": scale}


def _date(value: Any) -> dict[str, int]:
    return {"year": value.year, "month": value.month, "day": value.day}


def _time(milliseconds: int) -> dict[str, int]:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return {"hours": hours, "minutes": minutes, "seconds": seconds, "nanos": rest * 1_000_000}


def _timestamp(milliseconds: int) -> dict[str, int]:
    seconds, rest = divmod(milliseconds, 1000)
    return {"seconds": seconds, "nanos": rest * 1_000_000}
