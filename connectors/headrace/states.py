"""Target state, state, and what a status is made of. Words and spelling are Kafka Connect's."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class TargetState(enum.Enum):
    """What was asked of a connector."""

    STARTED = "STARTED"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"


class State(enum.Enum):
    """What is."""

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
    """What a connector or a task is doing.

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
    """A RUNNING task that cannot get on: the same work is tried again, for the ``reason``, since ``since``."""
