"""Measures the time of batches at each hop of a task, and marks batches that are sent (:mod:`headrace.freshness`).

Everything is done once per batch. All classes are used from the task's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from headrace.freshness import HEADER, Held, Hop, Hops, TaskFreshness, encode_hops, hops_of, way, with_hop
from headrace.metrics import now_ms
from headrace.pipeline.freshness_objective import FreshnessObjective
from headrace.pipeline.in_flight import InFlightBatch
from headrace.records import ConsumedBatch, EncodedBatch, Headers, SourceBatch, TopicPartition

Clock = Callable[[], int]
"""Epoch milliseconds."""


def marked(batch: EncodedBatch, hops: Hops) -> EncodedBatch:
    """Give the last record of a batch the header with its hops, in place of one that it may have."""
    if len(batch):
        headers: list[Headers] = [()] * len(batch) if batch.headers is None else list(batch.headers)
        kept = [field for field in headers[-1] if field[0] != HEADER]
        headers[-1] = [*kept, (HEADER, encode_hops(hops))]
        batch.headers = headers
    return batch


class SourceHops:
    """Of a source task: ``poll`` from the change of a row to its read, ``acknowledge`` until Kafka has it."""

    def __init__(self, freshness: TaskFreshness, name: str, *, marks: bool, clock: Clock = now_ms) -> None:
        """``marks``: whether batches get the header."""
        self._freshness = freshness
        self._name = name
        self._marks = marks
        self._clock = clock

    def polled(self, batch: SourceBatch) -> int:
        """Note a batch that was read, and return the time."""
        now = self._clock()
        if batch.changed is not None:
            self._freshness.note_hop("poll", batch.changed, now)
        return now

    def sending(self, batch: SourceBatch, encoded: Iterable[EncodedBatch], polled: int) -> None:
        """Mark the batches that are sent."""
        if self._marks:
            hop = Hop(self._name, polled if batch.changed is None else batch.changed, self._clock())
            for part in encoded:
                marked(part, (hop,))

    def acknowledged(self, entries: Iterable[InFlightBatch]) -> None:
        now = self._clock()
        for entry in entries:
            if entry.encoded:
                self._freshness.note_hop("acknowledge", entry.polled, now)
                changed = entry.batch.changed
                self._freshness.note_passed(entry.polled if changed is None else changed, now)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A batch that was read from Kafka."""

    last: int
    """Its last offset."""
    hops: Hops
    changed: int
    read: int
    known: bool
    """Whether ``changed`` is the time of its data; False for a part of a marked batch without the mark."""


class _Arrivals:
    """Finds the hops of consumed batches."""

    def __init__(self, freshness: TaskFreshness, clock: Clock) -> None:
        self._freshness = freshness
        self._clock = clock
        self._marked: set[str] = set()  # topics whose batches have headers

    def read(self, batch: ConsumedBatch) -> _Arrival:
        """Note the time that the batch spent in Kafka."""
        now, topic = self._clock(), batch.topic_partition.topic
        hops = hops_of(batch.headers)
        if hops:
            self._marked.add(topic)
        stamp = batch.timestamps[-1]
        known = bool(hops) or (topic not in self._marked and stamp > 0)
        if known:
            self._freshness.note_hop("read", hops[-1].sent if hops else stamp, now)
        return _Arrival(batch.offsets[-1], hops, hops[0].arrived if hops else stamp, now, known)


class SinkHops:
    """Of a sink task: ``read`` from Kafka, ``write`` until the system has it, ``search`` until searches find it."""

    def __init__(
        self, freshness: TaskFreshness, objective: FreshnessObjective | None = None, clock: Clock = now_ms
    ) -> None:
        self._freshness = freshness
        self._objective = objective
        self._clock = clock
        self._arrivals = _Arrivals(freshness, clock)
        self._waiting: dict[TopicPartition, deque[_Arrival]] = {}
        self.searchable_after = 0.0
        """Seconds until searches find what was written, at the latest."""

    def read(self, batches: Iterable[ConsumedBatch]) -> None:
        for batch in batches:
            self._waiting.setdefault(batch.topic_partition, deque()).append(self._arrivals.read(batch))

    def written(self, batches: Iterable[ConsumedBatch]) -> None:
        """Note that the system has all records of these batches, which may have been joined since they were read."""
        now = self._clock()
        found = now + round(self.searchable_after * 1000)
        newest: _Arrival | None = None
        for batch in batches:
            queue = self._waiting.get(batch.topic_partition)
            while queue and queue[0].last <= batch.offsets[-1]:
                arrival = queue.popleft()
                if arrival.known:
                    self._freshness.note_hop("write", arrival.read, now)
                    if self.searchable_after:
                        self._freshness.note_hop("search", now, found)
                    self._freshness.note_passed(arrival.changed, found)
                    newest = arrival if newest is None or arrival.changed >= newest.changed else newest
        if self._objective is not None and newest is not None:
            self._objective.judge((found - newest.changed) / 1000, self._held(newest, now))

    def check(self) -> None:
        """Judge the oldest records that the task has read and not written, which may wait for long."""
        if self._objective is None or not (self._objective.due()):
            return
        now = self._clock()
        oldest = min((queue[0] for queue in self._waiting.values() if queue), key=_age_order, default=None)
        if oldest is None:
            self._objective.idle()
        elif oldest.known:
            self._objective.waits((now - oldest.changed) / 1000, self._held(oldest, now))

    def _held(self, arrival: _Arrival, written: int) -> list[Held]:
        return [*way(arrival.hops, arrival.read), Held("the writes of this sink", (written - arrival.read) / 1000)]

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        for topic_partition in partitions:
            self._waiting.pop(topic_partition, None)


def _age_order(arrival: _Arrival) -> int:
    return arrival.changed


class StreamHops:
    """Of a stream task: ``read`` from Kafka, ``commit`` until its outputs are committed."""

    def __init__(self, freshness: TaskFreshness, name: str, *, marks: bool, clock: Clock = now_ms) -> None:
        """``marks``: whether outputs get the header."""
        self._freshness = freshness
        self._name = name
        self._marks = marks
        self._clock = clock
        self._arrivals = _Arrivals(freshness, clock)
        self._batch: ConsumedBatch | None = None
        self._current: _Arrival | None = None
        self._uncommitted: list[_Arrival] = []

    def processing(self, batch: ConsumedBatch) -> None:
        """Note the batch whose outputs are sent next. It may be processed in several parts."""
        if batch is self._batch:
            return
        self._batch = batch
        arrival = self._arrivals.read(batch)
        if arrival.known:
            self._current = arrival
            self._uncommitted.append(arrival)

    def marked(self, output: EncodedBatch) -> EncodedBatch:
        """Mark an output with the hops of the newest batch that was processed."""
        if not self._marks or self._current is None:
            return output
        current = self._current
        arrived = current.read if current.hops else current.changed
        return marked(output, with_hop(current.hops, Hop(self._name, arrived, self._clock())))

    def committed(self) -> None:
        now = self._clock()
        for arrival in self._uncommitted:
            self._freshness.note_hop("commit", arrival.read, now)
            self._freshness.note_passed(arrival.changed, now)
        self._uncommitted = []

    def discarded(self) -> None:
        """Forget the batches of a transaction that failed."""
        self._batch, self._uncommitted = None, []
