"""What a task's loop shares with the thread that started it: wishes in, state and counters out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from headrace.errors import RetriableError
from headrace.metrics import TaskMetrics
from headrace.retries import FOREVER, RetryPolicy, retry

T = TypeVar("T")

LONGEST_SLEEP = 0.5
"""Seconds: a loop that has nothing to do looks up this often for a pause, a resume or a tick."""


@dataclass(frozen=True)
class TaskControl:
    """``stop_event`` and ``paused`` are set from outside; the callables report, from the task's thread."""

    stop_event: threading.Event
    paused: threading.Event
    metrics: TaskMetrics
    log: structlog.stdlib.BoundLogger
    started: Callable[[], None]
    """The task has started and moves data from now on."""
    set_status_reason: Callable[[str | None], None]
    """What the loop waits for, in a sentence; None = nothing."""
    flush_interval: float  # seconds
    flush_timeout: float  # seconds
    abandoned: threading.Event = field(default_factory=threading.Event)
    """Set when the task did not stop in time and another may run in its place: it must store nothing any more."""
    retry_policy: RetryPolicy = FOREVER
    """For everything that the loop itself tries again."""

    def stopping(self) -> bool:
        return self.stop_event.is_set()

    def sleep(self, seconds: float) -> None:
        """Wait until told to stop, but no longer than a loop may."""
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

    def retrying(self, error: RetriableError, tries: int) -> None:
        """Count, show and (the first time) log that something did not work and is tried again."""
        self.metrics.add("total_retries")
        self.set_status_reason(str(error))
        if tries == 1:
            self.log.warning("waiting", code=error.code, reason=str(error))

    def recovered(self, tries: int) -> None:
        """What was waited for has come."""
        self.set_status_reason(None)
        self.log.info("going on", tries=tries + 1)
