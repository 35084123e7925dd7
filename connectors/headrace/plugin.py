"""The contracts that a plugin author implements, and the contexts that he is given.

The framework owns loops, threads, backoff, batching, metrics and shutdown; an author writes three or four methods.
Contexts only give; they accept no commands.

Every method of one task is called on one thread, the task's own. ``stop_event`` is the exception: it is set by the
framework from another thread, so that a blocked call can end early.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, NamedTuple, Protocol

import structlog

from headrace.config import ConfigModel
from headrace.errors import DataError, Finding
from headrace.records import (
    Headers,
    JsonForm,
    Record,
    Rejection,
    SinkBatch,
    SourceBatch,
    SourceOffset,
    SourcePartition,
    TopicPartition,
)
from headrace.schema import Schema
from headrace.states import TaskId


class Wait(NamedTuple):
    """Answer of ``poll`` when nothing is there: call again after ``seconds``, not before."""

    seconds: float


class Schedule(Protocol):
    """When something is due: every so often, or by a cron expression."""

    def next_after(self, moment: datetime) -> datetime:
        """The first due moment later than ``moment``; both aware."""
        ...


class OffsetReader(Protocol):
    """Stored positions of this connector."""

    def offsets(self, partitions: Sequence[SourcePartition]) -> list[SourceOffset | None]:
        """The stored offset of each partition, None where nothing is stored. Raises RetriableError."""
        ...


@dataclass(frozen=True)
class TaskContext:
    """What every task is given. ``properties`` are the task's configuration with placeholders resolved."""

    task: TaskId
    properties: Mapping[str, str]
    stop_event: threading.Event
    log: structlog.stdlib.BoundLogger
    where: Callable[[str], str]
    """Where the user wrote a key: ``orders.yaml:7:3``, or how to set it when he did not. For messages."""
    explain: Callable[[str | None], None]
    """Say in a sentence what the task is waiting for (shown as ``reason`` in the status); None = nothing any more."""


@dataclass(frozen=True)
class SourceContext(TaskContext):
    """What a source task is given."""

    offset_reader: OffsetReader
    schedule: Callable[[str], Schedule]
    """``schedule("5000")`` every 5 s, ``schedule("30s")``, ``schedule("0 3 * * *")`` (cron, five fields, UTC)."""
    json_form: JsonForm | None = None
    """Set when values may be given as ``JsonValues`` of this form, because nothing looks at them on their way."""
    remaining: Callable[[int], None] = lambda records: None
    """Say about how many records are known to be there and not yet read (metric ``source_record_remaining``)."""
    lag: Callable[[str, int, int], None] = lambda part, millis, records: None
    """Say how far the position of a part of the source (a table) is behind what was read of it: milliseconds, and the
    records that a restart would send again (metrics ``source_position_lag_ms``, ``source_position_lag_records``)."""


@dataclass(frozen=True)
class SinkContext(TaskContext):
    """What a sink task is given."""


class SourceTask(ABC):
    """Reads from a system, a batch at a time."""

    @abstractmethod
    def start(self, context: SourceContext) -> None:
        """Get ready. Raises ConfigError, InfrastructureError (FAILED) or RetriableError (tried again)."""

    @abstractmethod
    def poll(self) -> SourceBatch | Wait:
        """The next batch, or when to ask again. Prompt: a bounded query, never a sleep.

        Raises RetriableError: the framework waits and calls again; nothing may be lost by that.
        """

    def acknowledged(self, batch: SourceBatch) -> None:  # noqa: B027 (optional by contract)
        """Every record of ``batch`` is in Kafka. Called in order, on the task's thread. Optional."""

    def stop(self) -> None:  # noqa: B027 (optional by contract)
        """Release what ``start`` took. Called once, also after a failed ``start``."""


