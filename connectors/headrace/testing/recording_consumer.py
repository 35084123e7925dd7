"""A consumer that records its rebalances, and helpers for the contract tests of Kafka clients."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from headrace.broker.interfaces import Admin, Consumer, KafkaClients, NewTopic, RebalanceListener
from headrace.errors import RetriableError
from headrace.records import ConsumedBatch, EncodedBatch, TopicPartition

TIMEOUT = 60.0
"""Seconds that a condition may take on a slow machine."""


class RecordingConsumer:
    """A consumer that records its rebalances, and commits what it has read before partitions are revoked."""

    def __init__(self, kafka_clients: KafkaClients, group: str, settings: dict[str, str] | None = None) -> None:
        self.consumer: Consumer = kafka_clients.consumer(group, settings or {})
        self.events: list[tuple[str, tuple[TopicPartition, ...]]] = []
        self.threads: set[int] = set()
        self.batches: list[ConsumedBatch] = []
        self.commit_when_revoked = True
        self.positions: dict[TopicPartition, int] = {}

    def subscribe(self, topics: Sequence[str] = (), pattern: str | None = None) -> RecordingConsumer:
        self.consumer.subscribe(topics, pattern, RebalanceListener(self._revoked, self._assigned))
        return self

    def _revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self._record("revoked", partitions)
        mine = {item: self.positions.pop(item) for item in partitions if item in self.positions}
        if mine and self.commit_when_revoked:
            self.consumer.commit(mine)

    def _assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._record("assigned", partitions)

    def _record(self, event: str, partitions: Sequence[TopicPartition]) -> None:
        self.events.append((event, tuple(partitions)))
        self.threads.add(threading.get_ident())

    def poll(self, timeout: float = 0.1, max_records: int = 1_000) -> list[ConsumedBatch]:
        batches = self.consumer.poll(timeout, max_records)
        for batch in batches:
            self.positions[batch.topic_partition] = batch.offsets[-1] + 1
        self.batches.extend(batches)
        return batches

    def values(self) -> list[bytes | None]:
        """Return all values read, in order."""
        return [value for batch in self.batches for value in batch.values]

    def read(self, count: int) -> list[bytes | None]:
        """Poll until ``count`` records have been read in all."""
        poll_until(lambda: len(self.values()) >= count, self)
        return self.values()

    def join(self) -> RecordingConsumer:
        """Poll until partitions are assigned."""
        poll_until(lambda: bool(self.consumer.assignment()), self)
        return self


def poll_until(condition: Callable[[], bool], *members: RecordingConsumer) -> None:
    """Poll all members in turn until ``condition``."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"not within {TIMEOUT:g} s"
        for member in members:
            member.poll()


def moved(admin: Admin, group: str, offsets: dict[TopicPartition, int]) -> bool:
    """Return whether the offsets were committed; fails while a closed member is still in the group."""
    try:
        admin.commit(group, offsets)
    except RetriableError:
        return False
    return True


def create(kafka_clients: KafkaClients, topic: str, partitions: int = 3) -> None:
    """Create an empty topic; retried while the broker is slow to respond."""
    admin = kafka_clients.admin({})

    def created() -> bool:
        try:
            admin.create_topics([NewTopic(topic, partitions, 1)])
        except RetriableError:
            return False
        return True

    poll_until(created)
    admin.close()


def shared(*members: RecordingConsumer) -> bool:
    """Return whether all three partitions are assigned, and each member owns at least one."""
    owned = [item for member in members for item in member.consumer.assignment()]
    return all(member.consumer.assignment() for member in members) and len(owned) == len(set(owned)) == 3


def read_by(*members: RecordingConsumer) -> set[TopicPartition]:
    """Return the partitions that the members have read."""
    return {batch.topic_partition for member in members for batch in member.batches}


def send(kafka_clients: KafkaClients, *batches: EncodedBatch) -> None:
    """Send batches with a new producer, and wait until they are acknowledged."""
    producer = kafka_clients.producer({})
    deliveries = [producer.send(batch) for batch in batches]
    assert producer.flush(TIMEOUT)
    for delivery in deliveries:
        assert delivery.done()
        assert delivery.error() is None
    producer.close(TIMEOUT)
