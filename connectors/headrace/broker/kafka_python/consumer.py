"""Read batches through kafka-python; its rebalance callbacks run on the caller's thread."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import kafka
from kafka.errors import KafkaError

from headrace.broker.interfaces import GroupMetadata, RebalanceListener
from headrace.broker.kafka_python.batch_fetching import FetchedRecords, consumed_batch, fetch_columns
from headrace.broker.kafka_python.connection import (
    ClientHandle,
    forget,
    keep_joining,
    release_paused_records,
    subscribe_to_pattern,
)
from headrace.broker.kafka_python.error_mapping import translated
from headrace.errors import RetriableError
from headrace.patterns import compile_pattern
from headrace.records import ConsumedBatch, TopicPartition

_COMMIT_TIMEOUT_MS = 5_000
_CLOSE_TIMEOUT_MS = 5_000


class PollInterruptedError(Exception):
    """Interrupts kafka-python's poll, so that a callback can run on the polling thread."""


class _RebalanceRecorder(kafka.ConsumerRebalanceListener):  # type: ignore[misc]
    """Records a rebalance and interrupts the poll; it is called on kafka-python's I/O thread, which must not block.

    kafka-python completes its own part, then raises the listener's exception from ``poll``; the rebalance continues
    with the next poll, so no other member gets a partition before ``revoked`` has run.
    """

    def __init__(self) -> None:
        self.revoked: set[kafka.TopicPartition] = set()
        self.assigned: set[kafka.TopicPartition] = set()
        self.off = False

    def on_partitions_revoked(self, revoked: Iterable[kafka.TopicPartition]) -> None:
        self._note(self.revoked, revoked)

    def on_partitions_assigned(self, assigned: Iterable[kafka.TopicPartition]) -> None:
        self._note(self.assigned, assigned)

    def _note(self, noted: set[kafka.TopicPartition], partitions: Iterable[kafka.TopicPartition]) -> None:
        if not self.off and partitions:
            noted.update(partitions)
            raise PollInterruptedError


class KafkaPythonConsumer:
    """See :class:`headrace.broker.interfaces.Consumer`."""

    def __init__(self, client: ClientHandle, group: str, max_poll_records: int | None) -> None:
        self._client = client
        self._consumer: kafka.KafkaConsumer = client.client
        fetch_columns(self._consumer)
        self._group = group
        self._max_poll_records = max_poll_records
        self._rebalance = _RebalanceRecorder()
        self._listener = RebalanceListener(lambda _: None, lambda _: None)
        self._paused = False
        self._paused_only: set[kafka.TopicPartition] = set()
        self._closed = False

    def subscribe(self, topics: Sequence[str], pattern: str | None, listener: RebalanceListener) -> None:
        self._listener = listener
        with translated(f"subscribe to {pattern or ', '.join(topics)}"):
            if pattern is None:
                self._consumer.subscribe(topics=list(topics), listener=self._rebalance)
            else:
                subscribe_to_pattern(self._consumer, compile_pattern(pattern), self._rebalance)

    def poll(self, timeout: float, max_records: int) -> list[ConsumedBatch]:
        limit = min(max_records, self._max_poll_records or max_records)
        records: dict[kafka.TopicPartition, list[FetchedRecords]] = {}
        keep_joining(self._consumer)
        release_paused_records(self._consumer)
        with translated(f"read as a member of group {self._group}", self._client):
            try:
                records = self._consumer.poll(timeout_ms=timeout * 1000, max_records=limit)
            except KafkaError as error:
                if not isinstance(error.__cause__, PollInterruptedError):
                    raise
        self._call_back()
        highwater = self._consumer.highwater
        return [consumed_batch(partition, found, highwater(partition)) for partition, found in records.items()]

    def _call_back(self) -> None:
        revoked, self._rebalance.revoked = self._rebalance.revoked, set()
        if revoked:
            self._paused_only -= revoked
            try:
                self._listener.revoked(_topic_partitions(revoked))
            finally:
                forget(self._consumer, revoked)
        assigned, self._rebalance.assigned = self._rebalance.assigned, set()
        if assigned:
            if self._paused:
                self._consumer.pause(*assigned)
            self._listener.assigned(_topic_partitions(assigned))

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        wanted = {
            kafka.TopicPartition(*partition): kafka.OffsetAndMetadata(offset, "", -1)
            for partition, offset in offsets.items()
        }
        with translated(f"commit the positions of group {self._group}", self._client):
            self._consumer.commit(wanted, timeout_ms=_COMMIT_TIMEOUT_MS)

    def group_metadata(self) -> GroupMetadata:
        return GroupMetadata(self._consumer.group_metadata())

    def pause_all(self) -> None:
        self._paused = True
        self._consumer.pause(*self._consumer.assignment())

    def resume_all(self) -> None:
        self._paused = False
        self._consumer.resume(*self._consumer.assignment() - self._paused_only)

    def pause_only(self, partitions: Collection[TopicPartition]) -> None:
        assigned = self._consumer.assignment()
        wanted = assigned & {kafka.TopicPartition(*item) for item in partitions}
        released, self._paused_only = self._paused_only & assigned - wanted, wanted
        self._consumer.pause(*wanted)
        if not self._paused:
            self._consumer.resume(*released)

    def seek(self, topic_partition: TopicPartition, offset: int) -> None:
        partition = kafka.TopicPartition(*topic_partition)
        if partition not in self._consumer.assignment():
            raise RetriableError(f"{topic_partition} belongs to another member", code="kafka.rebalance")
        self._consumer.seek(partition, offset)

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(_topic_partitions(self._consumer.assignment()))

    def connection_problem(self) -> str | None:
        failure = self._client.failure()
        return failure.describe() if failure is not None else None

    def abandon(self) -> bool:
        return True  # kafka-python makes no further attempt once the timeout of the commit has passed

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._rebalance.off = True
        owned = (self._consumer.assignment() | self._rebalance.revoked) - self._rebalance.assigned
        try:
            if owned:
                self._listener.revoked(_topic_partitions(owned))
        finally:
            with translated(f"leave the group {self._group}", self._client):
                self._consumer.close(autocommit=False, timeout_ms=_CLOSE_TIMEOUT_MS)


def _topic_partitions(partitions: Iterable[kafka.TopicPartition]) -> list[TopicPartition]:
    return sorted(TopicPartition(*partition) for partition in partitions)
