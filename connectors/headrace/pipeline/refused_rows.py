"""Rows that a source cannot deliver: their identity, the reason of the refusal, their dead letters and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from headrace.errors import DataError
from headrace.pipeline.control import TaskControl
from headrace.pipeline.dead_letters import DeadLetterQueue, reason_headers
from headrace.pipeline.fault_policy import NO_OFFSET, NO_PARTITION, Failure, Stage, note_failures, raise_skipped
from headrace.plugin import SourceTask
from headrace.records import EncodedBatch, SourceBatch, TopicPartition
from headrace.states import TaskId


def row_name(batch: SourceBatch, row: int) -> str:
    """Return the name of a row in messages, such as ``id=7 (table=shop.orders)``, without its other contents."""
    named = ", ".join(f"{name}={value}" for name, value in row_identity(batch, row).items())
    partition = batch.source_partition or {}
    place = {"table": partition["table"]} if "table" in partition else partition
    where = ", ".join(f"{name}={value}" for name, value in place.items())
    return " ".join(filter(None, (named or f"{row + 1} of a batch", f"({where})" if where else "")))


def row_identity(batch: SourceBatch, row: int) -> Mapping[str, Any]:
    """Return the columns that identify a row, else its key; empty when it has neither."""
    value = batch.values[row]
    if batch.identity and isinstance(value, Mapping):
        return {name: value[name] for name in batch.identity if name in value}
    key = batch.keys[row] if batch.keys is not None else None
    if key is None:
        return {}
    return key if isinstance(key, Mapping) else {"key": key}


def refused_by_kafka(error: DataError, record: EncodedBatch, key_hint: str) -> DataError:
    """Return the broker's or client's ``error`` of a single record, with its size or what it lacks."""
    key, value = record.keys[0] if record.keys is not None else None, record.values[0]
    if error.code == "data.record_too_large":
        size = len(key or b"") + len(value or b"")
        return DataError(
            f"{error.message} (its key and value have {size:,} bytes)",
            code=error.code,
            hint=f"raise producer.override.max.request.size of this connector and max.message.bytes of topic "
            f"{record.topic} above that",
        )
    if error.code == "data.refused" and key is None:
        return DataError(
            f"{error.message}: the record has no key, and a compacted topic needs keys",
            code=error.code,
            hint=key_hint or f"send records with keys, or set cleanup.policy=delete on topic {record.topic}",
        )
    return error


class SourceDeadLetters:
    """Writes a dead letter for each row that a source task skips. A letter is JSON; it names the row by its key."""

    def __init__(self, queue: DeadLetterQueue, task: TaskId) -> None:
        self._queue = queue
        self._task = task

    @property
    def topic(self) -> str:
        return self._queue.topic

    def write(self, batch: SourceBatch, failures: Sequence[Failure]) -> None:
        """Return when all letters are in Kafka. Raises as :meth:`DeadLetterQueue.send`."""
        self._queue.send([self._letter(batch, failure, self._queue.topic) for failure in failures])

    def close(self) -> None:
        self._queue.close()

    def _letter(self, batch: SourceBatch, failure: Failure, topic: str) -> EncodedBatch:
        identity = row_identity(batch, failure.offset) if failure.offset >= 0 else {}
        content = {
            "connector": self._task.connector,
            "task": self._task.number,
            "source": dict(batch.source_partition or {}),
            "topic": failure.topic_partition.topic,
            "row": failure.row,
            "primary_key": dict(identity) or None,
            "stage": failure.stage.value,
            "code": failure.error.code,
            "reason": self._queue.redact(failure.error.message),
            "hint": self._queue.redact(failure.error.hint),
        }
        value = orjson.dumps(content, default=str, option=orjson.OPT_NON_STR_KEYS)
        key = failure.row.encode(errors="replace")
        return EncodedBatch(topic, [value], [key], None, [reason_headers(failure, self._task, self._queue.redact)])


class RowRefusals:
    """The refused rows of one source task. Used from the task's thread."""

    def __init__(self, task: SourceTask, connector: str, control: TaskControl) -> None:
        self.dead_letters: SourceDeadLetters | None = None
        """None: without a dead letter queue, or before it is opened."""
        self._key_hint = task.key_hint
        self._executor = f"{type(task).__module__}.{type(task).__qualname__}"
        self._connector = connector
        self._control = control

    def failures(self, batch: SourceBatch, refused: list[Failure]) -> list[Failure]:
        """Return the rows that the task rejected, then those that a stage refused, with their names."""
        if not (refused or batch.rejections):
            return refused
        place = TopicPartition(batch.topic, NO_PARTITION)
        rejected = [
            Failure(Stage.TASK_POLL, self._executor, item.error, place, NO_OFFSET, item.row)
            for item in batch.rejections
        ]
        return [*rejected, *(_named(item, batch) for item in refused)]

    def by_kafka(self, batch: SourceBatch, record: EncodedBatch, error: DataError, executor: str) -> Failure:
        """Return the failure of a single record that Kafka refuses."""
        explained = refused_by_kafka(error, record, self._key_hint)
        topic = TopicPartition(record.topic, NO_PARTITION)
        return _named(Failure(Stage.KAFKA_PRODUCE, executor, explained, topic, record.rows[0]), batch)

    def write_dead_letters(self, batch: SourceBatch, failures: Sequence[Failure]) -> bool:
        """Return (True) when the letters are in Kafka. The position moves past a refused row only after that."""
        if failures and self.dead_letters is not None:
            with self._control.fence:
                self.dead_letters.write(batch, failures)
        return True

    def count(self, failures: Sequence[Failure], filtered: int = 0, split: int = 0) -> None:
        """Count records of a batch that are not sent, and those that transforms added."""
        if not (failures or filtered or split):
            return
        metrics = self._control.metrics
        outcome = "skipped" if self.dead_letters is None else "dead_lettered"
        metrics.change(
            {
                "source_record_active_count": split - filtered - len(failures),
                f"source_record_{outcome}_total": len(failures),
                "source_record_filtered_total": filtered,
                "source_record_split_total": split,
            }
        )
        note_failures(metrics.causes, outcome, failures)
        topic = self.dead_letters.topic if self.dead_letters is not None else ""
        raise_skipped(self._control.raise_condition, failures, topic, self._connector)
        if filtered:
            metrics.causes.note("filtered", "transform", filtered)


def _named(failure: Failure, batch: SourceBatch) -> Failure:
    return failure._replace(row=row_name(batch, failure.offset))
