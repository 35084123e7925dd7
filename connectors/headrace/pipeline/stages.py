"""Converters and transforms on a batch's way: batch in, batches and failures out.

Without transforms a batch stays columns all the way. With transforms each record is made, applied and put back into
batches of equal topic and schemas, in order. A converter that refuses a batch is asked again a record at a time, so
that one bad record costs only itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

from headrace.errors import DataError
from headrace.pipeline.fault_policy import NO_PARTITION, Failure, FaultPolicy, Stage
from headrace.plugin import Converter, Decoded, Predicate, Transform
from headrace.records import ConsumedBatch, EncodedBatch, JsonValues, Record, SinkBatch, SourceBatch, TopicPartition
from headrace.schema import Schema

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """A transform with its gate."""

    transform: Transform
    predicate: Predicate | None = None
    negate: bool = False

    def apply(self, record: Record) -> Record | None:
        if self.predicate is not None and self.predicate.test(record) is self.negate:
            return record
        return self.transform.apply(record)


class _Column(NamedTuple):
    """One side (keys or values) of a batch to convert."""

    stage: Stage
    converter: Converter
    lazy: bool = False
    """Values may stay JsonValues."""

    def read(self, topic: str, values: Sequence[bytes | None]) -> list[Decoded]:
        runs = self.converter.from_bytes(topic, values)
        return runs if self.lazy else [_eager(run) for run in runs]


@dataclass(frozen=True)
class Stages:
    """A task's transforms and converters."""

    key_converter: Converter
    value_converter: Converter
    steps: Sequence[Step]
    policy: FaultPolicy

    def encode(self, batch: SourceBatch) -> tuple[list[EncodedBatch], list[Failure]]:
        """Transform, then convert to bytes. ``Failure.offset`` is the record's place in ``batch``."""
        failures: list[Failure] = []
        batches = self._transform_source(batch, failures) if self.steps else [(batch, None)]
        encoded = [self._encode(part, places, failures) for part, places in batches]
        return [part for part in encoded if len(part)], failures

    def decode(self, batch: ConsumedBatch, *, json_texts: bool = False) -> tuple[list[SinkBatch], list[Failure]]:
        """Convert from bytes, then transform. ``Failure.offset`` is the Kafka offset.

        ``json_texts``: values that neither converter nor transform has to look into may stay JsonValues.
        """
        failures: list[Failure] = []
        lazy = json_texts and not self.steps
        keys = self._decode_column(_Column(Stage.KEY_CONVERTER, self.key_converter, False), batch, batch.keys, failures)
        values = self._decode_column(
            _Column(Stage.VALUE_CONVERTER, self.value_converter, lazy), batch, batch.values, failures
        )
        batches = [
            SinkBatch(
                batch.topic_partition,
                batch.topic_partition.topic,
                batch.offsets[start:end],
                list(key_run.values[start - key_run.start : end - key_run.start]),
                value_run.values[start - value_run.start : end - value_run.start],
                batch.timestamps[start:end],
                batch.headers[start:end],
                key_run.schema,
                value_run.schema,
            )
            for start, end, key_run, value_run in _overlaps(keys, values)
        ]
        # A record that both converters refuse is one failure, the key's: later stages never saw it.
        failures[:] = {failure.offset: failure for failure in reversed(failures)}.values()
        if not self.steps:
            return batches, failures
        return [part for whole in batches for part in self._transform_sink(whole, failures)], failures

    def _encode(self, batch: SourceBatch, places: Sequence[int] | None, failures: list[Failure]) -> EncodedBatch:
        try:
            keys = None
            if batch.keys is not None:
                keys = self._convert(
                    _Column(Stage.KEY_CONVERTER, self.key_converter), batch.topic, batch.key_schema, batch.keys
                )
            values = self._convert(
                _Column(Stage.VALUE_CONVERTER, self.value_converter), batch.topic, batch.value_schema, batch.values
            )
        except _StageError as error:
            if len(batch) == 1:
                place = places[0] if places is not None else 0
                failures.append(_failure(error, TopicPartition(batch.topic, NO_PARTITION), place))
                return EncodedBatch(batch.topic, [])
            whole = EncodedBatch(
                batch.topic, [], None if batch.keys is None else [], batch.timestamps and [], batch.headers and []
            )
            for index in range(len(batch)):
                place = places[index] if places is not None else index
                _extend(whole, self._encode(_source_slice(batch, index), [place], failures))
            return whole
        return EncodedBatch(batch.topic, values, keys, batch.timestamps, batch.headers)

    def _convert(self, column: _Column, topic: str, schema: Schema | None, values: Sequence[Any]) -> list[bytes | None]:
        return self._run(column, lambda: column.converter.to_bytes(topic, schema, values))

    def _run(self, column: _Column, call: Callable[[], T]) -> T:
        try:
            return self.policy.attempt(call)
        except DataError as error:
            raise _StageError(column.stage, _class_name(column.converter), error) from error

    def _decode_column(
        self, column: _Column, batch: ConsumedBatch, values: Sequence[bytes | None], failures: list[Failure]
    ) -> list[Decoded]:
        return list(_joined(self._decode_rows(column, batch, values, 0, failures)))

    def _decode_rows(
        self,
        column: _Column,
        batch: ConsumedBatch,
        values: Sequence[bytes | None],
        start: int,
        failures: list[Failure],
    ) -> list[Decoded]:
        """Values from row ``start`` of the batch on. What is refused as a whole is halved until the bad are alone."""
        topic = batch.topic_partition.topic
        try:
            runs = self._run(column, lambda: column.read(topic, values))
        except _StageError as error:
            if len(values) == 1:
                failures.append(_failure(error, batch.topic_partition, batch.offsets[start]))
                return []
        else:
            return [run._replace(start=start + run.start) for run in runs] if start else runs
        # Not inside of the handler: the error of a half is not a consequence of the whole's.
        middle = len(values) // 2
        return [
            *self._decode_rows(column, batch, values[:middle], start, failures),
            *self._decode_rows(column, batch, values[middle:], start + middle, failures),
        ]

    def _apply(self, record: Record) -> Record | None:
        current: Record | None = record
        for step in self.steps:
            if current is None:
                return None
            try:
                current = self.policy.attempt(lambda step=step, current=current: step.apply(current))  # type: ignore[misc]
            except DataError as error:
                raise _StageError(Stage.TRANSFORMATION, _class_name(step.transform), error) from error
        return current

    def _transform_source(
        self, batch: SourceBatch, failures: list[Failure]
    ) -> list[tuple[SourceBatch, list[int] | None]]:
        kept: list[tuple[int, Record]] = []
        for place in range(len(batch)):
            record = Record(
                topic=batch.topic,
                value=batch.values[place],
                value_schema=batch.value_schema,
                key=batch.keys[place] if batch.keys is not None else None,
                key_schema=batch.key_schema,
                timestamp=batch.timestamps[place] if batch.timestamps is not None else None,
                headers=batch.headers[place] if batch.headers is not None else (),
            )
            try:
                changed = self._apply(record)
            except _StageError as error:
                failures.append(_failure(error, TopicPartition(batch.topic, NO_PARTITION), place))
            else:
                if changed is not None:
                    kept.append((place, changed))
        return [_source_batch(run) for run in _runs(kept)]

    def _transform_sink(self, batch: SinkBatch, failures: list[Failure]) -> Iterator[SinkBatch]:
        kept: list[tuple[int, Record]] = []
        for index, offset in enumerate(batch.offsets):
            record = Record(
                topic=batch.topic,
                value=batch.values[index],
                value_schema=batch.value_schema,
                key=batch.keys[index],
                key_schema=batch.key_schema,
                timestamp=batch.timestamps[index],
                headers=batch.headers[index],
                partition=batch.topic_partition.partition,
                offset=offset,
            )
            try:
                changed = self._apply(record)
            except _StageError as error:
                failures.append(_failure(error, batch.topic_partition, offset))
            else:
                if changed is not None:
                    kept.append((offset, changed))
        for run in _runs(kept):
            first = run[0][1]
            yield SinkBatch(
                batch.topic_partition,
                first.topic,
                [offset for offset, _ in run],
                [record.key for _, record in run],
                [record.value for _, record in run],
                [record.timestamp if record.timestamp is not None else -1 for _, record in run],
                [record.headers for _, record in run],
                first.key_schema,
                first.value_schema,
            )


