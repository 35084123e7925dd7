"""A broker in memory, for tests of pipelines: real partitions, groups and rebalances, and faults on demand."""

from __future__ import annotations

import re
import threading
import time
import zlib
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import NamedTuple

from headrace.broker.ports import NewTopic, RebalanceListener, group_in_use
from headrace.errors import DataError, HeadraceError, RetriableError
from headrace.records import ConsumedBatch, EncodedBatch, Headers, TopicPartition

_MAX_REQUEST_SIZE = 1_048_576  # bytes; Kafka's default
_DOWN = "the in-memory broker does not answer"


class StoredRecord(NamedTuple):
    """A record as the broker has it. ``timestamp`` in epoch milliseconds."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int


class InMemoryDelivery:
    """Done when the broker wrote or refused the batch."""

    def __init__(self) -> None:
        self._done = False
        self._error: Exception | None = None

    def done(self) -> bool:
        return self._done

    def error(self) -> Exception | None:
        return self._error

    def settle(self, error: Exception | None) -> None:
        """The batch's fate."""
        self._error = error
        self._done = True


class _Pending(NamedTuple):
    producer: InMemoryProducer
    batch: EncodedBatch
    delivery: InMemoryDelivery


class _Group:
    """A consumer group: who is in it, who owns what, what is committed."""

    def __init__(self) -> None:
        self.members: list[InMemoryConsumer] = []
        self.owners: dict[TopicPartition, InMemoryConsumer] = {}
        self.committed: dict[TopicPartition, int] = {}

    def target(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, InMemoryConsumer]:
        """Who should own what: the partitions of each topic go round the members that want the topic."""
        target = {}
        for place, topic_partition in enumerate(sorted(partitions)):
            wanting = [member for member in self.members if member.wants(topic_partition.topic)]
            if wanting:
                target[topic_partition] = wanting[place % len(wanting)]
        return target


