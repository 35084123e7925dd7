"""A sink connector's topics from any offset on, converted and transformed as its tasks do it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from headrace.backoff import RetryPolicy
from headrace.broker.interfaces import Admin, Reader
from headrace.errors import NotFoundError, RetriableError
from headrace.pipeline.fault_policy import Failure
from headrace.pipeline.stages import Stages
from headrace.records import ConsumedBatch, SinkBatch, TopicPartition
from headrace.settings import SinkSettings

T = TypeVar("T")
Positions = Mapping[TopicPartition, int]

_MOST_RECORDS = 4_000
_POLL = 0.5
_PATIENCE = 60.0
"""Seconds without any progress after which reading is given up."""
_SKIP = 10_000
"""Records: a gap that is wider is jumped over instead of read."""


class Portion(NamedTuple):
    """What one poll gave. ``read``: records so far, ``whole``: about how many there will have been.

    ``positions``: all before these has been given by now.
    """

    batches: Sequence[SinkBatch]
    failures: Sequence[Failure]
    read: int
    whole: int
    positions: Mapping[TopicPartition, int]


@dataclass
class History:
    """Reads without a group: the connector's own positions stay as they are."""

    reader: Reader
    admin: Admin
    stages: Stages
    settings: SinkSettings
    group: str
    json_texts: bool = False

    def topics(self) -> list[str]:
        """Those that the connector reads and that are there. Raises NotFoundError when none is."""
        there = _patiently(self.admin.topics)
        pattern = self.settings.topics_regex
        wanted = [topic for topic in there if re.fullmatch(pattern, topic)] if pattern else self.settings.topics
        found = sorted(topic for topic in wanted if topic in there)
        if not found:
            name = f"matches {pattern}" if pattern else f"is called {', '.join(self.settings.topics)}"
            raise NotFoundError(f"no topic {name}", code="kafka.missing_topic", hint="check 'topics' of the connector")
        return found

    def ends(self) -> dict[TopicPartition, int]:
        """The next offset of every partition."""
        topics = self.topics()
        return _patiently(lambda: self.admin.end_offsets(topics))

    def committed(self) -> dict[TopicPartition, int]:
        """How far the connector's tasks have written; partitions without a committed position are left out."""
        ends = self.ends()
        committed = _patiently(lambda: self.admin.committed(self.group))
        return {item: min(offset, ends[item]) for item, offset in committed.items() if item in ends}

    def read(self, start: Positions, until: Positions) -> Iterator[Portion]:
        """From ``start`` (0 where it says nothing) up to ``until``. Raises RetriableError when Kafka is away."""
        left = {item: (start.get(item, 0), end) for item, end in until.items() if start.get(item, 0) < end}
        whole, read = sum(end - begin for begin, end in left.values()), 0
        positions = {item: begin for item, (begin, _) in left.items()}
        given = dict(positions)
        last_progress = time.monotonic()
        self.reader.assign(positions)
        while positions:
            consumed = self.reader.poll(_POLL, _MOST_RECORDS)
            before, reached = positions, self.reader.positions()
            given.update({item: min(reached[item], until[item]) for item in before})
            positions = {item: reached[item] for item in before if reached[item] < until[item]}
            if consumed or positions != before:
                last_progress = time.monotonic()
            elif time.monotonic() - last_progress > _PATIENCE:
                raise RetriableError(
                    f"Kafka gives no records: {self.reader.trouble() or 'nothing came for a minute'}",
                    code="kafka.unreachable",
                )
            parts = [part for batch in consumed if len(part := _before(batch, until[batch.topic_partition]))]
            read += sum(map(len, parts))
            yield self._portion(parts, read, whole, dict(given))
            if len(positions) < len(before) and positions:
                self.reader.assign(positions)

    def pick(self, places: Mapping[TopicPartition, Sequence[int]]) -> Iterator[SinkBatch]:
        """Single records, in order of each partition; those that are gone or do not convert are left out."""
        for item, offsets in places.items():
            wanted = sorted(set(offsets))
            for first, last in _runs(wanted):
                for portion in self.read({item: first}, {item: last + 1}):
                    for batch in portion.batches:
                        if rows := [row for row, offset in enumerate(batch.offsets) if offset in offsets]:
                            yield batch.only(rows)

    def _portion(
        self, consumed: Sequence[ConsumedBatch], read: int, whole: int, positions: Mapping[TopicPartition, int]
    ) -> Portion:
        batches: list[SinkBatch] = []
        failures: list[Failure] = []
        for batch in consumed:
            converted, failed = self.stages.decode(batch, json_texts=self.json_texts)
            batches += converted
            failures += failed
        return Portion(batches, failures, read, whole, positions)


def _patiently(call: Callable[[], T]) -> T:
    """A broker that is just starting, or handing something over, answers a moment later."""
    for seconds in RetryPolicy(first=0.1, longest=2.0, tries=8).waits():
        try:
            return call()
        except RetriableError as error:
            time.sleep(error.delay if error.delay is not None else seconds)
    return call()


def _before(batch: ConsumedBatch, end: int) -> ConsumedBatch:
    if not batch.offsets or batch.offsets[-1] < end:
        return batch
    count = sum(offset < end for offset in batch.offsets)
    columns = (batch.offsets, batch.keys, batch.values, batch.timestamps, batch.headers)
    offsets, keys, values, timestamps, headers = (column[:count] for column in columns)
    return ConsumedBatch(batch.topic_partition, offsets, keys, values, timestamps, headers, batch.end_offset)  # type: ignore[arg-type]


def _runs(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = offsets[0]
    for offset in offsets[1:]:
        if offset - last > _SKIP:
            yield first, last
            first = offset
        last = offset
    yield first, last


Progress = Callable[[str, int, int], None]
"""Told what is being done, how many of how many; the latter 0 when nobody knows."""
