"""Applies the transforms of a task to batches of records, and collects the records that they refuse.

Each record keeps its place (its row in a source's batch, its Kafka offset in a sink), whatever transforms make of it. A
:class:`ColumnTransform` is given whole batches. For any other transform a :class:`Record` is made of each row, and the
results are collected into batches of equal topic and schemas again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple

from headrace.errors import DataError, TaskError
from headrace.plugin import ColumnPredicate, ColumnTransform, Predicate, Transform, TransformResult
from headrace.records import JsonValues, Record, RecordColumns, SinkBatch, SourceBatch, TopicPartition


class RefusedRecord(NamedTuple):
    """The place of a record that a transform or its predicate refused."""

    place: int
    transform: Transform
    error: DataError


class _PlacedRecord(NamedTuple):
    place: int
    record: Record


@dataclass(frozen=True)
class Step:
    """A transform, and the predicate that selects the records it applies to."""

    transform: Transform
    predicate: Predicate | None = None
    negate: bool = False
    alias: str = ""

    @property
    def reads_values(self) -> bool:
        """Whether JSON values have to be parsed for this step."""
        return self.transform.reads_values or (self.predicate is not None and self.predicate.reads_values)

    def apply(self, batch: RecordColumns, refused: list[RefusedRecord], *, split: bool) -> Iterator[RecordColumns]:
        """Yield what becomes of the batch, in order. ``split``: a record may become several.

        Raise RetriableError, and TaskError when the transform breaks its contract.
        """
        transform = self.transform
        if not isinstance(transform, ColumnTransform):
            yield from _batches(self._apply_records(batch, refused, split), batch.partition)
        elif self.predicate is None:
            yield from self._apply_columns(transform, batch, refused)
        else:
            start = 0
            for selected, run in groupby(self._selected(self.predicate, batch, refused)):
                end = start + sum(1 for _ in run)
                part = batch if end - start == len(batch) else batch.between(start, end)
                if selected:
                    yield from self._apply_columns(transform, part, refused)
                elif selected is False:
                    yield part
                start = end

    def _selected(
        self, predicate: Predicate, batch: RecordColumns, refused: list[RefusedRecord]
    ) -> Sequence[bool | None]:
        """Return whether the transform applies to each record; None where the predicate refused the record."""
        if isinstance(predicate, ColumnPredicate):
            return [holds is not self.negate for holds in predicate.select(batch)]
        selected: list[bool | None] = []
        for place, record in _records(batch):
            try:
                selected.append(predicate.test(record) is not self.negate)
            except DataError as error:
                refused.append(RefusedRecord(place, self.transform, error))
                selected.append(None)
        return selected

    def _apply_columns(
        self, transform: ColumnTransform, batch: RecordColumns, refused: list[RefusedRecord]
    ) -> list[RecordColumns]:
        try:
            made = [part for part in transform.apply_columns(batch) if len(part)]
        except DataError as error:
            if len(batch) == 1:
                refused.append(RefusedRecord(batch.places[0], transform, error))
                return []
        else:
            if sum(map(len, made)) > len(batch):
                raise _wrong_count(f"{class_path(transform)}.apply_columns", sum(map(len, made)), len(batch))
            return made
        # Outside of the handler, so that the error of a half does not have the whole's error as its context.
        middle = len(batch) // 2
        return [
            *self._apply_columns(transform, batch.between(0, middle), refused),
            *self._apply_columns(transform, batch.between(middle, len(batch)), refused),
        ]

    def _apply_records(
        self, batch: RecordColumns, refused: list[RefusedRecord], split: bool
    ) -> Iterator[_PlacedRecord]:
        """Yield the results. The transform is given all records that the predicate selects at once."""
        records = _records(batch)
        selected: Sequence[bool | None] = [True] * len(batch)
        if self.predicate is not None:
            selected = self._selected(self.predicate, batch, refused)
        chosen = [record for (_, record), applies in zip(records, selected, strict=True) if applies]
        results = iter(self._results(chosen))
        for placed, applies in zip(records, selected, strict=True):
            if not applies:
                if applies is False:
                    yield placed
                continue
            result = next(results)
            if isinstance(result, Record):
                yield _PlacedRecord(placed.place, result)
            elif isinstance(result, DataError):
                refused.append(RefusedRecord(placed.place, self.transform, result))
            elif result is not None:
                if len(result) > 1 and not split:
                    raise _cannot_split(self.transform, len(result))
                yield from (_PlacedRecord(placed.place, record) for record in result)

    def _results(self, records: Sequence[Record]) -> Sequence[TransformResult]:
        results = self.transform.apply_batch(records) if records else ()
        if len(results) != len(records):
            raise _wrong_count(f"{class_path(self.transform)}.apply_batch", len(results), len(records))
        return results


def transform(
    steps: Sequence[Step],
    batch: RecordColumns,
    *,
    split: bool,
    observe: Callable[[Step, Sequence[RecordColumns]], None] | None = None,
) -> tuple[list[RecordColumns], list[RefusedRecord]]:
    """Apply the steps in order. ``split``: a record may become several; else raise TaskError when one does.

    ``observe`` is given what each step makes of the batch.
    """
    refused: list[RefusedRecord] = []
    batches = [batch] if len(batch) else []
    for step in steps:
        batches = _joined([made for part in batches for made in step.apply(part, refused, split=split)])
        if observe is not None:
            observe(step, batches)
    return batches, refused


def _wrong_count(method: str, results: int, records: int) -> TaskError:
    return TaskError(
        f"{method} returned {results} results for {records} records",
        code="transform.wrong_count",
        hint="report it to the author of the transform; it has to return one result for each record",
    )


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


def source_columns(batch: SourceBatch) -> RecordColumns:
    """Return the records of a source's batch; their places are its rows."""
    count = len(batch)
    return RecordColumns(
        batch.topic,
        batch.keys if batch.keys is not None else [None] * count,
        batch.values,
        batch.timestamps if batch.timestamps is not None else [None] * count,
        batch.headers if batch.headers is not None else [()] * count,
        range(count),
        batch.key_schema,
        batch.value_schema,
    )


