"""One batch of a stream task: decoded, processed without the records that are refused, encoded.

A record has all of its effects or none: when a step or a converter refuses some records of a batch, the results are
discarded and the batch is processed again without them. A stream task is a pure function, so this is always possible.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from headrace.errors import DataError
from headrace.json_bytes import json_bytes
from headrace.pipeline.fault_policy import Failure, Stage
from headrace.pipeline.stages import Stages
from headrace.pipeline.stream import state_codec
from headrace.pipeline.stream.plain_values import plain_values
from headrace.plugin import (
    Changes,
    RefusedResult,
    Segments,
    StepCounts,
    StreamOutput,
    StreamResult,
    StreamTask,
    StreamTopology,
)
from headrace.records import ConsumedBatch, EncodedBatch, SinkBatch, SourceBatch, TopicPartition
from headrace.worker_events import WorkerEvent


class Encoder(Protocol):
    """Encodes outputs; a failure's offset is that of the record in the consumed batch."""

    def __call__(self, output: StreamOutput, consumed: TopicPartition) -> tuple[list[EncodedBatch], list[Failure]]: ...


@dataclass(slots=True)
class ProcessedBatch:
    """The results of a batch, ready to be sent and applied."""

    outputs: list[EncodedBatch] = field(default_factory=list)
    changes: dict[str, Changes] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    steps: dict[str, StepCounts] = field(default_factory=dict)
    refused_results: list[RefusedResult] = field(default_factory=list)
    events: list[WorkerEvent] = field(default_factory=list)


def process(task: StreamTask, batch: SinkBatch, state: Mapping[str, Segments], encode: Encoder) -> ProcessedBatch:
    """Process a batch with one schema. Raise RetriableError of a converter, TaskError."""
    executor = executor_of(task)
    consumed = batch.topic_partition
    failures: dict[int, Failure] = {}
    while len(batch):
        result = task.process(batch, state)
        refused = {
            item.offset: Failure(Stage.STREAM_STEP, executor, item.error, consumed, item.offset)
            for item in reversed(result.rejections)
        }
        encoded: list[EncodedBatch] = []
        for output in () if refused else result.outputs:
            batches, failed = encode(output, consumed)
            encoded += batches
            refused |= {item.offset: item for item in failed}
        if not refused:
            refusals = _in_order(failures)
            return ProcessedBatch(
                encoded, result.changes, refusals, result.steps, result.refused_results, result.events
            )
        failures |= refused
        batch = without(batch, refused)
    return ProcessedBatch(failures=_in_order(failures))


def executor_of(task: StreamTask) -> str:
    """Return the name of a task's class, as failures have it."""
    return f"{type(task).__module__}.{type(task).__qualname__}"


def encode_results(result: StreamResult, advanced: TopicPartition, encode: Encoder) -> list[EncodedBatch]:
    """Return the encoded outputs of :meth:`headrace.StreamTask.advance`. Raise DataError: no record can be skipped."""
    encoded: list[EncodedBatch] = []
    for output in result.outputs:
        batches, failures = encode(output, advanced)
        for failure in failures:
            raise failure.error
        encoded += batches
    return encoded


def _in_order(failures: dict[int, Failure]) -> list[Failure]:
    return [failures[offset] for offset in sorted(failures)]


def without(batch: SinkBatch, offsets: Collection[int]) -> SinkBatch:
    """Return the batch without the records at these offsets."""
    return batch.only([row for row, offset in enumerate(batch.offsets) if offset not in offsets])


def encoder(stages: Stages, topology: StreamTopology) -> Encoder:
    """Return the encoder of a task: its converters, and JSON of our own for repartition topics and shared topics."""
    typed: set[str] = set()
    """Topics whose results have values without a plain form."""

    def encode(output: StreamOutput, consumed: TopicPartition) -> tuple[list[EncodedBatch], list[Failure]]:
        if output.topic in topology.repartitions:
            return [_internal(output)], []
        if output.topic in topology.shared:
            return [_shared(output)], []
        encoded = None if output.topic in typed else stages.encode(_batch(output, output.values, output.keys))
        if encoded is None or encoded.failures:
            encoded = stages.encode(_batch(output, plain_values(output.values), plain_values(output.keys)))
            typed.add(output.topic)
        failures = []
        for failure in encoded.failures:
            origin = output.origins[failure.offset]
            if origin < 0:  # several records made it, so none of them can be refused for it
                raise failure.error
            failures.append(failure._replace(topic_partition=consumed, offset=origin))
        return encoded.batches, failures

    return encode


def _batch(output: StreamOutput, values: list[Any], keys: list[Any]) -> SourceBatch:
    keyed = any(key is not None for key in keys)
    return SourceBatch(
        output.topic, values, keys=keys if keyed else None, timestamps=output.timestamps, headers=output.headers
    )


def _shared(output: StreamOutput) -> EncodedBatch:
    """Plain JSON, which every other reader understands. Timestamps are Kafka's: event times may be old."""
    return EncodedBatch(output.topic, list(json_bytes(output.values)), [key.encode() for key in output.keys])


def decode_shared(batch: ConsumedBatch) -> tuple[list[SinkBatch], list[Failure]]:
    """Return the records of a shared topic, and those that another program wrote and that are no JSON."""
    rows, keys, values, failures = [], [], [], []
    for row, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
        try:
            values.append(None if value is None else orjson.loads(value))
        except orjson.JSONDecodeError as error:
            problem = DataError(f"the value is not JSON: {error}", code="stream.not_json")
            place = batch.topic_partition
            failures.append(Failure(Stage.VALUE_CONVERTER, __name__, problem, place, batch.offsets[row]))
        else:
            rows.append(row)
            keys.append(None if key is None else key.decode(errors="replace"))
    decoded = SinkBatch(
        batch.topic_partition,
        batch.topic_partition.topic,
        [batch.offsets[row] for row in rows],
        keys,
        values,
        [batch.timestamps[row] for row in rows],
        [batch.headers[row] for row in rows],
    )
    return [decoded], failures


def _internal(output: StreamOutput) -> EncodedBatch:
    """Store the event time in the value: the timestamps of an internal topic may be those of the broker."""
    values = state_codec.encode([[time, value] for time, value in zip(output.timestamps, output.values, strict=True)])
    return EncodedBatch(
        output.topic, list(values), list(state_codec.encode(output.keys)), output.timestamps, output.headers
    )


def decode_internal(batch: ConsumedBatch) -> SinkBatch:
    """Return the records of an internal topic."""
    values = [state_codec.decode(value or b"[0,null]") for value in batch.values]
    return SinkBatch(
        batch.topic_partition,
        batch.topic_partition.topic,
        batch.offsets,
        [None if key is None else state_codec.decode(key) for key in batch.keys],
        [value for _, value in values],
        [time for time, _ in values],
        batch.headers,
        end_offset=batch.end_offset,
    )
