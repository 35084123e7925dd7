"""The operations of a worker, for REST and CLI.

All methods may be called from any thread, block until the worker has responded (at most :data:`REQUEST_TIMEOUT`
seconds, then RetriableError) and raise CommandError (404, 409) or ConfigError (400).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from headrace.accounting import PartitionAccount, RecordCause, balance
from headrace.conditions import Condition
from headrace.freshness import FreshnessSummary
from headrace.metrics import Parts
from headrace.pipeline.stream.registration import Registration
from headrace.records import SourceOffset, SourcePartition
from headrace.runtime.stream_reset import StreamReset
from headrace.runtime.stream_state_queries import StreamStateAnswer
from headrace.runtime.tap_view import TapQuery, TapView
from headrace.states import Status, TargetState, TaskId
from headrace.worker_events import EventsSnapshot

REQUEST_TIMEOUT = 90.0


@dataclass(frozen=True, slots=True)
class ConnectorInfo:
    """``config`` is raw: placeholders unresolved. ``type`` is ``source``, ``sink`` or ``unknown``."""

    name: str
    config: Mapping[str, str]
    tasks: tuple[TaskId, ...]
    type: str


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """Statuses of the connector and of its tasks, by task number."""

    name: str
    connector: Status
    tasks: Mapping[int, Status]
    type: str
    conditions: tuple[Condition, ...] = ()
    connector_class: str = ""
    """As it is configured."""
    delivery: str = ""
    """Of a source whose worker writes in transactions: ``exactly-once`` or ``at-least-once``."""


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task's raw configuration."""

    id: TaskId
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Health:
    """``status`` is ``healthy``, ``starting`` or ``unhealthy``."""

    status: str
    message: str


