"""Applies the transforms of a task to records, and collects the records that they refuse.

Each record keeps its place (its row in a source's batch, its Kafka offset in a sink), whatever transforms make of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from headrace.errors import DataError, TaskError
from headrace.plugin import Predicate, Transform, TransformResult
from headrace.records import Record, SinkBatch, SourceBatch


class PlacedRecord(NamedTuple):
    """A record, and the place of the record that it was made from."""

    place: int
    record: Record


class RefusedRecord(NamedTuple):
    """The place of a record that a transform or its predicate refused."""

    place: int
    transform: Transform
    error: DataError


@dataclass(frozen=True)
class Step:
    """A transform, and the predicate that selects the records it applies to."""

    transform: Transform
    predicate: Predicate | None = None
    negate: bool = False

    def apply(self, records: Sequence[Record]) -> Sequence[TransformResult]:
        """Return the result of each record.

        Raise RetriableError, and TaskError when the transform breaks its contract.
        """
        if self.predicate is None:
            return self._apply(records)
        results: list[TransformResult] = list(records)
        selected: list[int] = []
        for index, record in enumerate(records):
            try:
                if self.predicate.test(record) is not self.negate:
                    selected.append(index)
            except DataError as error:
                results[index] = error
        if selected:
            answers = self._apply([records[index] for index in selected])
            for index, answer in zip(selected, answers, strict=True):
                results[index] = answer
        return results

    def _apply(self, records: Sequence[Record]) -> Sequence[TransformResult]:
        results = self.transform.apply_batch(records)
        if len(results) != len(records):
            raise TaskError(
                f"{class_path(self.transform)}.apply_batch returned {len(results)} results for {len(records)} records",
                code="transform.wrong_count",
                hint="report it to the author of the transform; it has to return one result for each record",
            )
        return results


def transform(
    steps: Sequence[Step], records: list[PlacedRecord], *, split: bool
) -> tuple[list[PlacedRecord], list[RefusedRecord]]:
    """Apply the steps in order. ``split``: a record may become several; else raise TaskError when one does."""
    refused: list[RefusedRecord] = []
    for step in steps:
        if not records:
            break
        results = step.apply([record for _, record in records])
        following: list[PlacedRecord] = []
        for (place, _), result in zip(records, results, strict=True):
            if isinstance(result, Record):
                following.append(PlacedRecord(place, result))
            elif isinstance(result, DataError):
                refused.append(RefusedRecord(place, step.transform, result))
            elif result is not None:
                if len(result) > 1 and not split:
                    raise _cannot_split(step.transform, len(result))
                following.extend(PlacedRecord(place, record) for record in result)
        records = following
    return records, refused


def _cannot_split(transform: Transform, count: int) -> TaskError:
    return TaskError(
        f"{class_path(transform)} makes {count} records of one, and this sink tells records apart by their Kafka "
        "offset, which they share: it would write only one of them",
        code="transform.cannot_split",
        hint="use the transform in a source, or a sink that supports records made by splitting",
    )


def class_path(plugin: object) -> str:
    """Return the dotted path of the plugin's class."""
    return f"{type(plugin).__module__}.{type(plugin).__qualname__}"


def source_records(batch: SourceBatch) -> list[PlacedRecord]:
    """Return the records of a batch with their rows."""
    keys, timestamps, headers = batch.keys, batch.timestamps, batch.headers
    return [
        PlacedRecord(
            row,
            Record(
                topic=batch.topic,
                value=value,
                value_schema=batch.value_schema,
                key=keys[row] if keys is not None else None,
                key_schema=batch.key_schema,
                timestamp=timestamps[row] if timestamps is not None else None,
                headers=headers[row] if headers is not None else (),
            ),
        )
        for row, value in enumerate(batch.values)
    ]


def source_batches(records: Sequence[PlacedRecord]) -> Iterator[tuple[SourceBatch, list[int]]]:
    """Yield batches of consecutive records of equal topic and schemas, with the place of each record."""
    for run in _runs(records):
        first = run[0].record
        timestamps = [record.timestamp for _, record in run]
        headers = [record.headers for _, record in run]
        yield (
            SourceBatch(
                first.topic,
                [record.value for _, record in run],
                first.value_schema,
                [record.key for _, record in run],
                first.key_schema,
                timestamps=None if None in timestamps else [moment for moment in timestamps if moment is not None],
                headers=headers if any(headers) else None,
            ),
            [place for place, _ in run],
        )


def sink_records(batch: SinkBatch) -> list[PlacedRecord]:
    """Return the records of a batch with their Kafka offsets."""
    partition = batch.topic_partition.partition
    columns = zip(batch.offsets, batch.keys, batch.values, batch.timestamps, batch.headers, strict=True)
    return [
        PlacedRecord(
            offset,
            Record(
                topic=batch.topic,
                value=value,
                value_schema=batch.value_schema,
                key=key,
                key_schema=batch.key_schema,
                timestamp=timestamp,
                headers=headers,
                partition=partition,
                offset=offset,
            ),
        )
        for offset, key, value, timestamp, headers in columns
    ]


def sink_batches(batch: SinkBatch, records: Sequence[PlacedRecord]) -> Iterator[SinkBatch]:
    """Yield batches of consecutive records of equal topic and schemas, all made from records of ``batch``."""
    for run in _runs(records):
        first = run[0].record
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


def _runs(records: Sequence[PlacedRecord]) -> Iterator[list[PlacedRecord]]:
    for _, run in groupby(records, lambda item: (item.record.topic, item.record.key_schema, item.record.value_schema)):
        yield list(run)
