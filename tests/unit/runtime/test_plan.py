"""The plan is deterministic, and its actions lead to the desired state."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.runtime.plan import Pause, Resume, Running, Start, Stop, plan
from headrace.states import TargetState, TaskId
from headrace.stores import DesiredState

A0, A1, B0 = TaskId("a", 0), TaskId("a", 1), TaskId("b", 0)
ONE, TWO = {"v": "1"}, {"v": "2"}
STARTED, PAUSED, STOPPED = TargetState.STARTED, TargetState.PAUSED, TargetState.STOPPED


def desired(target: TargetState = STARTED, **tasks: list[dict[str, str]]) -> DesiredState:
    return DesiredState({name: {} for name in tasks}, dict.fromkeys(tasks, target), tasks)


@pytest.mark.parametrize(
    ("wish", "running", "actions"),
    [
        pytest.param(desired(), {}, [], id="no desired tasks need no action"),
        pytest.param(desired(a=[ONE]), {}, [Start(A0, ONE, False)], id="a new task starts"),
        pytest.param(desired(a=[ONE]), {A0: Running(ONE)}, [], id="a task that runs as desired is not changed"),
        pytest.param(desired(a=[TWO]), {A0: Running(ONE)}, [Stop(A0)], id="a changed task stops first"),
        pytest.param(
            desired(a=[TWO]), {A0: Running(ONE, stopping=True)}, [], id="a stopping task is not stopped twice"
        ),
        pytest.param(
            desired(a=[ONE]),
            {A0: Running(ONE), A1: Running(ONE)},
            [Stop(A1)],
            id="a task that is not desired any more stops",
        ),
        pytest.param(desired(), {B0: Running(ONE)}, [Stop(B0)], id="tasks of a deleted connector stop"),
        pytest.param(desired(STOPPED, a=[ONE]), {A0: Running(ONE)}, [Stop(A0)], id="a stopped connector has no tasks"),
        pytest.param(desired(PAUSED, a=[ONE]), {A0: Running(ONE)}, [Pause(A0)], id="a running task is paused"),
        pytest.param(
            desired(PAUSED, a=[ONE]), {A0: Running(ONE, paused=True)}, [], id="a paused task is not paused twice"
        ),
        pytest.param(desired(a=[ONE]), {A0: Running(ONE, paused=True)}, [Resume(A0)], id="a paused task is resumed"),
        pytest.param(
            desired(PAUSED, a=[ONE]), {}, [Start(A0, ONE, True)], id="a new task of a paused connector starts paused"
        ),
        pytest.param(
            desired(a=[ONE], b=[ONE]),
            {A1: Running(ONE)},
            [Stop(A1), Start(B0, ONE, False)],
            id="a new task waits until an old one has ended, other connectors do not",
        ),
        pytest.param(
            desired(a=[TWO, TWO]),
            {A0: Running(ONE, stopping=True)},
            [],
            id="a new task waits for one that is stopping",
        ),
    ],
)
def test_the_plan_follows_the_rule(wish: DesiredState, running: dict[TaskId, Running], actions: list[Any]) -> None:
    assert plan(wish, lambda _: True, running) == actions


def test_a_task_of_another_worker_is_neither_started_nor_kept() -> None:
    running = {A1: Running(ONE)}
    assert plan(desired(a=[ONE, ONE]), lambda task: task != A1, running) == [Stop(A1)]
    assert plan(desired(a=[ONE, ONE]), lambda task: task != A1, {}) == [Start(A0, ONE, False)]


NAMES = st.sampled_from(["a", "b", "c"])
CONFIGS = st.lists(st.sampled_from([ONE, TWO]), max_size=4)
WISHES = st.builds(
    lambda tasks, targets: DesiredState({name: {} for name in tasks}, targets, tasks),
    st.dictionaries(NAMES, CONFIGS),
    st.dictionaries(NAMES, st.sampled_from(TargetState)),
)
TASKS = st.builds(TaskId, NAMES, st.integers(0, 5))
RUNNING = st.dictionaries(TASKS, st.builds(Running, st.sampled_from([ONE, TWO]), st.booleans(), st.booleans()))


def carry_out(actions: list[Any], running: dict[TaskId, Running]) -> dict[TaskId, Running]:
    """Apply the actions as a task host does, with all stopping tasks ended."""
    after = {task: present for task, present in running.items() if not present.stopping}
    for action in actions:
        match action:
            case Start(task, config, paused):
                assert task not in running, "started beside a task that is still there"
                after[task] = Running(config, paused)
            case Stop(task):
                del after[task]
            case Pause(task):
                after[task] = Running(after[task].config, True)
            case Resume(task):
                after[task] = Running(after[task].config, False)
    return after


@given(WISHES, st.sets(TASKS), RUNNING)
def test_two_rounds_of_the_plan_reach_the_desired_state(
    wish: DesiredState, foreign: set[TaskId], running: dict[TaskId, Running]
) -> None:
    def owns(task: TaskId) -> bool:
        return task not in foreign

    once = carry_out(plan(wish, owns, running), running)
    twice = carry_out(plan(wish, owns, once), once)
    assert plan(wish, owns, twice) == []
    wanted = {
        TaskId(name, number)
        for name, configs in wish.tasks.items()
        if wish.target(name) is not STOPPED
        for number in range(len(configs))
    }
    assert set(twice) == wanted - foreign
    for task, present in twice.items():
        assert present.config == wish.tasks[task.connector][task.number]
        assert present.paused is (wish.target(task.connector) is PAUSED)
