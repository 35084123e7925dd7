"""All task hosts of a worker: carries out a plan's actions and never waits for a task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog

from headrace.metrics import Parts
from headrace.runtime.plan import Action, Pause, Resume, Running, Start, Stop
from headrace.runtime.task_host import Build, Report, TaskHost
from headrace.states import TaskId

log = structlog.stdlib.get_logger("headrace.worker")


@dataclass(frozen=True)
class Timing:
    """Seconds."""

    flush_interval: float
    flush_timeout: float
    shutdown: float


@dataclass
class _Held:
    host: TaskHost
    deadline: float | None = None  # monotonic; set when it was asked to stop


class TaskSupervisor:
    """Used from the reconciler's thread; ``metrics`` from any."""

    def __init__(self, worker_id: str, build: Build, report: Report, timing: Timing, wake: Callable[[], None]) -> None:
        self._worker_id = worker_id
        self._build = build
        self._report = report
        self._timing = timing
        self._wake = wake
        self._held: dict[TaskId, _Held] = {}

    def running(self) -> dict[TaskId, Running]:
        """What the plan is made from."""
        return {
            task: Running(held.host.config, held.host.paused, held.deadline is not None)
            for task, held in self._held.items()
        }

    def apply(self, actions: Iterable[Action]) -> None:
        """Start, stop, pause, resume; returns at once."""
        for action in actions:
            match action:
                case Start(task, config, paused):
                    self._start(task, config, paused=paused)
                case Stop(task):
                    self.stop(task)
                case Pause(task):
                    self._held[task].host.pause()
                case Resume(task):
                    self._held[task].host.resume()

    def stop(self, task: TaskId) -> None:
        """Ask a task to end. It leaves :meth:`running` once it has, or when its time is over."""
        held = self._held.get(task)
        if held is not None and held.deadline is None:
            held.deadline = time.monotonic() + self._timing.shutdown
            held.host.stop()

    def reap(self) -> list[TaskId]:
        """Forget the tasks that have ended after being asked to, and those whose time is over."""
        gone = []
        for task, held in list(self._held.items()):
            if held.deadline is None:
                continue
            if not held.host.ended.is_set():
                if time.monotonic() < held.deadline:
                    continue
                log.error("task did not stop in time and is left behind", task=str(task))
                held.host.abandon()
            del self._held[task]
            gone.append(task)
        return gone

    def patience(self) -> float | None:
        """Seconds until a stopping task's time is over; None when nothing is stopping."""
        deadlines = [held.deadline for held in self._held.values() if held.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def metrics(self) -> Mapping[TaskId, Mapping[str, int]]:
        """Counters of every task that is held."""
        return {task: held.host.metrics.snapshot() for task, held in list(self._held.items())}

    def part_metrics(self) -> Mapping[TaskId, Parts]:
        """Of every task that is held."""
        return {task: held.host.metrics.parts() for task, held in list(self._held.items())}

    def _start(self, task: TaskId, config: Mapping[str, str], *, paused: bool) -> None:
        host = TaskHost(task, config, self._worker_id, self._build, self._report)
        self._held[task] = _Held(host)
        host.start(
            paused=paused,
            flush_interval=self._timing.flush_interval,
            flush_timeout=self._timing.flush_timeout,
            then=self._wake,
        )