class Pending(ABC):
    """A put that has begun. Its methods are called on the task's thread."""

    @abstractmethod
    def finish(self) -> Sequence[Rejection]:
        """Wait until every record is durable or refused. As ``put`` otherwise; after a RetriableError it is called
        again and goes on with what is left."""

    @abstractmethod
    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Other tasks have these now and write their records: send nothing of them any more."""


class Linger(NamedTuple):
    """How long a sink wants records to wait for company when few come."""

    seconds: float
    """The longest wait of the first."""
    records: int
    """So many need not wait for more."""
    size: int
    """Nor do so many bytes of values; 0 = whatever their size."""


class SinkTask(ABC):
    """Writes to a system, a few batches at a time."""

    takes_json_texts: ClassVar[bool] = False
    """Whether values may come as :class:`headrace.records.JsonValues`: as they are in Kafka, not parsed, not checked
    beyond their first and last byte. False: values are always parsed."""
    linger: Linger | None = None
    """Looked at after ``start``. None: records are put as soon as they are read."""

    @abstractmethod
    def start(self, context: SinkContext) -> None:
        """Get ready. Raises ConfigError, InfrastructureError (FAILED) or RetriableError (tried again)."""

    @abstractmethod
    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        """Write all records. Returned means durable, but for the rejections. The same batches may come again.

        Raises RetriableError: the framework keeps its place in the consumer group, waits and calls again with the
        same batches. A put that waits inside must wait on ``stop_event`` and give up within seconds.
        """

    def begin(self, batches: Sequence[SinkBatch]) -> Pending | None:
        """Begin to write and return at once, so that the next records are read meanwhile. Raises as ``put`` does.

        The framework finishes puts in the order they were begun. None (as here): the task knows ``put`` only.
        """
        return None

    def stop(self) -> None:  # noqa: B027 (optional by contract)
        """Release what ``start`` took. Called once, also after a failed ``start``."""


class Entry(NamedTuple):
    """What a sink's system holds under one name, or should hold."""

    name: bytes
    """Readable and unique in the system, as in ``orders/42``."""
    version: int
    """Of two writes under one name the one with the larger version counts; -1 = the later one does."""
    digest: bytes
    """Of the content: equal contents, equal digests. Empty = there is nothing under this name."""


class Verifier(ABC):
    """Says what records should have left in a sink's system and what is there, for ``headrace verify``.

    Used from one thread. Every method may raise RetriableError, InfrastructureError and TaskError.
    """

    @abstractmethod
    def expected(self, batch: SinkBatch) -> Sequence[Entry | DataError | None]:
        """What each record leaves there, an empty digest for a deletion; None when it leaves all as it is, the
        reason when it cannot be written."""

    @abstractmethod
    def found(self) -> Iterator[Sequence[Entry]]:
        """All that is there, in bounded portions, in any order. Called after ``expected`` has seen all records."""

    @abstractmethod
    def look(self, names: Sequence[bytes]) -> Mapping[bytes, Entry]:
        """What is there now under some names; those with nothing are left out."""

    @abstractmethod
    def write(self, batch: SinkBatch, present: Sequence[Entry | None]) -> Sequence[Rejection]:
        """Repair: write these records, though their places hold ``present`` (None = nothing); what is newer stays."""

    @abstractmethod
    def remove(self, surplus: Sequence[Entry]) -> None:
        """Repair: remove these; what has changed meanwhile stays."""

    def patience(self) -> float:
        """Seconds after which a system that took a repair for something older will take it; 0 = it never will."""
        return 0.0

    @abstractmethod
    def close(self) -> None:
        """Release what the verifier has taken."""


class Rebuild(NamedTuple):
    """A second generation of what a sink has written, being made beside the present one."""

    writers: Mapping[str, Mapping[str, str]]
    """Topic → the configuration of a task that writes its records to the new generation."""
    positions: Mapping[TopicPartition, int]
    """All records before these are in the new generation already."""
    switched: bool
    """The new generation is in its place already; what came meanwhile is still to be written to it."""


