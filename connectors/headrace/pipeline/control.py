"""State that a task's loop shares with the reconciler's thread: requests to stop and pause, fence, state, counters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import structlog

from headrace.batch_spans import BatchSpans
from headrace.conditions import RaiseCondition, ignore_condition
from headrace.errors import RetriableError
from headrace.metrics import TaskMetrics
from headrace.pipeline.fence import TaskFence
from headrace.pipeline.stream.queries import StateQueries
from headrace.pipeline.tap import TaskTap
from headrace.records import TopicPartition
from headrace.retries import FOREVER, RetryPolicy, retry
from headrace.status_reasons import StatusReasons
from headrace.worker_events import partitions_event

T = TypeVar("T")

LONGEST_SLEEP = 0.5
"""Seconds: how often an idle loop checks for a stop, a pause or a due commit."""


@dataclass(frozen=True)
class TaskControl:
    """``stop_event`` and ``paused`` are set from outside; the callables report, from the task's thread."""

    stop_event: threading.Event
    paused: threading.Event
    metrics: TaskMetrics
    log: structlog.stdlib.BoundLogger
    started: Callable[[], None]
    """Reports that the task has started."""
    set_status_reason: Callable[[str | None], None]
    """Sets the framework's part of the task's status reason; the loop uses ``reasons``."""
    flush_interval: float  # seconds
    flush_timeout: float  # seconds
    fence: TaskFence = field(default_factory=TaskFence)
    """Closed when the task did not stop in time and is abandoned."""
    retry_policy: RetryPolicy = FOREVER
    """The policy of the retries of the loop itself."""
    set_note: Callable[[str | None], None] = lambda _: None
    """Sets a note that the status shows although the task does not wait for anything."""
    raise_condition: RaiseCondition = ignore_condition
    """Raises a condition that stays until an operator acknowledges it."""
    queries: StateQueries = field(default_factory=StateQueries)
    """Of the state of a stream task."""
    tap: TaskTap = field(default_factory=TaskTap)
    """Shows records of a source or sink task."""
    hop_headers: bool = False
    """Whether batches that are sent to Kafka get the header with their hops (``freshness.headers``)."""
    spans: BatchSpans | None = None
    """Gets each batch (``opentelemetry.traces``)."""

    @cached_property
    def reasons(self) -> StatusReasons:
        """What the loop waits for, by cause. Used from the task's thread."""
        return StatusReasons(self.set_status_reason)

    @cached_property
    def notes(self) -> StatusReasons:
        """What the status shows although the task waits for nothing, by cause. Used from the task's thread."""
        return StatusReasons(self.set_note)

    def rebalanced(self, action: str, partitions: Iterable[TopicPartition]) -> None:
        """Log partitions that were "assigned" or "revoked", and keep the event for the reporter of metrics."""
        names = [str(item) for item in partitions]
        if names:
            self.log.info(f"partitions {action}", partitions=names)
            self.metrics.events.add(partitions_event(action, names))

    def stopping(self) -> bool:
        return self.stop_event.is_set()

    def sleep(self, seconds: float) -> None:
        """Wait until the task must stop, at most :data:`LONGEST_SLEEP`."""
        self.stop_event.wait(min(seconds, LONGEST_SLEEP))

    def retry(self, call: Callable[[], T]) -> T | None:
        """Return the result of ``call``, retried through RetriableErrors with a status reason; None when told to stop
        before it succeeded."""
        if self.stopping():
            return None
        try:
            return retry(
                call,
                policy=self.retry_policy,
                stop=self.stop_event,
                on_failure=self.retrying,
                on_recovery=self.recovered,
            )
        except RetriableError:
            if not self.stopping():
                raise
            return None

    def retrying(self, error: RetriableError, tries: int, cause: str = "retry") -> None:
        """Count a failure that is retried, show it in the status and log the first one."""
        self.metrics.add("total_retries")
        self.reasons.set(cause, str(error))
        if tries == 1:
            self.log.warning("waiting", code=error.code, reason=str(error))

    def recovered(self, tries: int, cause: str = "retry") -> None:
        """Clear the reason of ``cause`` and log the recovery."""
        self.reasons.set(cause, None)
        self.log.info("recovered", tries=tries + 1)


class KafkaReport:
    """Reports in status and log that the brokers of a consumer are unavailable. Used from the task's thread.

    The consumer does not raise then, it returns nothing.
    """

    def __init__(self, control: TaskControl) -> None:
        self._control = control
        self.problem: str | None = None

    def update(self, problem: str | None) -> None:
        """Report the problem of the connection, or with None the recovery, once."""
        if problem == self.problem:
            return
        self.problem = problem
        if problem is None:
            self._control.recovered(1, "kafka")
            return
        self._control.reasons.set("kafka", f"waiting for Kafka: {problem}")
        self._control.log.warning("waiting", code="kafka.unreachable", reason=problem)
