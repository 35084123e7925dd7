"""One batch of a stream task: processed without the records that are refused, and encoded.

A record has all of its effects or none: when a step or a converter refuses some records of a batch, the results are
discarded and the batch is processed again without them. A stream task is a pure function, so this is always possible.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.errors import DataError
from headrace.pipeline.fault_policy import Failure, Stage
from headrace.pipeline.stream.encoding import EncodedOutput, Encoder
from headrace.pipeline.stream.refused_results import FailedResult, failed_result
from headrace.plugin import Changes, Segments, StepCounts, StreamResult, StreamTask
from headrace.records import EncodedBatch, SinkBatch, TopicPartition
from headrace.worker_events import WorkerEvent

CheckChanges = Callable[[Mapping[str, Changes]], None]
"""Raises DataError when changes of a state cannot be written to their changelogs."""


@dataclass(slots=True)
class ProcessedBatch:
    """The results of a batch, ready to be sent and applied."""

    outputs: list[EncodedBatch] = field(default_factory=list)
    changes: dict[str, Changes] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    steps: dict[str, StepCounts] = field(default_factory=dict)
    refused_results: list[FailedResult] = field(default_factory=list)
    events: list[WorkerEvent] = field(default_factory=list)


def process(
    task: StreamTask,
    batch: SinkBatch,
    state: Mapping[str, Segments],
    encode: Encoder,
    check: CheckChanges | None = None,
) -> ProcessedBatch:
    """Process a batch with one schema. Raise RetriableError of a converter, TaskError.

    ``check``: refuses the records of a batch whose changes of the state cannot be written.
    """
    executor = executor_of(task)
    consumed = batch.topic_partition
    failures: dict[int, Failure] = {}
    while len(batch):
        result = task.process(batch, state)
        refused = {
            item.offset: Failure(Stage.STREAM_STEP, executor, item.error, consumed, item.offset)
            for item in reversed(result.rejections)
        }
        encoded = [] if refused else [encode(output, consumed) for output in result.outputs]
        for output in encoded:
            refused |= {item.offset: item for item in output.failures}
        if not refused and check is not None:
            try:
                check(result.changes)
            except DataError as error:
                refused = {n: Failure(Stage.STREAM_STEP, executor, error, consumed, n) for n in batch.offsets}
        if not refused:
            return _processed(task, result, consumed, encoded, _in_order(failures))
        failures |= refused
        batch = without(batch, refused)
    return ProcessedBatch(failures=_in_order(failures))


def executor_of(task: StreamTask) -> str:
    """Return the name of a task's class, as failures have it."""
    return f"{type(task).__module__}.{type(task).__qualname__}"


def process_silence(task: StreamTask, place: TopicPartition, result: StreamResult, encode: Encoder) -> ProcessedBatch:
    """Encode the outputs of :meth:`headrace.StreamTask.advance`. Raise RetriableError of a converter."""
    encoded = [encode(output, place) for output in result.outputs]
    return _processed(task, result, place, encoded, [])


def _processed(
    task: StreamTask,
    result: StreamResult,
    consumed: TopicPartition,
    encoded: Sequence[EncodedOutput],
    failures: list[Failure],
) -> ProcessedBatch:
    refused = [
        failed_result(item, Stage.STREAM_STEP, executor_of(task), consumed.topic) for item in result.refused_results
    ]
    return ProcessedBatch(
        [batch for output in encoded for batch in output.batches],
        result.changes,
        failures,
        result.steps,
        [*refused, *(item for output in encoded for item in output.results)],
        result.events,
    )


def _in_order(failures: dict[int, Failure]) -> list[Failure]:
    return [failures[offset] for offset in sorted(failures)]


def without(batch: SinkBatch, offsets: Collection[int]) -> SinkBatch:
    """Return the batch without the records at these offsets."""
    return batch.only([row for row, offset in enumerate(batch.offsets) if offset not in offsets])
