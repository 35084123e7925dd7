"""Interfaces of source and sink tasks, and the read-only contexts passed to them.

The framework owns loops, threads, backoff, batching, metrics and shutdown; a plugin author implements three or four
methods. All methods of one task are called on one thread, the task's own. ``stop_event`` is the exception: the
framework sets it from another thread, so that a blocked call can end early.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from headrace.conditions import RaiseCondition, ignore_condition
from headrace.records import (
    JsonForm,
    Rejection,
    SinkBatch,
    SourceBatch,
    SourceOffset,
    SourcePartition,
    TopicPartition,
)
from headrace.states import TaskId

if TYPE_CHECKING:
    import structlog  # it imports Rich's tracebacks: a third of the time to import the facade


class Wait(NamedTuple):
    """Returned by ``poll`` when there is nothing to read: the framework polls again after ``seconds``."""

    seconds: float


class Schedule(Protocol):
    """A schedule: an interval or a cron expression."""

    def next_after(self, moment: datetime) -> datetime:
        """Return the first due moment after ``moment``; both are aware."""
        ...


class OffsetReader(Protocol):
    """Stored positions of this connector."""

    def offsets(self, partitions: Sequence[SourcePartition]) -> list[SourceOffset | None]:
        """Return the stored offset of each partition, None where nothing is stored. Raise RetriableError."""
        ...


@dataclass(frozen=True)
class TaskContext:
    """The context of a task. ``properties`` are the task's configuration with placeholders resolved."""

    task: TaskId
    properties: Mapping[str, str]
    stop_event: threading.Event
    log: structlog.stdlib.BoundLogger
    config_origin: Callable[[str], str]
    """Where a key is set (``orders.yaml:7:3``), or how to set it. For messages."""
    set_status_reason: Callable[[str | None], None]
    """Set the task's status reason, a sentence that says what it waits for; None clears it."""
    raise_condition: RaiseCondition = field(default=ignore_condition, kw_only=True)
    """Raise a condition: something that lost records or may have. It is shown until an operator acknowledges it."""


@dataclass(frozen=True)
class SourceContext(TaskContext):
    """The context of a source task."""

    offset_reader: OffsetReader
    schedule: Callable[[str], Schedule]
    """``schedule("5000")`` every 5 s, ``schedule("30s")``, ``schedule("0 3 * * *")`` (cron, five fields, UTC)."""
    json_form: JsonForm | None = None
    """Set when values may be given as ``JsonValues`` of this form, because nothing on their way needs them parsed."""
    remaining: Callable[[int], None] = lambda records: None
    """Report the approximate number of records that are known and not yet read (metric ``source_record_remaining``)."""
    lag: Callable[[str, int, int], None] = lambda part, millis, records: None
    """Report how far the position of a part of the source (a table) is behind what was read of it: milliseconds,
    and the records that a restart sends again (metrics ``source_position_lag_ms``, ``source_position_lag_records``)."""
    exactly_once: bool = False
    """Whether records and positions are one transaction, and the connector has said that it supports it."""


@dataclass(frozen=True)
class SinkContext(TaskContext):
    """The context of a sink task."""

    end_offset: Callable[[TopicPartition], int | None] = field(default=lambda topic_partition: None, kw_only=True)
    """Return the end offset of a partition as Kafka reports it now, with a request; None when it cannot be known.

    Batches have an end offset, too, without a request. It may be an old one, and lower than an earlier one after the
    partition's leader has changed. Raises HeadraceError."""


