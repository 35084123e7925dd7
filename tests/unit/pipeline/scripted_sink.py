"""A sink task with a script of faults, over a consumer whose commits are checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.broker.in_memory import InMemoryConsumer
from headrace.errors import DataError, RetriableError
from headrace.pipeline.sink import SinkPipeline
from headrace.plugin import PendingPut, SinkContext, SinkTask
from headrace.records import EncodedBatch, Rejection, SinkBatch, TopicPartition

AWAY = RetriableError("Elasticsearch does not answer", code="test.away")


@dataclass
class Store:
    """The system behind one or more sink tasks."""

    rows: dict[tuple[TopicPartition, int], Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    rejected: set[Any] = field(default_factory=set)
    puts: int = 0
    begun: dict[int, int] = field(default_factory=dict)
    """Puts that are open, by task."""
    most_begun: int = 0


class SequentialSinkTask(SinkTask):
    def __init__(self, store: Store) -> None:
        self.store = store
        self.stopped = 0
        self.idle_calls = 0
        self.idle_faults: list[Exception] = []

    def start(self, context: SinkContext) -> None:
        self.context = context

    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        self.store.puts += 1
        fault = self.store.faults.pop(0) if self.store.faults else ""
        if fault == "before":
            raise AWAY
        rejections = []
        for batch in batches:
            for offset, value in zip(batch.offsets, batch.values, strict=True):
                if value in self.store.rejected:
                    rejections.append(Rejection(batch.topic_partition, offset, DataError(f"cannot index {value}")))
                else:
                    self.store.rows[batch.topic_partition, offset] = value
        if fault == "after":
            raise AWAY
        return rejections

    def idle(self) -> None:
        self.idle_calls += 1
        assert not self.store.begun.get(id(self)), "called while a put is in flight"
        if self.idle_faults:
            raise self.idle_faults[0]

    def stop(self) -> None:
        self.stopped += 1


class OverlappingSinkTask(SequentialSinkTask):
    """Writes half of the records when a put begins, and the others when it is finished."""

    def begin(self, batches: Sequence[SinkBatch]) -> PendingPut:
        if self.store.faults and self.store.faults[0] == "before":
            self.store.puts += 1
            self.store.faults.pop(0)
            raise AWAY
        self.store.most_begun = max(self.store.most_begun, self.store.begun.get(id(self), 0) + 1)
        self.store.begun[id(self)] = self.store.begun.get(id(self), 0) + 1
        return BegunPut(self, batches)


class BegunPut(PendingPut):
    def __init__(self, task: OverlappingSinkTask, batches: Sequence[SinkBatch]) -> None:
        self.task, self.batches = task, list(batches)
        self.rejections = list(SequentialSinkTask.put(task, self.batches[::2])) if not task.store.faults else None

    def finish(self) -> Sequence[Rejection]:
        if self.rejections is None:
            self.rejections = list(SequentialSinkTask.put(self.task, self.batches[::2]))
        rejections = [*self.rejections, *SequentialSinkTask.put(self.task, self.batches[1::2])]
        self.task.store.begun[id(self.task)] -= 1
        return rejections

    def discard(self, partitions: Collection[TopicPartition]) -> None:
        kept = [batch for batch in self.batches if batch.topic_partition not in partitions]
        if len(kept) < len(self.batches):
            self.batches, self.rejections = kept, None


class CheckedConsumer(InMemoryConsumer):
    """Checks every commit before it is stored."""

    def __init__(self, broker: Any, check: Callable[[Mapping[TopicPartition, int]], None]) -> None:
        super().__init__(broker, "connect-test", "earliest")
        self.check = check

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.check(offsets)
        super().commit(offsets)


@dataclass
class Sink:
    harness: Any
    store: Store
    task: SequentialSinkTask
    pipeline: SinkPipeline

    def send(self, values: Sequence[Any], topic: str = "t", keys: Sequence[bytes] | None = None) -> None:
        producer = self.harness.broker.producer({})
        encoded: list[bytes | None] = [json.dumps(value).encode() for value in values]
        producer.send(EncodedBatch(topic, encoded, list(keys) if keys else None))

    def committed(self) -> int:
        return sum(self.harness.broker.committed("connect-test").values())


def letters(broker: Any) -> list[dict[str, str]]:
    return [
        {name.removeprefix("__connect.errors."): value.decode() for name, value in record.headers}
        for record in broker.records("dlq")
    ]
