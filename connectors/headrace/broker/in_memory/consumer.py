"""A group member of the in-memory Kafka; rebalances are incremental."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from headrace.broker.in_memory.cluster import InMemoryCluster
from headrace.broker.in_memory.reader import as_batch
from headrace.broker.in_memory.transactions import InMemoryGroupMetadata
from headrace.broker.interfaces import GroupMetadata, RebalanceListener
from headrace.errors import RetriableError
from headrace.patterns import Pattern, compile_pattern
from headrace.records import ConsumedBatch, TopicPartition


class InMemoryConsumer:
    """See :class:`headrace.broker.interfaces.Consumer`."""

    def __init__(self, cluster: InMemoryCluster, group: str, reset: str, *, committed: bool = True) -> None:
        self._cluster = cluster
        self._group_name = group
        self._group = cluster.groups[group]
        self._committed_only = committed
        self._reset = reset
        self._topics: frozenset[str] = frozenset()
        self._pattern: Pattern | None = None
        self._listener = RebalanceListener(lambda _: None, lambda _: None)
        self._positions: dict[TopicPartition, int] = {}  # of all owned partitions; the first one is polled first
        self._paused = False
        self._paused_only: frozenset[TopicPartition] = frozenset()
        self._closed = False

    def subscribe(self, topics: Sequence[str], pattern: str | None, listener: RebalanceListener) -> None:
        with self._cluster.changed:
            self._topics = frozenset(topics)
            self._pattern = compile_pattern(pattern) if pattern is not None else None
            self._listener = listener
            self._group.members.append(self)
            self._cluster.changed.notify_all()

    def wants(self, topic: str) -> bool:
        return topic in self._topics or (self._pattern is not None and self._pattern.fullmatch(topic) is not None)

    def position(self, topic_partition: TopicPartition) -> int:
        return self._positions.get(topic_partition, 0)

    def poll(self, timeout: float, max_records: int) -> list[ConsumedBatch]:
        end = time.monotonic() + timeout
        with self._cluster.changed:
            if self._cluster.poll_faults:
                raise self._cluster.poll_faults.popleft()
        while True:
            self._rebalance()
            with self._cluster.changed:
                batches = self._fetch(max_records)
                left = end - time.monotonic()
                if batches or left <= 0:
                    return batches
                self._cluster.changed.wait(left)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        with self._cluster.changed:
            self._cluster.require_up()
            if self._cluster.commit_faults:
                raise self._cluster.commit_faults.popleft()
            self._require_owned(offsets)
            self._group.committed.update(offsets)

    def group_metadata(self) -> GroupMetadata:
        return GroupMetadata(InMemoryGroupMetadata(self._group_name, self))

    def pause_all(self) -> None:
        self._paused = True

    def resume_all(self) -> None:
        self._paused = False

    def pause_only(self, partitions: Collection[TopicPartition]) -> None:
        self._paused_only = frozenset(partitions)

    def seek(self, topic_partition: TopicPartition, offset: int) -> None:
        with self._cluster.changed:
            self._require_owned([topic_partition])
            self._positions[topic_partition] = offset

    def assignment(self) -> frozenset[TopicPartition]:
        with self._cluster.changed:
            return frozenset(self._positions)

    def connection_problem(self) -> str | None:
        return self._cluster.connection_problem()

    def abandon(self) -> bool:
        return True  # commits are not retried

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if self._positions:
                self._listener.revoked(sorted(self._positions))
        finally:
            with self._cluster.changed:
                self._release(list(self._positions))
                if self in self._group.members:
                    self._group.members.remove(self)
                self._cluster.changed.notify_all()

    def _require_owned(self, partitions: Iterable[TopicPartition]) -> None:
        lost = [str(item) for item in partitions if self._group.owners.get(item) is not self]
        if lost:
            raise RetriableError(f"{', '.join(lost)} belong to another member", code="kafka.rebalance")

    def _rebalance(self) -> None:
        """Release partitions that other members should own, take free ones; the listener runs without the lock."""
        with self._cluster.changed:
            if self._cluster.down:
                return
            target = self._group.target(self._cluster.logs)
            lost = sorted(item for item in self._positions if target.get(item) is not self)
        if lost:
            self._listener.revoked(lost)
        with self._cluster.changed:
            self._release(lost)
            target = self._group.target(self._cluster.logs)
            gained = sorted(
                item for item, member in target.items() if member is self and item not in self._group.owners
            )
            for item in gained:
                self._group.owners[item] = self
                first = 0 if self._reset == "earliest" else self._cluster.logs[item].last_stable_offset
                self._positions[item] = self._group.committed.get(item, first)
        if gained:
            self._listener.assigned(gained)

    def _release(self, partitions: Iterable[TopicPartition]) -> None:
        self._paused_only -= frozenset(partitions)
        for item in partitions:
            del self._positions[item]
            del self._group.owners[item]
        self._cluster.changed.notify_all()

    def _fetch(self, max_records: int) -> list[ConsumedBatch]:
        batches: list[ConsumedBatch] = []
        if self._paused or self._cluster.down:
            return batches
        for item, position in list(self._positions.items()):
            if item in self._paused_only:
                continue
            log = self._cluster.logs[item]
            records, self._positions[item] = log.read(position, max_records, committed=self._committed_only)
            if not records:
                continue
            max_records -= len(records)
            # Move it to the end, so that every partition is served.
            self._positions[item] = self._positions.pop(item)
            batches.append(as_batch(item, records, log.high_watermark))
        return batches
