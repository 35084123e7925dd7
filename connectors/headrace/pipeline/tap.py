"""Records of a running task at one stage, for a caller that asks for them (``headrace tap``).

The loop checks once per batch whether a caller waits, and then adds references to the batch. Texts are made on the
caller's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

from headrace.errors import CommandError, ConflictError
from headrace.records import ConsumedBatch, EncodedBatch, RecordColumns, TopicPartition

POLLED = "polled"
"""The rows of a source as it returned them."""
READ = "read"
"""The bytes that a sink has read from Kafka."""
CONVERTED = "converted"
"""The records of a sink behind its converters."""
WRITTEN = "written"
"""The bytes that a source sends to Kafka, or the records that a sink is given."""


_NO_STAGES = "a task that starts has them in a moment; those of stream applications have none (`headrace stream test`)"


class TappedBatch(NamedTuple):
    """Records of one topic at the stage."""

    columns: RecordColumns
    topic_partition: TopicPartition | None = None
    """Where a sink has read them."""


class TapRequest:
    """A caller that waits for records. The loop of the task adds them."""

    def __init__(self, stage: str, records: int) -> None:
        self._stage = stage
        self._room = records
        self._found: list[TappedBatch] = []
        self._full = threading.Event()

    def wants(self, stage: str) -> bool:
        return stage == self._stage and self._room > 0

    def add(self, columns: RecordColumns, topic_partition: TopicPartition | None = None) -> None:
        """Add as many records of the batch as are still wanted."""
        part = columns if len(columns) <= self._room else columns.between(0, self._room)
        if len(part):
            self._room -= len(part)
            self._found.append(TappedBatch(part, topic_partition))
        if self._room == 0:
            self._full.set()

    def wait(self, seconds: float) -> list[TappedBatch]:
        """Return the records as soon as there are enough, or those that came within the time."""
        self._full.wait(seconds)
        return list(self._found)


class TaskTap:
    """The tap of one task. At most one caller waits at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held by the caller, never by the loop
        self.request: TapRequest | None = None
        """The caller that waits. The loop reads it once per batch."""
        self.stages: Sequence[str] = ()
        """The stages of the task in the order of its records; empty until its pipeline is built."""

    def collect(self, stage: str, records: int, seconds: float) -> list[TappedBatch]:
        """Return the next records at the stage: at most ``records``, within ``seconds``. Blocks.

        Raise CommandError for an unknown stage, ConflictError while another caller waits.
        """
        if stage not in self.stages:
            hint = f"it has: {', '.join(self.stages)}" if self.stages else _NO_STAGES
            raise CommandError(f"the task has no stage '{stage}'", code="tap.unknown_stage", hint=hint)
        if not self._lock.acquire(blocking=False):
            text = "another tap of this task has not ended"
            raise ConflictError(text, code="tap.in_use", hint="try again when it has ended")
        try:
            self.request = request = TapRequest(stage, records)
            return request.wait(seconds)
        finally:
            self.request = None
            self._lock.release()


def step_stage(alias: str) -> str:
    """Return the name of the stage behind a transform."""
    return f"transforms.{alias}"


def consumed_columns(batch: ConsumedBatch) -> RecordColumns:
    """Return the records as they were read, as bytes."""
    topic_partition = batch.topic_partition
    return RecordColumns(
        topic_partition.topic,
        batch.keys,
        batch.values,
        batch.timestamps,
        batch.headers,
        batch.offsets,
        partition=topic_partition.partition,
    )


def encoded_columns(batch: EncodedBatch) -> RecordColumns:
    """Return the records as they are sent, as bytes."""
    rows = len(batch)
    return RecordColumns(
        batch.topic,
        batch.keys if batch.keys is not None else [None] * rows,
        batch.values,
        batch.timestamps if batch.timestamps is not None else [None] * rows,
        batch.headers if batch.headers is not None else [()] * rows,
        batch.rows or range(rows),
    )
