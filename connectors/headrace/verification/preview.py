"""Records as a connector would write them, without writing: the work of ``headrace preview``.

A sink's newest records are read from Kafka without its consumer group. A source's first rows are read as if no offset
were stored; nothing of what its task returns is sent or stored.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from headrace.errors import DataError, InfrastructureError, RetriableError
from headrace.pipeline.fault_policy import Failure
from headrace.pipeline.stages import Stages
from headrace.plugin import PreviewedWrite, Previewer, SourceContext, SourceTask
from headrace.records import Headers, JsonValues, SinkBatch, SourceBatch, SourceOffset, SourcePartition, TopicPartition
from headrace.runtime.schedule import schedule
from headrace.schema import Schema
from headrace.states import TaskId
from headrace.validation import ConnectorConfig
from headrace.verification.history import History

log = structlog.stdlib.get_logger("headrace.preview")
_LONGEST_WAIT = 15.0
"""Seconds without a row after which a source has no more."""


@dataclass(frozen=True)
class PreviewedRecord:
    """A record as it leaves transforms and converters."""

    place: str
    """The partition and offset that it was read from; of a source its topic."""
    topic: str
    key: Any
    value: Any
    """Bytes of a source, and of a sink's values that stay JSON texts; else a value with ``schema``."""
    schema: Schema | None
    headers: Headers
    write: PreviewedWrite | None = None
    """What the sink would write; None when it would write nothing, or does not tell."""


@dataclass(frozen=True)
class RefusedPreview:
    """A record or row that would be refused."""

    place: str
    stage: str
    error: DataError


@dataclass
class Preview:
    """What would be written, and what would not."""

    read: int = 0
    records: list[PreviewedRecord] = field(default_factory=list)
    refused: list[RefusedPreview] = field(default_factory=list)
    mappings: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Definitions of fields by what they are written to."""

    @property
    def dropped(self) -> int:
        """Records that transforms dropped."""
        return max(0, self.read - len(self.records) - len(self.refused))


def preview_sink(history: History, previewer: Previewer | None, count: int) -> Preview:
    """Return at most ``count`` of the newest records. Raise NotFoundError, TaskError, RetriableError."""
    preview = Preview()
    start, until = _newest(history.ends(), count)
    for page in history.read(start, until):
        preview.read = page.read
        preview.refused += map(_refused, page.failures)
        for batch in page.batches:
            _add(preview, batch, previewer)
    return preview


def preview_source(config: ConnectorConfig, stages: Stages, count: int) -> Preview:
    """Return at most ``count`` of the first rows, as they would be sent. Raise as the task does."""
    connector = config.plugin.cls()
    properties = connector.task_configs(connector.preview_properties(config.own), 1)[0]
    stop = threading.Event()
    task: SourceTask = config.plugin.cls.task_class()
    preview = Preview()
    try:
        task.start(
            SourceContext(
                TaskId(f"{config.name}-preview", 0),
                properties,
                stop,
                log,
                lambda key: key,
                lambda reason: None,
                offset_reader=_NoOffsets(),
                schedule=schedule,
                json_form=None if stages.read_values else stages.value_converter.json_form(),
            )
        )
        for batch in _batches(task):
            _add_rows(preview, batch, stages, count - preview.read)
            if preview.read >= count:
                break
    finally:
        stop.set()
        task.stop()
    return preview


class _NoOffsets:
    def offsets(self, partitions: Sequence[SourcePartition]) -> list[SourceOffset | None]:
        return [None] * len(partitions)


def _batches(task: SourceTask) -> Iterator[SourceBatch]:
    """Yield what the task returns until it has had nothing for a while. Raise InfrastructureError."""
    last = time.monotonic()
    waiting = threading.Event()
    while (passed := time.monotonic() - last) < _LONGEST_WAIT:
        try:
            polled = task.poll()
        except RetriableError as error:
            raise InfrastructureError(error.message, code=error.code, hint=error.hint) from error
        if isinstance(polled, SourceBatch):
            yield polled
            last = time.monotonic()
        elif polled.seconds > _LONGEST_WAIT - passed:
            return
        else:
            waiting.wait(polled.seconds)


def _add_rows(preview: Preview, batch: SourceBatch, stages: Stages, room: int) -> None:
    for rejection in batch.rejections[:room]:
        preview.refused.append(RefusedPreview(rejection.row, "SOURCE", rejection.error))
    first = SourceBatch(
        batch.topic,
        batch.values[:room],
        batch.value_schema,
        batch.keys[:room] if batch.keys is not None else None,
        batch.key_schema,
        timestamps=batch.timestamps[:room] if batch.timestamps is not None else None,
        headers=batch.headers[:room] if batch.headers is not None else None,
    )
    preview.read += len(first) + len(batch.rejections[:room])
    encoded = stages.encode(first)
    preview.refused += [
        RefusedPreview(f"{batch.topic}, row {failure.offset + 1} of its batch", failure.stage.name, failure.error)
        for failure in encoded.failures
    ]
    for made in encoded.batches:
        keys = made.keys or [None] * len(made)
        headers = made.headers or [()] * len(made)
        for key, value, own in zip(keys, made.values, headers, strict=True):
            preview.records.append(PreviewedRecord(made.topic, made.topic, key, value, None, own))


def _add(preview: Preview, batch: SinkBatch, previewer: Previewer | None) -> None:
    writes = previewer.writes(batch) if previewer is not None else [None] * len(batch)
    if previewer is not None:
        preview.mappings.update(previewer.mapping(batch))
    values = batch.values.texts if isinstance(batch.values, JsonValues) else batch.values
    for row, write in enumerate(writes):
        place = f"{batch.topic_partition} offset {batch.offsets[row]}"
        if isinstance(write, DataError):
            preview.refused.append(RefusedPreview(place, "TASK_PUT", write))
            continue
        preview.records.append(
            PreviewedRecord(
                place, batch.topic, batch.keys[row], values[row], batch.value_schema, batch.headers[row], write
            )
        )


def _refused(failure: Failure) -> RefusedPreview:
    return RefusedPreview(f"{failure.topic_partition} offset {failure.offset}", failure.stage.name, failure.error)


def _newest(
    ends: Mapping[TopicPartition, int], count: int
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Return where to read from and to, so that the partitions share the count."""
    filled = sorted((item, end) for item, end in ends.items() if end > 0)
    each, more = divmod(count, max(len(filled), 1))
    start = {item: max(0, end - each - (number < more)) for number, (item, end) in enumerate(filled)}
    return start, {item: end for item, end in filled if start[item] < end}