class Rebuilder(ABC):
    """Makes a sink's second generation and puts it in the place of the first, for ``headrace reindex``.

    What has been done is remembered in the sink's system: after a crash at any point ``begin`` finds it and goes on.
    Used from one thread. Every method may raise RetriableError, InfrastructureError, TaskError and CommandError.
    """

    @abstractmethod
    def begin(self, topics: Sequence[str], *, back: bool) -> Rebuild:
        """Make the new generation, or find the one that was begun. ``back``: take the previous one for it."""

    @abstractmethod
    def keep(self, positions: Mapping[TopicPartition, int]) -> None:
        """Remember that all before these is written."""

    @abstractmethod
    def entries(self, *, new: bool) -> Iterator[Sequence[Entry]]:
        """What is in the new or in the present generation, in bounded portions, under equal names in both."""

    @abstractmethod
    def look(self, names: Sequence[bytes], *, new: bool) -> Mapping[bytes, Entry]:
        """What is there now under some names."""

    @abstractmethod
    def switch(self, written: Mapping[TopicPartition, int]) -> None:
        """Put the new generation in the place of the present one, at once for all readers and writers.

        ``written``: all before these is in the present one, remembered for the way back.
        """

    @abstractmethod
    def finish(self) -> None:
        """All is written: the rebuild is over."""

    @abstractmethod
    def abandon(self, topics: Sequence[str]) -> Sequence[str]:
        """Undo what was begun, before the switch. Returns what was undone."""

    @abstractmethod
    def tidy(self, topics: Sequence[str]) -> Sequence[str]:
        """Delete previous generations. Returns their names."""

    @abstractmethod
    def describe(self, topics: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Generations, a row each: ``name``, ``generation``, ``state``, ``documents``."""

    @abstractmethod
    def close(self) -> None:
        """Release what the rebuilder has taken."""


class Connector(ABC):
    """Plans tasks and checks configurations; moves no data. Instances are short-lived and hold no state."""

    config_model: ClassVar[type[ConfigModel]]
    version: ClassVar[str] = "0.1.0"
    aliases: ClassVar[tuple[str, ...]] = ()
    """Class names of JVM connectors whose configuration files mean this connector."""

    @abstractmethod
    def task_configs(self, properties: Mapping[str, str], max_tasks: int) -> list[dict[str, str]]:
        """The configuration of each task, at most ``max_tasks``. May ask the system. Raises as ``start`` does."""

    def check(self, properties: Mapping[str, str]) -> Iterable[Finding]:
        """Touch the systems and tell what is wrong (errors) or unwise (warnings). Raises nothing for those."""
        return ()


class SourceConnector(Connector):
    """A connector whose tasks read.

    What it reads may change while it runs: with a ``watch_interval`` the framework asks it to ``follow`` that often,
    and restarts the tasks whose configurations are others than before.
    """

    task_class: ClassVar[type[SourceTask]]

    def watch_interval(self, properties: Mapping[str, str]) -> float | None:
        """Seconds between two looks at what there is to read; None = it does not change."""
        return None

    def follow(
        self, properties: Mapping[str, str], max_tasks: int, present: Sequence[Mapping[str, str]]
    ) -> list[dict[str, str]]:
        """As :meth:`task_configs`, but told what the tasks are now, and moving no more than needed.

        May ask the system. Whatever it raises is logged, and the tasks stay as they are until the next look.
        """
        return self.task_configs(properties, max_tasks)


class SinkConnector(Connector):
    """A connector whose tasks write."""

    task_class: ClassVar[type[SinkTask]]

    def task_configs(self, properties: Mapping[str, str], max_tasks: int) -> list[dict[str, str]]:
        """Sinks divide partitions through the consumer group: every task gets the same configuration."""
        return [dict(properties) for _ in range(max_tasks)]

    def verifier(self, properties: Mapping[str, str]) -> Verifier | None:
        """For ``headrace verify``; None = this connector cannot tell. Raises ConfigError."""
        return None

    def rebuilder(self, properties: Mapping[str, str]) -> Rebuilder | None:
        """For ``headrace reindex``; None = this connector cannot rebuild. Raises ConfigError."""
        return None


class Decoded(NamedTuple):
    """A converter's answer for a run of records with one schema: ``values[i]`` belongs to input ``start + i``."""

    start: int
    schema: Schema | None
    values: Sequence[Any]
    """A list, or JsonValues."""


class Converter(ABC):
    """Schema and value ⇄ bytes, a batch at a time. One instance per task and role; no state between batches matters."""

    config_model: ClassVar[type[ConfigModel]]
    aliases: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        """``properties`` have no prefix (``schemas.enable``). Raises ConfigError."""

    @abstractmethod
    def to_bytes(self, topic: str, schema: Schema | None, values: Sequence[Any]) -> list[bytes | None]:
        """Encode; None stands for a null record value (a tombstone).

        Raises DataError when any value is bad; the framework then asks again, a value at a time, to find it.
        """

    def json_form(self) -> JsonForm | None:
        """Set by a converter whose ``to_bytes`` passes on the texts of ``JsonValues`` of this form. Optional."""
        return None

    @abstractmethod
    def from_bytes(self, topic: str, values: Sequence[bytes | None]) -> list[Decoded]:
        """Decode into consecutive runs of one schema each, together covering the input. Raises DataError as above."""


class Transform(ABC):
    """A single message transform: a verb applied to a record."""

    config_model: ClassVar[type[ConfigModel]]
    aliases: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def configure(self, properties: Mapping[str, str]) -> None:
        """``properties`` have no prefix. Raises ConfigError."""

    @abstractmethod
    def apply(self, record: Record) -> Record | None:
        """The changed record (a new or the same object), or None to drop it. Raises DataError."""


class Predicate(ABC):
    """Decides whether a transform applies to a record."""

    config_model: ClassVar[type[ConfigModel]]
    aliases: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def configure(self, properties: Mapping[str, str]) -> None:
        """``properties`` have no prefix. Raises ConfigError."""

    @abstractmethod
    def test(self, record: Record) -> bool:
        """Whether the record is meant."""


class ConfigProvider(ABC):
    """Values for placeholders ``${name:path:key}`` in configurations."""

    aliases: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def get(self, path: str, key: str) -> str:
        """The value. Raises KeyError with a sentence that says what was looked for and where."""


__all__ = [
    "ConfigProvider",
    "Connector",
    "Converter",
    "Decoded",
    "Entry",
    "Headers",
    "OffsetReader",
    "Pending",
    "Predicate",
    "Rebuild",
    "Rebuilder",
    "Schedule",
    "SinkConnector",
    "SinkContext",
    "SinkTask",
    "SourceConnector",
    "SourceContext",
    "SourceTask",
    "TaskContext",
    "TopicPartition",
    "Transform",
    "Verifier",
    "Wait",
]