@dataclass(frozen=True, slots=True)
class TaskRecords:
    """What a task has read since its start, and the outcome of each record (see :mod:`headrace.accounting`)."""

    counts: Mapping[str, int]
    causes: Sequence[RecordCause]
    partitions: Mapping[str, PartitionAccount]
    """Of a sink or a stream application: the accounts of its partitions."""
    steps: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Of a stream application: the accounts of its steps, see :mod:`headrace.step_accounting`."""

    @property
    def balance(self) -> int:
        """0 when every record that was read has an outcome or is in flight."""
        return balance(self.counts)


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """Progress of a running task."""

    records_per_second: float
    """Records whose outcome became known, over the last minute."""
    lag: int
    """Of a sink: records in Kafka that it has not written, as of its last poll. Of a source: records in flight, and
    those that a long read has yet to read (estimated)."""
    newest_record_age_ms: int | None
    """Age of the newest data that was written; None before the first record."""
    dead_letters: int
    """Written since the task was started."""


class WorkerApi(Protocol):
    """Commands and queries of a worker."""

    def cluster_id(self) -> str | None:
        """The Kafka cluster's id; None while it is not known."""
        ...

    def health(self) -> Health:
        """Return whether the worker can answer requests, as Kafka Connect does (KIP-1017)."""
        ...

    def liveness(self) -> Health:
        """Return ``unhealthy`` if only a restart helps. An outage of Kafka does not change it."""
        ...

    def connectors(self) -> list[str]: ...

    def info(self, name: str) -> ConnectorInfo: ...

    def status(self, name: str) -> ConnectorStatus: ...

    def create(self, name: str, config: Mapping[str, str], initial_state: TargetState) -> ConnectorInfo:
        """Create a connector. Raise ConflictError when the name exists, ConfigError for an invalid configuration."""
        ...

    def put_config(self, name: str, config: Mapping[str, str]) -> tuple[bool, ConnectorInfo]:
        """Create or replace a connector; the flag is True when it was created."""
        ...

    def patch_config(self, name: str, changes: Mapping[str, str | None]) -> ConnectorInfo:
        """Merge changes into a configuration; None deletes a key (KIP-477)."""
        ...

    def delete(self, name: str) -> None: ...

    def set_target_state(self, name: str, target: TargetState) -> None: ...

    def restart(self, name: str, *, include_tasks: bool, only_failed: bool) -> ConnectorStatus:
        """Restart; return the planned status, in which the selected ones are RESTARTING (KIP-745)."""
        ...

    def restart_task(self, task: TaskId) -> None: ...

    def tasks(self, name: str) -> list[TaskInfo]: ...

    def put_tasks(self, name: str, tasks: Sequence[Mapping[str, str]]) -> None:
        """Store the tasks that a connector has planned on another worker of the group. Raise NotFoundError."""
        ...

    def fence(self, name: str) -> None:
        """Fence the producers of earlier tasks of an exactly-once source. Raise NotFoundError, ConflictError."""
        ...

    def topics(self, name: str) -> list[str] | None:
        """Return the topics that the connector has used; None when they are not tracked."""
        ...

    def reset_topics(self, name: str) -> bool:
        """Forget the topics that the connector has used; False when that is not allowed."""
        ...

    def offsets(self, name: str) -> list[dict[str, Any]]:
        """Return ``[{"partition": {…}, "offset": {…}}]``; of a sink, those of its consumer group (KIP-875)."""
        ...

    def alter_offsets(self, name: str, changes: Sequence[tuple[SourcePartition, SourceOffset | None]]) -> None:
        """Store positions of a stopped connector; None deletes it; of a sink, it means the first record (KIP-875).

        Raises CommandError when it is not stopped, or a sink cannot have the position; RetriableError while its tasks
        are still stopping.
        """
        ...

    def reset_offsets(self, name: str) -> None:
        """Delete all positions of a stopped connector: it starts from the beginning. Raise as :meth:`alter_offsets`."""
        ...

    def decide(self, name: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the decision of a running stream application on one request, after it is written to Kafka.

        Raise NotFoundError, CommandError for a request that is refused, RetriableError after ``decide.timeout.ms``."""
        ...

    def reset_stream(self, name: str, *, dry: bool) -> StreamReset:
        """Move the offsets of a stopped stream application to the beginning of its inputs and delete its internal
        topics; ``dry``: only return what would be done. Raise as :meth:`alter_offsets`."""
        ...

    def stream_state(self, name: str, store: str, key: str) -> StreamStateAnswer:
        """Return what the tasks of this worker hold of a key. Raise NotFoundError for an unknown store, RetriableError
        while no task answers."""
        ...

    def registration(self, name: str) -> Registration:
        """Return what the state of a stream application was made by. Raise NotFoundError when it has never run."""
        ...

    def tap(self, task: TaskId, query: TapQuery) -> TapView:
        """Return records of a running task as they pass a stage, as soon as there are enough or the time is over.

        Raise NotFoundError when this worker does not run the task, CommandError for an unknown stage, ConflictError
        while another caller waits."""
        ...

    def validate(self, config: Mapping[str, str]) -> dict[str, Any]:
        """Return the response of ``PUT /connector-plugins/{p}/config/validate``."""
        ...

    def conditions(self, name: str) -> list[Condition]:
        """Return the connector's conditions that are not acknowledged, the oldest first."""
        ...

    def acknowledge(self, name: str, code: str | None = None) -> list[Condition]:
        """Remove conditions, of one code or all, and return them. Raise NotFoundError when none has the code."""
        ...

    def records(self, name: str) -> dict[int, TaskRecords]:
        """Return the account of the records of each running task, by task number."""
        ...

    def progress(self, name: str) -> dict[int, TaskProgress]:
        """Return the progress of each running task, by task number."""
        ...

    def metrics(self) -> Mapping[TaskId, Mapping[str, int]]:
        """Return the counters of the running tasks, with the names of ``headrace.metrics``."""
        ...

    def freshness(self) -> Mapping[TaskId, FreshnessSummary]:
        """Return the ages of the data at the hops of each running task."""
        ...

    def events(self) -> Mapping[TaskId, EventsSnapshot]:
        """Return the newest events of each running task: rebalances, transitions of experiments."""
        ...

    def part_metrics(self) -> Mapping[TaskId, Parts]:
        """Return gauges of the parts of running tasks, such as the tables of a source."""
        ...


def worst(statuses: Sequence[Status]) -> Status:
    """Return the worst status: that of a connector is the worst of its own and its tasks'."""
    order = ("FAILED", "RESTARTING", "UNASSIGNED", "STOPPED", "PAUSED", "RUNNING")
    return min(statuses, key=lambda status: (order.index(status.state.value), status.reason is None))
