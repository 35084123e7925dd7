"""Runs a stream task without Kafka, record by record: for ``headrace stream test`` and for tests of applications."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from headrace.pipeline.fault_policy import Failure
from headrace.pipeline.stream.encoding import EncodedOutput
from headrace.pipeline.stream.processing import ProcessedBatch, process, process_silence
from headrace.pipeline.stream.state import StreamState
from headrace.plugin import StreamContext, StreamOutput, StreamTask
from headrace.records import SinkBatch, TopicPartition
from headrace.worker_events import WorkerEvent


class DrivenRecord(NamedTuple):
    """A record that the application wrote. ``timestamp`` is its event time in epoch milliseconds."""

    key: Any
    value: Any
    timestamp: int


class StreamDriver:
    """One task with all partitions: every topic has one. Time is the event time of the records that are sent."""

    def __init__(self, task: StreamTask, context: StreamContext, idle_after: int | None = None) -> None:
        """Start the task. ``idle_after`` in milliseconds, see ``idle.after``. Raise ConfigError."""
        self._task = task
        self._idle_after = idle_after
        self._topology = task.start(context)
        self._state = StreamState({store: store for store in self._topology.stores}, self._topology.stores)
        self._offsets: dict[str, int] = defaultdict(int)
        self._silence: dict[str, int] = defaultdict(int)
        self._written: list[StreamOutput] = []
        self.outputs: dict[str, list[DrivenRecord]] = {
            topic: [] for topic in (*self._topology.outputs, *self._topology.shared)
        }
        self.refused: list[Failure] = []
        self.events: list[WorkerEvent] = []

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that records may be sent to."""
        return (*self._topology.inputs, *self._topology.followed())

    def send(self, topic: str, value: Any, key: Any = None, timestamp: int = 0) -> None:
        """Process a record completely, with what it causes in repartition topics."""
        self._send(StreamOutput(topic, [key], [value], [timestamp], [0]))

    def send_batch(self, topic: str, values: Sequence[Any], keys: Sequence[Any]) -> None:
        """Process records as one batch, as a running task does when they have been read together."""
        count = len(values)
        self._send(StreamOutput(topic, list(keys), list(values), [0] * count, list(range(count))))

    def wait(self, duration: int) -> None:
        """Let ``duration`` milliseconds pass without records of inputs."""
        for topic in self._topology.consumed():
            self._silence[topic] += duration
            place, silent = TopicPartition(topic, 0), self._silence[topic]
            if self._idle_after is None or silent < self._idle_after:
                continue
            result = self._task.advance(place, silent, self._state.of(place))
            if result.changes:
                self._silence[topic] = 0
                self._apply(process_silence(self._task, place, result, self._keep))

    def close(self) -> None:
        self._task.stop()

    def _send(self, records: StreamOutput) -> None:
        first = self._offsets[records.topic]
        self._offsets[records.topic] += len(records)
        batch = SinkBatch(
            TopicPartition(records.topic, 0),
            records.topic,
            list(range(first, first + len(records))),
            records.keys,
            records.values,
            records.timestamps,
            records.headers or [()] * len(records),
        )
        if records.topic in self._topology.followed():
            self._task.update_table(batch)
        if records.topic not in self._topology.consumed():
            return
        self._silence[records.topic] = 0
        self._apply(process(self._task, batch, self._state.of(batch.topic_partition), self._keep))

    def _apply(self, result: ProcessedBatch) -> None:
        self._state.apply(0, result.changes)
        self.refused += result.failures
        self.events += result.events
        self.refused += [item.failure for item in result.refused_results]
        written, self._written = self._written, []
        self._write(written)

    def _write(self, outputs: Sequence[StreamOutput]) -> None:
        for output in outputs:
            if output.topic in self._topology.repartitions or output.topic in self._topology.shared:
                self._send(output)
            if output.topic in self.outputs:
                rows = zip(output.keys, output.values, output.timestamps, strict=True)
                self.outputs[output.topic] += [DrivenRecord(*row) for row in rows]

    def _keep(self, output: StreamOutput, consumed: TopicPartition) -> EncodedOutput:
        self._written.append(output)
        return EncodedOutput([], [], [])
