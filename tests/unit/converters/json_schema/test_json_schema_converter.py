"""The converter with a registry, and with records of Confluent's Python serializers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator

import pytest

from headrace import ConfigError, DataError
from headrace import schema as s
from headrace.converters.json_schema.converter import JsonSchemaConverter
from tests.unit.converters.schema_registry.converters import read_one, registry_converter
from tests.unit.converters.schema_registry.fake_registry import FakeSchemaRegistry

with warnings.catch_warnings(record=True):  # its OAuth library announces a change of its own
    from confluent_kafka.schema_registry import Schema as RegisteredText
    from confluent_kafka.schema_registry import SchemaReference, SchemaRegistryClient
    from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext

ROW = s.struct({"id": s.INT64, "name": s.STRING.as_optional()}, name="com.example.Row")


@pytest.fixture
def confluent(registry: FakeSchemaRegistry) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry.url}) as client:
        yield client


def test_records_are_in_the_wire_format_and_registered_as_json(registry: FakeSchemaRegistry) -> None:
    with registry_converter(JsonSchemaConverter(), registry) as converter:
        texts = converter.to_bytes("wire", ROW, [{"id": 1, "name": "a"}, None])
        number = registry.subjects["wire-value"][0]
        assert texts == [b"\x00" + number.to_bytes(4, "big") + b'{"id":1,"name":"a"}', None]
        assert registry.schemas[number]["schemaType"] == "JSON"
        assert read_one(converter, texts[0]) == (ROW, {"id": 1, "name": "a"})


def test_records_of_confluents_serializer_are_read(
    registry: FakeSchemaRegistry, confluent: SchemaRegistryClient
) -> None:
    address = {"title": "Address", "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    registry.add("address", address, kind="JSON")
    text = {
        "title": "Person",
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "home": {"$ref": "address.json"}},
    }
    reference = SchemaReference("address.json", "address", 1)
    serializer = JSONSerializer(RegisteredText(json.dumps(text), "JSON", [reference]), confluent)
    row = {"name": "Ada", "age": 36, "home": {"city": "London"}}
    written = serializer(row, SerializationContext("theirs", MessageField.VALUE))
    assert written is not None
    with registry_converter(JsonSchemaConverter(), registry) as converter:
        schema, value = read_one(converter, written)
    assert value == row
    home = s.struct({"city": s.STRING}, name="Address")
    assert schema == s.struct({"name": s.STRING, "age": s.INT64, "home": home}, name="Person")


def test_records_of_ours_are_read_by_confluents_deserializer(
    registry: FakeSchemaRegistry, confluent: SchemaRegistryClient
) -> None:
    with registry_converter(JsonSchemaConverter(), registry) as converter:
        (text,) = converter.to_bytes("ours", ROW, [{"id": 1, "name": None}])
    deserializer = JSONDeserializer(None, schema_registry_client=confluent)
    assert deserializer(text, SerializationContext("ours", MessageField.VALUE)) == {"id": 1, "name": None}


def test_records_are_read_and_written_as_the_latest_version(registry: FakeSchemaRegistry) -> None:
    old = {"type": "object", "properties": {"a": {"type": "integer"}}}
    new = {
        "type": "object",
        "properties": {"a": {"type": "number"}, "b": {"type": "string", "default": "x"}},
        "additionalProperties": False,
    }
    number = registry.add("latest-value", old, kind="JSON")
    latest = registry.add("latest-value", new, kind="JSON")
    options = {"use_latest_version": "true", "auto_register_schemas": "false"}
    with registry_converter(JsonSchemaConverter(), registry, **options) as converter:
        schema, value = read_one(converter, b"\x00" + number.to_bytes(4, "big") + b'{"a":1}', "latest")
        assert value == {"a": 1.0, "b": "x"}
        assert schema is not None
        assert [field.name for field in schema.fields] == ["a", "b"]
        (text,) = converter.to_bytes("latest", None, [{"a": 2.5, "b": "y"}])
        assert text == b"\x00" + latest.to_bytes(4, "big") + b'{"a":2.5,"b":"y"}'
        with pytest.raises(DataError, match="has no field c") as caught:
            converter.to_bytes("latest", s.struct({"c": s.STRING}), [{"c": "z"}])
    assert caught.value.code == "schema_registry.unknown_field"


def test_a_schema_of_another_format_is_refused(registry: FakeSchemaRegistry) -> None:
    number = registry.add("avro-value", '"int"')
    with registry_converter(JsonSchemaConverter(), registry) as converter, pytest.raises(DataError) as caught:
        read_one(converter, b"\x00" + number.to_bytes(4, "big") + b"1")
    assert caught.value.code == "schema_registry.other_type"


def test_an_unknown_key_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"json\.fail\.invalid\.schema"):
        JsonSchemaConverter().configure(
            {"schema.registry.url": "http://r", "json.fail.invalid.schemas": "true"}, is_key=False
        )
