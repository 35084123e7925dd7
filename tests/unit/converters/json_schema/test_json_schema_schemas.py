"""Schemas of Connect become JSON Schemas as JsonSchemaData writes them, and JSON Schemas are read as it reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace import DataError, Schema, Type
from headrace import schema as s
from headrace.converters.json_schema.configuration import JsonSchemaConverterConfig
from headrace.converters.json_schema.json_schema_format import JsonSchemaFormat
from headrace.converters.schema_registry.registry_client import SchemaReference, SchemaText
from headrace.schema import Field

ENUM = "io.confluent.connect.json.Enum"
ONE_OF = "io.confluent.connect.json.OneOf"


def json_format(**options: str) -> JsonSchemaFormat:
    given = {name.replace("_", "."): value for name, value in options.items()}
    return JsonSchemaFormat(JsonSchemaConverterConfig.parse({"schema.registry.url": "http://r", **given}))


FORMAT = json_format()


def connect(text: Any, *references: tuple[str, Any], **options: str) -> Schema:
    mine = json_format(**options)
    named = tuple(SchemaReference(name, json.dumps(found)) for name, found in references)
    return mine.connect_schema(mine.parse(SchemaText(json.dumps(text), named), ()))


def enum(*symbols: str) -> Schema:
    return Schema(Type.STRING, parameters=((ENUM, ""), *((f"{ENUM}.{symbol}", symbol) for symbol in symbols)))


ROW = Schema(
    Type.STRUCT,
    name="com.example.Row",
    version=2,
    doc="a row",
    fields=(
        Field("id", s.INT64),
        Field("small", s.INT8.as_optional()),
        Field("price", s.decimal(2, 10)),
        Field("at", s.TIMESTAMP_SCHEMA),
        Field("tags", s.mapping(s.STRING, s.FLOAT64)),
        Field("pairs", s.mapping(s.INT32, s.STRING)),
        Field("suit", enum("S", "H")),
        Field("text", Schema(Type.STRING, default="x", optional=True)),
    ),
)
ROW_TEXT = {
    "type": "object",
    "title": "com.example.Row",
    "description": "a row",
    "connect.version": 2,
    "properties": {
        "id": {"type": "integer", "connect.type": "int64", "connect.index": 0},
        "small": {"oneOf": [{"type": "null"}, {"type": "integer", "connect.type": "int8"}], "connect.index": 1},
        "price": {
            "type": "string",
            "title": "org.apache.kafka.connect.data.Decimal",
            "connect.type": "bytes",
            "connect.version": 1,
            "connect.parameters": {"scale": "2", "connect.decimal.precision": "10"},
            "connect.index": 2,
        },
        "at": {
            "type": "integer",
            "title": "org.apache.kafka.connect.data.Timestamp",
            "connect.type": "int64",
            "connect.version": 1,
            "connect.index": 3,
        },
        "tags": {
            "type": "object",
            "additionalProperties": {"type": "number", "connect.type": "float64"},
            "connect.type": "map",
            "connect.index": 4,
        },
        "pairs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "key": {"type": "integer", "connect.type": "int32", "connect.index": 0},
                    "value": {"type": "string", "connect.index": 1},
                },
            },
            "connect.type": "map",
            "connect.index": 5,
        },
        "suit": {"enum": ["S", "H"], "connect.index": 6},
        "text": {"oneOf": [{"type": "null"}, {"type": "string", "default": "x"}], "connect.index": 7},
    },
}


def test_a_schema_of_connect_is_written_as_json_schema_data_writes_it() -> None:
    own = FORMAT.own_schema(ROW)
    assert json.loads(own.text) == ROW_TEXT
    assert FORMAT.connect_schema(own.parsed) == ROW
    assert FORMAT.record_name(own.parsed) == "com.example.Row"


def test_decimals_are_numbers_and_objects_are_closed_when_configured() -> None:
    mine = json_format(decimal_format="NUMERIC", object_additional_properties="false")
    made = json.loads(mine.own_schema(s.struct({"d": s.decimal(2)})).text)
    assert made["additionalProperties"] is False
    assert made["properties"]["d"]["type"] == "number"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ({"type": "boolean"}, s.BOOLEAN),
        ({"type": "integer"}, s.INT64),
        ({"type": "number"}, s.FLOAT64),
        ({"type": "string", "format": "date-time"}, s.STRING),
        ({"minLength": 3}, s.STRING),
        ({"minimum": 3}, s.FLOAT64),
        ({"type": ["null", "string"]}, s.STRING.as_optional()),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, s.INT64.as_optional()),
        ({"oneOf": [{"type": "integer"}]}, s.INT64),
        ({"enum": ["a", None]}, enum("a", "<NULL>")),
        ({"type": "string", "enum": ["a", "b"]}, enum("a", "b")),
        ({"type": "integer", "enum": [1, 2]}, s.INT64),
        ({"const": "a"}, enum("a")),
        ({"type": "string", "const": "a"}, s.STRING),
        ({"type": "array", "items": {"type": "number"}}, s.array(s.FLOAT64)),
        ({"properties": {"a": {"type": "string"}}}, s.struct({"a": s.STRING})),
        ({"type": "object"}, s.struct({})),
        ({"type": "string", "title": "T", "description": "D"}, Schema(Type.STRING, name="T", doc="D")),
    ],
)
def test_a_schema_of_another_producer_is_read_as_json_schema_data_reads_it(text: Any, expected: Schema) -> None:
    assert connect(text) == expected


def test_a_one_of_is_a_struct_with_a_field_for_each_member() -> None:
    text = {"oneOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}
    assert connect(text) == Schema(
        Type.STRUCT,
        optional=True,
        name=ONE_OF,
        fields=(
            Field(f"{ONE_OF}.field.0", s.INT64.as_optional()),
            Field(f"{ONE_OF}.field.1", s.STRING.as_optional()),
        ),
    )


def test_properties_are_in_the_order_of_the_text_unless_connect_wrote_an_index() -> None:
    properties = {"b": {"type": "string"}, "a": {"type": "string"}}
    assert list(connect({"type": "object", "properties": properties}).by_name) == ["b", "a"]
    indexed = {"b": {"type": "string", "connect.index": 1}, "a": {"type": "string", "connect.index": 0}}
    assert list(connect({"type": "object", "properties": indexed}).by_name) == ["a", "b"]


def test_all_of_joins_the_properties_of_its_members() -> None:
    text = {
        "allOf": [{"$ref": "#/definitions/base"}, {"properties": {"b": {"type": "integer"}}, "required": ["b"]}],
        "definitions": {"base": {"type": "object", "properties": {"a": {"type": "string"}}}},
    }
    assert connect(text) == s.struct({"a": s.STRING, "b": s.INT64})
    optional = connect(text, use_optional_for_nonrequired="true")
    assert optional == s.struct({"a": s.STRING.as_optional(), "b": s.INT64})


def test_references_name_definitions_anchors_and_other_schemas() -> None:
    text = {
        "$id": "http://example.com/row.json",
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/a~1b"},
            "b": {"$ref": "#there"},
            "c": {"$ref": "other.json"},
            "d": {"$ref": "other.json#/definitions/d"},
            "e": {"$ref": "by-id.json"},
        },
        "$defs": {"a/b": {"type": "string"}, "x": {"$anchor": "there", "type": "boolean"}},
    }
    other = {"type": "integer", "definitions": {"d": {"$ref": "#/definitions/f"}, "f": {"type": "number"}}}
    by_id = {"$id": "http://example.com/by-id.json", "type": "string", "title": "Id"}
    assert connect(text, ("other.json", other), ("elsewhere.json", by_id)) == s.struct(
        {"a": s.STRING, "b": s.BOOLEAN, "c": s.INT64, "d": s.FLOAT64, "e": Schema(Type.STRING, name="Id")}
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ({"type": "object", "properties": {"self": {"$ref": "#"}}}, "json_schema.recursive_schema"),
        (
            {"type": "object", "properties": {"all": {"type": "array", "items": {"$ref": "#"}}}},
            "json_schema.recursive_schema",
        ),
        ({"$ref": "#"}, "json_schema.invalid_schema"),
        ({"type": "object", "properties": {"a": {}}}, "json_schema.any_type"),
        ({"type": "null"}, "json_schema.invalid_schema"),
        ({"type": "array"}, "json_schema.invalid_schema"),
        ({"type": "integer", "connect.type": "int9"}, "json_schema.invalid_schema"),
        ({"type": "integer", "default": "x"}, "json_schema.invalid_schema"),
        ({"$ref": "nowhere.json"}, "schema_registry.unknown_reference"),
        ({"$ref": "#/definitions/a"}, "schema_registry.unknown_reference"),
        (False, "json_schema.invalid_schema"),
    ],
)
def test_a_schema_that_connect_cannot_express_is_refused_with_the_reason(text: Any, code: str) -> None:
    with pytest.raises(DataError) as caught:
        connect(text)
    assert caught.value.code == code


WORDS = ["type", "properties", "items", "oneOf", "anyOf", "allOf", "enum", "const", "$ref", "required", "title"]
WORDS += ["default", "connect.type", "connect.index", "connect.parameters", "additionalProperties", "a", "key"]
PARTS = st.sampled_from(["object", "array", "string", "integer", "null", "#", "#/a", "map", "int8", 1, True, None])
SCHEMA_LIKE = st.recursive(
    PARTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)


@given(SCHEMA_LIKE)
@example({"type": "object", "allOf": 1})
def test_any_json_is_a_schema_or_refused(text: Any) -> None:
    try:
        schema = connect(text)
    except DataError:
        return
    assert isinstance(schema, Schema)
