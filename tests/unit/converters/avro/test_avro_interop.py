"""Records of Confluent's Python serializer are read, and its deserializer reads ours."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from headrace import schema as s
from tests.unit.converters.schema_registry.converters import avro_converter, read_one
from tests.unit.converters.schema_registry.fake_registry import FakeSchemaRegistry

with warnings.catch_warnings(record=True):  # its OAuth library announces a change of its own
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext

FIELDS: list[tuple[str, Any, Any]] = [
    ("id", "long", 7),
    ("small", "int", -3),
    ("price", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}, Decimal("-12.50")),
    ("day", {"type": "int", "logicalType": "date"}, date(1969, 7, 20)),
    ("at", {"type": "long", "logicalType": "timestamp-millis"}, datetime(2024, 2, 29, 12, 30, 1, 5000, UTC)),
    ("time", {"type": "int", "logicalType": "time-millis"}, time(23, 59, 59, 999000)),
    ("name", ["null", "string"], None),
    ("other", ["null", "string"], "ö"),
    ("suit", {"type": "enum", "name": "Suit", "symbols": ["S", "H"]}, "H"),
    ("tags", {"type": "map", "values": "double"}, {"a": 0.5}),
    ("list", {"type": "array", "items": ["null", "int"]}, [1, None]),
    ("hash", {"type": "fixed", "name": "Hash", "size": 2}, b"\x00\xff"),
    ("sub", {"type": "record", "name": "Sub", "fields": [{"name": "ok", "type": "boolean"}]}, {"ok": True}),
]
WRITTEN = {
    "type": "record",
    "name": "Row",
    "namespace": "com.example",
    "fields": [{"name": name, "type": kind} for name, kind, _ in FIELDS],
}
ROW = {name: value for name, _, value in FIELDS}


@pytest.fixture
def confluent(registry: FakeSchemaRegistry) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry.url}) as client:
        yield client


def test_records_of_confluents_serializer_are_read(
    registry: FakeSchemaRegistry, confluent: SchemaRegistryClient
) -> None:
    serializer = AvroSerializer(confluent, json.dumps(WRITTEN))
    text = serializer(ROW, SerializationContext("theirs", MessageField.VALUE))
    assert text is not None
    with avro_converter(registry) as converter:
        schema, value = read_one(converter, text)
    assert value == ROW
    assert schema is not None
    assert schema.name == "com.example.Row"


def test_records_of_ours_are_read_by_confluents_deserializer(
    registry: FakeSchemaRegistry, confluent: SchemaRegistryClient
) -> None:
    schema = s.struct(
        {
            "id": s.INT64,
            "small": s.INT16,
            "price": s.decimal(2, 10),
            "day": s.DATE_SCHEMA,
            "at": s.TIMESTAMP_SCHEMA,
            "time": s.TIME_SCHEMA,
            "name": s.STRING.as_optional(),
            "tags": s.mapping(s.STRING, s.FLOAT64),
            "list": s.array(s.INT32.as_optional()),
            "sub": s.struct({"ok": s.BOOLEAN}),
        },
        name="com.example.Ours",
    )
    row = {name: ROW[name] for name in schema.by_name}
    with avro_converter(registry) as converter:
        (text, null) = converter.to_bytes("ours", schema, [row, None])
    deserializer = AvroDeserializer(confluent)
    context = SerializationContext("ours", MessageField.VALUE)
    assert deserializer(text, context) == row
    assert deserializer(null, context) is None


def test_both_use_one_subject_and_one_id_for_a_schema(
    registry: FakeSchemaRegistry, confluent: SchemaRegistryClient
) -> None:
    with avro_converter(registry) as converter:
        (ours,) = converter.to_bytes("shared", s.struct({"id": s.INT64}, name="Shared"), [{"id": 1}])
    assert ours is not None
    serializer = AvroSerializer(
        confluent, json.dumps(registry.text("shared-value")), conf={"auto.register.schemas": False}
    )
    assert serializer({"id": 1}, SerializationContext("shared", MessageField.VALUE)) == ours
