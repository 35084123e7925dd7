"""Runs one task on a thread of its own and reports its status.

A driver that hangs cannot stop the worker, because its task is abandoned after the stop timeout. All tasks share one
interpreter. See docs/decisions/0002-tasks-are-threads.md.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import structlog

from headrace.errors import HeadraceError, InfrastructureError
from headrace.metrics import TaskMetrics, now_ms
from headrace.pipeline.control import TaskControl
from headrace.pipeline.fence import TaskFence
from headrace.pipeline.stream.queries import StateQueries
from headrace.pipeline.tap import TaskTap
from headrace.retries import RESTARTS, RetryPolicy
from headrace.states import State, Status, TaskId
from headrace.status_reasons import StatusReasons

Config = Mapping[str, str]


class Runnable(Protocol):
    """A pipeline."""

    def run(self) -> None: ...


Build = Callable[[TaskId, Config, TaskControl, Callable[[str | None], None]], Runnable]
"""Creates the pipeline. Called on the task's thread, so it may block. The last argument is ``set_status_reason``."""


class BuildTrusted(Protocol):
    """As :data:`Build`; ``trusted``: the configuration is from a file on the worker's command line."""

    def __call__(
        self,
        task: TaskId,
        config: Config,
        control: TaskControl,
        set_status_reason: Callable[[str | None], None],
        *,
        trusted: bool,
    ) -> Runnable: ...


Report = Callable[[TaskId, Status], None]


class TaskHost:
    """One run of one task, which is started and stopped once. ``ended`` is set when its thread has finished."""

    def __init__(
        self,
        task: TaskId,
        config: Config,
        worker_id: str,
        build: Build,
        report: Report,
        *,
        paused: threading.Event | None = None,
        clock: Callable[[], int] = now_ms,
        restarts: RetryPolicy = RESTARTS,
    ) -> None:
        """``paused``, ``clock`` (epoch milliseconds) and ``restarts`` are replaced by tests."""
        self.task = task
        self.config = config
        self.metrics = TaskMetrics()
        self.queries = StateQueries()
        self.tap = TaskTap()
        self.ended = threading.Event()
        self._worker_id = worker_id
        self._build = build
        self._report = report
        self._log = structlog.stdlib.get_logger("headrace.task").bind(task=str(task))
        self._stop_event = threading.Event()
        self._paused = paused or threading.Event()
        self._clock = clock
        self._restarts = restarts
        self._lock = threading.Lock()  # guards the fields below; two threads may change the state
        self._state = State.UNASSIGNED
        self._trace: str | None = None
        self._reasons = StatusReasons()
        self._condition: tuple[State, bool, bool] | None = None
        self._since = 0
        self._told: Status | None = None
        self._fence = TaskFence()

    @property
    def paused(self) -> bool:
        return self._paused.is_set()

    @property
    def state(self) -> State:
        return self._state

    def start(self, *, paused: bool, flush_interval: float, flush_timeout: float, then: Callable[[], None]) -> None:
        """Start the thread; ``then`` is called on it when the task has ended."""
        if paused:
            self._paused.set()
        control = TaskControl(
            self._stop_event,
            self._paused,
            self.metrics,
            self._log,
            self._started,
            lambda reason: self._explain("framework", reason),
            flush_interval,
            flush_timeout,
            self._fence,
            set_note=lambda reason: self._explain("note", reason),
            queries=self.queries,
            tap=self.tap,
        )
        self._change(State.UNASSIGNED)
        # A daemon: a task that hangs in a driver must not keep a stopping worker from exiting.
        threading.Thread(target=self._run, args=(control, then), name=str(self.task), daemon=True).start()

    def pause(self) -> None:
        with self._lock:  # the task may be starting or failing at this very moment
            self._paused.set()
            if self._state is State.RUNNING:
                self._set(State.PAUSED)

    def resume(self) -> None:
        with self._lock:
            self._paused.clear()
            if self._state is State.PAUSED:
                self._set(State.RUNNING)

    def stop(self) -> None:
        """Request the task to stop; ``ended`` is set when it has stopped."""
        self._stop_event.set()

    def abandon(self) -> bool:
        """Close the fence of a task that did not end in time. Return whether all its effects have ended; no successor
        may start before. Statuses that the task reports from now on are ignored."""
        with self._lock:  # a running status report ends first
            return self._fence.close()

    def _run(self, control: TaskControl, then: Callable[[], None]) -> None:
        waits = self._restarts.waits()
        try:
            while self._attempt(control):
                if self._stop_event.wait(next(waits)):
                    self._change(State.UNASSIGNED)
                    break
                control = replace(control)  # with status reasons of its own
        finally:
            self.ended.set()
            then()

    def _attempt(self, control: TaskControl) -> bool:
        """Run the task; return whether it failed for a reason that may end without a change of its configuration.

        It stays FAILED until it has started: placeholders are resolved again, so that a new password is found.
        """
        try:
            self._build(self.task, self.config, control, lambda reason: self._explain("plugin", reason)).run()
        except InfrastructureError as error:
            self._fail(f"{error.with_code()} (the task is started again by itself)")
            return True
        except HeadraceError as error:
            self._fail(error.with_code())
        except BaseException:
            # A bug of headrace or a plugin, or a plugin that calls sys.exit, which would end the thread silently. Only
            # this task fails, with the trace for the author.
            self._fail(traceback.format_exc())
        else:
            self._change(State.UNASSIGNED)
        return False

    def _started(self) -> None:
        with self._lock:
            restarted = self._state is State.FAILED
            self._set(State.PAUSED if self._paused.is_set() else State.RUNNING)
        if restarted:
            self._log.info("task runs again")

    def _fail(self, trace: str) -> None:
        if self._stop_event.is_set():
            # The task was stopping anyway: not a failure that the user must fix (Kafka Connect's rule).
            self._log.warning("failed while stopping", reason=trace)
            self._change(State.UNASSIGNED)
            return
        if (self._state, self._trace) != (State.FAILED, trace):
            self._log.error("task failed", reason=trace)
        self._change(State.FAILED, trace)

    def _change(self, state: State, trace: str | None = None) -> None:
        with self._lock:
            self._set(state, trace)

    def _set(self, state: State, trace: str | None = None) -> None:
        self._state, self._trace, self._told = state, trace, None
        if state in (State.FAILED, State.UNASSIGNED):
            self._reasons.clear()
        self._send()

    def _explain(self, who: str, reason: str | None) -> None:
        with self._lock:
            self._reasons.set(who, reason)
            self._send()

    def _send(self) -> None:
        if self._fence.closed:
            return
        reason = self._reasons.current
        retrying = self._state is State.RUNNING and "framework" in self._reasons
        # The text of a reason changes with each attempt; ``since`` is the time when the task began to wait.
        condition = (self._state, retrying, reason is None)
        if condition != self._condition:
            self._condition, self._since = condition, self._clock()
        status = Status(self._state, self._worker_id, self._trace, reason, self._since, retrying=retrying)
        if status != self._told:
            self._told = status
            self._report(self.task, status)
