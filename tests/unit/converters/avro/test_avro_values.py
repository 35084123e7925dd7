"""Values survive Avro exactly, and bytes of every kind are read or refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import DataError, Schema, Type
from headrace import schema as s
from headrace.converters.avro.avro_types import AvroType, parse_avro
from headrace.converters.avro.codec import AvroReader, AvroWriter
from headrace.converters.avro.decoding import decoding_change
from headrace.converters.avro.encoding import encoding_column
from headrace.converters.avro.from_connect import AvroSchemas
from headrace.converters.avro.to_connect import ConnectSchemas
from headrace.schema import Field
from headrace.testing.values import mismatch
from tests.unit.converters.described import TEXTS, WITH_VALUES

CONNECT = ConnectSchemas(enhanced=True, meta_data=True)
PREFIX = b"\x00\x00\x00\x00\x07"


def avro_type(schema: Schema) -> AvroType:
    made = AvroSchemas(enhanced=True, meta_data=True, scrub_names=False, optional_map_keys=False).translate(schema)
    return parse_avro(orjson.dumps(made).decode())


def written(schema: Schema, values: Sequence[Any]) -> list[bytes]:
    column = encoding_column(schema, replace_nulls=True, enums=True, optional_map_keys=False)
    return AvroWriter(avro_type(schema), CONNECT.member_name, "'t'", strict=True).write(
        column.run(list(values)), PREFIX
    )


def read(described: AvroType, values: Sequence[bytes], reads_as: AvroType | None = None) -> list[Any]:
    made = AvroReader(described, CONNECT.member_name, "'t'", reads_as).read(values, len(PREFIX))
    shape = reads_as or described
    change = decoding_change(shape, CONNECT.translate(shape), resolved=reads_as is not None)
    return change(made) if change is not None else made


@given(WITH_VALUES)
def test_values_and_their_schema_are_read_back_as_they_were_written(batch: tuple[Schema, list[Any]]) -> None:
    schema, values = batch
    described = avro_type(schema)
    assert CONNECT.translate(described) == schema
    assert read(described, written(schema, values)) == values


@given(WITH_VALUES, st.lists(st.binary(max_size=40), max_size=4))
def test_any_bytes_are_read_as_values_of_the_schema_or_refused(
    batch: tuple[Schema, list[Any]], texts: list[bytes]
) -> None:
    schema, _ = batch
    for text in texts:
        try:
            (value,) = read(avro_type(schema), [PREFIX + text])
        except DataError:
            continue
        assert mismatch(schema, value) is None


@given(WITH_VALUES, st.data())
def test_a_value_that_was_cut_off_or_continued_is_refused(batch: tuple[Schema, list[Any]], data: st.DataObject) -> None:
    schema, values = batch
    described = avro_type(schema)
    for text in written(schema, values):
        with pytest.raises(DataError, match="bytes are left"):
            read(described, [text + b"\x00"])
        if len(text) > len(PREFIX):
            end = data.draw(st.integers(len(PREFIX), len(text) - 1))
            with pytest.raises(DataError, match="are not a value"):
                read(described, [text[:end]])


@given(WITH_VALUES)
def test_the_registered_schema_describes_the_bytes_for_other_readers(batch: tuple[Schema, list[Any]]) -> None:
    schema, values = batch
    translated = AvroSchemas(enhanced=True, meta_data=True, scrub_names=False, optional_map_keys=False).translate(
        schema
    )
    others = fastavro.parse_schema(translated)
    for text in written(schema, values):
        source = BytesIO(text[len(PREFIX) :])
        fastavro.schemaless_reader(source, others, None)
        assert source.tell() == len(text) - len(PREFIX)


UNION = parse_avro(
    '["null", "int", "long", "string", {"type": "enum", "name": "a.Suit", "symbols": ["S", "H"]}, '
    '{"type": "array", "items": {"type": "int", "logicalType": "date"}}, '
    '{"type": "record", "name": "a.P", "fields": [{"name": "at", "type": {"type": "long", '
    '"logicalType": "timestamp-millis"}}]}]'
)


@given(st.binary(max_size=12))
def test_any_bytes_are_a_member_of_a_union_or_refused(text: bytes) -> None:
    try:
        (value,) = read(UNION, [PREFIX + text])
    except DataError:
        return
    assert mismatch(CONNECT.translate(UNION), value) is None
    assert value is None or sum(item is not None for item in value.values()) == 1


WORDS = st.sampled_from(
    ["record", "enum", "fixed", "array", "map", "null", "int", "long", "string", "bytes", "decimal", "date", "R", "a.b"]
)
ATTRIBUTES = st.sampled_from(
    [
        *("type", "name", "fields", "items", "values", "symbols", "size", "namespace", "default", "doc", "aliases"),
        *("logicalType", "scale", "precision"),
        *("connect.name", "connect.type", "connect.version", "connect.parameters", "connect.default"),
    ]
)
SCHEMA_LIKE = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers(-2, 40) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ATTRIBUTES, WORDS | inner, max_size=5),
    max_leaves=12,
)


@given(SCHEMA_LIKE)
def test_any_json_is_a_schema_that_can_be_used_or_refused(given_schema: Any) -> None:
    try:
        described = parse_avro(orjson.dumps(given_schema).decode())
        schema = CONNECT.translate(described)
        AvroReader(described, CONNECT.member_name, "'t'")
        decoding_change(described, schema)
    except DataError as error:
        assert error.code.startswith("avro.")  # noqa: PT017


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("int", 5),
        ("long", 5),
        ("string", "S"),
        ("a.Suit", "S"),
        ("array", [date(2020, 2, 29), date(1969, 12, 31)]),
        ("a.P", {"at": datetime(2024, 1, 2, 3, 4, 5, 678000, UTC)}),
    ],
)
def test_a_union_keeps_the_member_of_each_value(name: str, value: Any) -> None:
    schema = CONNECT.translate(UNION)
    row = dict.fromkeys((field.name for field in schema.fields), None) | {name: value}
    column = encoding_column(schema, replace_nulls=True, enums=True, optional_map_keys=False)
    (text, null) = AvroWriter(UNION, CONNECT.member_name, "'t'", strict=True).write(column.run([row, None]), PREFIX)
    assert null == PREFIX + b"\x00"
    assert text[len(PREFIX)] == 2 * [member.name or member.kind for member in UNION.members].index(name)
    assert read(UNION, [text, null]) == [row, None]


AVRO = "io.confluent.connect.avro."
SUIT = Schema(Type.STRING, parameters=((f"{AVRO}Enum", "E"), (f"{AVRO}Enum.A", "A")))
FIXED = Schema(Type.BYTES, name="F", parameters=(("connect.fixed.size", "2"),))
NUMBER_UNION = Schema(Type.STRUCT, name=f"{AVRO}Union", fields=(Field("int", s.INT32.as_optional()),))


@pytest.mark.parametrize(
    ("schema", "value", "says"),
    [
        (s.struct({"a": s.INT8}), {"a": 128}, "field 'a': a number outside the range of INT8"),
        (s.struct({"a": s.STRING}), {"a": None}, "field 'a': null where STRING is required"),
        (s.struct({"a": s.INT32}), {"a": "1"}, "field 'a': str where INT32 is expected"),
        (s.struct({"a": s.INT32}), {"a": 1, "b": 2}, "no field of the schema: b"),
        (s.struct({"a": s.decimal(2)}), {"a": Decimal("0.001")}, "more than 2 digits"),
        (s.struct({"a": s.decimal(2)}), {"a": Decimal("NaN")}, "NaN and infinity"),
        (s.TIMESTAMP_SCHEMA, datetime(2020, 1, 1), "a timestamp without time zone"),
        (s.STRING, "\ud800", "cannot be written"),
        (s.FLOAT32, 1e300, "outside the range of FLOAT32"),
        (SUIT, "B", "no symbol"),
        (FIXED, b"abc", "length is not 2"),
        (NUMBER_UNION, {"int": None}, "member of a union is required"),
    ],
)
def test_what_does_not_fit_its_schema_is_refused(schema: Schema, value: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        written(schema, [value])


def test_messages_hold_no_contents_of_records() -> None:
    with pytest.raises(DataError) as caught:
        written(s.struct({"a": s.STRING}), [{"a": "secret\ud800"}])
    assert "secret" not in str(caught.value)


def test_finer_parts_of_times_are_cut_off() -> None:
    schema = s.struct({"t": s.TIME_SCHEMA, "at": s.TIMESTAMP_SCHEMA})
    row = {"t": time(1, 2, 3, 999), "at": datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)}
    assert read(avro_type(schema), written(schema, [row])) == [
        {"t": time(1, 2, 3), "at": datetime(1969, 12, 31, 23, 59, 59, 999000, UTC)}
    ]


def test_nan_and_infinity_are_values() -> None:
    (nan, infinity) = read(avro_type(s.FLOAT64), written(s.FLOAT64, [float("nan"), float("inf")]))
    assert nan != nan
    assert infinity == float("inf")


def test_a_null_becomes_the_default_of_its_schema() -> None:
    schema = s.struct({"a": Schema(Type.INT32, default=7), "b": Schema(Type.STRING, optional=True, default="x")})
    assert read(avro_type(schema), written(schema, [{"a": None, "b": None}])) == [{"a": 7, "b": "x"}]


def test_the_rows_of_the_caller_are_not_changed() -> None:
    row = {"d": date(2020, 1, 1), "n": {"b": Decimal(1)}, "l": [date(2020, 1, 1)]}
    schema = s.struct({"d": s.DATE_SCHEMA, "n": s.struct({"b": s.decimal(0)}), "l": s.array(s.DATE_SCHEMA)})
    written(schema, [row])
    assert row == {"d": date(2020, 1, 1), "n": {"b": Decimal(1)}, "l": [date(2020, 1, 1)]}


DAY = {"name": "d", "type": {"type": "int", "logicalType": "date"}}
EVENT: dict[str, Any] = {"type": "record", "name": "a.Event", "fields": [{"name": "id", "type": "int"}]}


def event(*fields: dict[str, Any]) -> AvroType:
    return parse_avro(orjson.dumps(EVENT | {"fields": [*EVENT["fields"], *fields]}).decode())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ({"name": "n", "type": ["null", "string"], "default": None}, None),
        ({"name": "n", "type": "string", "default": "x"}, "x"),
        ({"name": "n", "type": "bytes", "default": "\u00ff"}, b"\xff"),
        ({"name": "n", "type": {"type": "int", "logicalType": "date"}, "default": 1}, date(1970, 1, 2)),
        ({"name": "n", "type": ["string", "int"], "default": "x"}, {"string": "x", "int": None}),
        ({"name": "n", "type": {"type": "array", "items": "float"}, "default": [1]}, [1.0]),
        (
            {
                "name": "n",
                "type": {"type": "record", "name": "D", "fields": [DAY]},
                "default": {"d": 0},
            },
            {"d": date(1970, 1, 1)},
        ),
    ],
)
def test_a_newer_reader_fills_in_defaults_for_an_older_writer(field: dict[str, Any], value: Any) -> None:
    old, new = event(), event(field)
    texts = [PREFIX + b"\x02", PREFIX + b"\x04"]
    for _ in range(2):  # defaults are the same in each record, and are not changed by reading
        assert read(old, texts, new) == [{"id": 1, "n": value}, {"id": 2, "n": value}]


@pytest.mark.parametrize(
    ("written_as", "read_as", "text", "value"),
    [
        ("int", "long", b"\x02", 1),
        ("int", "double", b"\x02", 1.0),
        ("string", ["null", "string"], b"\x02a", "a"),
        ("string", ["null", "string", "int"], b"\x02a", {"string": "a", "int": None}),
        (["null", "int"], ["null", "long"], b"\x02\x02", 1),
        (["int", "string"], ["string", "long"], b"\x00\x02", {"string": None, "long": 1}),
        (["null", "string"], ["null", "string", "int"], b"\x00", None),
        (
            {"type": "enum", "name": "E", "symbols": ["A", "B"]},
            {"type": "enum", "name": "E", "symbols": ["A"], "default": "A"},
            b"\x02",
            "A",
        ),
    ],
)
def test_compatible_types_are_resolved(written_as: Any, read_as: Any, text: bytes, value: Any) -> None:
    old, new = event({"name": "n", "type": written_as}), event({"name": "n", "type": read_as})
    assert read(old, [PREFIX + b"\x02" + text], new) == [{"id": 1, "n": value}]


def test_an_older_reader_skips_fields_of_a_newer_writer_and_follows_aliases() -> None:
    new, old = event({"name": "n", "type": "string"}), event()
    assert read(new, [PREFIX + b"\x02\x02a"], old) == [{"id": 1}]
    renamed = event({"name": "m", "type": "string", "aliases": ["n"]})
    assert read(new, [PREFIX + b"\x02\x02a"], renamed) == [{"id": 1, "m": "a"}]


@pytest.mark.parametrize(
    ("written_as", "read_as"),
    [
        ({"type": "fixed", "name": "T", "size": 1}, {"type": "record", "name": "T", "fields": []}),
        ({"type": "fixed", "name": "T", "size": 1}, {"type": "fixed", "name": "T", "size": 2}),
        ("string", "int"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, {"type": "enum", "name": "E", "symbols": ["A"]}),
    ],
)
def test_types_that_are_not_compatible_are_refused(written_as: Any, read_as: Any) -> None:
    old, new = event({"name": "n", "type": written_as}), event({"name": "n", "type": read_as})
    with pytest.raises(DataError):
        read(old, [PREFIX + b"\x02\x02a"], new)


def test_a_default_of_a_record_is_completed_with_those_of_its_fields() -> None:
    inner = {
        "type": "record",
        "name": "D",
        "fields": [{**DAY, "default": 1}, {"name": "f", "type": "float", "default": 2}],
    }
    assert read(event(), [PREFIX + b"\x02"], event({"name": "n", "type": inner, "default": {"f": 3}})) == [
        {"id": 1, "n": {"d": date(1970, 1, 2), "f": 3.0}}
    ]


def test_a_reader_that_does_not_fit_refuses_the_record() -> None:
    with pytest.raises(DataError) as caught:
        read(event(), [PREFIX + b"\x02"], event({"name": "n", "type": "string"}))
    assert caught.value.code == "avro.unreadable"
    with pytest.raises(DataError, match="ambiguous"):
        read(event(), [PREFIX + b"\x02"], event({"name": "n", "type": ["int", "long"], "default": 1}))
