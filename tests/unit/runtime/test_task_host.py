"""What a task says of itself while it waits."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace import RetriableError
from headrace.pipeline.control import TaskControl
from headrace.runtime import task_host
from headrace.runtime.task_host import TaskHost
from headrace.states import State, Status, TaskId

TROUBLE = RetriableError("it is away", code="test.away")


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[TaskControl, Any], None]], list[Status]]:
    """Run this as the task's loop; the statuses it reports. The clock moves by one whenever it is looked at."""
    clock = iter(range(1, 1_000))
    monkeypatch.setattr(task_host, "now_ms", lambda: next(clock))

    def run(loop: Callable[[TaskControl, Any], None]) -> list[Status]:
        found: list[Status] = []

        def build(task: TaskId, config: Any, control: TaskControl, explain: Any) -> Any:
            class Loop:
                def run(self) -> None:
                    control.started()
                    loop(control, explain)

            return Loop()

        host = TaskHost(TaskId("t", 0), {}, "w:1", build, lambda task, status: found.append(status))
        ended = threading.Event()
        host.start(paused=False, flush_interval=1.0, flush_timeout=1.0, then=ended.set)
        assert ended.wait(30)
        return found

    return run


def test_retrying_since_is_when_it_began_whatever_is_said_meanwhile(statuses: Any) -> None:
    def loop(control: TaskControl, explain: Callable[[str | None], None]) -> None:
        for tries in range(1, 5):
            control.retrying(TROUBLE, tries)
            explain(f"waiting for the answer, {tries}")
            explain(None)
        control.recovered(4)

    found = statuses(loop)
    retrying = [status for status in found if status.retrying]
    assert len(retrying) > 4
    assert {status.since for status in retrying} == {retrying[0].since}
    after, _ = found[-2:]
    assert (after.state, after.reason, after.retrying) == (State.RUNNING, None, False)
    assert after.since > retrying[0].since


def test_one_reason_of_framework_and_plugin_is_told_once(statuses: Any) -> None:
    def loop(control: TaskControl, explain: Callable[[str | None], None]) -> None:
        explain(str(TROUBLE))
        control.retrying(TROUBLE, 1)

    assert [status.reason for status in statuses(loop) if status.retrying] == [str(TROUBLE)]


def test_what_has_not_changed_is_not_reported(statuses: Any) -> None:
    def loop(control: TaskControl, explain: Callable[[str | None], None]) -> None:
        for tries in range(1, 10):
            control.retrying(TROUBLE, tries)

    assert len([status for status in statuses(loop) if status.retrying]) == 1
