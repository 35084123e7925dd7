"""Deletes the processed records of repartition topics: nothing else does, because they have no retention."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

import structlog

from headrace.broker.interfaces import Admin
from headrace.errors import HeadraceError
from headrace.records import TopicPartition


class RepartitionPurge:
    """Used from the task's thread."""

    def __init__(
        self,
        topics: Collection[str],
        interval: float,
        open_admin: Callable[[], Admin],
        log: structlog.stdlib.BoundLogger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``interval``: seconds between two deletions."""
        self._topics = frozenset(topics)
        self._interval = interval
        self._open_admin = open_admin
        self._log = log
        self._clock = clock
        self._next = clock() + interval
        self._committed: dict[TopicPartition, int] = {}
        self._failure = ""

    def committed(self, offsets: Mapping[TopicPartition, int], gaps: Mapping[TopicPartition, int]) -> None:
        """Note committed offsets: records before them are not needed any more. Delete them when it is time.

        Records from the first offset of ``gaps`` stay: a gap that transaction markers left looks like removed records
        when the partition begins after it.
        """
        self._committed.update((item, offset) for item, offset in offsets.items() if item.topic in self._topics)
        if self._committed and self._clock() >= self._next:
            self._next = self._clock() + self._interval
            self._delete({item: min(offset, gaps.get(item, offset)) for item, offset in self._committed.items()})

    def _delete(self, before: Mapping[TopicPartition, int]) -> None:
        try:
            admin = self._open_admin()
            try:
                admin.delete_records(before)
            finally:
                admin.close()
        except HeadraceError as error:  # they take space, and nothing else depends on it
            if error.code != self._failure:
                self._failure = error.code
                self._log.warning("processed records not deleted", code=error.code, reason=str(error))
            return
        self._failure = ""
        self._committed = {item: offset for item, offset in self._committed.items() if before[item] < offset}
