"""Restores the state of assigned partitions from their changelogs, before their first record is processed.

With checkpoints, only what the changelogs have after them is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from headrace.broker.interfaces import Admin, Reader
from headrace.errors import HeadraceError
from headrace.pipeline.control import TaskControl
from headrace.pipeline.stream.checkpoint import Checkpoints
from headrace.pipeline.stream.state import ChangelogBatch, StreamState
from headrace.pipeline.stream.topics import changelog_topic, read_to_end
from headrace.plugin import StreamTopology
from headrace.records import ConsumedBatch, TopicPartition

_HEARTBEAT = 1.0
"""Seconds between two polls of the paused consumer while state is restored."""


_NOTE_INTERVAL = 30.0
"""Seconds between two looks at the ends of the changelogs, for the checkpoints."""


@dataclass
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
    checkpoints: Checkpoints
    _next_note: float = 0.0

    def restore(self, partitions: Collection[TopicPartition]) -> bool:
        """Replace the state that follows these partitions. Return False when the task is stopping."""
        wanted = {
            TopicPartition(changelog_topic(self.application, store), item.partition): item
            for item in partitions
            for store, followed in self.topology.stores.items()
            if item.topic in followed
        }
        self.state.drop(partitions)
        topics = sorted({item.topic for item in wanted})
        admin = self.open_admin()
        try:
            # The end of the log: records of a transaction that its owner is committing at this moment count, too.
            found = admin.end_offsets(topics, committed=False)
            ids = admin.topic_ids(topics) if self.checkpoints.enabled else {}
        finally:
            admin.close()
        ends = {item: found.get(item, 0) for item in wanted}
        starts = {item: self._from_checkpoint(item, ids.get(item.topic), end) for item, end in ends.items()}
        unread = {item: end for item, end in ends.items() if end > starts[item]}
        reached = not unread or self._read(unread, starts, wanted)
        if reached:
            self.checkpoints.note_ends(ends)
        else:  # they lack a part, and must not be noted as complete
            self.checkpoints.close(ends)
        return reached

    def committed(self, written: Sequence[ChangelogBatch]) -> None:
        """Write committed records of the changelogs to the checkpoints."""
        if not self.checkpoints.enabled:
            return
        for batch, partition in written:
            assert batch.keys is not None
            self.checkpoints.write(TopicPartition(batch.topic, partition), batch.keys, batch.values)
        if time.monotonic() >= self._next_note:
            self.note_ends()

    def note_ends(self) -> None:
        """Note how far the checkpoints are. Call it when everything that was committed is in them."""
        self._next_note = time.monotonic() + _NOTE_INTERVAL
        known = set(self.checkpoints.changelogs())
        if not known:
            return
        try:
            admin = self.open_admin()
            try:
                ends = admin.end_offsets(sorted({item.topic for item in known}))
            finally:
                admin.close()
        except HeadraceError as error:  # the next restart reads more of the changelogs
            self.control.log.warning("checkpoint not advanced", code=error.code, reason=str(error))
            return
        self.checkpoints.note_ends({item: end for item, end in ends.items() if item in known})

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Close the checkpoints that follow these partitions."""
        self.checkpoints.close(
            {
                TopicPartition(changelog_topic(self.application, store), item.partition)
                for item in partitions
                for store, followed in self.topology.stores.items()
                if item.topic in followed
            }
        )

    def _from_checkpoint(self, changelog: TopicPartition, topic_id: str | None, end: int) -> int:
        """Restore what the checkpoint has, and return the offset from which the changelog has to be read."""
        if topic_id is None:
            return 0
        start = self.checkpoints.open(changelog, topic_id, end)
        for batch in self.checkpoints.entries(changelog):
            self.state.restore(batch)
        return start

    def _read(
        self,
        ends: Mapping[TopicPartition, int],
        starts: Mapping[TopicPartition, int],
        followed: Mapping[TopicPartition, TopicPartition],
    ) -> bool:
        next_heartbeat, restored = time.monotonic() + _HEARTBEAT, 0

        def apply(batch: ConsumedBatch) -> None:
            nonlocal restored
            if self.is_owned(followed[batch.topic_partition]):
                self.state.restore(batch)
                self.checkpoints.write(batch.topic_partition, batch.keys, batch.values)
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
            reached = read_to_end(reader, starts, ends, apply, proceed)
        finally:
            reader.close()
            self.control.reasons.set("restore", None)
        self.restored(restored)
        if reached:
            self.control.log.info("state restored", records=restored, partitions=len(ends))
        return reached
