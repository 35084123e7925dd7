"""Converts values without parts between Connect's form and what Avro stores: decimals as bytes, times as numbers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Decimal

from headrace import Schema, Type, schema
from headrace.converters import json_leaves
from headrace.converters.avro.connect_names import ENUM, FIXED_SIZE
from headrace.converters.decimals import from_unscaled, unscaled
from headrace.converters.json_columns import Leaf, Values
from headrace.converters.json_leaves import logical_name, scale_of


def encoding_leaf(described: Schema, *, enums: bool) -> Leaf:
    """Return the leaf that checks values and returns what is written. Raise ValueError for an invalid schema.

    ``enums``: texts with the symbols of an enum are written as an enum.
    """
    if logical_name(described) == schema.DECIMAL:
        scale = scale_of(described)
        return Leaf(frozenset({Decimal}), lambda values: [unscaled(value, scale) for value in values])
    if described.type is Type.BYTES:
        return Leaf(frozenset({bytes, bytearray, memoryview}), _bytes_of_size(described))
    if described.type in (Type.FLOAT32, Type.FLOAT64):
        return Leaf(frozenset({float, int}), _floats if described.type is Type.FLOAT64 else _small_floats)
    if enums and described.type is Type.STRING and (symbols := enum_symbols(described)):
        return Leaf(frozenset({str}), _one_of(frozenset(symbols)))
    return json_leaves.encoding_leaf(numeric=False)(described)


def decoding_leaf(described: Schema) -> Leaf:
    """Return the leaf that converts what was read. Raise ValueError for an invalid schema."""
    if logical_name(described) == schema.DECIMAL:
        scale = scale_of(described)
        return Leaf(frozenset({bytes}), lambda values: [from_unscaled(value, scale) for value in values])
    if described.type is Type.BYTES:
        return Leaf(frozenset({bytes}), _same)
    return json_leaves.decoding_leaf(described)


def enum_symbols(described: Schema) -> list[str]:
    """Return the symbols of a text that is an enum in Avro; none for every other text."""
    prefix = f"{ENUM}."
    return [symbol for name, symbol in described.parameters if name.startswith(prefix)]


def _same(values: Values) -> Values:
    return values


def _bytes_of_size(described: Schema) -> Callable[[Values], Values]:
    size = described.parameter(FIXED_SIZE) if described.name is not None else None

    def convert(values: Values) -> Values:
        if set(map(type, values)) != {bytes}:
            values = list(map(bytes, values))
        if size is not None and {str(len(value)) for value in values} != {size}:
            raise ValueError(f"bytes whose length is not {size}, the size of its schema")
        return values

    return convert


def _one_of(symbols: frozenset[str]) -> Callable[[Values], Values]:
    def convert(values: Values) -> Values:
        if not symbols.issuperset(values):
            raise ValueError("a text that is no symbol of the enum")
        return values

    return convert


def _small_floats(values: Values) -> Values:
    floats = _floats(values)
    try:
        struct.pack(f"<{len(floats)}f", *floats)  # fastavro would write infinity
    except OverflowError:
        raise ValueError("a number outside the range of FLOAT32") from None
    return floats


def _floats(values: Values) -> Values:
    return list(map(float, values)) if int in set(map(type, values)) else values
