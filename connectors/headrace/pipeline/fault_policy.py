"""Applies ``errors.tolerance`` (KIP-298): a bad record fails the task or is skipped."""

from __future__ import annotations

import enum
import shlex
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import structlog

from headrace.accounting import RecordCauses
from headrace.conditions import RaiseCondition
from headrace.errors import DataError, RetriableError, TaskError
from headrace.metrics import TaskMetrics
from headrace.records import TopicPartition
from headrace.retries import Backoff, RetryPolicy
from headrace.settings import ConnectorSettings

T = TypeVar("T")
NO_PARTITION = -1
"""In a source a record has no Kafka partition yet."""
NO_OFFSET = -1
"""A row that could not become a record has no place in its batch; ``Failure.row`` names it."""
DEAD_LETTERED = "records.dead_lettered"
"""The condition of records in the dead letter queue."""
_FIRST_RETRY = 0.3  # seconds, as in Kafka Connect


class Stage(enum.Enum):
    """The stage in which a record failed; the value is written to a header of the dead letter."""

    TASK_POLL = "TASK_POLL"
    TRANSFORMATION = "TRANSFORMATION"
    KEY_CONVERTER = "KEY_CONVERTER"
    VALUE_CONVERTER = "VALUE_CONVERTER"
    HEADER_CONVERTER = "HEADER_CONVERTER"
    KAFKA_PRODUCE = "KAFKA_PRODUCE"
    TASK_PUT = "TASK_PUT"
    STREAM_STEP = "STREAM_STEP"
    """A step of a stream application; Kafka Connect does not have this stage."""


class Failure(NamedTuple):
    """A record that a stage refused. ``offset`` is the Kafka offset in sinks, the place in its batch in sources."""

    stage: Stage
    executor: str  # dotted class name
    error: DataError
    topic_partition: TopicPartition
    offset: int
    row: str = ""
    """What identifies a row that a source task could not turn into a record."""


@dataclass(frozen=True)
class FaultPolicy:
    """The configuration of ``errors.*``, applied to bad records."""

    settings: ConnectorSettings
    config_origin: Callable[[str], str]
    stop_event: threading.Event
    log: structlog.stdlib.BoundLogger
    metrics: TaskMetrics

    def apply_tolerance(self, failures: Sequence[Failure]) -> None:
        """Skip the records, or raise TaskError for the first. They are in the dead letter queue before the call."""
        if not failures:
            return
        self.metrics.add("total_record_errors", len(failures))
        if self.settings.errors_log_enable:
            for failure in failures:
                # Coordinates and reason only: contents of records do not belong in a log.
                self.log.error(
                    "record refused",
                    stage=failure.stage.value,
                    executor=failure.executor,
                    topic=failure.topic_partition.topic,
                    partition=failure.topic_partition.partition,
                    offset=failure.offset,
                    **({"row": failure.row} if failure.row else {}),
                    code=failure.error.code,
                    reason=failure.error.message,
                )
        if self.settings.errors_tolerance == "all":
            self.metrics.add("total_records_skipped", len(failures))
            return
        raise _tolerance_exceeded(failures[0], len(failures), self.config_origin("errors.tolerance"))

    def stage_backoff(self) -> Backoff:
        """Return a backoff with the waits and the time limit of ``errors.retry.*``."""
        timeout, longest = self.settings.errors_retry_timeout, self.settings.errors_retry_delay_max
        return Backoff(RetryPolicy(_FIRST_RETRY, longest / 1000, timeout=None if timeout < 0 else timeout / 1000))

    def retry_timed_out(self, error: RetriableError) -> TaskError:
        """Return the error of a task whose stage failed with ``error`` for as long as ``errors.retry.timeout``."""
        return TaskError(
            f"a converter or transform is not available within errors.retry.timeout "
            f"({self.settings.errors_retry_timeout} ms, {self.config_origin('errors.retry.timeout')}): {error.message}",
            code=error.code,
            hint=f"{error.hint + '; ' if error.hint else ''}then restart the task. No record was skipped",
        )


def note_failures(causes: RecordCauses, outcome: str, failures: Sequence[Failure]) -> None:
    """Count failures by code, each code with its last message as the example. Messages hold no contents of records."""
    for code, count in Counter(failure.error.code for failure in failures).items():
        example = next(failure for failure in reversed(failures) if failure.error.code == code)
        causes.note(outcome, code, count, f"{_place(example)}: {example.error.message}")


def raise_skipped(
    raise_condition: RaiseCondition, failures: Sequence[Failure], dead_letter_topic: str, connector: str
) -> None:
    """Raise a condition for records that ``errors.tolerance`` skipped."""
    if not failures:
        return
    last = failures[-1]
    example = f"{_place(last)}: {last.error.code}: {last.error.message}"
    if dead_letter_topic:
        text = f"refused records are in the dead letter queue {dead_letter_topic} and not written"
        hint = f"`headrace dlq list {shlex.quote(connector)}` shows the reasons, `headrace dlq retry` writes them again"
        raise_condition(DEAD_LETTERED, text, hint, count=len(failures), example=example)
    else:
        text = "refused records were skipped by errors.tolerance: all"
        hint = "fix their cause and load them again"
        raise_condition("records.skipped", text, hint, count=len(failures), example=example)


def _place(failure: Failure) -> str:
    topic, partition = failure.topic_partition
    if failure.row:
        return f"row {failure.row} for topic {topic}"
    if partition == NO_PARTITION:
        return f"record {failure.offset + 1} of a batch for topic {topic}"
    return f"the record of {failure.topic_partition} at offset {failure.offset}"


def _tolerance_exceeded(failure: Failure, count: int, config_origin: str) -> TaskError:
    place = _place(failure)
    others = f" (and {count - 1} more in the same batch)" if count > 1 else ""
    error = TaskError(
        f"Tolerance exceeded in error handler: {failure.stage.value} refused {place}{others}: {failure.error.message}",
        code=failure.error.code,
        hint=f"{failure.error.hint or 'fix the record'}; or skip such records by errors.tolerance: all "
        f"({config_origin}) with errors.deadletterqueue.topic.name, which keeps what is skipped",
    )
    error.__cause__ = failure.error
    return error