class InMemoryBroker:
    """One Kafka cluster. Thread-safe; topics are made on first use with one partition, or by :meth:`create`.

    Faults, all from any thread at any time: ``broker.down = True`` (sends wait, polls are empty, all else raises
    RetriableError), :meth:`fail_sends`, :meth:`fail_commits`, :meth:`fail_polls`, :meth:`hold_deliveries`.
    Rebalances are incremental: a member gives up what it loses at its next poll, then the new owner gets it.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.groups: dict[str, _Group] = defaultdict(_Group)
        self.logs: dict[TopicPartition, list[StoredRecord]] = {}
        self.commit_faults: deque[HeadraceError] = deque()
        self.poll_faults: deque[HeadraceError] = deque()
        self._send_faults: deque[HeadraceError] = deque()
        self._pending: deque[_Pending] = deque()
        self._partitions: dict[str, int] = {}
        self._topic_configs: dict[str, dict[str, str]] = {}
        self._turns = count()
        self._down = False
        self._held = False

    # Broker

    def producer(self, settings: Mapping[str, str]) -> InMemoryProducer:
        """Heeds ``max.request.size``."""
        self.require_up()
        return InMemoryProducer(self, int(settings.get("max.request.size", _MAX_REQUEST_SIZE)))

    def consumer(self, group: str, settings: Mapping[str, str]) -> InMemoryConsumer:
        """Heeds ``auto.offset.reset`` (default earliest)."""
        self.require_up()
        return InMemoryConsumer(self, group, settings.get("auto.offset.reset", "earliest"))

    def admin(self, settings: Mapping[str, str]) -> InMemoryAdmin:
        del settings
        self.require_up()
        return InMemoryAdmin(self)

    def reader(self) -> InMemoryReader:
        self.require_up()
        return InMemoryReader(self)

    # Looking and preparing

    def create(self, topic: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Make a topic, or leave the existing one as it is."""
        with self.changed:
            if topic in self._partitions:
                return
            self._partitions[topic] = partitions
            self._topic_configs[topic] = dict(config or {})
            for number in range(partitions):
                self.logs[TopicPartition(topic, number)] = []
            self.changed.notify_all()

    def records(self, topic: str) -> list[StoredRecord]:
        """What is stored in a topic, partition by partition; empty when there is no such topic."""
        with self.changed:
            return [record for item in self.partitions_of(topic) for record in self.logs[item]]

    def topics(self) -> dict[str, dict[str, str]]:
        """Every topic with the settings it was created with."""
        with self.changed:
            return {topic: dict(config) for topic, config in self._topic_configs.items()}

    def partitions_of(self, topic: str) -> list[TopicPartition]:
        """In order; empty when there is no such topic."""
        return [TopicPartition(topic, number) for number in range(self._partitions.get(topic, 0))]

    def committed(self, group: str) -> dict[TopicPartition, int]:
        """A group's stored offsets."""
        with self.changed:
            return dict(self.groups[group].committed) if group in self.groups else {}

    def read_to(self, group: str) -> int:
        """How many records lie before the places where the group's members read; committed or not."""
        with self.changed:
            owners = self.groups[group].owners if group in self.groups else {}
            return sum(member._positions.get(place, 0) for place, member in owners.items())

    # Faults

    @property
    def down(self) -> bool:
        """Whether the broker is away. Setting it to False delivers what was sent meanwhile, in order."""
        return self._down

    @down.setter
    def down(self, value: bool) -> None:
        with self.changed:
            self._down = value
            self._deliver()

    def hold_deliveries(self) -> None:
        """Leave what is sent unacknowledged and unwritten until :meth:`release`."""
        with self.changed:
            self._held = True

    def release(self) -> None:
        """Write and acknowledge what was held."""
        with self.changed:
            self._held = False
            self._deliver()

    def fail_sends(self, error: HeadraceError, times: int = 1) -> None:
        """The deliveries of the next ``times`` batches fail with ``error``, nothing of them is written."""
        with self.changed:
            self._send_faults.extend([error] * times)

    def fail_commits(self, error: HeadraceError, times: int = 1) -> None:
        """The next ``times`` commits of any consumer raise ``error``."""
        with self.changed:
            self.commit_faults.extend([error] * times)

    def fail_polls(self, error: HeadraceError, times: int = 1) -> None:
        """The next ``times`` polls of any consumer raise ``error``."""
        with self.changed:
            self.poll_faults.extend([error] * times)

    # For the clients below

    def require_up(self) -> None:
        if self._down:
            raise RetriableError(_DOWN, code="kafka.unreachable")

    def trouble(self) -> str | None:
        return _DOWN if self._down else None

    def take(self, producer: InMemoryProducer, batch: EncodedBatch) -> InMemoryDelivery:
        delivery = InMemoryDelivery()
        with self.changed:
            self._pending.append(_Pending(producer, batch, delivery))
            self._deliver()
        return delivery

    def waiting(self, producer: InMemoryProducer) -> bool:
        return any(item.producer is producer for item in self._pending)

    def give_up(self, producer: InMemoryProducer) -> None:
        with self.changed:
            for item in self._pending:
                if item.producer is producer:
                    item.delivery.settle(RetriableError("the producer was closed before the broker answered"))
            self._pending = deque(item for item in self._pending if item.producer is not producer)
            self.changed.notify_all()

    def _deliver(self) -> None:
        while self._pending and not self._down and not self._held:
            item = self._pending.popleft()
            if self._send_faults:
                item.delivery.settle(self._send_faults.popleft())
            else:
                self._write(item.batch)
                item.delivery.settle(None)
        self.changed.notify_all()

    def _write(self, batch: EncodedBatch) -> None:
        self.create(batch.topic)
        partitions = self._partitions[batch.topic]
        now = time.time_ns() // 1_000_000
        for index, value in enumerate(batch.values):
            key = batch.keys[index] if batch.keys is not None else None
            number = (next(self._turns) if key is None else zlib.crc32(key)) % partitions
            log = self.logs[TopicPartition(batch.topic, number)]
            # Kafka knows no null header value apart from a null: clients hand it over as it is.
            headers = list(batch.headers[index]) if batch.headers is not None else []
            timestamp = batch.timestamps[index] if batch.timestamps is not None else now
            log.append(StoredRecord(number, len(log), key, value, headers, timestamp))


