"""Transforms and converters of a task: batch in, batches and failures out.

Batches remain in columns. When a converter or a transform refuses a batch, it is called again with smaller parts, so
that only the bad record is refused.

A RetriableError of a stage is raised again, with the time to wait: the pipeline waits and passes the same batch again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from headrace.errors import DataError, RetriableError
from headrace.pipeline.decoded_runs import joined, overlaps, parsed
from headrace.pipeline.fault_policy import NO_PARTITION, Failure, FaultPolicy, Stage
from headrace.pipeline.sink_headers import HeaderTexts
from headrace.pipeline.tap import (
    CONVERTED,
    POLLED,
    READ,
    WRITTEN,
    TapRequest,
    TaskTap,
    consumed_columns,
    encoded_columns,
    step_stage,
)
from headrace.pipeline.transformations import (
    RefusedRecord,
    Step,
    class_path,
    sink_batch,
    sink_columns,
    source_batch,
    source_columns,
    transform,
)
from headrace.plugin import Converter, Decoded
from headrace.records import (
    BatchHeaders,
    ConsumedBatch,
    EncodedBatch,
    Headers,
    RecordColumns,
    SinkBatch,
    SourceBatch,
    TopicPartition,
)
from headrace.retries import Backoff
from headrace.schema import Schema

T = TypeVar("T")


class _Column(NamedTuple):
    """One side (keys or values) of a batch to convert."""

    stage: Stage
    converter: Converter
    lazy: bool = False
    """Values may stay JsonValues."""

    def write(
        self, topic: str, schema: Schema | None, values: Sequence[Any], headers: BatchHeaders
    ) -> list[bytes | None]:
        try:
            return self.converter.to_bytes(topic, schema, values, headers)
        except DataError as error:
            raise self._refused(error) from error

    def read(self, topic: str, values: Sequence[bytes | None], headers: Sequence[Headers]) -> list[Decoded]:
        try:
            runs = self.converter.from_bytes(topic, values, headers)
            return runs if self.lazy else [parsed(run) for run in runs]
        except DataError as error:
            raise self._refused(error) from error

    def _refused(self, error: DataError) -> _StageError:
        return _StageError(self.stage, class_path(self.converter), error)


class Encoded(NamedTuple):
    """A source's batch in wire form, and by how much transforms changed the number of its records."""

    batches: list[EncodedBatch]
    failures: list[Failure]
    filtered: int = 0
    """Records that transforms dropped."""
    split: int = 0
    """Records that transforms made in addition."""


