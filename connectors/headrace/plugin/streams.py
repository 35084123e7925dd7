"""Interfaces of stream applications: what a task reads and keeps, and how it processes a batch.

The framework owns consumer, transactions, changelogs, restoration, dead letters and metrics. A stream task is a
function from a batch and the state of its partition to outputs and changes of the state. All its methods are called on
the task's thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from headrace.errors import ConfigError, DataError, Finding
from headrace.plugin.connectors import Connector
from headrace.plugin.tasks import TaskContext
from headrace.records import Headers, Rejection, SinkBatch, TopicPartition
from headrace.schema import Schema
from headrace.worker_events import WorkerEvent

Segments = Mapping[int, Mapping[Any, Any]]
"""The state of one store in one partition: segment (such as the start of a window) → key → value.

Keys are scalars or tuples of scalars; values consist of JSON types, decimals, timestamps and bytes."""

Changes = dict[int, dict[Any, Any]]
"""Changes of a state: segment → key → new value; None deletes the key."""


@dataclass(frozen=True)
class StreamTopology:
    """The topics and stores of an application. Names are complete; the framework creates what is internal."""

    inputs: tuple[str, ...]
    """Topics that the consumer group reads, without repartition topics."""
    tables: tuple[str, ...] = ()
    """Topics that every task reads completely before the first record."""
    repartitions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Internal topic → topics: it has as many partitions as the largest of them."""
    stores: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Store → the topics whose partitions it follows. Topics of one store must have equally many partitions; the
    partitions of one number share its state, and one task has all of them."""
    outputs: tuple[str, ...] = ()
    aligned: tuple[tuple[str, ...], ...] = ()
    """Topics of which records are processed in the order of event time one by one, in partitions of equal number: a
    table and the stream that looks it up. At equal times those of the topic that is named first go first."""
    shared: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Topics that one task writes and every task reads as a table, each with its Kafka settings. They have one
    partition, are created when they are missing, and hold objects as JSON under keys that are text."""
    definitions: Mapping[str, str] = field(default_factory=dict)
    """Store → a text of everything that its state depends on: a state that was made by another text is not used."""
    fingerprint: str = ""
    """Equal for equal applications: processes of one name must have one."""

    def followed(self) -> tuple[str, ...]:
        """Return the topics that every task reads as tables."""
        return (*self.tables, *self.shared)

    def consumed(self) -> tuple[str, ...]:
        """Return the topics that the consumer group reads."""
        return (*self.inputs, *self.repartitions)


@dataclass(slots=True)
class StreamOutput:
    """Records for one topic, in order. ``origins``: for each, the Kafka offset of the record that it was made of;
    below 0 when several made it. All columns have equal length."""

    topic: str
    keys: list[Any]
    values: list[Any]
    timestamps: list[int]
    origins: list[int]
    headers: list[Headers] | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    """Headers of the dead letters of records that cannot be written: the step, and its place in the file."""
    describe_result: Callable[[int], Mapping[str, str]] = lambda origin: {}
    """Further headers of one that several records made, by its origin."""

    def __len__(self) -> int:
        return len(self.values)


@dataclass(slots=True)
class StepCounts:
    """Counts of a step for one batch."""

    received: int = 0
    dropped: int = 0
    late: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    """Of a join: its ``left`` records, and how many of them were ``matched``, closed ``unmatched`` or ``left_late``.
    The others are open."""

    def add(self, other: StepCounts) -> None:
        self.received += other.received
        self.dropped += other.dropped
        self.late += other.late
        for name, amount in other.outcomes.items():
            self.outcomes[name] = self.outcomes.get(name, 0) + amount


class RefusedResult(NamedTuple):
    """A result that a step refuses and several records have made, such as that of a window. It is left out."""

    error: DataError
    key: Any
    value: Any
    timestamp: int


@dataclass(slots=True)
class StreamResult:
    """Result of a batch. When there are rejections, the framework discards everything else and processes the batch
    again without the rejected records: a record has all of its effects or none."""

    outputs: list[StreamOutput] = field(default_factory=list)
    changes: dict[str, Changes] = field(default_factory=dict)
    """By store."""
    rejections: list[Rejection] = field(default_factory=list)
    steps: dict[str, StepCounts] = field(default_factory=dict)
    refused_results: list[RefusedResult] = field(default_factory=list)
    events: list[WorkerEvent] = field(default_factory=list)
    """What an operator should learn of. They are logged and reported when the transaction is committed."""


@dataclass(frozen=True, slots=True)
class StreamDecision:
    """A decision on one request: what the caller is answered, and the record of an input that has it."""

    answer: Mapping[str, Any]
    record: StreamOutput


