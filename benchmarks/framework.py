"""The same ways through headrace: its own pipelines, converters, adapters and connectors, as a worker builds them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import structlog

from headrace.broker.kafka_python import KafkaPythonBroker
from headrace.interpolation import make_interpolator
from headrace.metrics import TaskMetrics
from headrace.pipeline.control import TaskControl
from headrace.registry import Registry
from headrace.runtime.task_build import TaskBuilder
from headrace.runtime.whereabouts import Whereabouts
from headrace.settings import WorkerSettings
from headrace.states import TaskId
from headrace.stores import FileLog, OffsetStore
from headrace.validation import Validator

_LOOK = 0.002  # seconds between two looks at the counters


def run(config: Mapping[str, str], bootstrap: str, folder: Path, counter: str, count: int) -> int:
    """Run one task until ``counter`` has reached ``count``; then it stops as a worker would stop it."""
    settings = WorkerSettings.parse(
        {
            "bootstrap.servers": bootstrap,
            "key.converter.schemas.enable": "false",
            "value.converter.schemas.enable": "false",
            "value.converter.decimal.format": "NUMERIC",
        }
    )
    registry = Registry()
    validator = Validator(registry, make_interpolator(registry))
    offsets = OffsetStore(FileLog(folder / f"{config['name']}-offsets.jsonl"))
    broker = KafkaPythonBroker(settings.client_settings())
    builder = TaskBuilder(registry, validator, broker, offsets, settings, Whereabouts())
    metrics, stop_event = TaskMetrics(), threading.Event()
    control = TaskControl(
        stop_event,
        threading.Event(),
        metrics,
        structlog.stdlib.get_logger("headrace.benchmark"),
        lambda: None,
        lambda reason: None,
        settings.offset_flush_interval / 1000,
        settings.offset_flush_timeout / 1000,
    )
    pipeline = builder.build(TaskId(config["name"], 0), config, control, lambda reason: None)
    failures: list[BaseException] = []

    def body() -> None:
        try:
            pipeline.run()
        except BaseException as error:  # raised again below, on the measuring thread
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    while metrics.values[counter] < count and not failures:
        thread.join(_LOOK)
    stop_event.set()
    thread.join()
    offsets.close()
    if failures:
        raise failures[0]
    return metrics.values[counter]
