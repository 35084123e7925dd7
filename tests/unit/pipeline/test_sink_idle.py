"""A sink task is called between puts, and what it reports there neither stops the task nor its heartbeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.errors import TaskError
from headrace.records import ConsumedBatch
from headrace.testing.waiting import eventually
from tests.unit.pipeline.scripted_sink import AWAY, CheckedConsumer, Sink


def counted_polls() -> tuple[type[CheckedConsumer], list[float]]:
    """Return a consumer class and the list of the timeouts of its polls."""
    polls: list[float] = []

    class CountingConsumer(CheckedConsumer):
        def poll(self, timeout: float, max_records: int) -> list[ConsumedBatch]:
            polls.append(timeout)
            return super().poll(timeout, max_records)

    return CountingConsumer, polls


def test_a_task_without_records_is_called_once_per_flush_interval(sink: Callable[..., Sink]) -> None:
    made = sink()
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.task.idle_calls >= 3)
    made.harness.end(thread)
    assert made.store.puts == 0


def test_a_failure_is_a_status_reason_until_it_ends(sink: Callable[..., Sink]) -> None:
    consumer, polls = counted_polls()
    made = sink(consumer=consumer)
    made.task.idle_faults = [AWAY]
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.harness.reasons == [AWAY.message])
    polled, calls = len(polls), made.task.idle_calls
    eventually(lambda: made.task.idle_calls > calls + 1 and len(polls) > polled)
    made.task.idle_faults = []
    eventually(lambda: made.harness.reasons == [AWAY.message, None])
    made.harness.end(thread)
    assert made.harness.error is None


def test_records_are_written_while_a_check_between_puts_fails(sink: Callable[..., Sink]) -> None:
    made = sink()
    made.task.idle_faults = [AWAY]
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.task.idle_calls > 0)
    made.send(range(10))
    eventually(lambda: made.committed() == 10)
    made.harness.end(thread)
    assert made.harness.error is None


def test_a_paused_task_is_not_called_and_shows_no_reason(sink: Callable[..., Sink]) -> None:
    consumer, polls = counted_polls()
    made = sink(consumer=consumer)
    made.task.idle_faults = [AWAY]
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.harness.reasons == [AWAY.message])
    made.harness.paused.set()
    eventually(lambda: made.harness.reasons[-1] is None)
    calls, polled = made.task.idle_calls, len(polls)
    eventually(lambda: len(polls) > polled + 3)
    assert made.task.idle_calls == calls
    made.harness.paused.clear()
    eventually(lambda: made.task.idle_calls > calls)
    made.harness.end(thread)


def test_any_other_error_fails_the_task(sink: Callable[..., Sink]) -> None:
    made = sink()
    error: Any = TaskError("the index is gone for ever")
    made.task.idle_faults = [error]
    thread = made.harness.run(made.pipeline)
    thread.join(30)
    assert not thread.is_alive()
    assert made.harness.error is error
