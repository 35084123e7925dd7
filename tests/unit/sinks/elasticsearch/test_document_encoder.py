import base64
import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import DataError, Schema, schema
from headrace_sinks.elasticsearch.documents.document_encoder import encoder, find_fault

TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=4)


def encode(value: Any, of: Schema | None = None, **options: Any) -> Any:
    (document,) = encoder(of, **options)([value])
    assert b"\n" not in document
    return json.loads(document, parse_float=Decimal)


@given(st.lists(OBJECTS, max_size=3))
def test_any_json_object_is_written_as_it_is(values: list[dict[str, Any]]) -> None:
    assert [json.loads(document) for document in encoder(None)(values)] == values


@given(OBJECTS, st.sampled_from([math.nan, math.inf, -math.inf, Decimal("NaN"), Decimal("-Infinity")]), st.data())
def test_a_value_without_a_json_form_is_refused_at_any_depth(
    value: dict[str, Any], bad: Any, data: st.DataObject
) -> None:
    wrapped = data.draw(st.sampled_from([{"bad": bad}, {"bad": [1, bad]}, {"inner": {"bad": bad}}]))

    with pytest.raises(DataError, match=r"field '(inner\.)?bad(\[1\])?' is -?(NaN|infinity)"):
        encoder(None)([value | wrapped])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": {"b": [0, math.nan]}, "c": None}, "field 'a.b[1]' is NaN"),
        ({"a": 2**64}, "field 'a' is an integer of more than 64 bits"),
        ({"a": {1: 2}}, "field 'a' has a key that is a number, not text"),
        ({"a": "\ud800"}, "field 'a' is text that is not valid Unicode"),
        ({"\ud800": 1}, "has a name that is not valid Unicode"),
        ({"a": object()}, "field 'a' is of type object, which has no JSON form"),
    ],
)
def test_a_refusal_names_the_field_and_shows_no_contents(value: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as raised:
        encoder(None)([{"good": 1}, value])

    assert said in raised.value.message
    assert raised.value.code == "elasticsearch.not_json"


@pytest.mark.parametrize("value", ["text", 1, [1], None, b"{}"])
def test_a_document_must_be_an_object(value: Any) -> None:
    with pytest.raises(DataError, match="a document must be an object") as raised:
        encoder(None)([{}, value])

    assert raised.value.code == "elasticsearch.not_an_object"


def test_the_text_null_is_not_null() -> None:
    assert encode({"null": "null", "a": None, "b": [None, "null"]}) == {"null": "null", "a": None, "b": [None, "null"]}


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_decimals_are_written_with_all_digits(number: Decimal) -> None:
    assert Decimal(encode({"a": number}, schema.struct({"a": schema.decimal(2)}))["a"]) == number


@given(st.binary())
def test_bytes_are_written_as_base64(content: bytes) -> None:
    assert base64.b64decode(encode({"a": content})["a"]) == content


@given(st.datetimes(timezones=st.just(UTC)))
def test_timestamps_with_schema_are_milliseconds(moment: datetime) -> None:
    found = encode({"a": moment}, schema.struct({"a": schema.TIMESTAMP_SCHEMA}))["a"]

    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=found) == moment.replace(
        microsecond=moment.microsecond // 1000 * 1000
    )


def test_dates_with_schema_are_iso_text_and_times_are_milliseconds() -> None:
    of = schema.struct({"day": schema.DATE_SCHEMA, "at": schema.TIME_SCHEMA})

    assert encode({"day": date(2024, 1, 31), "at": time(0, 1, 2, 3999)}, of) == {"day": "2024-01-31", "at": 62_003}


def test_timestamps_without_schema_are_iso_text() -> None:
    value = {"at": datetime(2024, 1, 31, 1, 2, 3, tzinfo=UTC), "day": date(2024, 1, 31)}

    assert encode(value) == {"at": "2024-01-31T01:02:03+00:00", "day": "2024-01-31"}


def test_maps_are_written_as_objects_or_lists_of_pairs() -> None:
    by_text, by_number = schema.mapping(schema.STRING, schema.INT32), schema.mapping(schema.INT32, schema.INT32)
    nested = schema.struct({"m": schema.array(by_text)})
    pair = [{"key": "a", "value": 1}]

    assert encode({"m": {"a": 1}}, schema.struct({"m": by_text})) == {"m": {"a": 1}}
    assert encode({"m": {"a": 1}}, schema.struct({"m": by_text}), compact_maps=False) == {"m": pair}
    assert encode({"m": {7: 1}}, schema.struct({"m": by_number})) == {"m": [{"key": 7, "value": 1}]}
    assert encode({"m": [{"a": 1}, None]}, nested, compact_maps=False) == {"m": [pair, None]}
    assert encode({"m": None}, schema.struct({"m": by_number})) == {"m": None}
    deep = schema.struct({"m": schema.mapping(schema.STRING, by_number)})
    assert encode({"m": {"a": {1: 2}, "b": None}}, deep) == {"m": {"a": [{"key": 1, "value": 2}], "b": None}}


@given(JSON)
def test_no_fault_is_found_in_a_valid_document(value: Any) -> None:
    assert find_fault(value) is None
