"""Tasks and connectors are restarted after failures that may end without a change of the configuration."""

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import InfrastructureError, NotFoundError, TaskError
from headrace.files import ConfigFile, read_config_file
from headrace.pipeline.control import TaskControl
from headrace.retries import RetryPolicy
from headrace.runtime.connector_reasons import ConnectorReasons
from headrace.runtime.file_watch import FileWatch
from headrace.runtime.task_host import TaskHost
from headrace.states import State, Status, TaskId
from headrace.testing.waiting import eventually

AT_ONCE = RetryPolicy(first=0.001, longest=0.001, jitter=random.Random(1))


class Attempts:
    """Builds pipelines that fail with ``errors``, one each, and then run until they are stopped."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.statuses: list[Status] = []
        self.ended = threading.Event()
        self.host = TaskHost(
            TaskId("t", 0), {}, "w:1", self.build, lambda _, status: self.statuses.append(status), restarts=AT_ONCE
        )

    def build(self, task: TaskId, config: Any, control: TaskControl, set_status_reason: Any) -> Any:
        errors = self.errors

        class Attempt:
            def run(self) -> None:
                if errors:
                    raise errors.pop(0)
                control.started()
                control.stop_event.wait(60)

        return Attempt()

    def start(self) -> None:
        self.host.start(paused=False, flush_interval=1, flush_timeout=1, then=self.ended.set)

    def states(self) -> list[State]:
        return [status.state for status in self.statuses]


@pytest.fixture
def attempts() -> Iterator[Callable[..., Attempts]]:
    made: list[Attempts] = []

    def make(*errors: BaseException) -> Attempts:
        made.append(Attempts(*errors))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.host.stop()
        assert each.ended.wait(60)


def test_a_task_runs_again_when_the_environment_problem_is_solved(attempts: Callable[..., Attempts]) -> None:
    refused = [InfrastructureError("the password is wrong", code="sql.authentication") for _ in range(3)]
    made = attempts(*refused)
    eventually(lambda: made.host.state is State.RUNNING)
    assert set(made.states()) == {State.UNASSIGNED, State.FAILED, State.RUNNING}
    failed = [status for status in made.statuses if status.state is State.FAILED]
    assert "started again by itself" in (failed[0].trace or "")
    assert len({status.since for status in failed}) == 1, "it is FAILED until it runs, and does not flap"
    assert made.statuses[-1].trace is None


def test_a_stopped_task_does_not_wait_for_its_next_attempt() -> None:
    made = Attempts(*[InfrastructureError("no") for _ in range(10_000)])
    made.start()
    eventually(lambda: State.FAILED in made.states())
    made.host.stop()
    assert made.ended.wait(60)
    assert made.states()[-1] is State.UNASSIGNED


def test_a_task_is_not_restarted_after_other_failures(attempts: Callable[..., Attempts]) -> None:
    made = attempts(TaskError("the record is bad"))
    assert made.ended.wait(60)
    assert made.states()[-1] is State.FAILED


def test_a_task_whose_plugin_exits_is_failed_with_its_trace(attempts: Callable[..., Attempts]) -> None:
    made = attempts(SystemExit("the licence has expired"))
    assert made.ended.wait(60)
    assert made.states()[-1] is State.FAILED
    assert "SystemExit: the licence has expired" in (made.statuses[-1].trace or "")


class Files:
    """A connector file, what runs, and the watch that compares them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "orders.yaml"
        self.write("tasks.max: 1")
        self.running: dict[str, str] | None = dict(self.read().properties)
        self.reasons = ConnectorReasons()
        self.watch = FileWatch([self.read()], self._running, self.reasons, interval=0.01)
        self.watch.start()

    def read(self) -> ConfigFile:
        return read_config_file(self.path)

    def write(self, text: str) -> None:
        self.path.write_text(f"name: orders\nconnector.class: SqlSource\n{text}\n")

    def _running(self, name: str) -> dict[str, str]:
        if self.running is None:
            raise NotFoundError(name)
        return self.running

    def said(self) -> str:
        return self.reasons.of("orders") or ""


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    made = Files(tmp_path)
    yield made
    made.watch.stop()


def test_a_changed_file_is_named_until_it_is_applied(files: Files) -> None:
    files.write("tasks.max: 2\nconnection.password: secret-1")
    eventually(lambda: "tasks.max changed, connection.password added" in files.said())
    assert f"headrace connectors apply {files.path}" in files.said()
    assert "secret-1" not in files.said()
    files.running = dict(files.read().properties)
    eventually(lambda: not files.said())


def test_a_reverted_change_is_not_named(files: Files) -> None:
    files.write("tasks.max: 20")
    eventually(lambda: bool(files.said()))
    files.write("tasks.max: 1")
    eventually(lambda: not files.said())


def test_a_file_that_became_unreadable_is_named(files: Files) -> None:
    files.write("tasks.max: [")
    eventually(lambda: "cannot be read" in files.said())
    files.running = None  # deleted over REST
    eventually(lambda: not files.said())
