"""A stream task whose producer is fenced starts over, unless another process has its transactional.id all the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace.errors import RetriableError, TaskError
from headrace.pipeline.stream.fencing import FENCED, LIMIT, PERIOD, FencingHistory
from headrace.testing.waiting import eventually
from tests.unit.streams.conftest import Application, MakeApplication
from tests.unit.streams.faults import StopWhen
from tests.unit.streams.test_any_error import COUNT, require_exact, send

ID = "app-0-test"
"""The transactional.id of the task."""
TOPICS = {"impressions": 2, "copies": 2, "counts": 2}


def fence(application: Application) -> None:
    """Initialise another producer with the id, as a second process does, or a coordinator after a timeout."""
    application.broker.transactional_producer(ID, {}).init()


def test_a_fenced_task_continues_without_loss_and_duplicates(make_application: MakeApplication) -> None:
    application = make_application(COUNT, TOPICS)
    task = application.start()
    for number in range(4):
        send(application, number)
        application.wait_until_processed()
        fence(application)
    send(application, 4)
    application.wait_until_processed()
    task.stop()

    assert task.error is None
    require_exact(application, 5)
    reasons = [reason for reason in task.reasons if reason is not None and ID in reason]
    assert any("transaction.timeout.ms" in reason for reason in reasons)
    assert task.reasons[-1] is None


class FencedAtFirstCommit:
    """Kafka clients whose first producer is fenced before its first commit, which registers the application."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._fenced = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._application.broker, name)

    def sharing(self, settings: Any) -> Any:
        return self

    def transactional_producer(self, transactional_id: str, settings: Any) -> Any:
        producer: Any = self._application.broker.transactional_producer(transactional_id, settings)
        if not self._fenced:
            self._fenced = True
            commit = producer.commit

            def fenced_commit() -> None:
                fence(self._application)
                commit()

            producer.commit = fenced_commit
        return producer


def test_a_task_that_is_fenced_while_it_registers_its_application_continues(make_application: MakeApplication) -> None:
    application = make_application(COUNT, TOPICS)
    send(application, 0)
    clients: Any = FencedAtFirstCommit(application)
    application.run(StopWhen(application.is_processed), clients)
    require_exact(application, 1)


def test_of_two_processes_with_one_id_one_fails_and_names_the_other(make_application: MakeApplication) -> None:
    application = make_application(COUNT, TOPICS)
    tasks = [application.start(instance="host-8083"), application.start(instance="host-8083")]
    number = 0
    while not any(task.error for task in tasks):
        send(application, number)
        number += 1
        eventually(lambda: application.is_processed() or any(task.error for task in tasks), 20)
    [failed] = [task for task in tasks if task.error is not None]
    assert isinstance(failed.error, TaskError)
    assert failed.error.code == FENCED
    assert "app-0-host-8083" in failed.error.message
    assert "host name and port" in failed.error.hint

    tasks.remove(failed)
    application.tasks.remove(failed)
    send(application, number)
    application.wait_until_processed()
    tasks[0].stop()
    require_exact(application, number + 1)


@pytest.fixture
def fenced() -> TaskError:
    return TaskError("a newer producer", code=FENCED)


def consequences(times: list[float], error: TaskError) -> list[bool]:
    """Return for each time at which the producer is fenced whether the task starts over."""
    clock: Callable[[], float] = iter(times).__next__
    history = FencingHistory(ID, monotonic=clock)
    return [isinstance(history.consequence(error), RetriableError) for _ in times]


def test_a_task_that_is_fenced_rarely_always_starts_over(fenced: TaskError) -> None:
    assert all(consequences([n * PERIOD / (LIMIT - 2) for n in range(50)], fenced))


def test_a_task_that_is_fenced_often_fails(fenced: TaskError) -> None:
    assert consequences([float(n) for n in range(LIMIT)], fenced) == [True] * (LIMIT - 1) + [False]


def test_other_errors_of_the_producer_are_not_changed() -> None:
    error = TaskError("other", code="other")
    assert FencingHistory(ID).consequence(error) is error