@dataclass(frozen=True)
class KnownRecords:
    """What is known of the records of a topic before an application starts."""

    schemas: Sequence[Schema] = ()
    """Of the values; no value has columns that none of them has."""
    examples: Sequence[Any] = ()
    """Values without a schema. Others may have further columns and types."""
    plain: bool = False
    """Records will have values without their schemas: dates, decimals and bytes are numbers or texts."""


@dataclass(frozen=True)
class EvaluatedExpression:
    """The value of an expression over a record, and the type that is known of it before a record is read."""

    value: Any
    type: str


@dataclass(frozen=True)
class StreamContext(TaskContext):
    """The context of a stream task."""


class StreamTask(ABC):
    """Processes the records of an application."""

    @abstractmethod
    def start(self, context: StreamContext) -> StreamTopology:
        """Read the configuration. Raise ConfigError."""

    @abstractmethod
    def update_table(self, batch: SinkBatch) -> Sequence[Rejection]:
        """Apply records of a table's topic: the last value of each key counts, a null value deletes the key."""

    @abstractmethod
    def process(self, batch: SinkBatch, state: Mapping[str, Segments]) -> StreamResult:
        """Process consecutive records of one partition. ``state``: the stores that follow its topic.

        Must be a pure function of the batch, the tables and the state, which it does not change: the framework calls it
        again with fewer records when some are rejected, and with the same records after a failed transaction.
        """

    def event_times(self, batch: SinkBatch) -> Sequence[int]:
        """Return the event time of each record, by which partitions that belong together are ordered."""
        return batch.timestamps

    def advance(self, topic_partition: TopicPartition, silent: int, state: Mapping[str, Segments]) -> StreamResult:
        """Advance the stream time of a partition by ``silent`` milliseconds without a record (``idle.after``).

        Called again while the silence lasts. Without changes the result has no effect, and the next call includes the
        same time. As :meth:`process`, a pure function; it has no rejections.
        """
        return StreamResult()

    def accounts(self, store: str, state: Segments) -> Mapping[str, Mapping[str, int]]:
        """Return what became of the records in a store of one partition, by step: accounts that the state has.

        See :mod:`headrace.step_accounting` for the terms.
        """
        return {}

    def open_records(self, store: str, state: Segments) -> Mapping[str, int]:
        """Count the open records of these accounts in the entries of the state."""
        return {}

    def shown_state(self, store: str, key: Any, state: Segments) -> Sequence[Mapping[str, Any]]:
        """Return what a store holds of a key, for queries: one object for each entry. ``state`` has only this key."""
        return [{"segment": segment, "value": entries[key]} for segment, entries in sorted(state.items())]

    def prepare_decisions(self) -> None:
        """Prepare for :meth:`decide`. Called after ``start``, and when tables have changed.

        Raise ConfigError when the application decides nothing.
        """
        raise ConfigError(
            "the application has no step that decides on single requests",
            code="stream.no_decisions",
            hint="remove decide.enabled",
        )

    def decide(self, request: Mapping[str, Any], moment: int, began: float) -> StreamDecision:
        """Return the decision on a request that came over HTTP at ``moment`` (epoch milliseconds).

        ``began``: ``time.perf_counter()`` then. Called on an instance that gets tables and processes no records, by
        one thread at a time. Raise CommandError for a request that is refused.
        """
        raise NotImplementedError

    def stop(self) -> None:  # noqa: B027 (optional by contract)
        """Release what ``start`` took. Called once, also after a failed ``start``."""


class StreamConnector(Connector):
    """A stream application."""

    task_class: ClassVar[type[StreamTask]]

    def task_configs(self, properties: Mapping[str, str], max_tasks: int) -> list[dict[str, str]]:
        """Return the same configuration for every task: the consumer group divides the partitions among them."""
        return [dict(properties) for _ in range(max_tasks)]

    @abstractmethod
    def topology(self, name: str, properties: Mapping[str, str]) -> StreamTopology:
        """Return the topics and stores of the application. Raise ConfigError."""

    @abstractmethod
    def explain(self, name: str, properties: Mapping[str, str]) -> Sequence[str]:
        """Return the steps of the application, a line each, for ``headrace stream explain``. Raise ConfigError."""

    def column_findings(
        self, name: str, properties: Mapping[str, str], topics: Mapping[str, KnownRecords]
    ) -> Sequence[Finding]:
        """Return where the application reads columns that these topics do not have, or uses values of another type.

        A finding is an error if schemas show it, and a warning if examples do. ``properties`` is valid.
        """
        return ()

    def evaluate(self, expression: str, record: Mapping[str, Any] | None) -> EvaluatedExpression:
        """Evaluate an expression of the application's language over a record; None: over one of unknown columns.

        Raise ConfigError, with the place in the expression if it is known, or DataError when the record's values do
        not fit.
        """
        raise ConfigError(f"{type(self).__name__} has no expressions", code="stream.no_expressions")
