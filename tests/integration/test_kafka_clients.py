"""Both Kafka clients with a real Kafka: one contract, and equal behaviour on failures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace.broker.interfaces import KafkaClients, NewTopic
from headrace.broker.kafka_python import KafkaPythonClients
from headrace.broker.librdkafka import LibrdkafkaClients
from headrace.embedded import EmbeddedStack
from headrace.errors import ConfigError, DataError, InfrastructureError, RetriableError
from headrace.records import EncodedBatch, TopicPartition
from headrace.testing.group_contract import ConsumerGroupContract
from headrace.testing.kafka_clients import KafkaClientsContract
from headrace.testing.recording_consumer import TIMEOUT, RecordingConsumer, create, poll_until
from headrace.testing.waiting import eventually

LONG_TIMEOUT = {"bootstrap.timeout.ms": "60000"}
"""For clients whose broker is running: a busy machine may be slow to answer first."""


@pytest.fixture(params=[KafkaPythonClients, LibrdkafkaClients], ids=["kafka-python", "confluent"])
def make_clients(request: pytest.FixtureRequest) -> Callable[[dict[str, str]], KafkaClients]:
    """Each client in turn."""
    make: Callable[[dict[str, str]], KafkaClients] = request.param
    return make


@pytest.fixture
def kafka_clients(kafka: Any, make_clients: Callable[[dict[str, str]], KafkaClients]) -> KafkaClients:
    return make_clients({"bootstrap.servers": kafka.bootstrap_servers, **LONG_TIMEOUT})


def eventually_commits(reader: RecordingConsumer) -> None:
    """Commit the records read, as soon as the group's coordinator accepts it."""

    def committed() -> bool:
        try:
            reader.consumer.commit(reader.positions)
        except RetriableError:
            return False
        return True

    poll_until(committed, reader)


@pytest.fixture
def no_threads_left() -> Iterator[None]:
    """Assert that no thread of the test is left."""
    before = set(threading.enumerate())
    yield
    eventually(lambda: set(threading.enumerate()) <= before)


@pytest.mark.usefixtures("no_threads_left")
class TestContract(KafkaClientsContract):
    """The contract of all clients."""


@pytest.mark.usefixtures("no_threads_left")
class TestCooperativeGroups(ConsumerGroupContract):
    """The same when partitions move one by one instead of all at once."""

    @pytest.fixture
    def kafka_clients(self, kafka: Any, make_clients: Callable[[dict[str, str]], KafkaClients]) -> KafkaClients:
        strategy = {"partition.assignment.strategy": "cooperative-sticky"}
        return make_clients({"bootstrap.servers": kafka.bootstrap_servers, **LONG_TIMEOUT, **strategy})


@pytest.mark.usefixtures("no_threads_left")
class TestUnreachable:
    @pytest.mark.parametrize("kind", ["producer", "consumer", "admin"])
    def test_a_wrong_port_is_retriable_and_leaves_no_thread(
        self, kind: str, make_clients: Callable[[dict[str, str]], KafkaClients]
    ) -> None:
        kafka_clients = make_clients({"bootstrap.servers": "127.0.0.1:1", "bootstrap.timeout.ms": "500"})
        make: Callable[[], Any] = {
            "producer": lambda: kafka_clients.producer({}),
            "consumer": lambda: kafka_clients.consumer("g", {}),
            "admin": lambda: kafka_clients.admin({}),
        }[kind]
        with pytest.raises(RetriableError) as caught:
            make()
        assert caught.value.code == "kafka.unreachable"
        assert "127.0.0.1:1" in str(caught.value)

    def test_a_name_that_does_not_resolve_is_retriable(
        self, make_clients: Callable[[dict[str, str]], KafkaClients]
    ) -> None:
        kafka_clients = make_clients({"bootstrap.servers": "no-such-host.invalid:9092", "bootstrap.timeout.ms": "500"})
        with pytest.raises(RetriableError) as caught:
            kafka_clients.admin({})
        assert caught.value.code == "kafka.unreachable"
        assert "no-such-host.invalid:9092" in str(caught.value)


