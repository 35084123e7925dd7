"""Tasks are published until they are stored, and the status says what is waited for."""

from __future__ import annotations

import threading

from headrace.errors import CommandError, RetriableError
from headrace.retries import RetryPolicy
from headrace.runtime.connector_reasons import ConnectorReasons
from headrace.runtime.task_configurator import TaskConfigs
from headrace.runtime.task_publication import TaskPublications
from headrace.testing.waiting import eventually

PLANNED = TaskConfigs("orders", {}, trusted=False, tasks=[{}])
FAST = RetryPolicy(first=0.01, longest=0.02)


def test_a_publication_is_repeated_until_the_leader_has_stored_the_tasks() -> None:
    reasons, answer, published = ConnectorReasons(), threading.Event(), threading.Event()

    def publish(planned: TaskConfigs) -> None:
        if not answer.is_set():
            raise RetriableError("the group has not got a leader yet")
        published.set()

    TaskPublications(publish, reasons, FAST).start(PLANNED)
    eventually(lambda: reasons.of("orders") == "the tasks are not stored yet: the group has not got a leader yet")
    answer.set()
    assert published.wait(10)
    eventually(lambda: reasons.of("orders") is None)


def test_a_cancelled_publication_ends_without_a_reason() -> None:
    reasons, calls = ConnectorReasons(), threading.Semaphore(0)

    def publish(planned: TaskConfigs) -> None:
        calls.release()
        raise RetriableError("no leader")

    publications = TaskPublications(publish, reasons, FAST)
    publications.start(PLANNED)
    assert calls.acquire(timeout=10)
    publications.cancel("orders")
    eventually(lambda: not any(thread.name == "orders-publication" for thread in threading.enumerate()))
    assert reasons.of("orders") is None


def test_a_refusal_is_shown_and_not_repeated() -> None:
    reasons, calls = ConnectorReasons(), []

    def publish(planned: TaskConfigs) -> None:
        calls.append(planned)
        raise CommandError("the leader answered 400")

    TaskPublications(publish, reasons, FAST).start(PLANNED)
    eventually(lambda: reasons.of("orders") == "the tasks cannot be stored: the leader answered 400")
    eventually(lambda: not any(thread.name == "orders-publication" for thread in threading.enumerate()))
    assert len(calls) == 1
