"""Accounts for the offsets of a sink task's partitions, and names records that could not be read.

Records are not read because of retention, resets of offsets and recreated topics.

The consumer goes on at the next record that exists, without an error. What it passed over is found by comparing the
expected offset with the first one that is delivered: once per batch, without a request while offsets are consecutive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import structlog

from headrace.accounting import PartitionAccounts
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


class _UnexplainedGaps(NamedTuple):
    """Delivered offsets of a partition with a gap before or within them."""

    topic_partition: TopicPartition
    expected: int
    offsets: Sequence[int]
    counted: bool = True
    """Whether the gaps are part of the partition's account; not any more if it was revoked meanwhile."""


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
        accounts: PartitionAccounts | None = None,
    ) -> None:
        """``reset``: the consumer's ``auto.offset.reset``."""
        self._open_admin = open_admin
        self._group = group
        self._raise = raise_condition
        self._log = log
        self._reset = reset
        self._clock = clock
        self._accounts = accounts if accounts is not None else PartitionAccounts()
        self._admin: Admin | None = None
        self._expected: dict[TopicPartition, int] = {}
        self._assigned: set[TopicPartition] = set()
        self._committed: dict[TopicPartition, int] = {}
        """By this task. Kafka deletes the offsets of a group with the topic, so that it cannot be asked for them."""
        self._lost_before: dict[TopicPartition, OffsetGap] = {}
        """Of partitions without an account yet: removed records before the first one."""
        self._unexplained: list[_UnexplainedGaps] = []
        self._next_lookup = 0.0

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Note partitions whose committed offsets are to be compared. Called inside the consumer's poll."""
        self._assigned.update(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        for topic_partition in partitions:
            self._expected.pop(topic_partition, None)
            self._lost_before.pop(topic_partition, None)
            self._end_account(topic_partition)
        self._assigned.difference_update(partitions)

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note the offsets that the task has committed."""
        self._committed.update(offsets)

    def check(self, consumed: Sequence[ConsumedBatch]) -> None:
        """Compare the consumed offsets with the expected ones. Call it after every poll."""
        for batch in consumed:
            self._compare(batch)
        if (self._assigned or self._unexplained) and self._clock() >= self._next_lookup:
            self._next_lookup = self._clock() + _LOOKUP_INTERVAL
            try:
                self._look_up()
            except HeadraceError as error:  # the request is for a report only: the task does not stop
                self._next_lookup = self._clock() + _FAILURE_INTERVAL
                self._log.warning("offsets not compared yet", code=error.code, reason=str(error))

    def unexplained(self) -> dict[TopicPartition, int]:
        """Return the first offset of the gaps of each partition whose cause is not known yet."""
        first: dict[TopicPartition, int] = {}
        for found in self._unexplained:
            first.setdefault(found.topic_partition, found.expected)
        return first

    def end_offset(self, topic_partition: TopicPartition) -> int | None:
        """Return the end offset of a partition as Kafka reports it now; None when it does not exist.

        The end that a consumer knows may be an old one, and lower than an earlier one after the leader has changed.
        Raises the errors of :class:`headrace.broker.interfaces.Admin`.
        """
        return self._opened_admin().end_offsets([topic_partition.topic], committed=False).get(topic_partition)

    def close(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def _compare(self, batch: ConsumedBatch) -> None:
        place, offsets = batch.topic_partition, batch.offsets
        expected, end = self._expected.get(place), offsets[-1] + 1
        if expected is None:
            if offsets[0] < (former := self._committed.pop(place, 0)):  # it was assigned to this task before
                self._report_recreated(place, former, offsets[0])
            self._begin_account(place, offsets[0])
            expected = offsets[0]
        elif offsets[0] < expected:
            self._report_recreated(place, expected, offsets[0])
            self._end_account(place)
            self._accounts.begin(str(place), offsets[0])
            expected = offsets[0]
        gap = end - expected - len(offsets)
        if gap:
            self._unexplained.append(_UnexplainedGaps(place, expected, offsets))
        self._expected[place] = end
        self._accounts.read(str(place), len(offsets), end, gap)

    def _begin_account(self, place: TopicPartition, offset: int) -> None:
        self._accounts.begin(str(place), offset)
        if (lost := self._lost_before.pop(place, None)) is not None:
            self._accounts.begin_earlier(str(place), lost.start, lost.end)

    def _end_account(self, place: TopicPartition) -> None:
        """Remove the account. The cause of its gaps is still reported when it is known."""
        self._accounts.remove(str(place))
        self._unexplained = [
            found._replace(counted=found.counted and found.topic_partition != place) for found in self._unexplained
        ]

    def _opened_admin(self) -> Admin:
        if self._admin is None:
            self._admin = self._open_admin()
        return self._admin

    def _look_up(self) -> None:
        admin = self._opened_admin()
        assigned, unexplained = self._assigned, self._unexplained
        topics = sorted({item.topic for item in assigned} | {found.topic_partition.topic for found in unexplained})
        first = admin.begin_offsets(topics)
        if assigned:
            # A consumer with read_uncommitted may have committed an offset after the last stable one.
            committed, ends = admin.committed(self._group), admin.end_offsets(topics, committed=False)
            for place in sorted(assigned):
                if place in committed and place in first and place in ends:
                    self._compare_committed(place, committed[place], first[place], ends[place])
        self._assigned, self._unexplained = set(), []
        for found in unexplained:
            self._explain(found, first.get(found.topic_partition, 0))

    def _explain(self, found: _UnexplainedGaps, first: int) -> None:
        place = found.topic_partition
        gaps = offset_gaps(place, found.expected, found.offsets)
        lost = self._report_lost(gaps, first) if first > found.expected else 0
        skipped = 0
        if lost and self._reset == "latest" and first < found.offsets[0]:
            skipped = found.offsets[0] - first
            self._report_reset(OffsetGap(place, first, found.offsets[0]))
        if found.counted:
            self._accounts.explain(str(place), lost, sum(gap.end - gap.start for gap in gaps) - lost - skipped)

    def _compare_committed(self, place: TopicPartition, committed: int, first: int, end: int) -> None:
        if committed > end:
            self._report_recreated(place, committed, first)
        elif committed < first:
            gap = OffsetGap(place, committed, first)
            self._report_lost([gap], first)
            if self._reset == "latest":
                if first < end:
                    self._report_reset(OffsetGap(place, first, end))
            elif place in self._expected:
                self._accounts.begin_earlier(str(place), committed, first)
            else:
                self._lost_before[place] = gap
        elif place in self._expected:
            self._accounts.begin_earlier(str(place), committed, committed)
        else:
            self._expected[place] = committed
            self._accounts.begin(str(place), committed)

    def _report_reset(self, gap: OffsetGap) -> None:
        self._raise(
            "offsets.reset",
            f"auto.offset.reset: latest skipped unread records of {gap.topic_partition}: offsets {gap.start} to "
            f"{gap.end - 1} (at most {gap.end - gap.start} records)",
            "stop the connector, set its offsets with `headrace connectors offsets`, and use `earliest`",
            count=gap.end - gap.start,
            example=str(gap),
        )

    def _report_lost(self, gaps: Iterable[OffsetGap], first_offset: int) -> int:
        """Raise a condition for the gaps that retention made; return their number of offsets."""
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
        return sum(gap.end - gap.start for gap in lost)

    def _report_recreated(self, place: TopicPartition, expected: int, actual: int) -> None:
        self._raise(
            "topic.recreated",
            f"{place} was expected to continue at offset {expected} and continues at {actual}: the topic was deleted "
            "and created again, the cluster lost records, or offsets were moved back",
            "if the topic was created again, the index has higher versions than the new records: "
            "`headrace reindex NAME FILE…` builds it again from the topic (--copy-lost keeps what the topic lacks)",
            example=f"{place}: offset {expected} to {actual}",
        )


def offset_gaps(place: TopicPartition, expected: int, offsets: Sequence[int]) -> list[OffsetGap]:
    """Return the gaps before and between ascending ``offsets``."""
    return [
        OffsetGap(place, before + 1, after)
        for before, after in pairwise([expected - 1, *offsets])
        if after != before + 1
    ]
