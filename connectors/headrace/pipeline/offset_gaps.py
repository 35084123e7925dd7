"""Names the records of a partition that a sink task could not read: retention, resets of offsets, recreated topics.

The consumer goes on at the next record that exists, without an error. What it passed over is found by comparing the
expected offset with the first one that is delivered: once per batch, without a request while offsets are consecutive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import structlog

from headrace.broker.interfaces import Admin
from headrace.conditions import RaiseCondition
from headrace.errors import HeadraceError
from headrace.records import ConsumedBatch, TopicPartition

_LOOKUP_INTERVAL = 1.0
"""Seconds between two requests for first offsets: compacted and transactional topics have gaps in every batch."""

_FAILURE_INTERVAL = 30.0  # seconds


class OffsetGap(NamedTuple):
    """Offsets ``start`` to ``end - 1`` of a partition that were not delivered."""

    topic_partition: TopicPartition
    start: int
    end: int

    def lost_before(self, first_offset: int) -> OffsetGap | None:
        """Return the part that is gone because the partition begins at ``first_offset`` now; None: compaction and
        transaction markers left the gap, and nothing is lost."""
        if first_offset <= self.start:
            return None
        return self._replace(end=min(self.end, first_offset))

    def __str__(self) -> str:
        return f"{self.topic_partition}: offsets {self.start} to {self.end - 1}"


class OffsetGaps:
    """Used from the task's thread. Requests that fail are repeated later; they never stop the task."""

    def __init__(
        self,
        open_admin: Callable[[], Admin],
        group: str,
        raise_condition: RaiseCondition,
        log: structlog.stdlib.BoundLogger,
        reset: str = "earliest",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``reset``: the consumer's ``auto.offset.reset``."""
        self._open_admin = open_admin
        self._group = group
        self._raise = raise_condition
        self._log = log
        self._reset = reset
        self._clock = clock
        self._admin: Admin | None = None
        self._expected: dict[TopicPartition, int] = {}
        self._assigned: set[TopicPartition] = set()
        self._unexplained: list[tuple[TopicPartition, int, Sequence[int]]] = []
        """Partition, expected offset, delivered offsets with a gap before or within."""
        self._next_lookup = 0.0

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Note partitions whose committed offsets are to be compared. Called inside the consumer's poll."""
        self._assigned.update(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        for topic_partition in partitions:
            self._expected.pop(topic_partition, None)
        self._assigned.difference_update(partitions)

    def check(self, consumed: Sequence[ConsumedBatch]) -> None:
        """Compare what was just consumed with what was expected. Call it after every poll."""
        for batch in consumed:
            self._compare(batch)
        if (self._assigned or self._unexplained) and self._clock() >= self._next_lookup:
            self._next_lookup = self._clock() + _LOOKUP_INTERVAL
            try:
                self._look_up()
            except HeadraceError as error:  # what is looked up is for a report: the task need not stop
                self._next_lookup = self._clock() + _FAILURE_INTERVAL
                self._log.warning("offsets not compared yet", code=error.code, reason=str(error))

    def close(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def _compare(self, batch: ConsumedBatch) -> None:
        place, offsets = batch.topic_partition, batch.offsets
        expected = self._expected.get(place, offsets[0])
        self._expected[place] = offsets[-1] + 1
        if offsets[0] < expected:
            self._report_recreated(place, expected, offsets[0])
        elif offsets[-1] - expected + 1 != len(offsets):
            self._unexplained.append((place, expected, offsets))

    def _look_up(self) -> None:
        if self._admin is None:
            self._admin = self._open_admin()
        assigned, unexplained = self._assigned, self._unexplained
        topics = sorted({item.topic for item in assigned} | {item[0].topic for item in unexplained})
        first = self._admin.begin_offsets(topics)
        if assigned:
            committed, ends = self._admin.committed(self._group), self._admin.end_offsets(topics)
            for place in sorted(assigned):
                if place in committed and place in first and place in ends:
                    self._compare_committed(place, committed[place], first[place], ends[place])
        self._assigned, self._unexplained = set(), []
        for place, expected, offsets in unexplained:
            if first.get(place, 0) > expected:
                self._report_lost(offset_gaps(place, expected, offsets), first[place])

    def _compare_committed(self, place: TopicPartition, committed: int, first: int, end: int) -> None:
        if committed > end:
            self._report_recreated(place, committed, first)
        elif committed < first:
            self._report_lost([OffsetGap(place, committed, first)], first)
            if self._reset == "latest" and first < end:
                self._report_reset(OffsetGap(place, first, end))
        elif place not in self._expected:
            self._expected[place] = committed

    def _report_reset(self, gap: OffsetGap) -> None:
        self._raise(
            "offsets.reset",
            f"auto.offset.reset: latest skipped unread records of {gap.topic_partition}: offsets {gap.start} to "
            f"{gap.end - 1} (at most {gap.end - gap.start} records)",
            "stop the connector, set its offsets with `headrace connectors offsets`, and use `earliest`",
            count=gap.end - gap.start,
            example=str(gap),
        )

    def _report_lost(self, gaps: Iterable[OffsetGap], first_offset: int) -> None:
        lost = [found for gap in gaps if (found := gap.lost_before(first_offset)) is not None]
        for gap in lost:
            count = gap.end - gap.start
            self._raise(
                "records.removed_unread",
                f"retention removed records of {gap.topic_partition} before they were read: offsets {gap.start} to "
                f"{gap.end - 1} (at most {count} records)",
                "load them again from their source; raise retention.ms of the topic so that a sink can catch up",
                count=count,
                example=str(gap),
            )

    def _report_recreated(self, place: TopicPartition, expected: int, actual: int) -> None:
        self._raise(
            "topic.recreated",
            f"{place} was expected to continue at offset {expected} and continues at {actual}: the topic was deleted "
            "and created again, the cluster lost records, or offsets were moved back",
            "if the topic was created again, delete its index, too: its documents have higher versions than the new "
            "records (`headrace reindex`)",
            example=f"{place}: offset {expected} to {actual}",
        )


def offset_gaps(place: TopicPartition, expected: int, offsets: Sequence[int]) -> list[OffsetGap]:
    """Return the gaps before and between ascending ``offsets``."""
    return [
        OffsetGap(place, before + 1, after)
        for before, after in pairwise([expected - 1, *offsets])
        if after != before + 1
    ]