class SourceTask(ABC):
    """Reads from a system, a batch at a time."""

    key_hint: ClassVar[str] = ""
    """What to configure so that records have keys, for the message about a compacted topic that refuses them."""

    @abstractmethod
    def start(self, context: SourceContext) -> None:
        """Read the configuration and connect.

        Raise ConfigError or InfrastructureError (the task is FAILED), or RetriableError (the framework calls again).
        """

    @abstractmethod
    def poll(self) -> SourceBatch | Wait:
        """Return the next batch, or the time until the next poll. Must be prompt: a bounded query, never a sleep.

        Raise RetriableError when the system is unavailable: the framework waits and calls again, and no row
        may be lost. A row that cannot become a record goes into ``SourceBatch.rejections``; the read continues.
        """

    def acknowledged(self, batch: SourceBatch) -> None:  # noqa: B027 (optional by contract)
        """Note that every record of ``batch`` is in Kafka. Called in the order of the batches. Optional.

        Any error, including RetriableError, fails the task. The positions of records that are in Kafka are still
        stored.
        """

    def stop(self) -> None:  # noqa: B027 (optional by contract)
        """Release what ``start`` took. Called once, also after a failed ``start``."""


class PendingPut(ABC):
    """A put that has begun. Its methods are called on the task's thread."""

    @abstractmethod
    def finish(self) -> Sequence[Rejection]:
        """Wait until every record is durable or refused. Return and raise as ``put``; after a RetriableError it is
        called again and continues with the remaining records."""

    @abstractmethod
    def discard(self, partitions: Collection[TopicPartition]) -> None:
        """Discard the unsent records of partitions that were reassigned to other tasks."""


class Linger(NamedTuple):
    """How long records wait for further records before a put, when few come."""

    seconds: float
    """The longest wait of the first record."""
    records: int
    """A put with this many records does not wait."""
    size: int
    """A put with this many bytes of values does not wait; 0 = no limit."""


class SinkTask(ABC):
    """Writes to a system, a few batches at a time."""

    takes_json_texts: ClassVar[bool] = False
    """Whether values may come as :class:`headrace.records.JsonValues`: as they are in Kafka, not parsed, not checked
    beyond their first and last byte. False: values are always parsed."""
    takes_split_records: ClassVar[bool] = False
    """Whether the task writes every record of a put even where several have the same Kafka offset, because a transform
    made them of one. False: such a transform fails the task."""
    linger: Linger | None = None
    """Read after ``start``. None: records are put as soon as they are read."""
    searchable_after: float = 0.0
    """Read after each put. Seconds until searches find what was written, at the latest; 0: at once."""

    @abstractmethod
    def start(self, context: SinkContext) -> None:
        """Read the configuration and connect.

        Raise ConfigError or InfrastructureError (the task is FAILED), or RetriableError (the framework calls again).
        """

    @abstractmethod
    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        """Write all records; return when they are durable, with a rejection for each that is refused.

        Records that are not written although they are not refused, because the system has them already or the
        configuration drops them, are counted in a :class:`headrace.records.PutResult`; they are not written again.

        The same batches may be passed again.

        Raises RetriableError: the framework keeps its place in the consumer group, waits and calls again with the
        same batches. A put that waits inside must wait on ``stop_event`` and give up within seconds.
        """

    def begin(self, batches: Sequence[SinkBatch]) -> PendingPut | None:
        """Begin to write and return at once, so that the next records are read meanwhile. Raises as ``put`` does.

        The framework finishes puts in the order they were begun. None (as here): the task knows ``put`` only.
        """
        return None

    def idle(self) -> None:  # noqa: B027 (optional by contract)
        """Check what only shows after a write, for example that the system still has what was written. Optional.

        Called between puts, while none is in flight: once per ``offset.flush.interval.ms``, at least every five
        seconds, and not while the task is paused. (Kafka Connect calls ``put`` without records instead.) Prompt: it
        delays the next records, so it gives up within a few seconds, and it writes no records.

        Raise RetriableError when the system is unavailable: the status shows the reason, the task continues, and the
        framework calls again. Other errors fail the task, as those of ``put`` do.
        """

    def stop(self) -> None:  # noqa: B027 (optional by contract)
        """Release what ``start`` took. Called once, also after a failed ``start``."""
