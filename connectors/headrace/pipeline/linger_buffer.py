"""The linger buffer of a sink task: holds records until there are enough, or until the first has waited long enough."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from headrace.plugin import Linger
from headrace.records import ConsumedBatch, TopicPartition


class LingerBuffer:
    """Buffers consumed records as a sink's ``linger`` asks for. They are not put yet: no position has passed them."""

    def __init__(self, linger: Linger) -> None:
        self._linger = linger
        self._buffered: dict[TopicPartition, list[ConsumedBatch]] = {}
        self._records = self._size = 0
        self._due = 0.0

    def __bool__(self) -> bool:
        return bool(self._buffered)

    @property
    def records(self) -> int:
        """Number of buffered records."""
        return self._records

    def remaining(self) -> float:
        """Return the seconds until the buffered records are due."""
        return max(0.0, self._due - time.monotonic())

    def add(self, consumed: Sequence[ConsumedBatch]) -> list[ConsumedBatch]:
        """Buffer records; return all that are buffered when they are due, else nothing."""
        if consumed and not self._buffered:
            self._due = time.monotonic() + self._linger.seconds
        for batch in consumed:
            self._buffered.setdefault(batch.topic_partition, []).append(batch)
            self._records += len(batch)
            self._size += sum(map(len, filter(None, batch.values)))
        full = self._records >= self._linger.records or 0 < self._linger.size <= self._size
        return self.flush() if self._buffered and (full or not self.remaining()) else []

    def flush(self) -> list[ConsumedBatch]:
        """Remove and return all buffered records, one batch per partition."""
        buffered, self._buffered, self._records, self._size = self._buffered, {}, 0, 0
        return [_joined(batches) for batches in buffered.values()]

    def discard(self, partitions: Collection[TopicPartition]) -> None:
        """Discard the records of partitions that were reassigned; their new owner reads them again."""
        for topic_partition in partitions:
            for batch in self._buffered.pop(topic_partition, ()):
                self._records -= len(batch)
                self._size -= sum(map(len, filter(None, batch.values)))


def _joined(batches: Sequence[ConsumedBatch]) -> ConsumedBatch:
    if len(batches) == 1:
        return batches[0]
    return replace(
        batches[-1],
        offsets=[item for batch in batches for item in batch.offsets],
        keys=[item for batch in batches for item in batch.keys],
        values=[item for batch in batches for item in batch.values],
        timestamps=[item for batch in batches for item in batch.timestamps],
        headers=[item for batch in batches for item in batch.headers],
    )