class InMemoryProducer:
    """See :class:`headrace.broker.ports.Producer`."""

    def __init__(self, broker: InMemoryBroker, max_request_size: int) -> None:
        self._broker = broker
        self._max_request_size = max_request_size
        self._closed = False

    def send(self, batch: EncodedBatch) -> InMemoryDelivery:
        if self._closed:
            raise RuntimeError("send after close")
        keys = batch.keys if batch.keys is not None else [None] * len(batch)
        for key, value in zip(keys, batch.values, strict=True):
            if key is None and value is None:
                raise DataError("a record needs a key or a value", code="data.empty_record")
            if (size := len(key or b"") + len(value or b"")) > self._max_request_size:
                raise DataError(f"the record has {size} bytes", code="data.record_too_large")
        return self._broker.take(self, batch)

    def flush(self, timeout: float) -> bool:
        with self._broker.changed:
            return self._broker.changed.wait_for(lambda: not self._broker.waiting(self), timeout)

    def trouble(self) -> str | None:
        return self._broker.trouble()

    def close(self, timeout: float) -> None:
        if not self._closed:
            self.flush(timeout)
            self._closed = True
            self._broker.give_up(self)


class InMemoryConsumer:
    """See :class:`headrace.broker.ports.Consumer`."""

    def __init__(self, broker: InMemoryBroker, group: str, reset: str) -> None:
        self._broker = broker
        self._group = broker.groups[group]
        self._reset = reset
        self._topics: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        self._listener = RebalanceListener(lambda _: None, lambda _: None)
        self._positions: dict[TopicPartition, int] = {}  # of all partitions owned; the first is polled first
        self._paused = False
        self._closed = False

    def subscribe(self, topics: Sequence[str], pattern: str | None, listener: RebalanceListener) -> None:
        with self._broker.changed:
            self._topics = frozenset(topics)
            self._pattern = re.compile(pattern) if pattern is not None else None
            self._listener = listener
            self._group.members.append(self)
            self._broker.changed.notify_all()

    def wants(self, topic: str) -> bool:
        """Whether the topic is subscribed to."""
        return topic in self._topics or (self._pattern is not None and self._pattern.fullmatch(topic) is not None)

    def poll(self, timeout: float, max_records: int) -> list[ConsumedBatch]:
        end = time.monotonic() + timeout
        with self._broker.changed:
            if self._broker.poll_faults:
                raise self._broker.poll_faults.popleft()
        while True:
            self._rebalance()
            with self._broker.changed:
                batches = self._fetch(max_records)
                left = end - time.monotonic()
                if batches or left <= 0:
                    return batches
                self._broker.changed.wait(left)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        with self._broker.changed:
            self._broker.require_up()
            if self._broker.commit_faults:
                raise self._broker.commit_faults.popleft()
            self._require_owned(offsets)
            self._group.committed.update(offsets)

    def pause_all(self) -> None:
        self._paused = True

    def resume_all(self) -> None:
        self._paused = False

    def seek(self, topic_partition: TopicPartition, offset: int) -> None:
        with self._broker.changed:
            self._require_owned([topic_partition])
            self._positions[topic_partition] = offset

    def assignment(self) -> frozenset[TopicPartition]:
        with self._broker.changed:
            return frozenset(self._positions)

    def trouble(self) -> str | None:
        return self._broker.trouble()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if self._positions:
                self._listener.revoked(sorted(self._positions))
        finally:
            with self._broker.changed:
                self._release(list(self._positions))
                if self in self._group.members:
                    self._group.members.remove(self)
                self._broker.changed.notify_all()

    def _require_owned(self, partitions: Iterable[TopicPartition]) -> None:
        lost = [str(item) for item in partitions if self._group.owners.get(item) is not self]
        if lost:
            raise RetriableError(f"{', '.join(lost)} belong to another member", code="kafka.rebalance")

    def _rebalance(self) -> None:
        """Give up what others should have, take what is free; the listener runs without the lock."""
        with self._broker.changed:
            if self._broker.down:
                return
            target = self._group.target(self._broker.logs)
            lost = sorted(item for item in self._positions if target.get(item) is not self)
        if lost:
            self._listener.revoked(lost)
        with self._broker.changed:
            self._release(lost)
            target = self._group.target(self._broker.logs)
            gained = sorted(
                item for item, member in target.items() if member is self and item not in self._group.owners
            )
            for item in gained:
                self._group.owners[item] = self
                first = 0 if self._reset == "earliest" else len(self._broker.logs[item])
                self._positions[item] = self._group.committed.get(item, first)
        if gained:
            self._listener.assigned(gained)

    def _release(self, partitions: Iterable[TopicPartition]) -> None:
        for item in partitions:
            del self._positions[item]
            del self._group.owners[item]
        self._broker.changed.notify_all()

    def _fetch(self, max_records: int) -> list[ConsumedBatch]:
        batches: list[ConsumedBatch] = []
        if self._paused or self._broker.down:
            return batches
        for item, position in list(self._positions.items()):
            log = self._broker.logs[item]
            records = log[position : position + max_records]
            if not records:
                continue
            max_records -= len(records)
            # To the end of the line, so that no partition starves.
            del self._positions[item]
            self._positions[item] = records[-1].offset + 1
            batches.append(_batch(item, records, len(log)))
        return batches


