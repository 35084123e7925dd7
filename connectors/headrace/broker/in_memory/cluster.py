"""The state of the in-memory Kafka: partitions, groups, batches in flight, and faults on demand."""

from __future__ import annotations

import threading
import time
import zlib
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import NamedTuple, Protocol
from uuid import uuid4

from headrace.broker.in_memory.partition_log import PartitionLog, StoredRecord
from headrace.errors import HeadraceError, RetriableError
from headrace.records import EncodedBatch, TopicPartition

_DOWN = "the in-memory broker does not answer"


class InMemoryDelivery:
    """Done when the batch has been written or refused."""

    def __init__(self) -> None:
        self._done = False
        self._error: Exception | None = None

    def done(self) -> bool:
        return self._done

    def error(self) -> Exception | None:
        return self._error

    def settle(self, error: Exception | None) -> None:
        """Set the result."""
        self._error = error
        self._done = True


class _Pending(NamedTuple):
    producer: object
    batch: EncodedBatch
    delivery: InMemoryDelivery


class GroupMember(Protocol):
    """A consumer as seen by its group."""

    def wants(self, topic: str) -> bool:
        """Return whether the member subscribes to the topic."""
        ...

    def position(self, topic_partition: TopicPartition) -> int:
        """Return the next offset to read; 0 for a partition that it does not own."""
        ...


class InMemoryGroup:
    """A consumer group: its members, the owner of each partition, and the committed offsets."""

    def __init__(self) -> None:
        self.by_number = False
        """Whether partitions of one number go to one member, as Kafka's range assignor does."""
        self.members: list[GroupMember] = []
        self.owners: dict[TopicPartition, GroupMember] = {}
        self.committed: dict[TopicPartition, int] = {}

    def target(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, GroupMember]:
        """Return the assignment: partitions are distributed in turn to the members that want their topic."""
        target = {}
        for place, topic_partition in enumerate(sorted(partitions)):
            wanting = [member for member in self.members if member.wants(topic_partition.topic)]
            if wanting:
                number = topic_partition.partition if self.by_number else place
                target[topic_partition] = wanting[number % len(wanting)]
        return target


