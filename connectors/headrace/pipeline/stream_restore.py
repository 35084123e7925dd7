"""Restores the state of assigned partitions from their changelogs, before their first record is processed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from headrace.broker.interfaces import Admin, Reader
from headrace.pipeline.control import TaskControl
from headrace.pipeline.stream_state import StreamState
from headrace.pipeline.stream_topics import changelog_topic, read_to_end
from headrace.plugin import StreamTopology
from headrace.records import ConsumedBatch, TopicPartition

_HEARTBEAT = 1.0
"""Seconds between two polls of the paused consumer while state is restored."""


@dataclass(frozen=True)
class StateRestorer:
    """``heartbeat`` polls the consumer, so that the task remains in its group; ``is_owned`` says what it still owns."""

    application: str
    topology: StreamTopology
    state: StreamState
    open_admin: Callable[[], Admin]
    open_reader: Callable[[], Reader]
    control: TaskControl
    heartbeat: Callable[[], None]
    is_owned: Callable[[TopicPartition], bool]
    restored: Callable[[int], None]
    """Is given the number of records that were read."""

    def restore(self, partitions: Collection[TopicPartition]) -> bool:
        """Replace the state that follows these partitions. Return False when the task is stopping."""
        wanted = {
            TopicPartition(changelog_topic(self.application, store), item.partition): item
            for item in partitions
            for store, followed in self.topology.stores.items()
            if item.topic in followed
        }
        self.state.drop(partitions)
        admin = self.open_admin()
        try:
            # The end of the log: records of a transaction that its owner is committing at this moment count, too.
            found = admin.end_offsets(sorted({item.topic for item in wanted}), committed=False)
        finally:
            admin.close()
        ends = {item: found[item] for item in wanted if found.get(item)}
        return not ends or self._read(ends, wanted)

    def _read(self, ends: Mapping[TopicPartition, int], followed: Mapping[TopicPartition, TopicPartition]) -> bool:
        next_heartbeat, restored = time.monotonic() + _HEARTBEAT, 0

        def apply(batch: ConsumedBatch) -> None:
            nonlocal restored
            if self.is_owned(followed[batch.topic_partition]):
                self.state.restore(batch)
                restored += len(batch)

        def proceed(remaining: int) -> bool:
            nonlocal next_heartbeat
            self.control.reasons.set("restore", f"restoring state: {remaining:,} changelog records remain")
            if time.monotonic() >= next_heartbeat:
                next_heartbeat = time.monotonic() + _HEARTBEAT
                self.heartbeat()
            return not self.control.stopping()

        reader = self.open_reader()
        try:
            reader.assign(dict.fromkeys(ends, 0))
            reached = read_to_end(reader, ends, apply, proceed)
        finally:
            reader.close()
            self.control.reasons.set("restore", None)
        self.restored(restored)
        if reached:
            self.control.log.info("state restored", records=restored, partitions=len(ends))
        return reached
