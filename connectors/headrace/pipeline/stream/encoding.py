"""Outputs of a stream task as Kafka records, and records of internal topics as batches.

A value that a converter cannot write refuses the record that it was made of. A result that several records made is left
out, and a dead letter has it: none of these records can be refused for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import orjson

from headrace.errors import DataError
from headrace.json_bytes import json_bytes
from headrace.pipeline.fault_policy import NO_PARTITION, Failure, Stage
from headrace.pipeline.stages import Encoded, Stages
from headrace.pipeline.stream import state_codec
from headrace.pipeline.stream.plain_values import plain_values
from headrace.pipeline.stream.refused_results import FailedResult, failed_result
from headrace.plugin import RefusedResult, StreamOutput, StreamTopology
from headrace.records import ConsumedBatch, EncodedBatch, SinkBatch, SourceBatch, TopicPartition


class EncodedOutput(NamedTuple):
    """An output in wire form. ``failures``: of records of the consumed batch; ``results``: that are left out."""

    batches: list[EncodedBatch]
    failures: list[Failure]
    results: list[FailedResult]


class Encoder(Protocol):
    """Encodes an output that the records of a consumed partition led to. Raise RetriableError of a converter."""

    def __call__(self, output: StreamOutput, consumed: TopicPartition) -> EncodedOutput: ...


def encoder(stages: Stages, topology: StreamTopology) -> Encoder:
    """Return the encoder of a task: its converters, and JSON of our own for repartition topics and shared topics."""
    typed: set[str] = set()
    """Topics whose results have values without a plain form."""

    def encode(output: StreamOutput, consumed: TopicPartition) -> EncodedOutput:
        if output.topic in topology.repartitions:
            return _separated(_encoded(_internal, output, "state_codec"), output, consumed)
        if output.topic in topology.shared:
            return _separated(_encoded(_shared, output, "json"), output, consumed)
        encoded = None if output.topic in typed else stages.encode(_batch(output, output.values, output.keys))
        if encoded is None or encoded.failures:
            encoded = stages.encode(_batch(output, plain_values(output.values), plain_values(output.keys)))
            typed.add(output.topic)
        return _separated(encoded, output, consumed)

    return encode


def _encoded(write: Callable[[StreamOutput], EncodedBatch], output: StreamOutput, form: str) -> Encoded:
    """Encode in a form of our own; rows that have none are left out and are failures."""
    try:
        return Encoded([write(output)], [])
    except (DataError, TypeError) as error:
        if len(output) == 1:
            refusal = error if isinstance(error, DataError) else DataError(f"cannot be written as JSON: {error}")
            refusal.__cause__ = error.__cause__ if error is refusal else error
            place = TopicPartition(output.topic, NO_PARTITION)
            return Encoded([], [Failure(Stage.VALUE_CONVERTER, f"{__package__}.{form}", refusal, place, 0)])
    batches: list[EncodedBatch] = []
    failures: list[Failure] = []
    for row in range(len(output)):
        encoded = _encoded(write, _row(output, row), form)
        batches += encoded.batches
        failures += [failure._replace(offset=row) for failure in encoded.failures]
    return Encoded(batches, failures)


def _row(output: StreamOutput, row: int) -> StreamOutput:
    headers = None if output.headers is None else [output.headers[row]]
    columns = ([output.keys[row]], [output.values[row]], [output.timestamps[row]], [output.origins[row]])
    return StreamOutput(output.topic, *columns, headers)


def _separated(encoded: Encoded, output: StreamOutput, consumed: TopicPartition) -> EncodedOutput:
    """Separate the failures of records from those of results."""
    failures, results = [], []
    for failure in encoded.failures:
        row, error = failure.offset, failure.error
        origin = output.origins[row]
        made = output.describe_result(origin) if origin < 0 else {}
        place = output.details.get("location")
        message = f"output {output.topic}: {error.message}{f' ({place})' if place else ''}"
        details = {**error.details, **output.details, "output": output.topic, **made}
        located = DataError(message, code=error.code, hint=error.hint, details=details)
        located.__cause__ = error.__cause__
        if origin >= 0:
            failures.append(failure._replace(error=located, topic_partition=consumed, offset=origin))
        else:
            result = RefusedResult(located, output.keys[row], output.values[row], output.timestamps[row])
            results.append(failed_result(result, failure.stage, failure.executor, consumed.topic))
    return EncodedOutput(encoded.batches, failures, results)


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
