"""Drivers with which tests run tasks as a worker does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from headrace.plugin import SinkConnector, SourceConnector, Wait
from headrace.records import Rejection, SinkBatch, SourceBatch, TopicPartition
from headrace.schema import Schema
from headrace.testing.contexts import (
    Offsets,
    RecordedConditions,
    RecordedStatusReasons,
    make_sink_context,
    make_source_context,
)
from headrace.testing.waiting import eventually

_QUIET = 5.0
"""Seconds without a batch after which none is expected."""


class SourceDriver:
    """A started task of ``connector``; leaving the ``with`` block stops it as a worker does.

    ``offsets`` are what is stored: read by the task, written by :meth:`drain` and :meth:`store`.
    """

    def __init__(
        self,
        connector: type[SourceConnector],
        properties: Mapping[str, str],
        offsets: Offsets | None = None,
        *,
        tasks: int = 1,
        number: int = 0,
        exactly_once: bool = False,
    ) -> None:
        """``exactly_once``: as in :class:`SourceContext`. Raise what ``task_configs`` and ``start`` raise."""
        self.offsets = offsets if offsets is not None else Offsets()
        self.status_reasons = RecordedStatusReasons()
        self.conditions = RecordedConditions()
        self.lags: dict[str, tuple[int, int]] = {}
        """What the task said last of each part: milliseconds and records that its position is behind."""
        self._stop_event = threading.Event()
        self._came: list[SourceBatch] = []
        configuration = connector().task_configs(properties, tasks)[number]
        self.task = connector.task_class()
        try:
            self.task.start(
                make_source_context(
                    configuration,
                    self.offsets,
                    stop_event=self._stop_event,
                    set_status_reason=self.status_reasons,
                    number=number,
                    lag=self._lag,
                    raise_condition=self.conditions,
                    exactly_once=exactly_once,
                )
            )
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> SourceDriver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    def _lag(self, part: str, millis: int, records: int) -> None:
        self.lags[part] = (millis, records)

    def stop(self) -> None:
        """Stop the task. May be called twice."""
        self._stop_event.set()
        self.task.stop()

    def poll(self) -> SourceBatch | Wait:
        """Poll once, as a worker does; nothing is stored."""
        return self.task.poll()

    def batch(self, timeout: float = 20.0) -> SourceBatch:
        """Wait for the next batch and return it; nothing is stored."""
        found: list[SourceBatch] = []

        def polled() -> bool:
            """a batch came"""
            answer = self.task.poll()
            if isinstance(answer, SourceBatch):
                found.append(answer)
            return bool(found)

        eventually(polled, timeout)
        return found[0]

    def store(self, batch: SourceBatch) -> None:
        """Store the position of ``batch`` and acknowledge it, as if all its records were in Kafka."""
        for partition, offset in batch.positions():
            self.offsets.set(partition, offset)
        self.task.acknowledged(batch)

    def drain(self, timeout: float = 20.0) -> list[SourceBatch]:
        """Wait until the task is due, then return every batch until it returns a wait; each is stored.

        A task of several tables may never ask for one, where reading them takes longer than its pauses (on a busy
        machine): then until nothing has come for seconds.
        Batches that came before the task raised are kept for the next call.
        """

        def due() -> bool:
            """the task is due"""
            return not self._paused(self.task.poll())

        eventually(due, timeout)
        last = time.monotonic()
        while not self._paused(answer := self.task.poll()):
            if isinstance(answer, SourceBatch):
                last = time.monotonic()
            elif time.monotonic() - last > _QUIET:
                break
        batches, self._came = self._came, []
        return batches

    def _paused(self, answer: SourceBatch | Wait) -> bool:
        if isinstance(answer, Wait):
            return answer.seconds > 0
        self.store(answer)
        self._came.append(answer)
        return False

    def values(self, pick: Callable[[Any], Any] | str | None = None) -> list[Any]:
        """Return the values of a :meth:`drain`, in order; ``pick``: a field of each, or a function of it."""
        values = [value for batch in self.drain() for value in batch.values]
        if pick is None:
            return values
        return [value[pick] if isinstance(pick, str) else pick(value) for value in values]


class SinkDriver:
    """A started task of ``connector``; leaving the ``with`` block stops it as a worker does."""

    def __init__(self, connector: type[SinkConnector], properties: Mapping[str, str]) -> None:
        """Raise what ``task_configs`` and ``start`` raise."""
        self.status_reasons = RecordedStatusReasons()
        self._stop_event = threading.Event()
        self._next_offset = 0
        configuration = connector().task_configs(properties, 1)[0]
        self.task = connector.task_class()
        try:
            self.task.start(
                make_sink_context(configuration, stop_event=self._stop_event, set_status_reason=self.status_reasons)
            )
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> SinkDriver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the task. A second call has no effect on a task that keeps its contract."""
        self._stop_event.set()
        self.task.stop()

    def put(
        self,
        values: Sequence[Any],
        keys: Sequence[Any] | None = None,
        *,
        topic: str = "test",
        value_schema: Schema | None = None,
    ) -> list[Rejection]:
        """Put records of partition 0 at the offsets after those of the last call; return the rejections."""
        count = len(values)
        offsets = list(range(self._next_offset, self._next_offset + count))
        batch = SinkBatch(
            TopicPartition(topic, 0),
            topic,
            offsets,
            list(keys) if keys is not None else [None] * count,
            list(values),
            [0] * count,
            [()] * count,
            value_schema=value_schema,
        )
        rejections = list(self.task.put([batch]))
        self._next_offset += count
        return rejections
