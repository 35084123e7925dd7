from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from headrace.broker.in_memory import InMemoryKafka
from headrace.errors import DataError, RetriableError
from headrace.records import EncodedBatch, TopicPartition
from headrace.testing.kafka_clients import KafkaClientsContract
from headrace.testing.reader_contract import ReaderContract
from headrace.testing.recording_consumer import RecordingConsumer
from headrace.testing.transaction_contract import TransactionContract


@pytest.fixture
def kafka_clients() -> InMemoryKafka:
    return InMemoryKafka()


class TestContract(KafkaClientsContract):
    """The in-memory broker behaves as a real one does."""

    silence = 0.01  # its records have arrived when they are sent


class TestReaders(ReaderContract):
    @pytest.fixture
    def delete_records(self, kafka_clients: InMemoryKafka) -> Callable[[TopicPartition, int], None]:
        return lambda place, offset: kafka_clients.delete_records({place: offset})


class TestTransactions(TransactionContract):
    """Transactions behave as on a real broker."""


class TestStored:
    def test_stored_records_can_be_inspected(self, kafka_clients: InMemoryKafka) -> None:
        kafka_clients.producer({}).send(EncodedBatch("t", [b"a", None], [b"k", b"k"], [5, 6], [[("h", b"1")], []]))
        assert [tuple(record) for record in kafka_clients.records("t")] == [
            (0, 0, b"k", b"a", [("h", b"1")], 5),
            (0, 1, b"k", None, [], 6),
        ]
        assert kafka_clients.records("nothing") == []

    def test_topics_keep_their_settings(self, kafka_clients: InMemoryKafka) -> None:
        kafka_clients.create("t", 4, {"cleanup.policy": "compact"})
        assert kafka_clients.topics() == {"t": {"cleanup.policy": "compact"}}
        assert len(kafka_clients.partitions_of("t")) == 4


class TestFaults:
    def test_held_deliveries_are_written_in_order_on_release(self, kafka_clients: InMemoryKafka) -> None:
        producer = kafka_clients.producer({})
        kafka_clients.hold_deliveries()
        deliveries = [producer.send(EncodedBatch("t", [value])) for value in (b"1", b"2")]
        assert not any(delivery.done() for delivery in deliveries)
        assert not producer.flush(0)
        assert kafka_clients.records("t") == []
        kafka_clients.release()
        assert all(delivery.done() and delivery.error() is None for delivery in deliveries)
        assert [record.value for record in kafka_clients.records("t")] == [b"1", b"2"]

    def test_a_flush_waits_for_the_release(self, kafka_clients: InMemoryKafka) -> None:
        producer = kafka_clients.producer({})
        kafka_clients.hold_deliveries()
        producer.send(EncodedBatch("t", [b"1"]))
        release = threading.Timer(0.05, kafka_clients.release)
        release.start()
        assert producer.flush(30)
        release.join()

    def test_closing_a_producer_discards_held_deliveries(self, kafka_clients: InMemoryKafka) -> None:
        producer = kafka_clients.producer({})
        kafka_clients.hold_deliveries()
        delivery = producer.send(EncodedBatch("t", [b"1"]))
        producer.close(0)
        kafka_clients.release()
        assert isinstance(delivery.error(), RetriableError)
        assert kafka_clients.records("t") == []

    def test_sends_fail_the_configured_number_of_times(self, kafka_clients: InMemoryKafka) -> None:
        producer = kafka_clients.producer({})
        error = DataError("no")
        kafka_clients.fail_sends(error, times=2)
        deliveries = [producer.send(EncodedBatch("t", [value])) for value in (b"1", b"2", b"3")]
        assert [delivery.error() for delivery in deliveries] == [error, error, None]
        assert [record.value for record in kafka_clients.records("t")] == [b"3"]

    def test_an_unavailable_broker_does_not_respond_and_keeps_its_records(self, kafka_clients: InMemoryKafka) -> None:
        kafka_clients.create("t")
        producer, admin = kafka_clients.producer({}), kafka_clients.admin({})
        reader = RecordingConsumer(kafka_clients, "g").subscribe(["t"]).join()
        kafka_clients.down = True
        delivery = producer.send(EncodedBatch("t", [b"1"]))
        assert not delivery.done()
        assert producer.connection_problem()
        assert reader.consumer.connection_problem()
        assert reader.poll(0) == []
        for call in (
            admin.cluster_id,
            admin.topics,
            lambda: kafka_clients.producer({}),
            lambda: kafka_clients.consumer("g", {}),
            lambda: kafka_clients.admin({}),
            lambda: reader.consumer.commit({TopicPartition("t", 0): 1}),
        ):
            with pytest.raises(RetriableError) as caught:
                call()
            assert caught.value.code == "kafka.unreachable"
        kafka_clients.down = False
        assert delivery.done()
        assert producer.connection_problem() is None
        assert reader.read(1) == [b"1"]

    def test_commits_and_polls_fail_the_configured_number_of_times(self, kafka_clients: InMemoryKafka) -> None:
        kafka_clients.create("t")
        reader = RecordingConsumer(kafka_clients, "g").subscribe(["t"]).join()
        error = RetriableError("away")
        kafka_clients.fail_commits(error)
        with pytest.raises(RetriableError):
            reader.consumer.commit({TopicPartition("t", 0): 3})
        reader.consumer.commit({TopicPartition("t", 0): 3})
        assert kafka_clients.committed("g") == {TopicPartition("t", 0): 3}
        kafka_clients.fail_polls(error)
        with pytest.raises(RetriableError):
            reader.poll(0)
        assert reader.poll(0) == []

    def test_a_partition_of_another_member_cannot_be_committed(self, kafka_clients: InMemoryKafka) -> None:
        kafka_clients.create("t")
        with pytest.raises(RetriableError) as caught:
            kafka_clients.consumer("g", {}).commit({TopicPartition("t", 0): 3})
        assert caught.value.code == "kafka.rebalance"
