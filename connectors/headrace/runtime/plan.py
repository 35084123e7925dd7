"""A pure function from the desired state and the running tasks to actions, and the assignment of tasks to workers.

No clock, no thread, no store: equal arguments give equal actions, so every rule can be tested as a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Begin a task."""

    task: TaskId
    config: Config
    paused: bool
    trusted: bool = False
    """The configuration was made from one in a file on the worker's command line."""


class Stop(NamedTuple):
    """End a task. What replaces it is started by the plan that follows its end."""

    task: TaskId


class Pause(NamedTuple):
    """Move no data, stay a member."""

    task: TaskId


class Resume(NamedTuple):
    """Move data again."""

    task: TaskId


Action = Start | Stop | Pause | Resume


def assign(tasks: Sequence[TaskId], members: Sequence[str]) -> dict[TaskId, str]:
    """Tasks to members, round robin in a fixed order; nothing without members."""
    order = sorted(members)
    return {task: order[index % len(order)] for index, task in enumerate(sorted(tasks))} if order else {}


def plan(desired: DesiredState, members: Sequence[str], me: str, running: Mapping[TaskId, Running]) -> list[Action]:
    """What ``me`` must do now: stops first, so that what they free is there for the starts.

    A task begins only when no other of its connector is ending. It may have been given a table that the other one
    still has records of on their way to Kafka; overtaken by newer ones, they would be the last word on their keys.
    """
    wanted: dict[TaskId, tuple[Config, bool]] = {}
    for name, configs in desired.tasks.items():
        target = desired.target(name)
        if target is TargetState.STOPPED:
            continue
        for number, config in enumerate(configs):
            wanted[TaskId(name, number)] = (config, target is TargetState.PAUSED)
    owners = assign(list(wanted), members)
    mine = {task: wish for task, wish in wanted.items() if owners.get(task) == me}

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
