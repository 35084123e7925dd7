"""The control thread, which brings the running tasks into the desired state (Kafka Connect's herder).

Commands arrive as functions with a future, and change the *desired* state in the config store. After each command
:func:`headrace.runtime.plan.plan` returns the actions to execute. No other code starts or stops a task.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

import structlog

from headrace.config import nearest
from headrace.errors import CommandError, ConflictError, NotFoundError, RetriableError
from headrace.metrics import now_ms
from headrace.runtime.api import REQUEST_TIMEOUT
from headrace.runtime.membership import Membership
from headrace.runtime.plan import plan
from headrace.runtime.supervisor import TaskSupervisor
from headrace.runtime.task_configurator import TaskConfigs, TaskConfigurator
from headrace.states import State, Status, TargetState, TaskId
from headrace.stores import ConfigStore, DesiredState, StatusStore

T = TypeVar("T")
log = structlog.stdlib.get_logger("headrace.worker")

# Connect's texts (AbstractHerder); clients search for them.
_NOT_FOUND = "Connector {} not found"
_NOT_STOPPED = (
    "Connectors must be in the STOPPED state before their offsets can be modified. This can be done for the specified "
    "connector by issuing a 'PUT' request to the '/connectors/{name}/stop' endpoint"
)


class Reconciler:
    """Methods named without ``call`` run on its own thread only."""

    def __init__(
        self,
        configs: ConfigStore,
        statuses: StatusStore,
        membership: Membership,
        supervisor: TaskSupervisor,
        configurator: TaskConfigurator,
    ) -> None:
        self._configs = configs
        self._statuses = statuses
        self._membership = membership
        self._supervisor = supervisor
        self._configurator = configurator
        self._commands: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
        self._leaving = threading.Event()
        self._restarting: set[TaskId] = set()

    def start(self) -> None:
        self._thread.start()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self, timeout: float) -> None:
        """Stop all tasks and end; the desired state is not changed."""
        self._leaving.set()
        self.wake()
        self._thread.join(timeout)

    def wake(self) -> None:
        """Compare desired and running tasks again, because a task has ended."""
        self._commands.put(None)

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
        self._commands.put((lambda: self._planned(planned), Future()))

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
        self._configure(name, config)

    def replace(self, name: str, config: Mapping[str, str], *, trusted: bool = False) -> bool:
        """Create or replace; return whether it was created. An equal configuration does not lose its trust."""
        desired = self._configs.desired()
        created = name not in desired.configs
        trusted |= name in desired.trusted and desired.configs.get(name) == config
        self._configs.put_connector(name, config, trusted=trusted)
        self._configure(name, config)
        return created

    def delete(self, name: str) -> None:
        self.require(name)
        self._configurator.cancel(name)
        self._configs.delete(name)
        self._statuses.delete_connector(name)

    def set_target(self, name: str, target: TargetState) -> None:
        config = self.require(name, "Unknown connector {}" if target is not TargetState.STOPPED else _NOT_FOUND)
        self._configs.put_target(name, target)
        if target is TargetState.STOPPED:
            self._configurator.cancel(name)
            self._configs.put_tasks(name, [])
            self._report(name, State.STOPPED)
        elif not self._configs.desired().tasks.get(name):
            self._configure(name, config)
        else:
            self._report(name, State.PAUSED if target is TargetState.PAUSED else State.RUNNING)

    def require_stopped(self, name: str) -> None:
        """Raise CommandError unless the connector is stopped, RetriableError while its tasks are stopping."""
        self.require(name)
        desired = self._configs.desired()
        if desired.target(name) is not TargetState.STOPPED or desired.tasks.get(name):
            raise CommandError(_NOT_STOPPED.format(name=name), code="connector.not_stopped")
        if any(task.connector == name for task in self._supervisor.running()):
            text = f"tasks of connector {name} are still stopping"
            raise RetriableError(text, code="connector.stopping", hint="try again in a moment")

    def restart(self, name: str, *, connector: bool, tasks: list[int]) -> None:
        """Ask the connector for its tasks again, and end the named tasks so that the plan starts them again."""
        config = self.require(name)
        for number in tasks:
            self.restart_task(TaskId(name, number))
        if connector:
            self._configure(name, config)

    def restart_task(self, task: TaskId) -> None:
        self._statuses.put_task(task, Status(State.RESTARTING, self._membership.me, since=now_ms()))
        self._restarting.add(task)
        self._supervisor.stop(task)

    def _configure(self, name: str, config: Mapping[str, str]) -> None:
        if self._configs.desired().target(name) is TargetState.STOPPED:
            self._report(name, State.STOPPED)
            return
        self._report(name, State.UNASSIGNED)
        self._configurator.ask(name, config, trusted=name in self._configs.desired().trusted)

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
        changed = desired.tasks.get(name) != planned.tasks or (name in desired.trusted_tasks) != planned.trusted
        if changed or name in desired.uncommitted:
            self._configs.put_tasks(name, planned.tasks, trusted=planned.trusted)
        self._report(name, State.PAUSED if desired.target(name) is TargetState.PAUSED else State.RUNNING)

    def _report(self, name: str, state: State, trace: str | None = None, reason: str | None = None) -> None:
        if trace is not None:
            log.error("connector failed", connector=name, reason=trace)
        self._statuses.put_connector(name, Status(state, self._membership.me, trace, reason, now_ms()))

    def _run(self) -> None:
        for name, config in self._configs.desired().configs.items():
            self._configure(name, config)
        while not self._leaving.is_set():
            self._take(self._supervisor.seconds_to_deadline())
            self._reconcile()
        self._leave()

    def _take(self, timeout: float | None) -> None:
        try:
            command = self._commands.get(timeout=timeout)
        except queue.Empty:
            return
        if command is None:
            return
        call, future = command
        try:
            future.set_result(call())
        except Exception as error:  # any error is raised to the caller
            future.set_exception(error)

    def _reconcile(self) -> None:
        for task in self._supervisor.remove_ended():
            if task in self._restarting:
                self._restarting.discard(task)
            elif task.connector not in self._configs.desired().configs:
                self._statuses.delete_task(task)
        desired = self._configs.desired()
        running = self._supervisor.running()
        self._supervisor.apply(plan(desired, self._membership.members(), self._membership.me, running))
        for name, tasks in desired.tasks.items():
            self._forget_surplus(name, len(tasks))

    def _forget_surplus(self, name: str, count: int) -> None:
        """Delete the statuses of tasks that no longer exist because the connector has fewer tasks."""
        number = count
        while (
            self._statuses.task(TaskId(name, number)) is not None
            and TaskId(name, number) not in self._supervisor.running()
        ):
            self._statuses.delete_task(TaskId(name, number))
            number += 1

    def _leave(self) -> None:
        self._configurator.cancel_all()
        for task in self._supervisor.running():
            self._supervisor.stop(task)
        while self._supervisor.running():
            self._supervisor.remove_ended()
            if (timeout := self._supervisor.seconds_to_deadline()) is not None and self._supervisor.running():
                self._take(timeout)
        log.info("all tasks have stopped")