@dataclass(frozen=True)
class Stages:
    """A task's transforms and converters."""

    key_converter: Converter
    value_converter: Converter
    steps: Sequence[Step]
    policy: FaultPolicy
    header_converter: Converter | None = None
    header_texts: HeaderTexts | None = None
    """Makes texts of the headers that a sink is given; None: they are texts already."""
    tap: TaskTap = field(default_factory=TaskTap)

    def encode(self, batch: SourceBatch) -> Encoded:
        """Transform, then convert to bytes. ``Failure.offset`` is the record's row in ``batch``.

        Raise RetriableError.
        """
        return self._timed(lambda: self._encode_all(batch))

    def _encode_all(self, batch: SourceBatch) -> Encoded:
        failures: list[Failure] = []
        filtered = split = 0
        tap = self.tap.request
        if tap is not None and tap.wants(POLLED):
            tap.add(source_columns(batch))
        if not self.steps:
            encoded = [self._encode(batch, range(len(batch)), failures)]
        else:
            made, refused = transform(self.steps, source_columns(batch), split=True, observe=_observer(tap))
            failures.extend(_transform_failure(item, TopicPartition(batch.topic, NO_PARTITION)) for item in refused)
            rows = {place for part in made for place in part.places} | {item.place for item in refused}
            filtered = len(batch) - len(rows)
            split = sum(map(len, made)) + len(refused) - len(rows)
            encoded = [self._encode(source_batch(part), part.places, failures) for part in made]
        encoded = [part for part in encoded if len(part)]
        if tap is not None and tap.wants(WRITTEN):
            for part in encoded:
                tap.add(encoded_columns(part))
        return Encoded(encoded, failures, filtered, split)

    def decode(
        self, batch: ConsumedBatch, *, json_texts: bool = False, split_records: bool = False
    ) -> tuple[list[SinkBatch], list[Failure]]:
        """Convert from bytes, then transform. ``Failure.offset`` is the Kafka offset. Raise RetriableError.

        ``json_texts``: values that neither a converter nor a transform has to parse may stay JsonValues.
        ``split_records``: transforms may make several records of one; else raise TaskError when they do.
        """
        return self._timed(lambda: self._decode_all(batch, json_texts, split_records))

    def _decode_all(
        self, batch: ConsumedBatch, json_texts: bool, split_records: bool
    ) -> tuple[list[SinkBatch], list[Failure]]:
        failures: list[Failure] = []
        tap = self.tap.request
        if tap is not None and tap.wants(READ):
            tap.add(consumed_columns(batch), batch.topic_partition)
        headers = batch.headers
        if self.header_texts is not None:
            batch, headers = self.header_texts.texts_of(batch, failures)
        lazy = json_texts and not self.read_values
        keys = self._decode_column(self._keys, batch, batch.keys, failures)
        values = self._decode_column(self._lazy_values if lazy else self._values, batch, batch.values, failures)
        batches = [
            SinkBatch(
                batch.topic_partition,
                batch.topic_partition.topic,
                batch.offsets[start:end],
                list(key_run.values[start - key_run.start : end - key_run.start]),
                value_run.values[start - value_run.start : end - value_run.start],
                batch.timestamps[start:end],
                headers[start:end],
                key_run.schema,
                value_run.schema,
            )
            for start, end, key_run, value_run in overlaps(keys, values)
        ]
        # A record that both converters refuse is one failure, the key's: later stages never saw it.
        failures[:] = {failure.offset: failure for failure in reversed(failures)}.values()
        if tap is not None:
            _add_sink_batches(tap, CONVERTED, batches)
        if self.steps:
            transformed: list[SinkBatch] = []
            observe = _observer(tap, batch.topic_partition)
            for whole in batches:
                made, refused = transform(self.steps, sink_columns(whole), split=split_records, observe=observe)
                failures.extend(_transform_failure(item, batch.topic_partition) for item in refused)
                transformed.extend(sink_batch(whole.topic_partition, part) for part in made)
            batches = transformed
        if tap is not None:
            _add_sink_batches(tap, WRITTEN, batches)
        return batches, failures

    @cached_property
    def read_values(self) -> bool:
        """Whether a transform reads values, so that JSON texts have to be parsed."""
        return any(step.reads_values for step in self.steps)

    @cached_property
    def _keys(self) -> _Column:
        return _Column(Stage.KEY_CONVERTER, self.key_converter)

    @cached_property
    def _values(self) -> _Column:
        return _Column(Stage.VALUE_CONVERTER, self.value_converter)

    @cached_property
    def _lazy_values(self) -> _Column:
        return self._values._replace(lazy=True)

    @cached_property
    def _backoff(self) -> Backoff:
        return self.policy.stage_backoff()

    def _timed(self, convert: Callable[[], T]) -> T:
        """Add to a RetriableError when to try again, by ``errors.retry.*``; raise TaskError when the time is over."""
        try:
            converted = convert()
        except RetriableError as error:
            wait = self._backoff.next_wait(error)
            if wait is None:
                raise self.policy.retry_timed_out(error) from error
            raise RetriableError(error.message, code=error.code, hint=error.hint, delay=wait) from error
        self._backoff.reset()
        return converted

    def close(self) -> None:
        """Close transforms, predicates and converters. Each is closed even when another raises."""
        with ExitStack() as stack:
            stack.callback(self.key_converter.close)
            stack.callback(self.value_converter.close)
            if self.header_converter is not None:
                stack.callback(self.header_converter.close)
            for predicate in {id(step.predicate): step.predicate for step in self.steps if step.predicate}.values():
                stack.callback(predicate.close)
            for step in self.steps:
                stack.callback(step.transform.close)

    def _encode(self, batch: SourceBatch, rows: Sequence[int], failures: list[Failure]) -> EncodedBatch:
        """Convert a batch whose records come from these rows."""
        headers = BatchHeaders(batch.headers, len(batch))
        topic = batch.topic
        try:
            keys = None
            if batch.keys is not None:
                keys = self._keys.write(topic, batch.key_schema, batch.keys, headers)
            values = self._values.write(topic, batch.value_schema, batch.values, headers)
        except _StageError as error:
            if len(batch) == 1:
                failures.append(
                    Failure(error.stage, error.executor, error.error, TopicPartition(topic, NO_PARTITION), rows[0])
                )
                return EncodedBatch(topic, [])
        else:
            return EncodedBatch(topic, values, keys, batch.timestamps, headers.column(), rows)
        # Outside of the handler, so that the error of a record does not have the batch's error as its context.
        return _concatenated(
            topic, [self._encode(_source_slice(batch, index), [row], failures) for index, row in enumerate(rows)]
        )

    def _decode_column(
        self, column: _Column, batch: ConsumedBatch, values: Sequence[bytes | None], failures: list[Failure]
    ) -> list[Decoded]:
        return list(joined(self._decode_rows(column, batch, values, 0, failures)))

    def _decode_rows(
        self,
        column: _Column,
        batch: ConsumedBatch,
        values: Sequence[bytes | None],
        start: int,
        failures: list[Failure],
    ) -> list[Decoded]:
        """Return the runs of values from row ``start`` on. A refused part is halved until each bad record is alone."""
        topic = batch.topic_partition.topic
        headers = batch.headers if len(values) == len(batch) else batch.headers[start : start + len(values)]
        try:
            runs = column.read(topic, values, headers)
        except _StageError as error:
            if len(values) == 1:
                failures.append(
                    Failure(error.stage, error.executor, error.error, batch.topic_partition, batch.offsets[start])
                )
                return []
        else:
            return [run._replace(start=start + run.start) for run in runs] if start else runs
        # Outside of the handler, so that the error of a half does not have the whole's error as its context.
        middle = len(values) // 2
        return [
            *self._decode_rows(column, batch, values[:middle], start, failures),
            *self._decode_rows(column, batch, values[middle:], start + middle, failures),
        ]


