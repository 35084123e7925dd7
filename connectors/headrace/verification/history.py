"""Read a sink connector's topics from any offset, with its converters and transforms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from headrace.broker.bounded_read import read_between
from headrace.broker.interfaces import Admin, Reader
from headrace.errors import NotFoundError
from headrace.patterns import compile_pattern
from headrace.pipeline.fault_policy import Failure
from headrace.pipeline.stages import Stages
from headrace.records import ConsumedBatch, SinkBatch, TopicPartition
from headrace.retries import RetryPolicy, retry
from headrace.settings import SinkSettings

T = TypeVar("T")
Positions = Mapping[TopicPartition, int]

_KAFKA_RETRIES = RetryPolicy(first=0.1, longest=2.0, tries=8)
_SKIP = 10_000
"""Records: a larger gap between two wanted records is skipped instead of read."""


class HistoryPage(NamedTuple):
    """The records of one poll. ``read``: number of records so far, ``whole``: estimate of the total.

    ``positions``: all records before these have been returned.
    """

    batches: Sequence[SinkBatch]
    failures: Sequence[Failure]
    read: int
    whole: int
    positions: Mapping[TopicPartition, int]


@dataclass
class History:
    """A sink connector's topics. Read without a consumer group: the connector's offsets are not changed."""

    reader: Reader
    admin: Admin
    stages: Stages
    settings: SinkSettings
    group: str
    json_texts: bool = False
    read_committed: bool = True
    """Whether the connector's consumer and ``reader`` do not read open transactions."""

    def topics(self) -> list[str]:
        """Return the connector's topics that exist. Raise NotFoundError when there is none."""
        there = _retried(self.admin.topics)
        pattern = self.settings.topics_regex
        compiled = compile_pattern(pattern) if pattern else None
        wanted = [topic for topic in there if compiled.fullmatch(topic)] if compiled else self.settings.topics
        found = sorted(topic for topic in wanted if topic in there)
        if not found:
            name = f"matches {pattern}" if pattern else f"is named {', '.join(self.settings.topics)}"
            raise NotFoundError(f"no topic {name}", code="kafka.missing_topic", hint="check 'topics' of the connector")
        return found

    def ends(self) -> dict[TopicPartition, int]:
        """Return the end offset of every partition: no record after it can have been read by the connector."""
        topics = self.topics()
        return _retried(lambda: self.admin.end_offsets(topics, committed=self.read_committed))

    def committed(self) -> dict[TopicPartition, int]:
        """Return the connector's committed offsets; partitions without one are left out."""
        ends = self.ends()
        committed = _retried(lambda: self.admin.committed(self.group))
        return {item: min(offset, ends[item]) for item, offset in committed.items() if item in ends}

    def read(self, start: Positions, until: Positions) -> Iterator[HistoryPage]:
        """Read from ``start`` (default 0) up to ``until``. Raise RetriableError when Kafka does not answer."""
        whole, read = sum(max(0, end - start.get(item, 0)) for item, end in until.items()), 0
        for parts, positions in read_between(self.reader, start, until):
            read += sum(map(len, parts))
            yield self._page(parts, read, whole, positions)

    def pick(self, places: Mapping[TopicPartition, Sequence[int]]) -> Iterator[SinkBatch]:
        """Return single records, in order of each partition. Deleted and inconvertible records are left out."""
        for item, offsets in places.items():
            wanted = sorted(set(offsets))
            for first, last in _runs(wanted):
                for page in self.read({item: first}, {item: last + 1}):
                    for batch in page.batches:
                        if rows := [row for row, offset in enumerate(batch.offsets) if offset in offsets]:
                            yield batch.only(rows)

    def _page(
        self, consumed: Sequence[ConsumedBatch], read: int, whole: int, positions: Mapping[TopicPartition, int]
    ) -> HistoryPage:
        batches: list[SinkBatch] = []
        failures: list[Failure] = []
        for batch in consumed:
            converted, failed = self.stages.decode(batch, json_texts=self.json_texts)
            batches += converted
            failures += failed
        return HistoryPage(batches, failures, read, whole, positions)


def _retried(call: Callable[[], T]) -> T:
    """Retry a call that fails while a broker starts or moves a partition."""
    return retry(call, policy=_KAFKA_RETRIES)


def _runs(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = offsets[0]
    for offset in offsets[1:]:
        if offset - last > _SKIP:
            yield first, last
            first = offset
        last = offset
    yield first, last


Progress = Callable[[str, int, int], None]
"""Called with the current step, the amount that is done, and the total (0: unknown)."""
