"""Contract tests of consumer groups; part of the contract of Kafka clients."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from headrace.broker.interfaces import KafkaClients
from headrace.errors import RetriableError
from headrace.records import EncodedBatch, TopicPartition
from headrace.testing.recording_consumer import TIMEOUT, RecordingConsumer, create, poll_until, read_by, send, shared
from headrace.testing.waiting import eventually


class ConsumerGroupContract:
    """Tests with several members of a group; part of :class:`KafkaClientsContract`."""

    silence: ClassVar[float] = 0.1
    """Seconds of each of ten polls that must return nothing: long enough for a record to arrive from the broker."""

    @pytest.fixture
    def topic(self, kafka_clients: KafkaClients, unique_name: str) -> str:
        """An empty topic with three partitions."""
        create(kafka_clients, unique_name)
        return unique_name

    @pytest.fixture
    def member(self, kafka_clients: KafkaClients) -> Iterator[Callable[..., RecordingConsumer]]:
        """Return a function that creates group members; they are closed when the test ends."""
        members: list[RecordingConsumer] = []

        def make(group: str, settings: dict[str, str] | None = None) -> RecordingConsumer:
            members.append(RecordingConsumer(kafka_clients, group, settings))
            return members[-1]

        yield make
        for item in members:
            item.consumer.close()

    # Pausing

    def test_nothing_is_delivered_while_paused(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        reader = member(topic).subscribe([topic]).join()
        reader.consumer.pause_all()
        send(kafka_clients, EncodedBatch(topic, [b"a"]))
        for _ in range(10):
            assert reader.poll(self.silence) == []
        reader.consumer.resume_all()
        assert reader.read(1) == [b"a"]

    def test_a_pause_before_the_first_poll_is_kept(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        send(kafka_clients, EncodedBatch(topic, [b"a"]))
        reader = member(topic).subscribe([topic])
        reader.consumer.pause_all()
        reader.join()
        for _ in range(10):
            assert reader.poll(self.silence) == []
        reader.consumer.resume_all()
        assert reader.read(1) == [b"a"]

    def test_a_pause_is_kept_during_a_rebalance(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        send(kafka_clients, EncodedBatch(topic, [b"%d" % number for number in range(30)]))
        first = member(topic).subscribe([topic])
        first.consumer.pause_all()
        first.join()
        second = member(topic).subscribe([topic])
        second.consumer.pause_all()
        poll_until(lambda: shared(first, second), first, second)
        second.consumer.close()
        poll_until(lambda: len(first.consumer.assignment()) == 3, first)
        for _ in range(10):
            first.poll(self.silence)
        assert first.values() == []
        first.consumer.resume_all()
        assert len(set(first.read(30))) == 30

    def test_single_partitions_can_be_paused(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        reader = member(topic).subscribe([topic]).join()
        first, second, third = (TopicPartition(topic, number) for number in range(3))
        reader.consumer.pause_only({first, second})
        values: list[bytes | None] = [b"%d" % number for number in range(30)]
        send(kafka_clients, EncodedBatch(topic, values, [b"%d" % number for number in range(30)]))
        poll_until(lambda: {batch.topic_partition for batch in reader.batches} == {third}, reader)
        reader.consumer.pause_only({second})
        poll_until(lambda: {batch.topic_partition for batch in reader.batches} == {first, third}, reader)
        reader.consumer.pause_all()
        reader.consumer.resume_all()
        for _ in range(10):
            reader.poll(self.silence)
        assert {batch.topic_partition for batch in reader.batches} == {first, third}
        reader.consumer.pause_only(())
        assert set(reader.read(30)) == set(values)

    def test_a_partition_that_was_paused_within_fetched_records_continues(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        consumer = member(topic).subscribe([topic]).join().consumer
        values: list[bytes | None] = [b"%d" % number for number in range(300)]
        send(kafka_clients, EncodedBatch(topic, values, values))
        admin = kafka_clients.admin({})
        ends = admin.end_offsets([topic])
        admin.close()
        found: Counter[TopicPartition] = Counter()

        def read(limit: int) -> Counter[TopicPartition]:
            for batch in consumer.poll(0.2, limit):
                found[batch.topic_partition] += len(batch)
            return found

        eventually(lambda: read(10).total(), TIMEOUT)
        (paused,) = found
        consumer.pause_only({paused})
        eventually(lambda: read(1_000).total() - found[paused] == 300 - ends[paused], TIMEOUT)
        assert found[paused] < ends[paused]
        consumer.pause_only(())
        eventually(lambda: read(1_000).total() == 300, TIMEOUT)

    # Groups

    def test_members_share_the_partitions(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        first = member(topic).subscribe([topic]).join()
        second = member(topic).subscribe([topic])
        poll_until(lambda: shared(first, second), first, second)
        values: list[bytes | None] = [b"%d" % number for number in range(200)]
        send(kafka_clients, EncodedBatch(topic, values, values))  # keys: so that every partition has some
        poll_until(lambda: len(first.values()) + len(second.values()) >= 200, first, second)
        assert len(first.values()) + len(second.values()) == 200
        assert first.values()
        assert second.values()

    def test_members_join_with_the_shortest_polls(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        members = [member(topic).subscribe([topic]) for _ in range(2)]
        deadline = time.monotonic() + TIMEOUT
        while not shared(*members) and time.monotonic() < deadline:
            for item in members:
                item.poll(0.001)
        assert shared(*members)

    def test_records_committed_during_revocation_are_not_read_again(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        send(kafka_clients, EncodedBatch(topic, [b"%d" % number for number in range(60)]))
        first = member(topic).subscribe([topic])
        first.read(60)
        second = member(topic).subscribe([topic])
        poll_until(lambda: shared(first, second), first, second)
        send(kafka_clients, EncodedBatch(topic, [b"last-%d" % number for number in range(60)]))
        poll_until(lambda: len(first.values()) + len(second.values()) >= 120, first, second)
        assert len({*first.values(), *second.values()}) == 120
        assert len(first.values()) + len(second.values()) == 120
        assert first.threads == second.threads == {threading.get_ident()}

    def test_a_revoked_partition_continues_at_its_committed_offset(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        """Also for its previous owner, whose caller has discarded the records that were not committed."""
        values: list[bytes | None] = [b"%d" % number for number in range(60)]
        send(kafka_clients, EncodedBatch(topic, values, values))  # keys: so that every partition has some
        first = member(topic).subscribe([topic])
        first.commit_when_revoked = False
        first.read(60)
        first.batches.clear()
        second = member(topic).subscribe([topic])
        poll_until(lambda: shared(first, second), first, second)
        lost = {item for event, items in first.events if event == "revoked" for item in items}
        kept = {item.topic_partition for item in first.batches} | {item.topic_partition for item in second.batches}
        poll_until(lambda: lost <= read_by(first, second), first, second)
        assert kept <= lost
        for item in lost:
            offsets = [o for b in (*first.batches, *second.batches) if b.topic_partition == item for o in b.offsets]
            assert offsets[0] == 0

    def test_seeking_in_a_partition_of_another_member_is_refused(
        self, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        reader = member(topic).subscribe([topic]).join()
        with pytest.raises(RetriableError) as caught:
            reader.consumer.seek(TopicPartition(topic, 99), 0)
        assert caught.value.code == "kafka.rebalance"
