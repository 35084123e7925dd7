"""A pure function from the desired state, what the worker owns, and the running tasks to actions.

It uses no clock, thread or store: equal arguments give equal actions, so every rule can be tested as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from headrace.states import TargetState, TaskId
from headrace.stores import DesiredState

Config = Mapping[str, str]


@dataclass(frozen=True)
class Running:
    """A task that this worker has, also one that FAILED: it is kept until it is restarted or reconfigured."""

    config: Config
    paused: bool = False
    stopping: bool = False
    trusted: bool = False


class Start(NamedTuple):
    """Start a task."""

    task: TaskId
    config: Config
    paused: bool
    trusted: bool = False
    """Whether the connector's configuration is from a file on the worker's command line."""


class Stop(NamedTuple):
    """Stop a task. The next plan after its end starts its successor."""

    task: TaskId


class Pause(NamedTuple):
    """Pause a task: it processes no records and keeps its connections."""

    task: TaskId


class Resume(NamedTuple):
    """Resume a paused task."""

    task: TaskId


Action = Start | Stop | Pause | Resume


def plan(desired: DesiredState, owns: Callable[[TaskId], bool], running: Mapping[TaskId, Running]) -> list[Action]:
    """Return the actions of a worker: stops first, because starts may need what they release.

    A task is started only when no other task of its connector is stopping. Otherwise it could read a table of which
    the other one has records in flight; these could arrive in Kafka after newer records of the same keys.
    """
    mine: dict[TaskId, tuple[Config, bool]] = {}
    for name, configs in desired.tasks.items():
        target = desired.target(name)
        if target is TargetState.STOPPED:
            continue
        for number, config in enumerate(configs):
            if owns(task := TaskId(name, number)):
                mine[task] = (config, target is TargetState.PAUSED)

    stops: list[Stop] = []
    changes: list[Action] = []
    starts: list[Action] = []
    for task, present in running.items():
        if present.stopping:
            continue
        trusted = task.connector in desired.trusted_tasks
        if task not in mine or mine[task][0] != present.config or trusted != present.trusted:
            stops.append(Stop(task))
        elif mine[task][1] != present.paused:
            changes.append(Pause(task) if mine[task][1] else Resume(task))
    ending = {task.connector for task, present in running.items() if present.stopping}
    ending |= {stop.task.connector for stop in stops}
    for task, (config, paused) in mine.items():
        if task not in running and task.connector not in ending:
            starts.append(Start(task, config, paused, task.connector in desired.trusted_tasks))
    return [*stops, *changes, *starts]
