"""Contract tests of readers: the tests of a Kafka client inherit :class:`ReaderContract`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from headrace.broker.interfaces import KafkaClients, Reader, TransactionalProducer
from headrace.records import EncodedBatch, TopicPartition
from headrace.testing.recording_consumer import TIMEOUT, create, send


class ReaderContract:
    """Define fixtures ``kafka_clients`` and ``delete_records``, which deletes the records before an offset."""

    @pytest.fixture
    def place(self, kafka_clients: KafkaClients, unique_name: str) -> TopicPartition:
        """The only partition of an empty topic."""
        create(kafka_clients, unique_name, 1)
        return TopicPartition(unique_name, 0)

    @pytest.fixture
    def reader(self, kafka_clients: KafkaClients) -> Iterator[Reader]:
        # Settings that concern a group have no effect on a reader.
        reader = kafka_clients.reader({"group.id": "mine", "auto.offset.reset": "latest"})
        yield reader
        reader.close()

    @pytest.fixture
    def transactional(self, kafka_clients: KafkaClients, unique_name: str) -> Iterator[TransactionalProducer]:
        producer = kafka_clients.transactional_producer(f"{unique_name}-producer", {})
        producer.init()
        yield producer
        producer.close(TIMEOUT)

    def test_records_are_read_from_an_offset_to_the_end(
        self, kafka_clients: KafkaClients, reader: Reader, place: TopicPartition
    ) -> None:
        send(kafka_clients, EncodedBatch(place.topic, [b"%d" % number for number in range(7)]))
        reader.assign({place: 2})

        assert read_until(reader, place, 7) == [(number, b"%d" % number) for number in range(2, 7)]
        assert reader.beginnings([place]) == {place: 0}
        reader.assign({place: 5})
        assert read_until(reader, place, 7) == [(5, b"5"), (6, b"6")]

    def test_reading_moves_no_offset_of_the_group(
        self, kafka_clients: KafkaClients, reader: Reader, place: TopicPartition
    ) -> None:
        send(kafka_clients, EncodedBatch(place.topic, [b"a"]))
        reader.assign({place: 0})
        read_until(reader, place, 1)
        admin = kafka_clients.admin({})
        assert place not in admin.committed("mine")
        admin.close()

    def test_the_position_moves_over_the_marker_at_the_end_of_a_transaction(
        self, reader: Reader, place: TopicPartition, transactional: TransactionalProducer
    ) -> None:
        transactional.begin()
        transactional.send(EncodedBatch(place.topic, [b"a", b"b"]))
        transactional.commit()
        reader.assign({place: 0})

        assert read_until(reader, place, 3) == [(0, b"a"), (1, b"b")]  # offset 2 is the marker

    def test_the_position_moves_over_an_aborted_transaction(
        self, kafka_clients: KafkaClients, reader: Reader, place: TopicPartition, transactional: TransactionalProducer
    ) -> None:
        transactional.begin()
        transactional.send(EncodedBatch(place.topic, [b"aborted"]))
        transactional.abort()
        end = end_of(kafka_clients, place)
        reader.assign({place: 0})

        assert read_until(reader, place, end) == []

    def test_deleted_records_are_skipped(
        self,
        kafka_clients: KafkaClients,
        reader: Reader,
        place: TopicPartition,
        delete_records: Callable[[TopicPartition, int], None],
    ) -> None:
        send(kafka_clients, EncodedBatch(place.topic, [b"%d" % number for number in range(5)]))
        delete_records(place, 3)
        reader.assign({place: 0})

        assert read_until(reader, place, 5) == [(3, b"3"), (4, b"4")]
        assert reader.beginnings([place]) == {place: 3}


def read_until(reader: Reader, place: TopicPartition, end: int) -> list[tuple[int, bytes | None]]:
    """Read until the position is ``end``; return offsets and values."""
    found: list[tuple[int, bytes | None]] = []
    deadline = time.monotonic() + TIMEOUT
    while reader.positions()[place] < end:
        assert time.monotonic() < deadline, (found, reader.positions())
        for batch in reader.poll(0.2, 2):
            found += zip(batch.offsets, batch.values, strict=True)
    return found


def end_of(kafka_clients: KafkaClients, place: TopicPartition) -> int:
    """Return the last stable offset."""
    admin = kafka_clients.admin({})
    try:
        return admin.end_offsets([place.topic])[place]
    finally:
        admin.close()
