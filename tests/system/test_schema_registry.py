"""Avro, JSON Schema and Protobuf with a real schema registry, both ways with Confluent's serializers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from headrace.converters.protobuf.compiler import compile_proto
from headrace.converters.protobuf.messages import message_of
from headrace.converters.schema_registry.registry_client import SchemaText
from headrace.testing.waiting import eventually
from tests.engines.apicurio import Apicurio

with warnings.catch_warnings(record=True):  # its OAuth library announces a change of its own
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
    from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
    from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:confluent_kafka")

CONVERTERS = {"avro": "AvroConverter", "json": "JsonSchemaConverter", "protobuf": "ProtobufConverter"}
ROWS = 20


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    made = Apicurio(tmp_path_factory.mktemp("apicurio"))
    made.start()
    yield made
    made.resume()
    made.kill()


def proto(fields: str) -> Any:
    files = compile_proto(SchemaText(f'syntax = "proto3"; package com.example; message Order {{ {fields} }}')).file
    files[-1].name = "order.proto"
    return message_of(files, (0,)).message_class


def record(kind: str, fields: dict[str, str]) -> Any:
    """Return a schema of a format with fields of simple types; those after the first two may be missing."""
    if kind == "avro":
        written = [
            {"name": name, "type": {"integer": "long"}.get(type_, type_), **({"default": ""} if place > 1 else {})}
            for place, (name, type_) in enumerate(fields.items())
        ]
        return json.dumps({"type": "record", "name": "Order", "namespace": "com.example", "fields": written})
    if kind == "json":
        properties = {name: {"type": type_} for name, type_ in fields.items()}
        return json.dumps({"title": "Order", "type": "object", "properties": properties})
    names = {"integer": "int64", "string": "string"}
    return proto(" ".join(f"{names[type_]} {name} = {place};" for place, (name, type_) in enumerate(fields.items(), 1)))


def serializer(kind: str, client: SchemaRegistryClient, fields: dict[str, str]) -> Callable[..., bytes]:
    """Return Confluent's serializer of a format."""
    schema = record(kind, fields)
    if kind != "protobuf":
        plain = AvroSerializer(client, schema) if kind == "avro" else JSONSerializer(Schema(schema, "JSON"), client)
        return lambda row, context: bytes(plain(row, context))
    made = ProtobufSerializer(schema, client, {"use.deprecated.format": False})
    return lambda row, context: made(schema(**row), context)


def send(bootstrap: str, topic: str, write: Callable[..., bytes], rows: list[dict[str, Any]]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for row in rows:
        producer.produce(topic, write(row, SerializationContext(topic, MessageField.VALUE)))
    assert producer.flush(60) == 0


def received(bootstrap: str, topic: str, group: str) -> list[bytes]:
    """Return the values of the first records of a topic."""
    settings = {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    found: list[bytes] = []

    def complete() -> bool:
        found.extend(message.value() or b"" for message in consumer.consume(ROWS, 1.0) if message.error() is None)
        return len(found) >= ROWS

    try:
        eventually(complete, 60)
    finally:
        consumer.close()
    return found


def test_records_of_all_formats_are_shared_with_confluents_clients(
    kafka: Any, registry: Apicurio, make_worker: Callable[..., Any], unique_name: str
) -> None:
    """The registry hangs while the worker starts, and producers write with a new version while it runs."""
    bootstrap = kafka.bootstrap_servers
    old, new = {"id": "integer", "name": "string"}, {"id": "integer", "name": "string", "note": "string"}
    worker = make_worker(bootstrap)
    with SchemaRegistryClient({"url": registry.url}) as client:
        for kind, converter in CONVERTERS.items():
            theirs, ours = f"{unique_name}-theirs-{kind}", f"{unique_name}-ours-{kind}"
            send(
                bootstrap,
                theirs,
                serializer(kind, client, old),
                [{"id": n, "name": f"{kind} ä{n}"} for n in range(ROWS)],
            )
            common = {
                "value.converter": converter,
                "value.converter.schema.registry.url": registry.url,
                "value.converter.http.read.timeout.ms": "1000",
                "key.converter": "StringConverter",
            }
            worker.write(f"sink-{kind}", {"connector.class": "ConsoleSink", "topics": theirs, **common})
            source = {"connector.class": "DatagenSource", "topic": ours, "max.messages": str(ROWS), "interval.ms": "0"}
            worker.write(f"source-{kind}", {**source, **common})
        registry.pause()
        worker.start()

        def shows_the_outage() -> bool:
            return all(
                f"the schema registry at {registry.url} is unavailable"
                in json.dumps(worker.get(f"/connectors/{name}-{kind}/status"))
                for name in ("sink", "source")
                for kind in CONVERTERS
            )

        eventually(shows_the_outage, 60)
        registry.resume()
        for kind in CONVERTERS:
            wanted = [f"{kind} ä{number}" for number in range(ROWS)]
            eventually(lambda wanted=wanted: all(text in worker.log for text in wanted), 60)  # type: ignore[misc]
        for kind in CONVERTERS:
            topic = f"{unique_name}-theirs-{kind}"
            send(bootstrap, topic, serializer(kind, client, new), [{"id": 99, "name": "n", "note": f"newer {kind}"}])
        eventually(lambda: all(f"newer {kind}" in worker.log for kind in CONVERTERS), 60)

        for kind in CONVERTERS:
            topic = f"{unique_name}-ours-{kind}"
            texts = received(bootstrap, topic, f"{unique_name}-{kind}")
            found = [deserialized(kind, client, topic, text) for text in texts]
            assert len({row["answer_id"] for row in found}) == ROWS, found[:2]
    assert worker.stop() == 0


def deserialized(kind: str, client: SchemaRegistryClient, topic: str, text: bytes) -> dict[str, Any]:
    """Return the value that Confluent's deserializer reads."""
    context = SerializationContext(topic, MessageField.VALUE)
    if kind == "avro":
        return dict(AvroDeserializer(client)(text, context))
    if kind == "json":
        return dict(JSONDeserializer(None, schema_registry_client=client)(text, context))
    registered = client.get_latest_version(f"{topic}-value").schema.schema_str
    message_class = message_of(compile_proto(SchemaText(registered or "")).file, (0,)).message_class
    message = ProtobufDeserializer(message_class, {"use.deprecated.format": False})(text, context)
    return {field.name: getattr(message, field.name) for field in message_class.DESCRIPTOR.fields}
