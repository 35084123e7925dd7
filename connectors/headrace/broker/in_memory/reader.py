"""Readers of the in-memory Kafka."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from headrace.broker.in_memory.cluster import InMemoryCluster
from headrace.broker.in_memory.partition_log import StoredRecord
from headrace.records import ConsumedBatch, TopicPartition


class InMemoryReader:
    """See :class:`headrace.broker.interfaces.Reader`."""

    def __init__(self, cluster: InMemoryCluster, *, committed: bool) -> None:
        self._cluster = cluster
        self._committed = committed
        self._positions: dict[TopicPartition, int] = {}

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self._positions = dict(positions)

    def poll(self, timeout: float, max_records: int) -> list[ConsumedBatch]:
        end = time.monotonic() + timeout
        while True:
            with self._cluster.changed:
                batches = self._fetch(max_records)
                left = end - time.monotonic()
                if batches or left <= 0:
                    return batches
                self._cluster.changed.wait(left)

    def positions(self) -> dict[TopicPartition, int]:
        return dict(self._positions)

    def beginnings(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        with self._cluster.changed:
            return {item: self._cluster.logs[item].start for item in partitions}

    def connection_problem(self) -> str | None:
        return self._cluster.connection_problem()

    def close(self) -> None:
        self._positions.clear()

    def _fetch(self, max_records: int) -> list[ConsumedBatch]:
        batches = []
        for item, position in self._positions.items() if not self._cluster.down else ():
            log = self._cluster.logs[item]
            records, self._positions[item] = log.read(position, max_records, committed=self._committed)
            if records:
                max_records -= len(records)
                batches.append(as_batch(item, records, log.high_watermark))
        return batches


def as_batch(topic_partition: TopicPartition, records: Sequence[StoredRecord], end_offset: int) -> ConsumedBatch:
    """Return stored records as a batch."""
    return ConsumedBatch(
        topic_partition,
        [record.offset for record in records],
        [record.key for record in records],
        [record.value for record in records],
        [record.timestamp for record in records],
        [record.headers for record in records],
        end_offset,
    )
