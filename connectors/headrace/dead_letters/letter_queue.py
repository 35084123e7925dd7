"""A dead letter queue, read from Kafka without a consumer group: letters, their marks, and what is still open."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from headrace.broker.interfaces import Admin, Reader
from headrace.dead_letters.letters import Letter, RecordPlace, letters_of
from headrace.dead_letters.marks import LetterMark, marks_topic, parse_marks
from headrace.errors import NotFoundError, RetriableError
from headrace.records import ConsumedBatch, TopicPartition

_POLL = 0.5
_MOST_RECORDS = 1_000
_READ_TIMEOUT = 60.0
"""Seconds without progress after which reading fails."""

Progress = Callable[[str, int, int], None]
"""Called with the current step, how much is done, and how much there is in all."""


@dataclass
class LetterQueue:
    """The queue of one connector. Used from one thread."""

    topic: str
    connector: str
    reader: Reader
    admin: Admin
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    """Up to where :meth:`letters` has read."""
    read: int = 0
    """How many records :meth:`letters` has read, those of other connectors included."""

    def ends(self) -> dict[TopicPartition, int]:
        """Return the queue's end offsets. Raise NotFoundError when the topic does not exist."""
        ends = self.admin.end_offsets([self.topic])
        if not ends:
            raise NotFoundError(
                f"the dead letter queue {self.topic} (errors.deadletterqueue.topic.name) does not exist",
                code="dlq.missing_topic",
                hint="it is created when a task of the connector starts; check the connector's status",
            )
        return ends

    def letters(
        self,
        until: Mapping[TopicPartition, int],
        progress: Progress,
        start: Mapping[TopicPartition, int] | None = None,
    ) -> Iterator[list[Letter]]:
        """Yield the connector's letters from ``start`` (the beginning) to ``until``, in order of each partition.

        A letter without the header ``connector.name`` belongs to every connector that uses the queue.
        """
        begins = self.admin.begin_offsets([self.topic])
        first = {item: max(begins.get(item, 0), (start or {}).get(item, 0)) for item in until}
        whole = sum(max(0, end - first[item]) for item, end in until.items())
        self.positions, self.read = dict(first), 0
        for consumed in read_pages(self.reader, first, until):
            page = []
            for batch in consumed:
                self.read += len(batch)
                self.positions[batch.topic_partition] = batch.offsets[-1] + 1
                page += [letter for letter in letters_of(batch) if letter.connector() in (None, self.connector)]
            progress("reading letters", self.read, whole)
            yield page

    def marks(self) -> dict[RecordPlace, LetterMark]:
        """Return all marks; empty when none was ever written."""
        topic = marks_topic(self.topic)
        ends = self.admin.end_offsets([topic])
        marks: dict[RecordPlace, LetterMark] = {}
        for consumed in read_pages(self.reader, self.admin.begin_offsets([topic]), ends):
            for batch in consumed:
                marks |= parse_marks(self.topic, batch)
        return marks


def read_pages(
    reader: Reader, start: Mapping[TopicPartition, int], until: Mapping[TopicPartition, int]
) -> Iterator[list[ConsumedBatch]]:
    """Yield all records from ``start`` up to ``until``. Raise RetriableError when Kafka does not answer."""
    positions = {item: start.get(item, 0) for item, end in until.items() if start.get(item, 0) < end}
    last_progress = time.monotonic()
    reader.assign(positions)
    while positions:
        before = positions
        consumed = [_before(batch, until[batch.topic_partition]) for batch in reader.poll(_POLL, _MOST_RECORDS)]
        reached = reader.positions()
        positions = {item: reached[item] for item in before if reached[item] < until[item]}
        if positions != before:
            last_progress = time.monotonic()
        elif time.monotonic() - last_progress > _READ_TIMEOUT:
            reason = reader.connection_problem() or f"nothing for {_READ_TIMEOUT:g} s"
            raise RetriableError(f"Kafka returns no records: {reason}", code="kafka.unreachable")
        yield [batch for batch in consumed if len(batch)]
        if positions and len(positions) < len(before):
            reader.assign(positions)


def _before(batch: ConsumedBatch, end: int) -> ConsumedBatch:
    count = sum(offset < end for offset in batch.offsets)
    if count == len(batch):
        return batch
    return ConsumedBatch(
        batch.topic_partition,
        batch.offsets[:count],
        batch.keys[:count],
        batch.values[:count],
        batch.timestamps[:count],
        batch.headers[:count],
        batch.end_offset,
    )
