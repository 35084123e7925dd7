"""What a retry writes to: a task of the connector, or, for a run that changes nothing, a check of the records."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog

from headrace.errors import DataError
from headrace.plugin import SinkContext, SinkTask
from headrace.records import Rejection, SinkBatch
from headrace.retries import RetryPolicy, retry
from headrace.states import TaskId
from headrace.validation import ConnectorConfig

log = structlog.stdlib.get_logger("headrace.dead_letters")
_RETRIES = RetryPolicy(longest=5.0, timeout=60.0)
"""``timeout``: seconds that the sink's system may be unavailable before the retry ends."""


class TaskWriter:
    """Writes with a task of its own, so that the connector's tasks are not disturbed."""

    def __init__(self, config: ConnectorConfig, stop_event: threading.Event) -> None:
        """Raises what ``start`` of the task raises."""
        self._stop_event = stop_event
        self._task: SinkTask = config.plugin.cls.task_class()
        self.executor = f"{type(self._task).__module__}.{type(self._task).__qualname__}"
        name = TaskId(f"{config.name}-dlq", 0)
        context = SinkContext(
            name, config.own, stop_event, log.bind(task=str(name)), lambda key: key, lambda reason: None
        )
        try:
            retry(lambda: self._task.start(context), policy=_RETRIES, stop=stop_event)
        except BaseException:
            self._task.stop()
            raise

    def write(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        return retry(lambda: self._task.put(batches), policy=_RETRIES, stop=self._stop_event)

    def close(self) -> None:
        self._task.stop()


class EntryChecker:
    """Writes nothing: rejects what the connector's verifier says cannot be written.

    A connector without a verifier, or a system that refuses what the verifier accepts, is found out by writing only.
    """

    def __init__(self, config: ConnectorConfig) -> None:
        self._verifier = config.plugin.cls().verifier(config.own)
        self.executor = config.plugin.name

    def write(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        if self._verifier is None:
            return []
        return [
            Rejection(batch.topic_partition, offset, entry)
            for batch in batches
            for offset, entry in zip(batch.offsets, self._verifier.expected_entries(batch), strict=True)
            if isinstance(entry, DataError)
        ]

    def close(self) -> None:
        if self._verifier is not None:
            self._verifier.close()