def _batch(topic_partition: TopicPartition, records: Sequence[StoredRecord], end_offset: int) -> ConsumedBatch:
    return ConsumedBatch(
        topic_partition,
        [record.offset for record in records],
        [record.key for record in records],
        [record.value for record in records],
        [record.timestamp for record in records],
        [record.headers for record in records],
        end_offset,
    )


class InMemoryReader:
    """See :class:`headrace.broker.ports.Reader`."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self._broker = broker
        self._positions: dict[TopicPartition, int] = {}

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self._positions = dict(positions)

    def poll(self, timeout: float, max_records: int) -> list[ConsumedBatch]:
        end = time.monotonic() + timeout
        while True:
            with self._broker.changed:
                batches = self._fetch(max_records)
                left = end - time.monotonic()
                if batches or left <= 0:
                    return batches
                self._broker.changed.wait(left)

    def positions(self) -> dict[TopicPartition, int]:
        return dict(self._positions)

    def beginnings(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def trouble(self) -> str | None:
        return self._broker.trouble()

    def close(self) -> None:
        self._positions.clear()

    def _fetch(self, max_records: int) -> list[ConsumedBatch]:
        batches = []
        for item, position in self._positions.items() if not self._broker.down else ():
            log = self._broker.logs[item]
            if records := log[position : position + max_records]:
                max_records -= len(records)
                self._positions[item] = records[-1].offset + 1
                batches.append(_batch(item, records, len(log)))
        return batches


class InMemoryAdmin:
    """See :class:`headrace.broker.ports.Admin`."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self._broker = broker

    def cluster_id(self) -> str:
        self._broker.require_up()
        return "in-memory"

    def topics(self) -> frozenset[str]:
        self._broker.require_up()
        return frozenset(topic for topic in self._broker.topics() if not topic.startswith("__"))

    def create_topics(self, topics: Iterable[NewTopic]) -> None:
        self._broker.require_up()
        for topic in topics:
            self._broker.create(topic.name, max(1, topic.partitions), topic.config)

    def end_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        self._broker.require_up()
        with self._broker.changed:
            return {
                item: len(self._broker.logs[item]) for topic in topics for item in self._broker.partitions_of(topic)
            }

    def begin_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return dict.fromkeys(self.end_offsets(topics), 0)

    def committed(self, group: str) -> dict[TopicPartition, int]:
        self._broker.require_up()
        return self._broker.committed(group)

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        self._broker.require_up()
        with self._broker.changed:
            if self._broker.groups[group].members:
                raise group_in_use(group)
            self._broker.groups[group].committed.update(offsets)

    def close(self) -> None:
        pass
