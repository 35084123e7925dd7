"""Records that wait for company before they are put: until they are enough, or the first has waited long enough."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from headrace.plugin import Linger
from headrace.records import ConsumedBatch, TopicPartition


class Gathering:
    """Of one task, as its sink wishes. What is held here is read and not yet put: no position has moved over it."""

    def __init__(self, wish: Linger) -> None:
        self._wish = wish
        self._held: dict[TopicPartition, list[ConsumedBatch]] = {}
        self._records = self._size = 0
        self._due = 0.0

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._held)

    def left(self) -> float:
        """Seconds that what is held may wait yet."""
        return max(0.0, self._due - time.monotonic())

    def through(self, consumed: Sequence[ConsumedBatch]) -> list[ConsumedBatch]:
        """Add; all that is held when its time has come, else nothing."""
        if consumed and not self._held:
            self._due = time.monotonic() + self._wish.seconds
        for batch in consumed:
            self._held.setdefault(batch.topic_partition, []).append(batch)
            self._records += len(batch)
            self._size += sum(map(len, filter(None, batch.values)))
        enough = self._records >= self._wish.records or 0 < self._wish.size <= self._size
        return self.release() if self._held and (enough or not self.left()) else []

    def release(self) -> list[ConsumedBatch]:
        """All that is held, one batch a partition."""
        held, self._held, self._records, self._size = self._held, {}, 0, 0
        return [_joined(batches) for batches in held.values()]

    def discard(self, partitions: Collection[TopicPartition]) -> None:
        """Somebody else reads these again."""
        for topic_partition in partitions:
            for batch in self._held.pop(topic_partition, ()):
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
