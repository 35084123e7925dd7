"""Runs a task as a worker does, with the in-memory Kafka."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import structlog

from headrace.broker.in_memory import InMemoryKafka
from headrace.interpolation import make_interpolator
from headrace.metrics import TaskMetrics
from headrace.pipeline.control import TaskControl
from headrace.registry import Registry
from headrace.runtime.config_origins import ConfigOrigins
from headrace.runtime.task_build import TaskBuilder
from headrace.settings import WorkerSettings
from headrace.states import TaskId
from headrace.stores import MemoryLog, OffsetStore
from headrace.validation import Validator

PLAIN = {"key.converter.schemas.enable": "false", "value.converter.schemas.enable": "false"}


class TaskRun:
    """One task at a time, on a thread."""

    def __init__(self) -> None:
        self.kafka = InMemoryKafka()
        self.metrics = TaskMetrics()
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        registry = Registry()
        settings = WorkerSettings.parse({"bootstrap.servers": "memory", **PLAIN})
        validator = Validator(registry, make_interpolator(registry))
        self._builder = TaskBuilder(
            registry, validator, self.kafka, OffsetStore(MemoryLog()), settings, ConfigOrigins()
        )

    def start(self, properties: Mapping[str, str]) -> None:
        log = structlog.stdlib.get_logger("test")
        control = TaskControl(
            self._stop, threading.Event(), self.metrics, log, lambda: None, lambda reason: None, 0.02, 5.0
        )
        pipeline = self._builder.build(
            TaskId(properties["name"], 0), properties, control, lambda reason: None, trusted=True
        )

        def body() -> None:
            try:
                pipeline.run()
            except BaseException as error:  # checked by the test
                self.error = error

        self._thread = threading.Thread(target=body)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(20)
            assert not self._thread.is_alive()

    def values(self, topic: str) -> list[Any]:
        return [json.loads(record.value or b"null") for record in self.kafka.records(topic)]
