"""Provisional results of a left join: left records that have no match yet when they reach an age.

A stage is an age. A left record reaches it when the time of the right side has passed its own time, the stage and the
grace: further right records within the stage would be late. Like the end of the interval, this depends on the records
only, not on how they are divided into batches.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from headrace_streams.operators.join_records import LEFT, TIME, JoinRecords, Record


class StagedRecord(NamedTuple):
    """A left record that has reached a stage. Ordered by the moment, then in the order in which they were found."""

    due: int
    """The stage is reached when the right side's time is higher."""
    order: int
    stage: int
    key: Any
    record: Record


class JoinStages:
    """The stages that left records reach in one batch, in which the right side's time advances to ``last``."""

    def __init__(self, stages: Sequence[int], grace: int, records: JoinRecords, time: int | None, last: int) -> None:
        """``time``: of the right side before the batch; None: it has had no record."""
        self._stages = stages
        self._grace = grace
        self._records = records
        self._last = last
        self._order = 0
        self._due: list[StagedRecord] = []
        for stage in stages:
            first = None if time is None else time - grace - stage
            for key, record in records.between(LEFT, first, last - grace - stage):
                self._push(stage, key, record)

    def added(self, key: Any, record: Record) -> None:
        """Note a left record that came in this batch."""
        for stage in self._stages:
            if record[TIME] + stage + self._grace < self._last:
                self._push(stage, key, record)

    def reached(self, time: int | None) -> Iterator[StagedRecord]:
        """Yield the open records that have reached a stage when the time of the right side is ``time``."""
        while time is not None and self._due and self._due[0].due < time:
            item = heapq.heappop(self._due)
            moment = item.record[TIME]
            if any(record is item.record for record in self._records.find(LEFT, item.key, moment, moment)):
                yield item

    def _push(self, stage: int, key: Any, record: Record) -> None:
        self._order += 1
        heapq.heappush(self._due, StagedRecord(record[TIME] + stage + self._grace, self._order, stage, key, record))
