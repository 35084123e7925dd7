"""Measures the time of batches at each hop of a task, and marks batches that are sent (:mod:`headrace.freshness`).

Everything is done once per batch. All classes are used from the task's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from headrace.batch_spans import BatchSpans
from headrace.freshness import (
    HEADER,
    Held,
    Hop,
    TaskFreshness,
    decode_hops,
    encode_hops,
    ends_of,
    header_of,
    way,
    with_hop,
)
from headrace.metrics import now_ms
from headrace.pipeline.freshness_objective import FreshnessObjective
from headrace.pipeline.in_flight import InFlightBatch
from headrace.records import ConsumedBatch, EncodedBatch, Headers, SourceBatch, TopicPartition

Clock = Callable[[], int]
"""Epoch milliseconds."""


def marked(batch: EncodedBatch, header: bytes) -> EncodedBatch:
    """Give the last record of a batch the header with its hops, in place of one that it may have."""
    if len(batch):
        if batch.headers is None:
            headers: list[Headers] = [()] * len(batch)
            headers[-1] = [(HEADER, header)]
        else:
            headers = list(batch.headers)
            headers[-1] = [*(field for field in headers[-1] if field[0] != HEADER), (HEADER, header)]
        batch.headers = headers
    return batch


class SourceHops:
    """Of a source task: ``poll`` from the change of a row to its read, ``acknowledge`` until Kafka has it."""

    def __init__(
        self,
        freshness: TaskFreshness,
        name: str,
        *,
        marks: bool,
        spans: BatchSpans | None = None,
        clock: Clock = now_ms,
    ) -> None:
        """``marks``: whether batches get the header."""
        self._freshness = freshness
        self._name = name
        self._marks = marks
        self._spans = spans
        self._clock = clock
        self._poll, self._acknowledge = freshness.hop("poll"), freshness.hop("acknowledge")

    def polled(self, batch: SourceBatch) -> int:
        """Note a batch that was read, and return the time."""
        now = self._clock()
        if batch.changed is not None:
            self._poll.note(batch.changed, now)
        return now

    def sending(self, batch: SourceBatch, encoded: Iterable[EncodedBatch], polled: int) -> None:
        """Mark the batches that are sent."""
        if self._marks:
            changed = polled if batch.changed is None else batch.changed
            header = encode_hops((Hop(self._name, changed, self._clock()),))
            for part in encoded:
                marked(part, header)

    def acknowledged(self, entries: Iterable[InFlightBatch]) -> None:
        now = self._clock()
        for entry in entries:
            if entry.encoded:
                self._acknowledge.note(entry.polled, now)
                changed = entry.batch.changed
                self._freshness.note_passed(entry.polled if changed is None else changed, now)
                if self._spans is not None:
                    for part in entry.encoded:
                        self._spans.add("send", part.topic, len(part), part.headers, entry.polled, now)


@dataclass(slots=True)
class _Arrival:
    """A batch that was read from Kafka."""

    last: int
    """Its last offset."""
    header: bytes | None
    """Decoded only when the hops are needed: they are not for most batches."""
    changed: int
    read: int
    known: bool
    """Whether ``changed`` is the time of its data; False for a part of a marked batch without the mark."""


class _Arrivals:
    """Finds the times of consumed batches."""

    def __init__(self, freshness: TaskFreshness) -> None:
        self._read = freshness.hop("read")
        self._marked: set[str] = set()  # topics whose batches have headers

    def read(self, batch: ConsumedBatch, now: int) -> _Arrival:
        """Note the time that the batch spent in Kafka."""
        header = header_of(batch.headers)
        ends = ends_of(header)
        if ends is not None:
            self._marked.add(batch.topic_partition.topic)
            changed, sent = ends
            known = True
        else:
            header = None
            changed = sent = batch.timestamps[-1]
            known = sent > 0 and batch.topic_partition.topic not in self._marked
        if known:
            self._read.note(sent, now)
        return _Arrival(batch.offsets[-1], header, changed, now, known)


class SinkHops:
    """Of a sink task: ``read`` from Kafka, ``write`` until the system has it, ``search`` until searches find it."""

    def __init__(
        self,
        freshness: TaskFreshness,
        objective: FreshnessObjective | None = None,
        clock: Clock = now_ms,
        spans: BatchSpans | None = None,
    ) -> None:
        self._freshness = freshness
        self._objective = objective
        self._spans = spans
        self._clock = clock
        self._arrivals = _Arrivals(freshness)
        self._write, self._search = freshness.hop("write"), freshness.hop("search")
        self._waiting: dict[TopicPartition, deque[_Arrival]] = {}
        self.searchable_after = 0.0
        """Seconds until searches find what was written, at the latest."""

    def read(self, batches: Iterable[ConsumedBatch]) -> None:
        now = self._clock()
        for batch in batches:
            queue = self._waiting.get(batch.topic_partition)
            if queue is None:
                queue = self._waiting[batch.topic_partition] = deque()
            queue.append(self._arrivals.read(batch, now))

    def written(self, batches: Iterable[ConsumedBatch]) -> None:
        """Note that the system has all records of these batches, which may have been joined since they were read."""
        now = self._clock()
        found = now + round(self.searchable_after * 1000)
        newest: _Arrival | None = None
        for batch in batches:
            queue = self._waiting.get(batch.topic_partition)
            if self._spans is not None and queue:
                topic = batch.topic_partition.topic
                self._spans.add("write", topic, len(batch), batch.headers, queue[0].read, now)
            while queue and queue[0].last <= batch.offsets[-1]:
                arrival = queue.popleft()
                if arrival.known:
                    self._write.note(arrival.read, now)
                    if self.searchable_after:
                        self._search.note(now, found)
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

    def _held(self, arrival: _Arrival, written: int) -> Iterator[Held]:
        yield from way(decode_hops(arrival.header), arrival.read)
        yield Held("the writes of this sink", (written - arrival.read) / 1000)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        for topic_partition in partitions:
            self._waiting.pop(topic_partition, None)


def _age_order(arrival: _Arrival) -> int:
    return arrival.changed


class StreamHops:
    """Of a stream task: ``read`` from Kafka, ``commit`` until its outputs are committed."""

    def __init__(
        self,
        freshness: TaskFreshness,
        name: str,
        *,
        marks: bool,
        spans: BatchSpans | None = None,
        clock: Clock = now_ms,
    ) -> None:
        """``marks``: whether outputs get the header."""
        self._freshness = freshness
        self._name = name
        self._marks = marks
        self._spans = spans
        self._traced: list[tuple[ConsumedBatch, int]] = []  # batches of the open transaction, and when they were read
        self._clock = clock
        self._arrivals = _Arrivals(freshness)
        self._commit = freshness.hop("commit")
        self._batch: ConsumedBatch | None = None
        self._current: _Arrival | None = None
        self._uncommitted: list[_Arrival] = []

    def processing(self, batch: ConsumedBatch) -> None:
        """Note the batch whose outputs are sent next. It may be processed in several parts."""
        if batch is self._batch:
            return
        self._batch = batch
        arrival = self._arrivals.read(batch, self._clock())
        if self._spans is not None:
            self._traced.append((batch, arrival.read))
        if arrival.known:
            self._current = arrival
            self._uncommitted.append(arrival)

    def marked(self, output: EncodedBatch) -> EncodedBatch:
        """Mark an output with the hops of the newest batch that was processed."""
        if not self._marks or self._current is None:
            return output
        current = self._current
        hops = decode_hops(current.header)
        arrived = current.read if hops else current.changed
        return marked(output, encode_hops(with_hop(hops, Hop(self._name, arrived, self._clock()))))

    def committed(self) -> None:
        now = self._clock()
        for arrival in self._uncommitted:
            self._commit.note(arrival.read, now)
            self._freshness.note_passed(arrival.changed, now)
        self._uncommitted = []
        if self._spans is not None:
            for batch, read in self._traced:
                self._spans.add("process", batch.topic_partition.topic, len(batch), batch.headers, read, now)
            self._traced = []

    def discarded(self) -> None:
        """Forget the batches of a transaction that failed."""
        self._batch, self._uncommitted, self._traced = None, [], []