class InMemoryCluster:
    """State that the clients of one cluster share: topics, groups, batches in flight, faults. Thread-safe."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.groups: dict[str, InMemoryGroup] = defaultdict(InMemoryGroup)
        self.logs: dict[TopicPartition, PartitionLog] = {}
        self.transactional: dict[str, object] = {}  # the newest producer of each transactional.id
        self.commit_faults: deque[HeadraceError] = deque()
        self.poll_faults: deque[HeadraceError] = deque()
        self._send_faults: deque[HeadraceError] = deque()
        self._pending: deque[_Pending] = deque()
        self._partitions: dict[str, int] = {}
        self._topic_ids: dict[str, str] = {}
        self._topic_configs: dict[str, dict[str, str]] = {}
        self._turns = count()
        self._down = False
        self._held = False

    # Inspecting and preparing

    def create(self, topic: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Create a topic; an existing one is not changed."""
        with self.changed:
            if topic in self._partitions:
                return
            for number in range(partitions):
                self.logs[TopicPartition(topic, number)] = PartitionLog(number)
            self._topic_ids[topic] = uuid4().hex
            self._topic_configs[topic] = dict(config or {})
            self._partitions[topic] = partitions  # last: a topic that is listed without the lock has its logs
            self.changed.notify_all()

    def delete(self, topic: str) -> None:
        """Delete a topic and its committed offsets; an unknown one is not an error."""
        with self.changed:
            for item in self.partitions_of(topic):
                del self.logs[item]
                for group in self.groups.values():
                    group.owners.pop(item, None)
                    group.committed.pop(item, None)
            self._partitions.pop(topic, None)
            self._topic_configs.pop(topic, None)
            self.changed.notify_all()

    def records(self, topic: str) -> list[StoredRecord]:
        """Return the records of a topic, partition by partition; empty for an unknown topic."""
        with self.changed:
            return [record for item in self.partitions_of(topic) for record in self.logs[item].records()]

    def topics(self) -> dict[str, dict[str, str]]:
        """Return every topic with its settings."""
        with self.changed:
            return {topic: dict(config) for topic, config in self._topic_configs.items()}

    def topic_id(self, topic: str) -> str | None:
        with self.changed:
            return self._topic_ids.get(topic)

    def partitions_of(self, topic: str) -> list[TopicPartition]:
        """Return the partitions of a topic, in order; empty for an unknown topic."""
        return [TopicPartition(topic, number) for number in range(self._partitions.get(topic, 0))]

    def committed(self, group: str) -> dict[TopicPartition, int]:
        """Return a group's committed offsets."""
        with self.changed:
            return dict(self.groups[group].committed) if group in self.groups else {}

    def read_to(self, group: str) -> int:
        """Return the sum of the positions of the group's members, committed or not."""
        with self.changed:
            owners = self.groups[group].owners if group in self.groups else {}
            return sum(member.position(place) for place, member in owners.items())

    def delete_records(self, before: Mapping[TopicPartition, int]) -> None:
        """Delete the records before these offsets, as retention does."""
        with self.changed:
            for item, offset in before.items():
                self.logs[item].delete_before(offset)

    # Faults

    @property
    def down(self) -> bool:
        """Whether the broker is unreachable. Setting it to False delivers what was sent meanwhile, in order."""
        return self._down

    @down.setter
    def down(self, value: bool) -> None:
        with self.changed:
            self._down = value
            self._deliver()

    def hold_deliveries(self) -> None:
        """Neither write nor acknowledge batches until :meth:`release`."""
        with self.changed:
            self._held = True

    def release(self) -> None:
        """Write and acknowledge the batches that were held."""
        with self.changed:
            self._held = False
            self._deliver()

    def fail_sends(self, error: HeadraceError, times: int = 1) -> None:
        """Fail the next ``times`` batches with ``error``; nothing of them is written."""
        with self.changed:
            self._send_faults.extend([error] * times)

    def fail_commits(self, error: HeadraceError, times: int = 1) -> None:
        """Raise ``error`` from the next ``times`` commits of any consumer."""
        with self.changed:
            self.commit_faults.extend([error] * times)

    def fail_polls(self, error: HeadraceError, times: int = 1) -> None:
        """Raise ``error`` from the next ``times`` polls of any consumer."""
        with self.changed:
            self.poll_faults.extend([error] * times)

    # For the clients

    def require_up(self) -> None:
        if self._down:
            raise RetriableError(_DOWN, code="kafka.unreachable")

    def connection_problem(self) -> str | None:
        return _DOWN if self._down else None

    def take(self, producer: object, batch: EncodedBatch) -> InMemoryDelivery:
        delivery = InMemoryDelivery()
        with self.changed:
            self._pending.append(_Pending(producer, batch, delivery))
            self._deliver()
        return delivery

    def waiting(self, producer: object) -> bool:
        return any(item.producer is producer for item in self._pending)

    def give_up(self, producer: object) -> None:
        with self.changed:
            for item in self._pending:
                if item.producer is producer:
                    item.delivery.settle(RetriableError("the producer was closed before the broker answered"))
            self._pending = deque(item for item in self._pending if item.producer is not producer)
            self.changed.notify_all()

    def next_send_fault(self) -> HeadraceError | None:
        return self._send_faults.popleft() if self._send_faults else None

    def write(
        self, batch: EncodedBatch, *, transaction: object = None, partition: int | None = None
    ) -> set[TopicPartition]:
        """Append a batch; return its partitions."""
        self.create(batch.topic)
        now = time.time_ns() // 1_000_000
        rows = self._distributed(batch) if partition is None else {partition: range(len(batch))}
        written = {TopicPartition(batch.topic, number): places for number, places in rows.items()}
        for item, places in written.items():
            self.logs[item].append(batch, places, now, transaction)
        self.changed.notify_all()
        return set(written)

    def _distributed(self, batch: EncodedBatch) -> Mapping[int, Sequence[int]]:
        """Return the rows of a batch by partition: by the hash of the key, without a key in turn."""
        partitions = self._partitions[batch.topic]
        rows: dict[int, list[int]] = defaultdict(list)
        for row in range(len(batch)):
            key = batch.keys[row] if batch.keys is not None else None
            rows[(next(self._turns) if key is None else zlib.crc32(key)) % partitions].append(row)
        return rows

    def _deliver(self) -> None:
        while self._pending and not self._down and not self._held:
            item = self._pending.popleft()
            fault = self.next_send_fault()
            if fault is None:
                self.write(item.batch)
            item.delivery.settle(fault)
        self.changed.notify_all()
