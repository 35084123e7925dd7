"""Publishes the task configurations of connectors until they are stored: by this worker, or by the leader."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from headrace.errors import HeadraceError, RetriableError
from headrace.retries import RetryPolicy, retry
from headrace.runtime.connector_reasons import ConnectorReasons
from headrace.runtime.task_configurator import TaskConfigs

log = structlog.stdlib.get_logger("headrace.connector")
_POLICY = RetryPolicy(first=0.25, longest=60.0)
"""Kafka Connect's intervals."""
_REASON = "publish"


class TaskPublications:
    """One publication of each connector at a time, on a thread of its own. Used from one thread."""

    def __init__(
        self, publish: Callable[[TaskConfigs], None], reasons: ConnectorReasons, policy: RetryPolicy = _POLICY
    ) -> None:
        """``publish`` may block; it raises RetriableError to be called again."""
        self._publish = publish
        self._reasons = reasons
        self._policy = policy
        self._cancels: dict[str, threading.Event] = {}

    def start(self, planned: TaskConfigs) -> None:
        """Publish, in place of an older publication of the connector."""
        self.cancel(planned.connector)
        cancel = self._cancels[planned.connector] = threading.Event()
        threading.Thread(
            target=self._run, args=(planned, cancel), name=f"{planned.connector}-publication", daemon=True
        ).start()

    def cancel(self, connector: str) -> None:
        """Cancel the publication of a connector."""
        if (cancel := self._cancels.pop(connector, None)) is not None:
            cancel.set()
            self._reasons.set(connector, _REASON, None)

    def cancel_all(self) -> None:
        for connector in list(self._cancels):
            self.cancel(connector)

    def _run(self, planned: TaskConfigs, cancel: threading.Event) -> None:
        def waiting(error: RetriableError, failures: int) -> None:
            if failures == 1:
                log.warning("waiting", connector=planned.connector, code=error.code, reason=str(error))
            if not cancel.is_set():
                self._reasons.set(planned.connector, _REASON, f"the tasks are not stored yet: {error}")

        try:
            retry(lambda: self._publish(planned), policy=self._policy, stop=cancel, on_failure=waiting)
        except RetriableError:
            return  # cancelled
        except HeadraceError as error:
            log.warning("tasks not stored", connector=planned.connector, code=error.code, reason=str(error))
            if not cancel.is_set():
                self._reasons.set(planned.connector, _REASON, f"the tasks cannot be stored: {error}")
            return
        if not cancel.is_set():
            self._reasons.set(planned.connector, _REASON, None)