class _StageError(Exception):
    def __init__(self, stage: Stage, executor: str, error: DataError) -> None:
        super().__init__(error.message)
        self.stage, self.executor, self.error = stage, executor, error


def _failure(error: _StageError, topic_partition: TopicPartition, offset: int) -> Failure:
    return Failure(error.stage, error.executor, error.error, topic_partition, offset)


def _class_name(plugin: object) -> str:
    return f"{type(plugin).__module__}.{type(plugin).__qualname__}"


def _runs(kept: Sequence[tuple[int, Record]]) -> Iterator[list[tuple[int, Record]]]:
    """Consecutive records of equal topic and schemas."""
    for _, run in groupby(kept, lambda item: (item[1].topic, item[1].key_schema, item[1].value_schema)):
        yield list(run)


def _source_batch(run: Sequence[tuple[int, Record]]) -> tuple[SourceBatch, list[int]]:
    first = run[0][1]
    timestamps = [record.timestamp for _, record in run]
    headers = [record.headers for _, record in run]
    return SourceBatch(
        first.topic,
        [record.value for _, record in run],
        first.value_schema,
        [record.key for _, record in run],
        first.key_schema,
        timestamps=None if None in timestamps else [moment for moment in timestamps if moment is not None],
        headers=headers if any(headers) else None,
    ), [place for place, _ in run]


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


