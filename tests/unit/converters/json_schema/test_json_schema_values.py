"""Values survive JSON Schema exactly, and texts of every kind are read or refused."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import DataError, Schema, Type
from headrace import schema as s
from headrace.converters.json_schema.configuration import JsonSchemaConverterConfig
from headrace.converters.json_schema.json_schema_format import JsonSchemaFormat
from headrace.converters.json_schema.validation import JsonSchemaValidator
from headrace.converters.schema_registry.registry_client import SchemaText
from headrace.schema import Field
from tests.unit.converters.described import WITH_VALUES

PREFIX = b"\x00\x00\x00\x00\x07"
ONE_OF = "io.confluent.connect.json.OneOf"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["f0", "f1", "key", "value"]), inner),
    max_leaves=4,
)


def json_format(**options: str) -> JsonSchemaFormat:
    given = {name.replace("_", "."): value for name, value in options.items()}
    return JsonSchemaFormat(JsonSchemaConverterConfig.parse({"schema.registry.url": "http://r", **given}))


FORMAT = json_format()


def is_finite(value: Any) -> bool:
    return not any(text in repr(value) for text in ("inf", "nan"))


def read(text: str | dict[str, Any], value: Any, **options: str) -> tuple[Schema, Any]:
    mine = json_format(**options)
    parsed = mine.parse(SchemaText(text if isinstance(text, str) else json.dumps(text)), ())
    (found,) = mine.reader(parsed, "'t'", None).read([PREFIX + orjson.dumps(value)], len(PREFIX))
    return mine.connect_schema(parsed), found


@given(WITH_VALUES, st.booleans())
def test_values_and_their_schema_are_read_back_as_they_were_written(
    batch: tuple[Schema, list[Any]], numeric: bool
) -> None:
    schema, values = batch
    values = [value for value in values if value is not None and is_finite(value)]
    mine = json_format(decimal_format="NUMERIC" if numeric else "BASE64")
    own = mine.own_schema(schema)
    assert mine.connect_schema(own.parsed) == schema
    texts = mine.writer(schema, own.parsed, "'t'", latest=False).write(values, PREFIX)
    assert mine.reader(own.parsed, "'t'", None).read(texts, len(PREFIX)) == values


@given(WITH_VALUES)
def test_the_registered_schema_allows_the_records_for_other_readers(batch: tuple[Schema, list[Any]]) -> None:
    schema, values = batch
    own = FORMAT.own_schema(schema)
    written = FORMAT.writer(schema, own.parsed, "'t'", latest=False).write(
        [value for value in values if value is not None and is_finite(value)], b""
    )
    JsonSchemaValidator(own.parsed, "'t'").check([orjson.loads(text) for text in written])


@given(WITH_VALUES, st.lists(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20), max_size=2))
def test_any_bytes_are_read_as_values_of_the_schema_or_refused(
    batch: tuple[Schema, list[Any]], texts: list[bytes]
) -> None:
    schema, _ = batch
    reader = FORMAT.reader(FORMAT.own_schema(schema).parsed, "'t'", None)
    for text in texts:
        try:
            (value,) = reader.read([PREFIX + text], len(PREFIX))
        except DataError:
            continue
        if schema.type in (Type.STRING, Type.BOOLEAN) and value is not None:
            assert type(value) is (str if schema.type is Type.STRING else bool)


UNION = Schema(
    Type.STRUCT,
    optional=True,
    name=ONE_OF,
    fields=(
        Field(f"{ONE_OF}.field.0", s.INT32.as_optional()),
        Field(f"{ONE_OF}.field.1", s.STRING.as_optional()),
        Field(f"{ONE_OF}.field.2", s.struct({"a": s.INT32}).as_optional()),
        Field(f"{ONE_OF}.field.3", s.struct({"a": s.INT32, "b": s.INT32}).as_optional()),
    ),
)


@pytest.mark.parametrize(
    ("member", "value"), [(0, 7), (1, "seven"), (2, {"a": 1}), (3, {"a": 1, "b": 2}), (None, None)]
)
def test_the_member_of_a_one_of_is_found_by_the_type_of_the_value(member: int | None, value: Any) -> None:
    row = None if member is None else {field.name: None for field in UNION.fields} | {f"{ONE_OF}.field.{member}": value}
    schema = s.struct({"it": UNION})
    own = FORMAT.own_schema(schema)
    assert FORMAT.connect_schema(own.parsed) == schema
    (text,) = FORMAT.writer(schema, own.parsed, "'t'", latest=False).write([{"it": row}], PREFIX)
    assert orjson.loads(text[len(PREFIX) :]) == {"it": value}
    assert FORMAT.reader(own.parsed, "'t'", None).read([text], len(PREFIX)) == [{"it": row}]


def test_a_value_of_no_member_is_refused() -> None:
    with pytest.raises(DataError, match="no member of the oneOf"):
        read({"oneOf": [{"type": "integer"}, {"type": "string"}]}, True)


def test_a_missing_property_is_its_default_or_null() -> None:
    text = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer", "default": 3}, "c": {"type": "string"}},
        "required": ["c"],
    }
    schema, value = read(text, {"c": "x", "unknown": 1})
    assert value == {"a": None, "b": 3, "c": "x"}
    assert not schema.by_name["a"].optional
    schema, _ = read(text, {"c": "x"}, use_optional_for_nonrequired="true")
    assert [field.schema.optional for field in schema.fields] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        ({"type": "integer"}, "1", "str where INT64 is expected"),
        ({"type": "integer"}, 1.5, "not whole"),
        ({"type": "integer", "connect.type": "int8"}, 300, "outside the range"),
        ({"type": "string"}, 1, "int where STRING is expected"),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}},
            {"a": None},
            "'a': null where STRING is required",
        ),
        ({"type": "array", "items": {"type": "boolean"}}, [1], "int where BOOLEAN is expected"),
    ],
)
def test_a_value_that_contradicts_its_type_is_refused(text: dict[str, Any], value: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read(text, value)


def test_a_number_without_fraction_is_a_whole_number() -> None:
    assert read({"type": "integer"}, 5.0)[1] == 5


def test_all_keywords_are_checked_when_asked_for() -> None:
    text = {"type": "object", "properties": {"pin": {"type": "string", "pattern": "^[0-9]{4}$"}}}
    assert read(text, {"pin": "secret"})[1] == {"pin": "secret"}
    with pytest.raises(DataError, match="'pattern' does not allow the value at pin") as caught:
        read(text, {"pin": "secret"}, json_fail_invalid_schema="true")
    assert "secret" not in str(caught.value)


def test_no_schema_is_downloaded_to_check_records() -> None:
    text = '{"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/other.json"}}}'
    with pytest.raises(DataError, match="no reference"):
        JsonSchemaValidator(FORMAT.parse(SchemaText(text), ()), "'t'")
