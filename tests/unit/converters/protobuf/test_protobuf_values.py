"""Values survive Protobuf exactly, and bytes of every kind are read or refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import DataError, Schema, Type
from headrace import schema as s
from headrace.converters.schema_registry.registry_client import SchemaText
from headrace.schema import Field
from headrace.testing.values import mismatch
from tests.unit.converters.described import SIMPLE, TEXTS, Described, Values, integers
from tests.unit.converters.protobuf.test_protobuf_schemas import FILE, UNION, enum, protobuf_format

PREFIX = b"\x00\x00\x00\x00\x07\x00"
OPTIONAL = protobuf_format(optional_for_nullables="true")
WRAPPED = protobuf_format(wrapper_for_nullables="true")
PLAIN = protobuf_format()
KEYS: list[Described] = [(s.STRING, TEXTS), (s.INT8, integers(8)), (s.INT64, integers(64)), (s.BOOLEAN, st.booleans())]
REQUIRED = [(schema, values) for schema, values in SIMPLE if not schema.optional]


@st.composite
def structs(draw: Callable[[Values], Any], inner: st.SearchStrategy[Described]) -> Described:
    fields = [draw(members(inner)) for _ in range(draw(st.integers(0, 4)))]
    schema = s.struct({f"f{place}": schema for place, (schema, _) in enumerate(fields)})
    return schema, st.fixed_dictionaries({f"f{place}": values for place, (_, values) in enumerate(fields)})


@st.composite
def members(draw: Callable[[Values], Any], inner: st.SearchStrategy[Described]) -> Described:
    schema, values = draw(inner)
    match draw(st.sampled_from(["plain", "optional", "array", "map"])):
        case "optional":
            return schema.as_optional(), st.none() | values
        case "array":
            return s.array(schema), st.lists(values, max_size=3)
        case "map":
            keys, key_values = draw(st.sampled_from(KEYS))
            return s.mapping(keys, schema), st.dictionaries(key_values, values, max_size=3)
    return schema, values


ROOTS = structs(st.sampled_from(REQUIRED) | structs(st.sampled_from(REQUIRED)))
WITH_VALUES = ROOTS.flatmap(lambda item: st.tuples(st.just(item[0]), st.lists(item[1], max_size=4)))


def copied(schema: Schema, values: list[Any], mine: Any = PLAIN) -> list[Any]:
    own = mine.own_schema(schema)
    texts = mine.writer(schema, own.parsed, "'t'", latest=False).write(values, PREFIX)
    found: list[Any] = mine.reader(own.parsed, "'t'", None).read(texts, len(PREFIX))
    return found


@given(WITH_VALUES, st.sampled_from([OPTIONAL, WRAPPED]))
def test_values_are_read_back_as_they_were_written(batch: tuple[Schema, list[Any]], mine: Any) -> None:
    schema, values = batch
    assert copied(schema, values, mine) == values


@given(WITH_VALUES, st.lists(st.binary(max_size=40), max_size=4))
def test_any_bytes_are_read_as_values_of_the_schema_or_refused(
    batch: tuple[Schema, list[Any]], texts: list[bytes]
) -> None:
    parsed = PLAIN.own_schema(batch[0]).parsed
    schema = PLAIN.connect_schema(parsed)
    for text in texts:
        try:
            (value,) = PLAIN.reader(parsed, "'t'", None).read([PREFIX + text], len(PREFIX))
        except DataError:
            continue
        assert mismatch(schema, value) is None


@pytest.mark.parametrize(("schema", "value"), [(s.INT32, -7), (s.STRING, "a"), (s.BYTES, b"\x00"), (s.FLOAT64, 0.5)])
def test_a_record_without_fields_is_a_wrapper(schema: Schema, value: Any) -> None:
    own = PLAIN.own_schema(schema)
    assert own.parsed.name.startswith("google.protobuf.")
    assert copied(schema, [value]) == [value]


def test_a_null_is_the_default_of_its_type_unless_nullable_fields_are_optional() -> None:
    schema = s.struct({"a": s.STRING.as_optional(), "b": s.INT64.as_optional()})
    assert copied(schema, [{"a": None, "b": None}]) == [{"a": "", "b": 0}]
    for mine in (OPTIONAL, WRAPPED):
        assert copied(schema, [{"a": None, "b": 0}], mine) == [{"a": None, "b": 0}]


def test_the_member_of_a_oneof_is_written_as_its_field() -> None:
    union = Schema(
        Type.STRUCT,
        name=f"{UNION}.choice",
        optional=True,
        fields=(Field("text", s.STRING.as_optional()), Field("number", s.INT64.as_optional())),
    )
    schema = s.struct({"choice_0": union, "id": s.INT64})
    rows = [
        {"choice_0": {"text": "a", "number": None}, "id": 1},
        {"choice_0": {"text": None, "number": 0}, "id": 2},
        {"choice_0": None, "id": 3},
    ]
    for mine in (PLAIN, OPTIONAL, WRAPPED):
        assert copied(schema, rows, mine) == rows


def test_symbols_of_enums_are_names_also_those_of_a_newer_producer() -> None:
    schema = s.struct({"suit": enum("Suit", S=0, H=1)})
    assert copied(schema, [{"suit": "H"}, {"suit": "S"}]) == [{"suit": "H"}, {"suit": "S"}]
    reader = PLAIN.reader(PLAIN.own_schema(schema).parsed, "'t'", None)
    assert reader.read([b"\x08\x07"], 0) == [{"suit": "UNKNOWN_ENUM_VALUE_Suit_7"}]
    with pytest.raises(DataError, match="'suit': a text that is no symbol"):
        copied(schema, [{"suit": "X"}])


@pytest.mark.parametrize(
    ("schema", "value", "reason"),
    [
        (s.struct({"a": s.array(s.STRING.as_optional())}), {"a": [None]}, "cannot be written"),
        (s.struct({"a": s.mapping(s.STRING, s.STRING.as_optional())}), {"a": {"k": None}}, "null in a map"),
        (s.struct({"a": s.FLOAT32}), {"a": 1e300}, "outside the range of FLOAT32"),
        (s.struct({"a": s.INT8}), {"a": 200}, "outside the range of INT8"),
        (s.struct({"a": s.STRING}), {"a": 1}, "int where STRING"),
        (s.struct({"a": s.STRING}), {"a": None}, "null where STRING is required"),
    ],
)
def test_a_value_that_protobuf_cannot_hold_is_refused(schema: Schema, value: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        copied(schema, [value])


def test_values_of_google_types_are_those_of_connect() -> None:
    schema = s.struct({"at": s.TIMESTAMP_SCHEMA, "time": s.TIME_SCHEMA, "price": s.decimal(3)})
    row = {"at": datetime(1969, 12, 31, 23, 59, 59, 1000, UTC), "time": time(1, 2, 3, 4000), "price": Decimal("-0.125")}
    own = PLAIN.own_schema(schema)
    (text,) = PLAIN.writer(schema, own.parsed, "'t'", latest=False).write([row], b"")
    message = own.parsed.message_class.FromString(text)
    assert (message.at.seconds, message.at.nanos) == (-1, 1_000_000)
    assert (message.price.value, message.price.precision, message.price.scale) == (b"\x83", 3, 3)
    assert copied(schema, [row]) == [row]


@pytest.mark.parametrize("text", [b"\x3a\x02\x08\x19", b"\x2a", b"\x28"])
def test_bytes_that_are_no_value_of_connect_are_refused_without_their_contents(text: bytes) -> None:
    parsed = PLAIN.parse(SchemaText(FILE), (1,))
    with pytest.raises(DataError, match="are not a message of the Protobuf schema 't'") as caught:
        PLAIN.reader(parsed, "'t'", None).read([text], 0)
    assert caught.value.code == "protobuf.unreadable"
