"""Contract tests of transactions: the tests of a Kafka client inherit :class:`TransactionContract`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from headrace.broker.interfaces import Admin, KafkaClients, TransactionalProducer
from headrace.errors import DataError, RetriableError, TaskError
from headrace.records import EncodedBatch, TopicPartition
from headrace.testing.reader_contract import end_of, read_until
from headrace.testing.recording_consumer import TIMEOUT, RecordingConsumer, create, poll_until, send
from headrace.testing.waiting import eventually

UNCOMMITTED = {"isolation.level": "read_uncommitted"}


class TransactionContract:
    """Define a fixture ``kafka_clients``."""

    @pytest.fixture
    def place(self, kafka_clients: KafkaClients, unique_name: str) -> TopicPartition:
        """The only partition of an empty topic."""
        create(kafka_clients, unique_name, 1)
        return TopicPartition(unique_name, 0)

    @pytest.fixture
    def make_producer(self, kafka_clients: KafkaClients, unique_name: str) -> Iterator[Callable[[], object]]:
        """Return a function that creates initialized producers with one transactional.id."""
        producers: list[TransactionalProducer] = []

        def make() -> TransactionalProducer:
            producers.append(kafka_clients.transactional_producer(unique_name, {}))
            producers[-1].init()
            return producers[-1]

        yield make
        for producer in producers:
            producer.close(TIMEOUT)

    def test_a_committed_transaction_is_visible_as_a_whole(
        self, kafka_clients: KafkaClients, place: TopicPartition, make_producer: Callable[[], TransactionalProducer]
    ) -> None:
        producer = make_producer()
        producer.begin()
        producer.send(EncodedBatch(place.topic, [b"a"], [b"k"], None, [[("h", b"1")]]))
        producer.send(EncodedBatch(place.topic, [b"b"]), partition=0)
        producer.commit()
        assert visible(kafka_clients, place) == [b"a", b"b"]
        producer.begin()
        producer.send(EncodedBatch(place.topic, [b"c"]))
        producer.commit()
        assert visible(kafka_clients, place) == [b"a", b"b", b"c"]

    def test_an_open_transaction_is_visible_to_read_uncommitted_only(
        self, kafka_clients: KafkaClients, place: TopicPartition, make_producer: Callable[[], TransactionalProducer]
    ) -> None:
        send(kafka_clients, EncodedBatch(place.topic, [b"before"]))
        producer = make_producer()
        producer.begin()
        producer.send(EncodedBatch(place.topic, [b"open"]))
        reader = kafka_clients.reader(UNCOMMITTED)
        reader.assign({place: 0})
        assert [value for _, value in read_until(reader, place, 2)] == [b"before", b"open"]
        reader.close()
        send(kafka_clients, EncodedBatch(place.topic, [b"behind"]))

        assert end_of(kafka_clients, place) == 1  # the last stable offset
        assert visible(kafka_clients, place) == [b"before"]
        producer.commit()
        eventually(lambda: visible(kafka_clients, place) == [b"before", b"open", b"behind"], TIMEOUT)

    def test_an_aborted_transaction_is_not_visible(
        self, kafka_clients: KafkaClients, place: TopicPartition, make_producer: Callable[[], TransactionalProducer]
    ) -> None:
        producer = make_producer()
        producer.begin()
        producer.send(EncodedBatch(place.topic, [b"aborted"]))
        producer.abort()
        producer.begin()
        producer.send(EncodedBatch(place.topic, [b"committed"]))
        producer.commit()
        assert visible(kafka_clients, place) == [b"committed"]

    def test_an_older_producer_is_fenced_inside_its_transaction(
        self, kafka_clients: KafkaClients, place: TopicPartition, make_producer: Callable[[], TransactionalProducer]
    ) -> None:
        older = make_producer()
        older.begin()
        older.send(EncodedBatch(place.topic, [b"older"]))
        newer = make_producer()
        with pytest.raises(TaskError) as caught:
            write(older, place, b"zombie")
        assert caught.value.code == "kafka.producer_fenced"
        values = [b"newer %d" % n for n in range(20)]  # time for the older one to fence the newer by a new epoch
        for value in values:
            write_transaction(newer, place, value)
        assert visible(kafka_clients, place) == values

    def test_an_older_producer_is_fenced_between_transactions(
        self, kafka_clients: KafkaClients, place: TopicPartition, make_producer: Callable[[], TransactionalProducer]
    ) -> None:
        older = make_producer()
        write_transaction(older, place, b"older")
        newer = make_producer()
        with pytest.raises(TaskError) as caught:
            write_transaction(older, place, b"zombie")
        assert caught.value.code == "kafka.producer_fenced"
        write_transaction(newer, place, b"newer")
        assert visible(kafka_clients, place) == [b"older", b"newer"]

    def test_a_producer_cannot_be_used_after_an_error(
        self, place: TopicPartition, make_producer: Callable[[], TransactionalProducer]
    ) -> None:
        older = make_producer()
        make_producer()
        with pytest.raises(TaskError):
            write_transaction(older, place, b"zombie")
        with pytest.raises(RuntimeError, match="create a new one"):
            older.begin()

    def test_an_invalid_record_is_a_data_error(
        self, place: TopicPartition, make_producer: Callable[[], TransactionalProducer]
    ) -> None:
        producer = make_producer()
        producer.begin()
        with pytest.raises(DataError) as caught:
            producer.send(EncodedBatch(place.topic, [None]))
        assert caught.value.code == "data.empty_record"

    def test_offsets_are_committed_with_the_transaction_only(
        self,
        kafka_clients: KafkaClients,
        place: TopicPartition,
        unique_name: str,
        make_producer: Callable[[], TransactionalProducer],
    ) -> None:
        send(kafka_clients, EncodedBatch(place.topic, [b"1", b"2", b"3"]))
        member = RecordingConsumer(kafka_clients, unique_name).subscribe([place.topic])
        member.read(3)
        admin = kafka_clients.admin({})
        producer = make_producer()
        producer.begin()
        producer.send_offsets({place: 2}, member.consumer.group_metadata())
        producer.abort()
        assert place not in admin.committed(unique_name)
        producer.begin()
        producer.send_offsets({place: 3}, member.consumer.group_metadata())
        assert committed_offset(admin, unique_name, place) is None
        producer.commit()
        eventually(lambda: admin.committed(unique_name).get(place) == 3, TIMEOUT)
        admin.close()
        member.commit_when_revoked = False
        member.consumer.close()

    def test_offsets_of_a_member_that_has_left_are_refused(
        self,
        kafka_clients: KafkaClients,
        place: TopicPartition,
        unique_name: str,
        make_producer: Callable[[], TransactionalProducer],
    ) -> None:
        send(kafka_clients, EncodedBatch(place.topic, [b"1"]))
        zombie = RecordingConsumer(kafka_clients, unique_name).subscribe([place.topic])
        zombie.read(1)
        stale = zombie.consumer.group_metadata()
        zombie.commit_when_revoked = False
        zombie.consumer.close()
        other = RecordingConsumer(kafka_clients, unique_name).subscribe([place.topic])
        poll_until(lambda: bool(other.consumer.assignment()), other)
        producer = make_producer()

        def commit_offsets() -> None:
            producer.begin()
            producer.send_offsets({place: 1}, stale)
            producer.commit()

        with pytest.raises(RetriableError) as caught:
            commit_offsets()
        assert caught.value.code == "kafka.rebalance"
        admin = kafka_clients.admin({})
        assert place not in admin.committed(unique_name)
        admin.close()
        other.commit_when_revoked = False
        other.consumer.close()


def visible(kafka_clients: KafkaClients, place: TopicPartition) -> list[bytes | None]:
    """Return the values that a reader with default settings sees."""
    reader = kafka_clients.reader({})
    try:
        reader.assign({place: 0})
        return [value for _, value in read_until(reader, place, end_of(kafka_clients, place))]
    finally:
        reader.close()


def committed_offset(admin: Admin, group: str, place: TopicPartition) -> int | None:
    """Return a committed offset; None also where a client waits for the end of the open transaction."""
    try:
        return admin.committed(group).get(place)
    except RetriableError as error:
        if error.code != "kafka.unreachable":
            raise
        return None


def write(producer: TransactionalProducer, place: TopicPartition, value: bytes) -> None:
    """Send a record in the open transaction, and commit it: an error may appear in either call."""
    producer.send(EncodedBatch(place.topic, [value]))
    producer.commit()


def write_transaction(producer: TransactionalProducer, place: TopicPartition, value: bytes) -> None:
    producer.begin()
    write(producer, place, value)
