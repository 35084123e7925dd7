"""Partitions without new records: how long they have been silent while the task was able to read them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator

from headrace.records import TopicPartition

_LONGEST_GAP = 1.0
"""Seconds without a poll above which the time before does not count as silence."""


class SilentPartitions:
    """Used from the task's thread. Time in which the task did not read, such as a pause or an outage, is no silence."""

    def __init__(self, idle_after: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        """``idle_after`` in seconds; None: no partition is ever reported."""
        self._idle_after = idle_after
        self._clock = clock
        self._since: dict[TopicPartition, float] = {}
        self._advanced: dict[TopicPartition, float] = {}
        self._last_poll = 0.0

    @property
    def enabled(self) -> bool:
        return self._idle_after is not None

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        self._since.update(dict.fromkeys(partitions, self._clock()))

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        for item in partitions:
            self._since.pop(item, None)
            self._advanced.pop(item, None)

    def polled(self, *, reading: bool) -> None:
        """Note a poll. ``reading``: whether all partitions could be read."""
        if self._idle_after is None:
            return
        now, before = self._clock(), self._last_poll
        self._last_poll = now
        if not reading or now - before > max(_LONGEST_GAP, self._idle_after / 2):
            self._since = dict.fromkeys(self._since, now)

    def received(self, topic_partition: TopicPartition) -> None:
        if self._idle_after is not None:
            self._since[topic_partition] = self._clock()

    def due(self) -> Iterator[tuple[TopicPartition, int]]:
        """Yield the partitions that are idle, and the milliseconds since their last record or their last advance."""
        if self._idle_after is None:
            return
        now = self._clock()
        for item, since in list(self._since.items()):
            advanced = self._advanced.get(item)
            if now - since >= self._idle_after:
                yield item, int((now - (since if advanced is None else max(since, advanced))) * 1000)

    def advanced(self, topic_partition: TopicPartition) -> None:
        """Note that the stream time of an idle partition was advanced up to now."""
        self._advanced[topic_partition] = self._clock()

    def clear(self) -> None:
        self._since.clear()
        self._advanced.clear()