def _extend(whole: EncodedBatch, part: EncodedBatch) -> None:
    whole.values.extend(part.values)
    for mine, other in ((whole.keys, part.keys), (whole.timestamps, part.timestamps), (whole.headers, part.headers)):
        if mine is not None and other is not None:
            mine.extend(other)  # type: ignore[arg-type]


def _eager(run: Decoded) -> Decoded:
    return run._replace(values=run.values.parsed()) if isinstance(run.values, JsonValues) else run


def _joined(runs: Sequence[Decoded]) -> Iterator[Decoded]:
    """Neighbours of one schema and one form as one run."""
    for _, group in groupby(_numbered(runs), lambda item: item[0]):
        members = [run for _, run in group]
        columns = [run.values for run in members if isinstance(run.values, JsonValues)]
        if columns:
            texts = [text for column in columns for text in column.texts]
            yield members[0]._replace(values=JsonValues(texts, columns[0].schema, columns[0].form))
        else:
            yield members[0]._replace(values=[value for run in members for value in run.values])


def _numbered(runs: Sequence[Decoded]) -> Iterator[tuple[tuple[int, type, Schema | None], Decoded]]:
    """Each run with a key that neighbours share."""
    number = 0
    before: Decoded | None = None
    for run in runs:
        if before is not None and run.start != before.start + len(before.values):
            number += 1
        yield (number, type(run.values), run.schema), run
        before = run


def _overlaps(keys: Sequence[Decoded], values: Sequence[Decoded]) -> Iterator[tuple[int, int, Decoded, Decoded]]:
    """``start, end`` of the stretches that lie in one run of both sides; what either side refused lies in none."""
    left, right = 0, 0
    while left < len(keys) and right < len(values):
        key_run, value_run = keys[left], values[right]
        key_end, value_end = key_run.start + len(key_run.values), value_run.start + len(value_run.values)
        start, end = max(key_run.start, value_run.start), min(key_end, value_end)
        if start < end:
            yield start, end, key_run, value_run
        if key_end <= end or key_end <= value_run.start:
            left += 1
        if value_end <= end or value_end <= key_run.start:
            right += 1
