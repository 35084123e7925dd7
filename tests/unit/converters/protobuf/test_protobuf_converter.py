"""The converter with a registry, and with records of Confluent's Python serializers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from headrace import ConfigError, DataError
from headrace import schema as s
from headrace.converters.protobuf.compiler import compile_proto
from headrace.converters.protobuf.converter import ProtobufConverter
from headrace.converters.protobuf.messages import message_of
from headrace.converters.schema_registry.registry_client import SchemaText
from tests.unit.converters.protobuf.test_protobuf_schemas import FILE
from tests.unit.converters.schema_registry.converters import read_one, registry_converter
from tests.unit.converters.schema_registry.fake_registry import FakeSchemaRegistry

with warnings.catch_warnings(record=True):  # its OAuth library announces a change of its own
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext

ROW = s.struct({"id": s.INT64, "name": s.STRING.as_optional()}, name="com.example.Row")


@pytest.fixture
def confluent(registry: FakeSchemaRegistry) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry.url}) as client:
        yield client


def test_records_are_in_the_wire_format_and_registered_as_protobuf(registry: FakeSchemaRegistry) -> None:
    with registry_converter(ProtobufConverter(), registry) as converter:
        texts = converter.to_bytes("wire", ROW, [{"id": 1, "name": "a"}, None])
        number = registry.subjects["wire-value"][0]
        assert texts == [b"\x00" + number.to_bytes(4, "big") + b"\x00" + b"\x08\x01\x12\x01a", None]
        assert registry.schemas[number]["schemaType"] == "PROTOBUF"
        schema, value = read_one(converter, texts[0])
    assert value == {"id": 1, "name": "a"}
    assert schema is not None
    assert [(field.name, field.schema.type) for field in schema.fields] == [
        (field.name, field.schema.type) for field in ROW.fields
    ]


def test_a_record_without_fields_names_its_wrapper(registry: FakeSchemaRegistry) -> None:
    with registry_converter(ProtobufConverter(), registry, True) as converter:
        (text,) = converter.to_bytes("keys", s.INT64, [7])
        assert text is not None
        assert text[5:] == b"\x02\x04\x08\x07"
        assert read_one(converter, text) == (s.INT64, 7)


@pytest.mark.parametrize("place", [(1,), (1, 0)])
def test_records_of_confluents_serializer_are_read(
    registry: FakeSchemaRegistry, confluent: SchemaRegistryClient, place: tuple[int, ...]
) -> None:
    files = compile_proto(SchemaText(FILE)).file
    files[-1].name = "theirs.proto"
    message_class = message_of(files, place).message_class
    serializer = ProtobufSerializer(message_class, confluent, {"use.deprecated.format": False})
    row = {"n": 3} if place == (1, 0) else {"inner": {"n": 3}, "my_map": {7: {"n": 1}}, "suits": ["H"], "maybe": -4}
    text = serializer(message_class(**row), SerializationContext(f"theirs-{len(place)}", MessageField.VALUE))
    assert text is not None
    with registry_converter(ProtobufConverter(), registry) as converter:
        _, value = read_one(converter, text)
    if place == (1, 0):
        assert value == {"n": 3}
    else:
        assert value == {
            "choice_0": {"text": None, "inner": {"n": 3}},
            "my_map": {7: {"n": 1}},
            "maybe": -4,
            "wrapped": None,
            "time": None,
            "suits": ["H"],
        }


def test_records_of_ours_are_read_by_confluents_deserializer(
    registry: FakeSchemaRegistry, confluent: SchemaRegistryClient
) -> None:
    with registry_converter(ProtobufConverter(), registry) as converter:
        (text,) = converter.to_bytes("ours", ROW, [{"id": 1, "name": "a"}])
    files = compile_proto(SchemaText(registry.schemas[registry.subjects["ours-value"][0]]["schema"])).file
    message_class = message_of(files, (0,)).message_class
    deserializer = ProtobufDeserializer(message_class, {"use.deprecated.format": False})
    found = deserializer(text, SerializationContext("ours", MessageField.VALUE))
    assert (found.id, found.name) == (1, "a")


def test_records_are_read_and_written_as_the_latest_version(registry: FakeSchemaRegistry) -> None:
    old = 'syntax = "proto3"; message Row { int64 a = 1; int64 gone = 2; }'
    new = 'syntax = "proto3"; message Other { int64 x = 1; } '
    new += "message Row { int64 a = 1; string b = 3; map<string, string> m = 4; }"
    number = registry.add("latest-value", old, kind="PROTOBUF")
    latest = registry.add("latest-value", new, kind="PROTOBUF")
    options = {"use_latest_version": "true", "auto_register_schemas": "false"}
    with registry_converter(ProtobufConverter(), registry, **options) as converter:
        written = b"\x00" + number.to_bytes(4, "big") + b"\x00\x08\x05\x10\x06"
        assert read_one(converter, written, "latest")[1] == {"a": 5, "b": "", "m": {}}
        row = s.struct({"a": s.INT64}, name="Row")
        (text,) = converter.to_bytes("latest", row, [{"a": 5}])
        assert text == b"\x00" + latest.to_bytes(4, "big") + b"\x02\x02\x08\x05"
        mapped = s.struct({"m": s.mapping(s.STRING, s.STRING)}, name="Row")
        (text,) = converter.to_bytes("latest", mapped, [{"m": {"k": "v"}}])
        assert read_one(converter, text, "latest")[1] == {"a": 0, "b": "", "m": {"k": "v"}}
        with pytest.raises(DataError, match="has no field c") as caught:
            converter.to_bytes("latest", s.struct({"c": s.STRING}, name="Row"), [{"c": "z"}])
    assert caught.value.code == "schema_registry.unknown_field"


def test_records_are_named_by_the_full_name_of_their_message(registry: FakeSchemaRegistry) -> None:
    options = {"value_subject_name_strategy": "RecordNameStrategy"}
    with registry_converter(ProtobufConverter(), registry, **options) as converter:
        converter.to_bytes("named", ROW, [{"id": 1, "name": "a"}])
    assert "com.example.Row" in registry.subjects


def test_two_ways_to_write_null_are_refused() -> None:
    with pytest.raises(ConfigError, match="are both set"):
        ProtobufConverter().configure(
            {"schema.registry.url": "http://r", "optional.for.nullables": "true", "wrapper.for.nullables": "true"},
            is_key=False,
        )