class _StageError(Exception):
    def __init__(self, stage: Stage, executor: str, error: DataError) -> None:
        super().__init__(error.message)
        self.stage, self.executor, self.error = stage, executor, error


def _transform_failure(refused: RefusedRecord, topic_partition: TopicPartition) -> Failure:
    executor = class_path(refused.transform)
    return Failure(Stage.TRANSFORMATION, executor, refused.error, topic_partition, refused.place)


def _observer(
    tap: TapRequest | None, topic_partition: TopicPartition | None = None
) -> Callable[[Step, Sequence[RecordColumns]], None] | None:
    """Return what adds the results of a transform to the tap."""
    if tap is None:
        return None

    def observe(step: Step, batches: Sequence[RecordColumns]) -> None:
        if tap.wants(step_stage(step.alias)):
            for batch in batches:
                tap.add(batch, topic_partition)

    return observe


def _add_sink_batches(tap: TapRequest, stage: str, batches: Sequence[SinkBatch]) -> None:
    if tap.wants(stage):
        for batch in batches:
            tap.add(sink_columns(batch), batch.topic_partition)


def _source_slice(batch: SourceBatch, index: int) -> SourceBatch:
    return SourceBatch(
        batch.topic,
        batch.values[index : index + 1],
        batch.value_schema,
        [batch.keys[index]] if batch.keys is not None else None,
        batch.key_schema,
        timestamps=[batch.timestamps[index]] if batch.timestamps is not None else None,
        headers=[batch.headers[index]] if batch.headers is not None else None,
    )


def _concatenated(topic: str, parts: Sequence[EncodedBatch]) -> EncodedBatch:
    """Return parts of one batch as a batch. Parts whose record was refused are empty."""
    present = [part for part in parts if len(part)]
    if not present:
        return EncodedBatch(topic, [])
    first = present[0]
    with_headers = any(part.headers is not None for part in present)
    return EncodedBatch(
        topic,
        [value for part in present for value in part.values],
        [key for part in present for key in part.keys or ()] if first.keys is not None else None,
        [moment for part in present for moment in part.timestamps or ()] if first.timestamps is not None else None,
        [headers for part in present for headers in part.headers or [()]] if with_headers else None,
        [row for part in present for row in part.rows],
    )
