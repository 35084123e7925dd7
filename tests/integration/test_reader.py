"""Reading without a group on a real Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import kafka as kafka_python
import pytest

from headrace.broker.kafka_python.reader import KafkaPythonReader, open_reader
from headrace.records import TopicPartition

PATIENCE = 60.0


@pytest.fixture
def reader(kafka: Any) -> Iterator[KafkaPythonReader]:
    # What a consumer may be told about its group means nothing here.
    settings = {"group.id": "mine", "auto.offset.reset": "latest"}
    reader = open_reader({"bootstrap.servers": kafka.bootstrap_servers}, settings)
    yield reader
    reader.close()


def produce(address: Any, topic: str, *values: bytes, **options: Any) -> None:
    producer = kafka_python.KafkaProducer(bootstrap_servers=address.bootstrap_servers, **options)
    if "transactional_id" in options:
        producer.init_transactions()
        producer.begin_transaction()
    for value in values:
        producer.send(topic, value)
    producer.flush()
    if "transactional_id" in options:
        producer.commit_transaction()
    producer.close()


def read(reader: KafkaPythonReader, until: int) -> list[tuple[int, bytes | None]]:
    found: list[tuple[int, bytes | None]] = []
    deadline = time.monotonic() + PATIENCE
    while min(reader.positions().values()) < until:
        assert time.monotonic() < deadline, (found, reader.positions())
        for batch in reader.poll(0.2, 2):
            found += zip(batch.offsets, batch.values, strict=True)
    return found


def test_from_an_offset_to_the_end(reader: KafkaPythonReader, kafka: Any, unique_name: str) -> None:
    produce(kafka, unique_name, *(str(number).encode() for number in range(7)))
    place = TopicPartition(unique_name, 0)
    reader.assign({place: 2})

    assert read(reader, 7) == [(number, str(number).encode()) for number in range(2, 7)]
    assert reader.beginnings([place]) == {place: 0}
    reader.assign({place: 5})
    assert read(reader, 7) == [(5, b"5"), (6, b"6")]


def test_positions_pass_the_mark_that_a_transaction_leaves_at_the_end(
    reader: KafkaPythonReader, kafka: Any, unique_name: str
) -> None:
    produce(kafka, unique_name, b"a", b"b", transactional_id=f"{unique_name}-producer")
    reader.assign({TopicPartition(unique_name, 0): 0})

    assert read(reader, 3) == [(0, b"a"), (1, b"b")]  # the mark is offset 2


def test_records_that_retention_has_removed(reader: KafkaPythonReader, kafka: Any, unique_name: str) -> None:
    produce(kafka, unique_name, *(str(number).encode() for number in range(5)))
    place = TopicPartition(unique_name, 0)
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    admin.delete_records({kafka_python.TopicPartition(*place): 3})
    admin.close()
    reader.assign({place: 0})

    assert read(reader, 5) == [(3, b"3"), (4, b"4")]
    assert reader.beginnings([place]) == {place: 3}
