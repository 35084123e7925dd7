"""The tables of a stream application: topics that each task reads to their ends before its first record, and follows.

Their records are in no transaction: a task that starts again reads them again.
"""

from __future__ import annotations

from collections.abc import Callable

from headrace.broker.interfaces import Admin, Reader
from headrace.pipeline.control import TaskControl
from headrace.pipeline.stages import Stages
from headrace.pipeline.stream.encoding import decode_shared
from headrace.pipeline.stream.topics import read_to_end
from headrace.plugin import StreamTask, StreamTopology
from headrace.records import ConsumedBatch

_MAX_RECORDS = 4_000
"""Records of one poll."""


class FollowedTables:
    """Used from the task's thread."""

    def __init__(
        self,
        task: StreamTask,
        topology: StreamTopology,
        stages: Stages,
        open_reader: Callable[[], Reader],
        control: TaskControl,
    ) -> None:
        self._task = task
        self._topology = topology
        self._stages = stages
        self._open_reader = open_reader
        self._control = control
        self._reader: Reader | None = None

    def load(self, admin: Admin) -> None:
        """Read the tables to their ends, once; the task may be told to stop before. Raise RetriableError."""
        if self._reader is not None or not self._topology.followed():
            return
        ends = admin.end_offsets(self._topology.followed())
        reader = self._open_reader()
        try:
            reached = read_to_end(reader, {}, ends, self._apply, self._proceed)
            reader.assign(ends)
        except BaseException:
            reader.close()
            raise
        self._control.reasons.set("tables", None)
        if reached:
            self._reader = reader
        else:
            reader.close()

    def update(self) -> None:
        """Apply the records that have been written since the last call."""
        if self._reader is not None:
            for batch in self._reader.poll(0, _MAX_RECORDS):
                self._apply(batch)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _proceed(self, remaining: int) -> bool:
        self._control.reasons.set("tables", f"reading tables: {remaining:,} records remain")
        return not self._control.stopping()

    def _apply(self, batch: ConsumedBatch) -> None:
        """Apply records of a table. Records that are not rows are reported and left out."""
        topic = batch.topic_partition.topic
        decoded, failures = decode_shared(batch) if topic in self._topology.shared else self._stages.decode(batch)
        rejected = [item for part in decoded for item in self._task.update_table(part)]
        if failures or rejected:
            errors = [*(item.error for item in failures), *(item.error for item in rejected)]
            self._control.raise_condition(
                "stream.table_rows",
                f"records of table topic {topic} are not rows and were left out",
                "fix them in their source; the table is read again when the task restarts",
                count=len(errors),
                example=f"{batch.topic_partition}: {errors[-1].message}",
            )
