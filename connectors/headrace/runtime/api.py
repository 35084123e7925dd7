"""What a worker can be asked: the one interface behind REST and CLI.

All methods may be called from any thread, block until the worker has answered (at most :data:`REQUEST_TIMEOUT`
seconds, then RetriableError) and raise CommandError (404, 409) or ConfigError (400).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.accounting import PartitionAccount, RecordCause
from headrace.conditions import Condition
from headrace.metrics import Parts
from headrace.records import SourceOffset, SourcePartition
from headrace.states import Status, TargetState, TaskId

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
    """What a task has read since it was started and what became of it (see :mod:`headrace.accounting`)."""

    counts: Mapping[str, int]
    causes: Sequence[RecordCause]
    partitions: Mapping[str, PartitionAccount]
    """Of a sink: by partition."""


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """How far a running task is."""

    records_per_second: float
    """Records whose outcome became known, over the last minute."""
    lag: int
    """Of a sink: records in Kafka that it has not written, as of its last poll. Of a source: records in flight, and
    those that a long read has yet to read (estimated)."""
    newest_record_age_ms: int | None
    """Age of the newest record that was written; None before the first one."""
    dead_letters: int
    """Written since the task was started."""


class WorkerApi(Protocol):
    """Commands and questions to a worker."""

    def cluster_id(self) -> str | None:
        """The Kafka cluster's id; None while it is not known."""
        ...

    def health(self) -> Health: ...

    def connectors(self) -> list[str]: ...

    def info(self, name: str) -> ConnectorInfo: ...

    def status(self, name: str) -> ConnectorStatus: ...

    def create(self, name: str, config: Mapping[str, str], initial_state: TargetState) -> ConnectorInfo:
        """Raises ConflictError when the name is taken, ConfigError when the configuration is wrong."""
        ...

    def put_config(self, name: str, config: Mapping[str, str]) -> tuple[bool, ConnectorInfo]:
        """Create or replace; the flag tells whether it was created."""
        ...

    def patch_config(self, name: str, changes: Mapping[str, str | None]) -> ConnectorInfo:
        """Merge; None deletes a key (KIP-477)."""
        ...

    def delete(self, name: str) -> None: ...

    def set_target_state(self, name: str, target: TargetState) -> None: ...

    def restart(self, name: str, *, include_tasks: bool, only_failed: bool) -> ConnectorStatus:
        """The planned status, chosen ones RESTARTING (KIP-745)."""
        ...

    def restart_task(self, task: TaskId) -> None: ...

    def tasks(self, name: str) -> list[TaskInfo]: ...

    def topics(self, name: str) -> list[str] | None:
        """Return the topics that the connector has used; None when they are not tracked."""
        ...

    def reset_topics(self, name: str) -> bool:
        """Forget the topics that the connector has used; False when that is not allowed."""
        ...

    def offsets(self, name: str) -> list[dict[str, Any]]:
        """``[{"partition": {…}, "offset": {…}}]``; for sinks from the consumer group (KIP-875)."""
        ...

    def alter_offsets(self, name: str, changes: Sequence[tuple[SourcePartition, SourceOffset | None]]) -> None:
        """Store positions of a stopped connector; None forgets one, of a sink: means the first record (KIP-875).

        Raises CommandError when it is not stopped, or the position is none of a sink's; RetriableError while its tasks
        are still ending.
        """
        ...

    def reset_offsets(self, name: str) -> None:
        """Forget all positions of a stopped connector: it starts over. Raises as :meth:`alter_offsets`."""
        ...

    def validate(self, config: Mapping[str, str]) -> dict[str, Any]:
        """The answer of ``PUT /connector-plugins/{p}/config/validate``."""
        ...

    def conditions(self, name: str) -> list[Condition]:
        """Return what happened to the connector and was not acknowledged, the oldest first."""
        ...

    def acknowledge(self, name: str, code: str | None = None) -> list[Condition]:
        """Forget conditions, of one code or all, and return them. Raises NotFoundError for another code."""
        ...

    def records(self, name: str) -> dict[int, TaskRecords]:
        """Return the account of the records of each running task, by task number."""
        ...

    def progress(self, name: str) -> dict[int, TaskProgress]:
        """Return how far each running task is, by task number."""
        ...

    def metrics(self) -> Mapping[TaskId, Mapping[str, int]]:
        """Counters of the running tasks, names as in ``headrace.metrics``."""
        ...

    def part_metrics(self) -> Mapping[TaskId, Parts]:
        """Gauges of parts of what the running tasks work on."""
        ...


def worst(statuses: Sequence[Status]) -> Status:
    """The one an operator should look at first: a connector is as healthy as its worst part."""
    order = ("FAILED", "RESTARTING", "UNASSIGNED", "STOPPED", "PAUSED", "RUNNING")
    return min(statuses, key=lambda status: (order.index(status.state.value), status.reason is None))
