"""A dead letter queue, read from Kafka without a consumer group: letters, their marks, and what is still open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from headrace.broker.bounded_read import read_between
from headrace.broker.interfaces import Admin, Reader
from headrace.dead_letters.letters import Letter, RecordPlace, letters_of
from headrace.dead_letters.marks import LetterMark, marks_topic, parse_marks
from headrace.errors import NotFoundError
from headrace.records import ConsumedBatch, TopicPartition

_MOST_RECORDS = 1_000

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
    for poll in read_between(reader, start, until, _MOST_RECORDS):
        yield poll.batches
