"""The statuses that a task reports while it starts and waits."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace import RetriableError
from headrace.pipeline.control import TaskControl
from headrace.runtime.task_host import TaskHost
from headrace.states import State, Status, TaskId
from headrace.testing.waiting import eventually

TROUBLE = RetriableError("it is away", code="test.away")


@pytest.fixture
def statuses() -> Callable[[Callable[[TaskControl, Any], None]], list[Status]]:
    """Run a function as the task's loop and return the reported statuses. Each call of the clock advances it by one."""
    clock = iter(range(1, 1_000))

    def run(loop: Callable[[TaskControl, Any], None]) -> list[Status]:
        found: list[Status] = []

        def build(task: TaskId, config: Any, control: TaskControl, set_status_reason: Any) -> Any:
            class Loop:
                def run(self) -> None:
                    control.started()
                    loop(control, set_status_reason)

            return Loop()

        host = TaskHost(
            TaskId("t", 0), {}, "w:1", build, lambda task, status: found.append(status), clock=lambda: next(clock)
        )
        ended = threading.Event()
        host.start(paused=False, flush_interval=1.0, flush_timeout=1.0, then=ended.set)
        assert ended.wait(30)
        return found

    return run


def test_retrying_since_is_the_first_failure_although_the_reason_changes(statuses: Any) -> None:
    def loop(control: TaskControl, set_status_reason: Callable[[str | None], None]) -> None:
        for tries in range(1, 5):
            control.retrying(TROUBLE, tries)
            set_status_reason(f"waiting for the answer, {tries}")
            set_status_reason(None)
        control.recovered(4)

    found = statuses(loop)
    retrying = [status for status in found if status.retrying]
    assert len(retrying) > 4
    assert {status.since for status in retrying} == {retrying[0].since}
    after, _ = found[-2:]
    assert (after.state, after.reason, after.retrying) == (State.RUNNING, None, False)
    assert after.since > retrying[0].since


def test_an_equal_reason_of_framework_and_plugin_is_reported_once(statuses: Any) -> None:
    def loop(control: TaskControl, set_status_reason: Callable[[str | None], None]) -> None:
        set_status_reason(str(TROUBLE))
        control.retrying(TROUBLE, 1)

    assert [status.reason for status in statuses(loop) if status.retrying] == [str(TROUBLE)]


def test_an_unchanged_status_is_not_reported(statuses: Any) -> None:
    def loop(control: TaskControl, set_status_reason: Callable[[str | None], None]) -> None:
        for tries in range(1, 10):
            control.retrying(TROUBLE, tries)

    assert len([status for status in statuses(loop) if status.retrying]) == 1


class StartingPipeline:
    """A pipeline that starts, and runs until it is stopped."""

    def __init__(self, control: TaskControl) -> None:
        self._control = control

    def run(self) -> None:
        self._control.started()
        self._control.stop_event.wait()


@pytest.mark.parametrize(("paused", "wish"), [(False, State.PAUSED), (True, State.RUNNING)])
def test_a_pause_or_resume_during_the_start_is_in_the_state(paused: bool, wish: State) -> None:
    said: list[State] = []
    wished = threading.Thread(target=lambda: host.resume() if paused else host.pause())

    class InterruptingEvent(threading.Event):
        """Pauses or resumes after the task has read the event, and before it reports its state."""

        def is_set(self) -> bool:
            answer = super().is_set()
            if threading.current_thread().name == "a-0" and wished.ident is None:
                wished.start()
                wished.join(0.2)  # otherwise it waits until the task has reported its state
            return answer

    host = TaskHost(
        TaskId("a", 0),
        {},
        "w",
        lambda task, config, control, set_status_reason: StartingPipeline(control),
        lambda task, status: said.append(status.state),
        paused=InterruptingEvent(),
    )
    ended = threading.Event()
    host.start(paused=paused, flush_interval=1.0, flush_timeout=1.0, then=ended.set)
    eventually(lambda: wished.ident is not None)
    wished.join(60)
    host.stop()
    assert ended.wait(60)

    assert said[-2:] == [wish, State.UNASSIGNED]
