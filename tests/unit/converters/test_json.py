"""JsonConverter writes exactly the bytes of Kafka Connect, and reads what it has written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import schema as s
from headrace.converters.json import JsonConverter
from headrace.errors import ConfigError, DataError
from headrace.schema import Field, Schema, Type

LOGICAL = "org.apache.kafka.connect.data."
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def converter(**options: str) -> JsonConverter:
    made = JsonConverter()
    made.configure({name.replace("_", "."): value for name, value in options.items()}, is_key=False)
    return made


def written(schema: Schema | None, value: Any, **options: str) -> str:
    (result,) = converter(**options).to_bytes("t", schema, [value])
    assert result is not None
    return result.decode()


def payload(schema: Schema | None, value: Any, **options: str) -> str:
    return written(schema, value, schemas_enable="false", **options)


def read(text: str | bytes, **options: str) -> tuple[Schema | None, Any]:
    (run,) = converter(**options).from_bytes("t", [text.encode() if isinstance(text, str) else text])
    return run.schema, run.values[0]


class TestGoldens:
    """Texts as Kafka Connect writes them."""

    def test_a_struct_is_written_as_by_kafka_connect(self) -> None:
        schema = s.struct({"id": s.INT32, "n": s.STRING.as_optional()}, name="R")
        assert written(schema, {"id": 1, "n": None}) == (
            '{"schema":{"type":"struct","fields":[{"type":"int32","optional":false,"field":"id"},'
            '{"type":"string","optional":true,"field":"n"}],"optional":false,"name":"R"},"payload":{"id":1,"n":null}}'
        )

    @pytest.mark.parametrize(
        ("schema", "value", "text"),
        [
            (
                s.decimal(2),
                Decimal("12.30"),
                '{"schema":{"type":"bytes","optional":false,"name":"' + LOGICAL + 'Decimal","version":1,'
                '"parameters":{"scale":"2"}},"payload":"BM4="}',
            ),
            (
                s.DATE_SCHEMA,
                date(1970, 1, 3),
                '{"schema":{"type":"int32","optional":false,"name":"' + LOGICAL + 'Date","version":1},"payload":2}',
            ),
            (
                s.TIME_SCHEMA,
                time(0, 0, 1, 2000),
                '{"schema":{"type":"int32","optional":false,"name":"' + LOGICAL + 'Time","version":1},"payload":1002}',
            ),
            (
                s.TIMESTAMP_SCHEMA,
                EPOCH + timedelta(days=1, milliseconds=5),
                '{"schema":{"type":"int64","optional":false,"name":"' + LOGICAL + 'Timestamp","version":1},'
                '"payload":86400005}',
            ),
            (s.BYTES, b"\x00\xff", '{"schema":{"type":"bytes","optional":false},"payload":"AP8="}'),
            (s.FLOAT64, 1.5, '{"schema":{"type":"double","optional":false},"payload":1.5}'),
            (s.FLOAT32, 2, '{"schema":{"type":"float","optional":false},"payload":2.0}'),
            (s.BOOLEAN, True, '{"schema":{"type":"boolean","optional":false},"payload":true}'),
            (
                s.array(s.INT8),
                [1, 2],
                '{"schema":{"type":"array","items":{"type":"int8","optional":false},"optional":false},"payload":[1,2]}',
            ),
            (
                s.mapping(s.STRING, s.INT64),
                {"a": 1},
                '{"schema":{"type":"map","keys":{"type":"string","optional":false},'
                '"values":{"type":"int64","optional":false},"optional":false},"payload":{"a":1}}',
            ),
            (
                s.mapping(s.INT16, s.STRING),
                {1: "a", 2: "b"},
                '{"schema":{"type":"map","keys":{"type":"int16","optional":false},'
                '"values":{"type":"string","optional":false},"optional":false},"payload":[[1,"a"],[2,"b"]]}',
            ),
            (
                Schema(Type.STRING, True, "n", 3, "about", (("k", "v"),), "d"),
                "é",
                '{"schema":{"type":"string","optional":true,"name":"n","version":3,"doc":"about",'
                '"parameters":{"k":"v"},"default":"d"},"payload":"é"}',
            ),
            (None, {"a": [1, None, "x"]}, '{"schema":null,"payload":{"a":[1,null,"x"]}}'),
        ],
    )
    def test_values_are_written_as_by_kafka_connect(self, schema: Schema | None, value: Any, text: str) -> None:
        assert written(schema, value) == text

    @pytest.mark.parametrize(
        ("value", "unscaled"),
        [("0.00", "AA=="), ("1.27", "fw=="), ("1.28", "AIA="), ("-1.28", "gA=="), ("-1.29", "/38="), ("-0.01", "/w==")],
    )
    def test_decimals_are_the_shortest_twos_complement(self, value: str, unscaled: str) -> None:
        assert payload(s.decimal(2), Decimal(value)) == f'"{unscaled}"'

    @pytest.mark.parametrize("value", ["12.30", "-0.5", "123456789012345678901234567890.12", "1E+3", "1E-10"])
    def test_decimals_as_numbers_are_exact(self, value: str) -> None:
        assert payload(s.decimal(2), Decimal(value), decimal_format="numeric") == value

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (b"\x00\xff", '"AP8="'),
            ({1: "a", "b": 2}, '[[1,"a"],["b",2]]'),
            ((1, 2), "[1,2]"),
            ({"a": {"b": b"x"}}, '{"a":{"b":"eA=="}}'),
            ("null", '"null"'),
            (2**63 - 1, "9223372036854775807"),
        ],
    )
    def test_values_without_schema_are_written_as_plain_json(self, value: Any, text: str) -> None:
        assert payload(None, value) == text

    def test_defaults_are_encoded(self) -> None:
        schema = Schema(Type.INT32, name=s.DATE, version=1, default=date(1970, 1, 2))
        assert '"default":1' in written(schema, date(1970, 1, 1))

    def test_null_becomes_the_default_unless_configured_otherwise(self) -> None:
        schema = s.struct({"n": Schema(Type.INT32, optional=True, default=7)})
        assert payload(schema, {"n": None}) == '{"n":7}'
        assert payload(schema, {"n": None}, replace_null_with_default="false") == '{"n":null}'

    def test_fields_are_written_in_schema_order(self) -> None:
        schema = s.struct({"a": s.INT32, "b": s.INT32.as_optional(), "c": s.INT32})
        assert payload(schema, {"c": 3, "a": 1}) == '{"a":1,"b":null,"c":3}'

    def test_microseconds_are_truncated_to_milliseconds(self) -> None:
        assert payload(s.TIMESTAMP_SCHEMA, EPOCH + timedelta(microseconds=1999)) == "1"
        assert payload(s.TIMESTAMP_SCHEMA, EPOCH - timedelta(microseconds=1)) == "-1"

    def test_a_timestamp_in_another_zone_keeps_its_instant(self) -> None:
        assert payload(s.TIMESTAMP_SCHEMA, datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == "0"


class TestRefusals:
    @pytest.mark.parametrize(
        ("schema", "value", "says"),
        [
            (s.INT8, 128, "outside the range of INT8"),
            (s.INT64, 2**63, "outside the range of INT64"),
            (s.INT32, True, "bool where INT32 is expected"),
            (s.INT32, "1", "str where INT32 is expected"),
            (s.FLOAT64, math.nan, "NaN"),
            (s.FLOAT32, -math.inf, "infinity"),
            (s.STRING, "\ud800", "cannot be written"),
            (s.decimal(2), Decimal("1.234"), "more than 2 digits"),
            (s.decimal(2), Decimal("NaN"), "NaN"),
            (s.decimal(2), 1.5, "float where BYTES .Decimal. is expected"),
            (Schema(Type.BYTES, name=s.DECIMAL), Decimal(1), "no scale"),
            (s.DATE_SCHEMA, datetime(2020, 1, 1, tzinfo=UTC), "datetime where INT32 .Date. is expected"),
            (s.TIMESTAMP_SCHEMA, datetime(2020, 1, 1), "without time zone"),
            (s.TIME_SCHEMA, time(tzinfo=UTC), "time zone"),
            (s.struct({"a": s.struct({"b": s.INT32})}), {"a": {"b": None}}, r"field 'a\.b': null where INT32"),
            (s.struct({"a": s.INT32}), {}, "field 'a': null where INT32 is required"),
            (s.struct({"a": s.INT32}), {"a": 1, "x": 2}, "no field of the schema: x"),
            (s.array(s.INT32), [1, "x"], r"field '\[\]': str where INT32"),
            (s.array(s.INT32), [None], "null where INT32"),
            (None, math.nan, "NaN"),
            (None, {"a": [math.inf]}, "infinity"),
            (None, 2**64, "64-bit"),
            (None, Decimal(1), "Decimal has no JSON form without a schema"),
            (None, datetime(2020, 1, 1, tzinfo=UTC), "datetime has no JSON form"),
            (None, {"a": {1, 2}}, "set has no JSON form"),
        ],
    )
    def test_a_value_that_does_not_match_its_schema_is_refused_on_write(
        self, schema: Schema | None, value: Any, says: str
    ) -> None:
        for options in ({}, {"schemas_enable": "false"}, {"decimal_format": "NUMERIC"}):
            if ("digits" in says or "scale" in says) and "decimal_format" in options:
                continue  # numbers need no scale
            with pytest.raises(DataError, match=says):
                written(schema, value, **options)

    def test_error_messages_contain_no_values(self) -> None:
        with pytest.raises(DataError) as caught:
            written(s.struct({"card": s.INT64}), {"card": "4111-1111"})
        assert "4111" not in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "JSON"),
            ("{", "JSON"),
            ("1", '"schema" and "payload"'),
            ('{"payload":1}', '"schema" and "payload"'),
            ('{"schema":null,"payload":1,"x":2}', '"schema" and "payload"'),
            ('{"schema":{"type":"int32"},"payload":1,"x":2}', '"schema" and "payload"|JSON'),
            ('{"schema":1,"payload":1}', "must be a JSON object"),
            ('{"schema":{"type":"int128"},"payload":1}', "unknown schema type"),
            ('{"schema":{"type":["a"]},"payload":1}', "unknown schema type"),
            ('{"schema":{"type":"array"},"payload":[]}', "has no 'items'"),
            ('{"schema":{"type":"map","keys":{"type":"string"}},"payload":{}}', "has no 'values'"),
            ('{"schema":{"type":"struct"},"payload":{}}', "'fields'"),
            ('{"schema":{"type":"struct","fields":[{"type":"int32"}]},"payload":{}}', "has no name"),
            ('{"schema":{"type":"int32","parameters":{"a":1}},"payload":1}', "parameters"),
            ('{"schema":{"type":"int32"},"payload":null}', "null where INT32 is required"),
            ('{"schema":{"type":"int32"},"payload":"1"}', "str where INT32"),
            ('{"schema":{"type":"int32"},"payload":1.5}', "float where INT32"),
            ('{"schema":{"type":"int8"},"payload":1000}', "outside the range of INT8"),
            ('{"schema":{"type":"bytes"},"payload":"*"}', "not base64"),
            ('{"schema":{"type":"double"},"payload":"one"}', "str where a number"),
            ('{"schema":{"type":"map","keys":{"type":"int32"},"values":{"type":"int32"}},"payload":[[1]]}', "pairs"),
            (
                '{"schema":{"type":"int32","name":"' + LOGICAL + 'Time"},"payload":86400000}',
                "outside 0 to 86399999",
            ),
            ('{"schema":{"type":"int32","name":"' + LOGICAL + 'Date"},"payload":2000000000}', "years 1 to 9999"),
            (
                '{"schema":{"type":"int64","name":"' + LOGICAL + 'Timestamp"},"payload":9000000000000000}',
                "years 1 to 9999",
            ),
            ('{"schema":{"type":"bytes","name":"' + LOGICAL + 'Decimal"},"payload":""}', "no scale"),
            (
                '{"schema":{"type":"bytes","name":"' + LOGICAL + 'Decimal","parameters":{"scale":"x"}},"payload":""}',
                "scale",
            ),
        ],
    )
    def test_an_invalid_text_is_refused_on_read(self, text: str, says: str) -> None:
        with pytest.raises(DataError, match=says):
            read(text)

    @pytest.mark.parametrize("options", [{"decimal_format": "HEX"}, {"schemas_enable": "maybe"}, {"other": "1"}])
    def test_an_invalid_setting_is_refused(self, options: dict[str, str]) -> None:
        with pytest.raises(ConfigError):
            converter(**options)


class TestReading:
    def test_an_envelope_is_not_unwrapped_without_schemas(self) -> None:
        assert read('{"schema":null,"payload":1}', schemas_enable="false") == (None, {"schema": None, "payload": 1})

    def test_empty_bytes_without_schemas_are_null(self) -> None:
        assert read(b"", schemas_enable="false") == (None, None)

    def test_a_null_schema_is_read_as_no_schema(self) -> None:
        assert read('{"schema":null,"payload":{"a":1}}') == (None, {"a": 1})

    def test_the_order_and_spacing_of_an_envelope_do_not_matter(self) -> None:
        text = '\n{ "payload" : {"b":2, "a":1, "x":0} , "schema" : %s }\n'
        schema = (
            '{"type":"struct","fields":[{"field":"a","type":"int32"},{"field":"b","type":"int64","optional":true}]}'
        )
        assert read(text % schema) == (s.struct({"a": s.INT32, "b": s.INT64.as_optional()}), {"a": 1, "b": 2})

    def test_missing_fields_are_null_or_the_default(self) -> None:
        fields = (
            '[{"field":"a","type":"int32","optional":true},{"field":"b","type":"int32","default":5},'
            '{"field":"c","type":"int32","optional":true,"default":6}]'
        )
        text = '{"schema":{"type":"struct","fields":' + fields + '},"payload":{"c":null}}'
        assert read(text)[1] == {"a": None, "b": 5, "c": 6}
        with pytest.raises(DataError, match="field 'b'"):
            read(text, replace_null_with_default="false")

    def test_decimals_of_both_forms_keep_every_digit(self) -> None:
        head = '{"schema":{"type":"bytes","name":"' + LOGICAL + 'Decimal","parameters":{"scale":"2"}},"payload":'
        for form, value in {
            '"BM4="': "12.30",
            "12.3": "12.30",
            "12": "12.00",
            "123456789012345678901234567890.12": "123456789012345678901234567890.12",
            "98765432109876543210": "98765432109876543210.00",
            "1.2345": "1.2345",
        }.items():
            assert str(read(head + form + "}")[1]) == value

    def test_a_decimal_default_written_as_a_number_is_read(self) -> None:
        text = (
            '{"schema":{"type":"bytes","optional":true,"name":"' + LOGICAL + 'Decimal","parameters":{"scale":"20"},'
            '"default":1.12345678901234567890},"payload":null}'
        )
        assert str(read(text)[1]) == "1.12345678901234567890"

    def test_non_finite_numbers_are_read_as_jackson_writes_them(self) -> None:
        head = '{"schema":{"type":"double"},"payload":'
        assert read(head + '"-Infinity"}')[1] == -math.inf
        assert math.isnan(read(head + '"NaN"}')[1])

    def test_a_schema_that_contains_envelope_keys_is_read(self) -> None:
        schema = Schema(Type.STRING, doc='"schema":{},"payload":1', default=',"payload":')
        values = ['{"schema":', ',"payload":', "}"]
        made = converter()
        (run,) = made.from_bytes("t", made.to_bytes("t", schema, values))
        assert (run.schema, run.values) == (schema, values)


class TestRuns:
    def test_a_batch_is_split_where_the_schema_changes(self) -> None:
        made = converter()
        one, two = s.struct({"a": s.INT32}), s.struct({"a": s.STRING})
        texts = [
            *made.to_bytes("t", one, [{"a": 1}, {"a": 2}, None]),
            *made.to_bytes("t", two, [{"a": "x"}]),
            *made.to_bytes("t", None, [1, 2]),
            *made.to_bytes("t", one, [{"a": 3}]),
        ]
        runs = made.from_bytes("t", texts)
        assert [(run.start, run.schema, run.values) for run in runs] == [
            (0, one, [{"a": 1}, {"a": 2}]),
            (2, None, [None]),
            (3, two, [{"a": "x"}]),
            (4, None, [1, 2]),
            (6, one, [{"a": 3}]),
        ]

    def test_more_schemas_than_the_cache_holds_are_read(self) -> None:
        made = converter(schemas_cache_size="2")
        schemas = [s.struct({f"f{number}": s.INT32}) for number in range(20)] * 2
        texts = [made.to_bytes("t", schema, [{schema.fields[0].name: 1}])[0] for schema in schemas]
        assert [run.schema for run in made.from_bytes("t", texts)] == schemas

    def test_two_layouts_of_one_schema_are_one_run(self) -> None:
        texts = [b'{"schema":{"type":"int32"},"payload":1}', b'{"schema": {"type":"int32"}, "payload": 2}'] * 2
        (run,) = converter().from_bytes("t", texts)
        assert run.values == [1, 2, 1, 2]

    def test_an_empty_batch_gives_an_empty_result(self) -> None:
        for options in ({}, {"schemas_enable": "false"}):
            assert converter(**options).from_bytes("t", []) == []
            assert converter(**options).to_bytes("t", s.INT32, []) == []

    @pytest.mark.parametrize("options", [{}, {"schemas_enable": "false"}])
    def test_tombstones_stay_tombstones(self, options: dict[str, str]) -> None:
        made = converter(**options)
        for schema in (None, s.INT32, s.INT32.as_optional()):
            assert made.to_bytes("t", schema, [None, 1, None]).count(None) == 2
        (run,) = made.from_bytes("t", [None, None])
        assert (run.schema, run.values) == (None, [None, None])

    def test_the_rows_of_the_caller_are_not_changed(self) -> None:
        row = {"d": date(2020, 1, 1), "n": {"b": b"x"}, "l": [b"y"]}
        schema = s.struct({"d": s.DATE_SCHEMA, "n": s.struct({"b": s.BYTES}), "l": s.array(s.BYTES)})
        written(schema, row)
        assert row == {"d": date(2020, 1, 1), "n": {"b": b"x"}, "l": [b"y"]}


Values = st.SearchStrategy[Any]
Described = tuple[Schema, Values]


def integers(bits: int) -> Values:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def decimals(scale: int) -> Values:
    return st.integers(-(10**40), 10**40).map(lambda unscaled: Decimal(f"{unscaled}E{-scale}"))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
MOMENTS = st.datetimes(timezones=st.just(UTC)).map(lambda it: it.replace(microsecond=it.microsecond // 1000 * 1000))
TIMES = st.times().map(lambda it: it.replace(microsecond=it.microsecond // 1000 * 1000))
SIMPLE: list[Described] = [
    (s.BOOLEAN, st.booleans()),
    (s.INT8, integers(8)),
    (s.INT16, integers(16)),
    (s.INT32, integers(32)),
    (s.INT64, integers(64)),
    (s.FLOAT32, FLOATS),
    (s.FLOAT64, FLOATS),
    (s.STRING, TEXTS),
    (s.BYTES, st.binary()),
    (s.DATE_SCHEMA, st.dates()),
    (s.TIME_SCHEMA, TIMES),
    (s.TIMESTAMP_SCHEMA, MOMENTS),
    *((s.decimal(scale), decimals(scale)) for scale in (0, 2, 18)),
]


@st.composite
def described(draw: Callable[[Values], Any], inner: st.SearchStrategy[Described]) -> Described:
    kind = draw(st.sampled_from(["array", "map", "struct"]))
    if kind == "array":
        schema, values = draw(inner)
        return s.array(schema), st.lists(values, max_size=3)
    if kind == "map":
        keys, key_values = draw(st.sampled_from([item for item in SIMPLE if item[0].type is not Type.BOOLEAN]))
        schema, values = draw(inner)
        return s.mapping(keys, schema), st.dictionaries(key_values, values, max_size=3)
    members = draw(st.lists(st.tuples(TEXTS, inner), max_size=4, unique_by=lambda member: member[0]))
    fields = tuple(Field(name, schema) for name, (schema, _) in members)
    return Schema(Type.STRUCT, fields=fields), st.fixed_dictionaries({name: item[1] for name, item in members})


@st.composite
def decorated(draw: Callable[[Values], Any], inner: st.SearchStrategy[Described]) -> Described:
    """Return schemas with and without optionality and documentation."""
    schema, values = draw(inner)
    if draw(st.booleans()):
        schema, values = schema.as_optional(), st.none() | values
    return schema, values


DESCRIBED = st.recursive(decorated(st.sampled_from(SIMPLE)), lambda inner: decorated(described(inner)), max_leaves=8)
WITH_VALUES = DESCRIBED.flatmap(lambda item: st.tuples(st.just(item[0]), st.lists(item[1], max_size=5)))


@given(WITH_VALUES, st.sampled_from(["BASE64", "NUMERIC"]))
def test_values_written_with_their_schema_are_read_back(batch: tuple[Schema, list[Any]], decimal_format: str) -> None:
    schema, values = batch
    made = converter(decimal_format=decimal_format)
    texts = made.to_bytes("t", schema, values)
    runs = made.from_bytes("t", texts)
    assert [value for run in runs for value in run.values] == values
    for run in runs:
        assert run.schema == (schema if run.values[0] is not None else None)
        assert [type(value) for value in run.values] == [
            type(value) for value in values[run.start : run.start + len(run.values)]
        ]


@given(WITH_VALUES)
def test_the_payload_is_the_same_with_and_without_schema(batch: tuple[Schema, list[Any]]) -> None:
    schema, values = batch
    enveloped = converter().to_bytes("t", schema, values)
    plain = converter(schemas_enable="false").to_bytes("t", schema, values)
    for whole, part in zip(enveloped, plain, strict=True):
        assert (whole is None) == (part is None)
        if whole is not None and part is not None:
            assert json.loads(whole)["payload"] == json.loads(part)


@given(WITH_VALUES)
def test_a_batch_is_converted_as_its_values_one_by_one(batch: tuple[Schema, list[Any]]) -> None:
    schema, values = batch
    made = converter()
    assert made.to_bytes("t", schema, values) == [made.to_bytes("t", schema, [value])[0] for value in values]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | integers(64) | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(JSON_VALUES, max_size=4), st.sampled_from(["true", "false"]))
def test_values_without_schema_are_read_back(values: list[Any], schemas: str) -> None:
    made = converter(schemas_enable=schemas)
    runs = made.from_bytes("t", made.to_bytes("t", None, values))
    assert [value for run in runs for value in run.values] == values
    assert all(run.schema is None for run in runs)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    for schemas in ("true", "false"):
        try:
            runs = converter(schemas_enable=schemas).from_bytes("t", [value])
        except DataError:
            continue
        assert sum(len(run.values) for run in runs) == 1
