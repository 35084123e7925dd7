"""Target states, states and statuses of connectors and tasks, with the names of Kafka Connect."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class TargetState(enum.Enum):
    """The state that a user requested."""

    STARTED = "STARTED"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"


class State(enum.Enum):
    """The actual state."""

    UNASSIGNED = "UNASSIGNED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    RESTARTING = "RESTARTING"


@dataclass(frozen=True, slots=True, order=True)
class TaskId:
    """A task of a connector, printed ``orders-0``."""

    connector: str
    number: int

    def __str__(self) -> str:
        return f"{self.connector}-{self.number}"


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a connector or a task.

    ``trace`` says why it is FAILED; ``reason`` (ours, beside Connect's fields) says in one sentence what a
    RUNNING one is waiting for, for example a broker that does not answer. ``since`` is epoch milliseconds of the
    last change of state, or of when it began to have a reason or to be retrying; other words of a reason do not count.
    """

    state: State
    worker_id: str
    trace: str | None = None
    reason: str | None = None
    since: int = 0
    generation: int = 0
    version: str | None = None
    retrying: bool = False
    """Whether the RUNNING task makes no progress: it retries the same work since ``since``, because of ``reason``."""