@pytest.mark.usefixtures("no_threads_left")
class TestRefused:
    """Records that the broker refuses. Clients then fail more than the bad record."""

    def test_a_record_over_the_size_limit_of_the_topic_fails_alone(
        self, kafka_clients: KafkaClients, unique_name: str
    ) -> None:
        batches = [EncodedBatch(unique_name, [b"s" * 900]) for _ in range(8)]
        batches[6] = EncodedBatch(unique_name, [b"x" * 4_000])
        code = self._send_until_only_one_is_refused(kafka_clients, batches, {"max.message.bytes": "2000"}, 6)
        assert code == "data.record_too_large"

    def test_valid_records_of_a_request_with_an_invalid_one_are_sent_again(
        self, kafka_clients: KafkaClients, unique_name: str
    ) -> None:
        """A compacted topic refuses records without a key, and with them all others of the same request."""
        batches = [EncodedBatch(unique_name, [b"%d" % number], [b"k"]) for number in range(5)]
        batches[3] = EncodedBatch(unique_name, [b"bad"])
        code = self._send_until_only_one_is_refused(kafka_clients, batches, {"cleanup.policy": "compact"}, 3)
        assert code == "data.refused"

    def test_a_batch_fails_with_its_own_bad_record(self, kafka_clients: KafkaClients, unique_name: str) -> None:
        admin, producer = kafka_clients.admin({}), kafka_clients.producer({})
        admin.create_topics([NewTopic(unique_name, 1, 1, {"cleanup.policy": "compact"})])
        delivery = producer.send(EncodedBatch(unique_name, [b"good", b"bad", b"good"], [b"k", None, b"k"]))
        assert producer.flush(TIMEOUT)
        error = delivery.error()
        assert isinstance(error, DataError)
        assert "without key" in str(error)
        producer.close(TIMEOUT)
        admin.close()

    @staticmethod
    def _send_until_only_one_is_refused(
        kafka_clients: KafkaClients, batches: list[EncodedBatch], config: dict[str, str], bad: int
    ) -> str:
        """Send, and send all unacknowledged records again once after the failure, as a source does."""
        topic = batches[0].topic
        admin, producer = kafka_clients.admin({}), kafka_clients.producer({"linger.ms": "1000"})
        admin.create_topics([NewTopic(topic, 1, 1, config), NewTopic(f"{topic}-other", 1, 1)])
        batches.append(EncodedBatch(f"{topic}-other", [b"elsewhere"]))
        good = [number for number in range(len(batches)) if number != bad]
        first = [producer.send(batch) for batch in batches]
        all_done = producer.flush(TIMEOUT)
        eventually(first[bad].done, TIMEOUT)
        assert all_done == all(delivery.done() for delivery in first)
        assert isinstance(first[bad].error(), DataError)
        assert [first[number].error() for number in good] == [None] * len(good)
        again = [number for number in range(len(batches)) if not first[number].done() or first[number].error()]
        second = {number: producer.send(batches[number]) for number in again}
        eventually(lambda: all(delivery.done() for delivery in second.values()), TIMEOUT)
        error = second.pop(bad).error()
        assert [delivery.error() for delivery in second.values()] == [None] * len(second)
        last = producer.send(EncodedBatch(f"{topic}-other", [b"last"]))
        assert producer.flush(TIMEOUT)
        assert last.error() is None
        stored = admin.end_offsets([topic, f"{topic}-other"])
        assert stored == {TopicPartition(topic, 0): len(good) - 1, TopicPartition(f"{topic}-other", 0): 2}
        producer.close(TIMEOUT)
        admin.close()
        assert isinstance(error, DataError)
        return error.code

    def test_an_invalid_topic_name_is_an_error(self, kafka_clients: KafkaClients) -> None:
        producer = kafka_clients.producer({})
        with pytest.raises(InfrastructureError) as caught:
            producer.send(EncodedBatch("no/such name", [b"1"]))
        assert caught.value.code == "kafka.invalid_topic"
        producer.close(TIMEOUT)

    def test_an_impossible_replication_factor_is_an_error(self, kafka_clients: KafkaClients, unique_name: str) -> None:
        admin = kafka_clients.admin({})
        with pytest.raises(InfrastructureError) as caught:
            admin.create_topics([NewTopic(unique_name, 1, 7)])
        assert caught.value.code == "kafka.invalid_topic"
        assert unique_name in str(caught.value)
        admin.close()

    @pytest.mark.parametrize(
        ("settings", "code"),
        [
            ({"compresion.type": "lz4"}, "kafka.unknown_setting"),
            ({"acks": "1", "enable.idempotence": "true"}, "kafka.invalid_setting"),
        ],
    )
    def test_invalid_settings_are_configuration_errors(
        self, kafka_clients: KafkaClients, settings: dict[str, str], code: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            kafka_clients.producer(settings)
        assert [finding.code for finding in caught.value.findings] == [code]


@pytest.mark.usefixtures("no_threads_left")
class TestProducer:
    def test_a_flush_does_not_wait_for_linger_ms(self, kafka_clients: KafkaClients, unique_name: str) -> None:
        create(kafka_clients, unique_name)
        producer = kafka_clients.producer({"linger.ms": "600000"})
        delivery = producer.send(EncodedBatch(unique_name, [b"1"]))
        assert producer.flush(TIMEOUT)
        assert delivery.error() is None
        producer.close(TIMEOUT)

    def test_records_of_each_compression_are_read_back(self, kafka_clients: KafkaClients, unique_name: str) -> None:
        create(kafka_clients, unique_name)
        for kind in ("none", "gzip", "lz4"):
            producer = kafka_clients.producer({"compression.type": kind})
            producer.send(EncodedBatch(unique_name, [kind.encode() * 100]))
            assert producer.flush(TIMEOUT)
            producer.close(TIMEOUT)
        reader = RecordingConsumer(kafka_clients, unique_name).subscribe([unique_name])
        assert set(reader.read(3)) == {b"none" * 100, b"gzip" * 100, b"lz4" * 100}
        reader.consumer.close()


class TestOutage:
    """A broker that is killed with SIGKILL and comes back."""

    @pytest.fixture
    def stack(self, private_stack: Callable[..., EmbeddedStack]) -> EmbeddedStack:
        return private_stack("kafka")

    @pytest.fixture
    def kafka_clients(
        self, stack: EmbeddedStack, make_clients: Callable[[dict[str, str]], KafkaClients]
    ) -> KafkaClients:
        return make_clients({"bootstrap.servers": stack.kafka.bootstrap_servers, "bootstrap.timeout.ms": "5000"})

    def test_offsets_of_a_group_are_read_before_the_cluster_has_had_one(self, kafka_clients: KafkaClients) -> None:
        """No broker coordinates it yet; the call of librdkafka would crash."""
        create(kafka_clients, "t")
        admin = kafka_clients.admin({})

        def answered() -> bool:
            try:
                return admin.committed("unknown-group") == {}
            except RetriableError:
                return False

        eventually(answered, TIMEOUT)
        admin.close()

    def test_no_record_is_lost_and_order_is_kept(self, stack: EmbeddedStack, kafka_clients: KafkaClients) -> None:
        before = set(threading.enumerate())
        create(kafka_clients, "t")
        producer = kafka_clients.producer({})
        reader = RecordingConsumer(kafka_clients, "g").subscribe(["t"]).join()
        sent: list[bytes | None] = []
        deliveries = []

        def produce(count: int) -> None:
            for _ in range(count):
                values: list[bytes | None] = [b"%d" % (len(sent) + number) for number in range(20)]
                deliveries.append(producer.send(EncodedBatch("t", values, [b"k"] * 20)))
                sent.extend(values)

        produce(50)
        eventually(deliveries[0].done, TIMEOUT)
        produce(50)
        stack.kafka.kill()
        produce(50)
        eventually(lambda: producer.connection_problem() is not None, TIMEOUT)
        poll_until(lambda: reader.consumer.connection_problem() is not None, reader)
        assert str(stack.kafka.port) in (producer.connection_problem() or "")
        assert not producer.flush(0.2)
        assert not deliveries[-1].done()
        assert reader.positions or reader.values() == []
        with pytest.raises(RetriableError) as caught:
            reader.consumer.commit(dict(reader.positions) or {TopicPartition("t", 0): 0})
        assert caught.value.code == "kafka.unreachable"
        with pytest.raises(RetriableError):
            kafka_clients.admin({})
        stack.kafka.start()
        produce(10)
        assert producer.flush(TIMEOUT)
        assert [delivery.error() for delivery in deliveries] == [None] * len(deliveries)
        assert reader.read(len(sent)) == sent
        assert producer.connection_problem() is None
        poll_until(lambda: reader.consumer.connection_problem() is None, reader)  # it opens its connections again
        eventually_commits(reader)  # the group's coordinator may still be starting
        producer.close(TIMEOUT)
        reader.consumer.close()
        eventually(lambda: set(threading.enumerate()) <= before)

    def test_clients_close_while_the_broker_is_unavailable(
        self, stack: EmbeddedStack, kafka_clients: KafkaClients
    ) -> None:
        before = set(threading.enumerate())
        create(kafka_clients, "t")
        producer, admin = kafka_clients.producer({}), kafka_clients.admin({})
        reader = RecordingConsumer(kafka_clients, "g").subscribe(["t"]).join()
        reader.commit_when_revoked = False
        assert producer.send(EncodedBatch("t", [b"0"]))
        assert producer.flush(TIMEOUT)
        stack.kafka.kill()
        delivery = producer.send(EncodedBatch("t", [b"1"]))
        producer.close(0)
        assert delivery.done()
        assert isinstance(delivery.error(), RetriableError)
        with pytest.raises(RetriableError):
            admin.cluster_id()
        admin.close()
        reader.consumer.close()
        assert [event for event, _ in reader.events] == ["assigned", "revoked"]
        eventually(lambda: set(threading.enumerate()) <= before)
