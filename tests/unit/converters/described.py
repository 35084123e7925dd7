"""Schemas of Connect with values that they describe."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from headrace import Schema, Type
from headrace import schema as s
from headrace.schema import Field

Values = st.SearchStrategy[Any]
Described = tuple[Schema, Values]


def integers(bits: int) -> Values:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def decimals(scale: int) -> Values:
    return st.integers(-(10**40), 10**40).map(lambda unscaled: Decimal(f"{unscaled}E{-scale}"))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
MOMENTS = st.datetimes(timezones=st.just(UTC)).map(lambda it: it.replace(microsecond=it.microsecond // 1000 * 1000))
TIMES = st.times().map(lambda it: it.replace(microsecond=it.microsecond // 1000 * 1000))
KEYS: list[Described] = [
    (s.STRING, TEXTS),
    (s.STRING.as_optional(), st.none() | TEXTS),
    (s.INT8, integers(8)),
    (s.INT64, integers(64)),
    (s.DATE_SCHEMA, st.dates()),
]
SIMPLE: list[Described] = [
    *KEYS,
    (s.BOOLEAN, st.booleans()),
    (s.INT16, integers(16)),
    (s.INT32, integers(32)),
    (s.FLOAT32, st.floats(width=32, allow_nan=False)),
    (s.FLOAT64, st.floats(allow_nan=False)),
    (s.BYTES, st.binary(max_size=8)),
    (s.TIME_SCHEMA, TIMES),
    (s.TIMESTAMP_SCHEMA, MOMENTS),
    *((s.decimal(scale), decimals(scale)) for scale in (0, 2, 18)),
]


@st.composite
def containers(draw: Callable[[Values], Any], inner: st.SearchStrategy[Described]) -> Described:
    kind = draw(st.sampled_from(["array", "map", "struct", "optional"]))
    if kind == "optional":
        schema, values = draw(inner)
        return schema.as_optional(), st.none() | values
    if kind == "array":
        schema, values = draw(inner)
        return s.array(schema), st.lists(values, max_size=3)
    if kind == "map":
        keys, key_values = draw(st.sampled_from(KEYS))
        schema, values = draw(inner)
        return s.mapping(keys, schema), st.dictionaries(key_values, values, max_size=3)
    members = draw(st.lists(inner, min_size=1, max_size=4))
    fields = tuple(Field(f"f{place}", schema) for place, (schema, _) in enumerate(members))
    return Schema(Type.STRUCT, fields=fields), st.fixed_dictionaries(
        {f"f{place}": values for place, (_, values) in enumerate(members)}
    )


DESCRIBED = st.recursive(st.sampled_from(SIMPLE), containers, max_leaves=8)
WITH_VALUES = DESCRIBED.flatmap(lambda item: st.tuples(st.just(item[0]), st.lists(item[1], max_size=4)))
