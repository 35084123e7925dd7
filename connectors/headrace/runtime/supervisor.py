"""Starts, stops, pauses and abandons the tasks of a worker by the plan, without waiting for any of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import structlog

from headrace.metrics import Parts, TaskMetrics
from headrace.pipeline.stream.queries import StateQueries
from headrace.pipeline.tap import TaskTap
from headrace.runtime.plan import Action, Pause, Resume, Running, Start, Stop
from headrace.runtime.task_host import BuildTrusted, Report, TaskHost
from headrace.states import State, TaskId

log = structlog.stdlib.get_logger("headrace.worker")


_EFFECT_POLL = 0.05
"""Seconds between two checks whether the last effect of an abandoned task has ended."""


@dataclass(frozen=True)
class Timing:
    """Intervals and timeouts of tasks, in seconds."""

    flush_interval: float
    flush_timeout: float
    shutdown: float


@dataclass
class _SupervisedTask:
    host: TaskHost
    trusted: bool
    deadline: float | None = None  # monotonic; set when it was asked to stop
    abandoned: bool = False
    barred: bool = False


class TaskSupervisor:
    """Tasks of a worker. Used on the reconciler's thread; ``metrics`` on any thread."""

    def __init__(
        self, worker_id: str, build: BuildTrusted, report: Report, timing: Timing, wake: Callable[[], None]
    ) -> None:
        self._worker_id = worker_id
        self._build = build
        self._report = report
        self._timing = timing
        self._wake = wake
        self._tasks: dict[TaskId, _SupervisedTask] = {}

    def running(self) -> dict[TaskId, Running]:
        """Return the tasks as input of the plan."""
        return {
            task: Running(
                supervised.host.config, supervised.host.paused, supervised.deadline is not None, supervised.trusted
            )
            for task, supervised in self._tasks.items()
        }

    def apply(self, actions: Iterable[Action]) -> None:
        """Execute actions of a plan without waiting for them."""
        for action in actions:
            match action:
                case Start(task, config, paused, trusted):
                    self._start(task, config, paused=paused, trusted=trusted)
                case Stop(task):
                    self.stop(task)
                case Pause(task):
                    self._tasks[task].host.pause()
                case Resume(task):
                    self._tasks[task].host.resume()

    def stop(self, task: TaskId) -> None:
        """Request a task to stop. It leaves :meth:`running` when it has ended or is abandoned."""
        supervised = self._tasks.get(task)
        if supervised is not None and supervised.deadline is None:
            supervised.deadline = time.monotonic() + self._timing.shutdown
            supervised.host.stop()

    def bar(self) -> None:
        """End the effects of all tasks at once, as if they had not stopped in time; may be called from any thread.

        For a worker whose tasks may have been given to others. It touches memory only.
        """
        for supervised in list(self._tasks.values()):
            supervised.barred = True
            supervised.host.stop()
            supervised.host.abandon()

    def remove_ended(self) -> list[TaskId]:
        """Remove and return the tasks that have ended after a stop request, and those that were abandoned.

        A task whose stop timeout is over is abandoned: its fence is closed, so that it commits, stores and sends
        nothing any more. It is removed, and a successor may start, when its last effect has ended.
        """
        gone = []
        for task, supervised in list(self._tasks.items()):
            if supervised.barred:
                supervised.deadline = supervised.deadline if supervised.abandoned else time.monotonic()
            if supervised.deadline is None:
                continue
            if not supervised.host.ended.is_set():
                if time.monotonic() < supervised.deadline:
                    continue
                if not supervised.abandoned:
                    if not supervised.barred:
                        log.error("task did not stop in time and is abandoned", task=str(task))
                    supervised.abandoned = True
                if not supervised.host.abandon():
                    supervised.deadline = time.monotonic() + _EFFECT_POLL
                    continue
            del self._tasks[task]
            gone.append(task)
        return gone

    def seconds_to_deadline(self) -> float | None:
        """Return the seconds until a stopping task's time is over; None when no task is stopping."""
        deadlines = [supervised.deadline for supervised in self._tasks.values() if supervised.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def task_metrics(self) -> dict[TaskId, TaskMetrics]:
        """Return the metrics of every supervised task; they continue to change."""
        return {task: supervised.host.metrics for task, supervised in list(self._tasks.items())}

    def metrics(self) -> Mapping[TaskId, Mapping[str, int]]:
        """Return the counters of every supervised task."""
        return {task: supervised.host.metrics.snapshot() for task, supervised in list(self._tasks.items())}

    def part_metrics(self) -> Mapping[TaskId, Parts]:
        """Return the metrics of the parts of every supervised task."""
        return {task: supervised.host.metrics.parts() for task, supervised in list(self._tasks.items())}

    def state_queries(self, connector: str) -> dict[TaskId, StateQueries]:
        """Return how to query the state of the running tasks of a stream application."""
        return {
            task: supervised.host.queries
            for task, supervised in list(self._tasks.items())
            if task.connector == connector and supervised.host.state in (State.RUNNING, State.PAUSED)
        }

    def tap(self, task: TaskId) -> TaskTap | None:
        """Return the tap of a task; None when this worker does not run it."""
        supervised = self._tasks.get(task)
        return supervised.host.tap if supervised is not None else None

    def _start(self, task: TaskId, config: Mapping[str, str], *, paused: bool, trusted: bool) -> None:
        host = TaskHost(task, config, self._worker_id, partial(self._build, trusted=trusted), self._report)
        self._tasks[task] = _SupervisedTask(host, trusted)
        host.start(
            paused=paused,
            flush_interval=self._timing.flush_interval,
            flush_timeout=self._timing.flush_timeout,
            then=self._wake,
        )