def source_batch(columns: RecordColumns) -> SourceBatch:
    """Return the records as a source's batch, without its positions."""
    timestamps = [moment for moment in columns.timestamps if moment is not None]
    return SourceBatch(
        columns.topic,
        columns.values,
        columns.value_schema,
        list(columns.keys),
        columns.key_schema,
        timestamps=timestamps if len(timestamps) == len(columns) else None,
        headers=list(columns.headers) if any(columns.headers) else None,
    )


def sink_columns(batch: SinkBatch) -> RecordColumns:
    """Return the records of a sink's batch; their places are their Kafka offsets."""
    return RecordColumns(
        batch.topic,
        batch.keys,
        batch.values,
        [None if moment == -1 else moment for moment in batch.timestamps]
        if -1 in batch.timestamps
        else batch.timestamps,
        batch.headers,
        batch.offsets,
        batch.key_schema,
        batch.value_schema,
        batch.topic_partition.partition,
    )


def sink_batch(topic_partition: TopicPartition, columns: RecordColumns) -> SinkBatch:
    """Return the records as a batch of the partition that they were read from."""
    return SinkBatch(
        topic_partition,
        columns.topic,
        list(columns.places),
        list(columns.keys),
        columns.values,
        [moment if moment is not None else -1 for moment in columns.timestamps],
        list(columns.headers),
        columns.key_schema,
        columns.value_schema,
    )


def _records(batch: RecordColumns) -> list[_PlacedRecord]:
    topic, partition = batch.topic, batch.partition
    offsets: Sequence[int | None] = batch.offsets if batch.offsets is not None else [None] * len(batch)
    key_schema, value_schema = batch.key_schema, batch.value_schema
    rows = zip(
        batch.places,
        batch.keys,
        batch.values,
        batch.timestamps,
        batch.headers,
        offsets,
        strict=True,
    )
    return [
        _PlacedRecord(place, Record(topic, value, value_schema, key, key_schema, timestamp, headers, partition, offset))
        for place, key, value, timestamp, headers, offset in rows
    ]


def _batches(records: Iterator[_PlacedRecord], partition: int | None) -> Iterator[RecordColumns]:
    """Yield batches of consecutive records of equal topic and schemas."""
    for _, run in groupby(records, lambda item: (item.record.topic, item.record.key_schema, item.record.value_schema)):
        placed = list(run)
        made = [record for _, record in placed]
        yield RecordColumns(
            made[0].topic,
            [record.key for record in made],
            [record.value for record in made],
            [record.timestamp for record in made],
            [record.headers for record in made],
            [place for place, _ in placed],
            made[0].key_schema,
            made[0].value_schema,
            partition,
        )


def _joined(batches: list[RecordColumns]) -> list[RecordColumns]:
    """Join consecutive batches of equal topic and schemas."""
    if len(batches) < 2:
        return batches
    joined: list[RecordColumns] = []
    for _, run in groupby(batches, lambda batch: (batch.topic, batch.key_schema, batch.value_schema)):
        parts = list(run)
        first = parts[0]
        if len(parts) > 1:
            first = replace(
                first,
                keys=[key for part in parts for key in part.keys],
                values=_joined_values([part.values for part in parts]),
                timestamps=[moment for part in parts for moment in part.timestamps],
                headers=[headers for part in parts for headers in part.headers],
                places=[place for part in parts for place in part.places],
            )
        joined.append(first)
    return joined


def _joined_values(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Return one column. JSON texts stay texts."""
    first = columns[0]
    if isinstance(first, JsonValues) and all(
        isinstance(column, JsonValues) and column.form is first.form for column in columns
    ):
        texts = [text for column in columns if isinstance(column, JsonValues) for text in column.texts]
        return JsonValues(texts, first.schema, first.form)
    return [value for column in columns for value in column]
