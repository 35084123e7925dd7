"""The control thread, which brings the running tasks into the desired state (Kafka Connect's herder).

Commands arrive as functions with a future, and change the *desired* state in the config store. After each command
:func:`headrace.runtime.plan.plan` returns the actions to execute. No other code starts or stops a task.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from typing import Any, NamedTuple, TypeVar

import structlog

from headrace.config import nearest
from headrace.errors import CommandError, ConflictError, NotFoundError, RetriableError
from headrace.groups.protocol import CONNECTOR, Unit
from headrace.metrics import now_ms
from headrace.runtime.api import REQUEST_TIMEOUT
from headrace.runtime.leader_duties import LeaderDuties
from headrace.runtime.membership import Membership
from headrace.runtime.plan import plan
from headrace.runtime.supervisor import TaskSupervisor
from headrace.runtime.task_configurator import TaskConfigs, TaskConfigurator
from headrace.runtime.task_publication import TaskPublications
from headrace.states import State, Status, TargetState, TaskId
from headrace.stores import ConfigStore, DesiredState, StatusStore
from headrace.stores.config_fold import Command, LoggerLevel, RestartRequest
from headrace.validation import TASK_CLASS

T = TypeVar("T")
log = structlog.stdlib.get_logger("headrace.worker")

# Connect's texts (AbstractHerder); clients search for them.
_NOT_FOUND = "Connector {} not found"
_NOT_STOPPED = (
    "Connectors must be in the STOPPED state before their offsets can be modified. This can be done for the specified "
    "connector by issuing a 'PUT' request to the '/connectors/{name}/stop' endpoint"
)

_TICK = 1.0
"""Seconds: how often a worker of a group looks after its duties as the leader."""


class _Configured(NamedTuple):
    """The state for which a connector of this worker was asked for its tasks."""

    revision: tuple[int, int]
    target: TargetState


class _Tidied(NamedTuple):
    """The state after which outdated statuses were deleted."""

    desired: int
    generation: int
    running: frozenset[TaskId]


class Reconciler:
    """Methods named without ``call`` run on its own thread only."""

    def __init__(
        self,
        configs: ConfigStore,
        statuses: StatusStore,
        membership: Membership,
        supervisor: TaskSupervisor,
        configurator: TaskConfigurator,
        *,
        set_level: Callable[[str, str], object] = lambda logger, level: None,
        forward_tasks: Callable[[str, Sequence[Mapping[str, str]]], None] | None = None,
        duties: LeaderDuties | None = None,
    ) -> None:
        """``set_level`` sets the level of a logger of this worker. In a group, ``forward_tasks`` sends task
        configurations to the leader (it may block, and raise RetriableError), and ``duties`` are done if this worker
        is the leader.
        """
        self._configs = configs
        self._statuses = statuses
        self._membership = membership
        self._supervisor = supervisor
        self._configurator = configurator
        self._set_level = set_level
        self._forward_tasks = forward_tasks
        self._duties = duties
        self._publications = TaskPublications(self._publish, configurator.reasons)
        self._configured: dict[str, _Configured] = {}
        self._tidied: _Tidied | None = None
        self._commands: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any] | None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
        self._busy_since: float | None = None
        self._leaving = threading.Event()
        self._restarting: set[TaskId] = set()

    def start(self) -> None:
        self._configs.on_change(self._changed)
        self._thread.start()
        self.wake()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def busy_for(self) -> float:
        """Return for how many seconds the control thread has not asked for a command; 0 while it waits for one."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def stop(self, timeout: float) -> None:
        """Stop all tasks and end; the desired state is not changed."""
        self._leaving.set()
        self.wake()
        self._thread.join(timeout)

    def wake(self) -> None:
        """Compare desired and running tasks again, because something has changed."""
        self._commands.put(None)

    def _changed(self, commands: Sequence[Command]) -> None:
        """Called on the thread of the config log."""
        self.wake()
        for command in commands:
            self._commands.put((partial(self._execute, command), None))

    def call(self, command: Callable[[], T]) -> T:
        """Run a command on the reconciler's thread and return its result. Raise its error, or RetriableError."""
        future: Future[T] = Future()
        self._commands.put((command, future))
        try:
            return future.result(REQUEST_TIMEOUT)
        except FutureTimeoutError as error:
            raise RetriableError("the worker did not answer in time", code="worker.busy", hint="try again") from error

    def post(self, planned: TaskConfigs) -> None:
        """Accept a connector's task configurations. Called on the thread of the configurator."""
        self._commands.put((lambda: self._planned(planned), None))

    def desired(self) -> DesiredState:
        return self._configs.desired()

    def require(self, name: str, unknown: str = _NOT_FOUND) -> Mapping[str, str]:
        """Return the connector's configuration. Raise NotFoundError with the nearest names."""
        configs = self._configs.desired().configs
        if name not in configs:
            raise NotFoundError(unknown.format(name), hint=nearest(name, configs))
        return configs[name]

    def create(self, name: str, config: Mapping[str, str], target: TargetState) -> None:
        if name in self._configs.desired().configs:
            raise ConflictError(f"Connector {name} already exists", code="connector.exists")
        self._configs.put_connector(name, config, target)

    def replace(self, name: str, config: Mapping[str, str], *, trusted: bool = False) -> bool:
        """Create or replace; return whether it was created. An equal configuration does not lose its trust."""
        desired = self._configs.desired()
        created = name not in desired.configs
        trusted |= name in desired.trusted and desired.configs.get(name) == config
        self._configs.put_connector(name, config, trusted=trusted)
        return created

    def delete(self, name: str) -> None:
        self.require(name)
        self._configs.delete(name)
        self._statuses.delete_connector(name)

    def set_target(self, name: str, target: TargetState) -> None:
        self.require(name, "Unknown connector {}" if target is not TargetState.STOPPED else _NOT_FOUND)
        if target is TargetState.STOPPED:
            self._configs.put_stopped(name)
        else:
            self._configs.put_target(name, target)

    def require_stopped(self, name: str) -> None:
        """Raise CommandError unless the connector is stopped, RetriableError while its tasks are stopping."""
        self.require(name)
        desired = self._configs.desired()
        if desired.target(name) is not TargetState.STOPPED or desired.tasks.get(name):
            raise CommandError(_NOT_STOPPED.format(name=name), code="connector.not_stopped")
        workers = self._membership.workers()
        elsewhere = {
            task for task, status in self._statuses.tasks().items() if workers is None or status.worker_id in workers
        }
        if any(task.connector == name for task in {*self._supervisor.running(), *elsewhere}):
            text = f"tasks of connector {name} are still stopping"
            raise RetriableError(text, code="connector.stopping", hint="try again in a moment")

    def request_restart(self, name: str, *, include_tasks: bool, only_failed: bool) -> None:
        """Request a restart of a connector from all workers that run a part of it."""
        self.require(name)
        self._configs.put_restart(name, include_tasks=include_tasks, only_failed=only_failed)

    def restart_task(self, task: TaskId) -> None:
        """End a task of this worker so that the plan starts it again."""
        self._statuses.put_task(task, Status(State.RESTARTING, self._membership.me, since=now_ms()))
        self._restarting.add(task)
        self._supervisor.stop(task)

    def _execute(self, command: Command) -> None:
        if isinstance(command, LoggerLevel):
            self._set_level(command.logger, command.level)
            return
        name, desired = command.connector, self._configs.desired()
        if name not in desired.configs:
            return  # it was deleted in the meantime
        for number in range(len(desired.tasks.get(name, ()))) if command.include_tasks else ():
            task = TaskId(name, number)
            if self._membership.owns(Unit(name, number)) and self._selected(command, self._statuses.task(task)):
                self.restart_task(task)
        if name in self._configured and self._selected(command, self._statuses.connector(name)):
            self._configure(name, desired)

    @staticmethod
    def _selected(request: RestartRequest, status: Status | None) -> bool:
        return not request.only_failed or (status is not None and status.state is State.FAILED)

    def _configure(self, name: str, desired: DesiredState) -> None:
        if desired.target(name) is TargetState.STOPPED:
            self._configurator.cancel(name)
            self._publications.cancel(name)
            self._report(name, State.STOPPED)
            return
        self._report(name, State.UNASSIGNED)
        self._configurator.ask(name, desired.configs[name], trusted=name in desired.trusted)

    def _planned(self, planned: TaskConfigs) -> None:
        desired = self._configs.desired()
        name = planned.connector
        same = desired.configs.get(name) == planned.config and (name in desired.trusted) == planned.trusted
        if not same or desired.target(name) is TargetState.STOPPED:
            return  # the configuration has changed in the meantime
        if planned.tasks is None:
            state = State.FAILED if planned.trace is not None else State.UNASSIGNED
            self._report(name, state, planned.trace, planned.reason)
            return
        changed = (name in desired.trusted_tasks) != planned.trusted
        changed |= not _same_tasks(desired.tasks.get(name, ()), planned.tasks)
        self._publications.cancel(name)
        if (changed or name in desired.uncommitted) and not self._stored(planned):
            self._publications.start(planned)
        self._report(name, State.PAUSED if desired.target(name) is TargetState.PAUSED else State.RUNNING)

    def _stored(self, planned: TaskConfigs) -> bool:
        """Store the tasks if this worker leads; return whether that was possible."""
        if not self._membership.leads():
            return False
        try:
            self._store_tasks(planned)
        except RetriableError:
            return False  # the publication repeats it, and reports why
        return True

    def _publish(self, planned: TaskConfigs) -> None:
        """Called on a thread of its own."""
        if self._forward_tasks is None or self._membership.leads():
            self.call(partial(self._store_tasks, planned))
        else:
            self._forward_tasks(planned.connector, planned.tasks or [])

    def _store_tasks(self, planned: TaskConfigs) -> None:
        desired, name = self._configs.desired(), planned.connector
        if desired.configs.get(name) == planned.config and desired.target(name) is not TargetState.STOPPED:
            self._configs.put_tasks(name, planned.tasks or [], trusted=planned.trusted)

    def put_tasks(self, name: str, tasks: Sequence[Mapping[str, str]]) -> None:
        """Store tasks that another worker's connector has planned. Raise NotFoundError."""
        self.require(name)
        if self._configs.desired().target(name) is not TargetState.STOPPED:
            self._configs.put_tasks(name, tasks)

    def _report(self, name: str, state: State, trace: str | None = None, reason: str | None = None) -> None:
        if trace is not None:
            log.error("connector failed", connector=name, reason=trace)
        self._statuses.put_connector(name, Status(state, self._membership.me, trace, reason, now_ms()))

    def _run(self) -> None:
        while not self._leaving.is_set():
            self._take(self._seconds_to_wait())
            self._reconcile()
        self._leave()

    def _seconds_to_wait(self) -> float | None:
        deadline = self._supervisor.seconds_to_deadline()
        return deadline if self._duties is None else min(_TICK, _TICK if deadline is None else deadline)

    def _take(self, timeout: float | None) -> None:
        self._busy_since = None
        try:
            command = self._commands.get(timeout=timeout)
        except queue.Empty:
            return
        finally:
            self._busy_since = time.monotonic()
        if command is None:
            return
        call, future = command
        try:
            result = call()
        except Exception as error:
            if future is None:
                log.exception("the worker could not carry out a command")
            else:
                future.set_exception(error)
        else:
            if future is not None:
                future.set_result(result)

    def _reconcile(self) -> None:
        desired = self._configs.desired()
        self._reconcile_connectors(desired)
        for task in self._supervisor.remove_ended():
            if task in self._restarting:
                self._restarting.discard(task)
            elif task.number >= len(desired.tasks.get(task.connector, ())):
                self._statuses.delete_task(task)
        running = self._supervisor.running()
        self._supervisor.apply(plan(desired, self._owns_task, running))
        self._membership.runs(
            {Unit(task.connector, task.number) for task in self._supervisor.running()}
            | {Unit(name, CONNECTOR) for name in self._configured}
        )
        state = _Tidied(id(desired), self._membership.generation(), frozenset(self._supervisor.running()))
        if state != self._tidied:  # statuses of all tasks of the group are read
            self._tidied = state
            self._forget_surplus(desired)
        if self._duties is not None:
            self._duties.run(desired)

    def _reconcile_connectors(self, desired: DesiredState) -> None:
        """Ask for task configurations after each change of a connector that this worker has; cancel others."""
        owned = {name for name in desired.configs if self._membership.owns(Unit(name, CONNECTOR))}
        for name in self._configured.keys() - owned:
            del self._configured[name]
            self._configurator.cancel(name)
            self._publications.cancel(name)
            if name in desired.configs:
                self._report(name, State.UNASSIGNED)
        for name in sorted(owned):
            revision, target = desired.revisions[name], desired.target(name)
            known = self._configured.get(name)
            if known is not None and known.revision == revision:
                continue
            self._configured[name] = _Configured(revision, target)
            changed = known is None or known.revision[0] != revision[0] or known.target is TargetState.STOPPED
            if changed or target is TargetState.STOPPED or not desired.tasks.get(name):
                self._configure(name, desired)
            else:
                self._report(name, State.PAUSED if target is TargetState.PAUSED else State.RUNNING)

    def _owns_task(self, task: TaskId) -> bool:
        return self._membership.owns(Unit(task.connector, task.number))

    def _forget_surplus(self, desired: DesiredState) -> None:
        """Delete the statuses of tasks that do not exist any more, of this worker and of workers that have gone."""
        running = self._supervisor.running()
        workers = self._membership.workers()
        for task, status in self._statuses.tasks().items():
            if task.number < len(desired.tasks.get(task.connector, ())) or task in running:
                continue
            if status.worker_id == self._membership.me or (workers is not None and status.worker_id not in workers):
                self._statuses.delete_task(task)

    def _leave(self) -> None:
        self._configurator.cancel_all()
        self._publications.cancel_all()
        for name in self._configured:
            self._report(name, State.UNASSIGNED)
        for task in self._supervisor.running():
            self._supervisor.stop(task)
        while self._supervisor.running():
            self._supervisor.remove_ended()
            if (timeout := self._supervisor.seconds_to_deadline()) is not None and self._supervisor.running():
                self._take(timeout)
        log.info("all tasks have stopped")


def _same_tasks(stored: Sequence[Mapping[str, str]], planned: Sequence[Mapping[str, str]]) -> bool:
    """Compare tasks without their classes, which connector.class decides.

    Those of a cluster that was taken over have names of Java classes, and need not be stored again if nothing else
    differs.
    """

    def own(tasks: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        return [{name: value for name, value in task.items() if name != TASK_CLASS} for task in tasks]

    return own(stored) == own(planned)
