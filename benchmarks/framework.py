"""The runner of headrace: one task with pipeline, converters, adapters and connector, built as a worker builds it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import structlog

from benchmarks.runners import Clock
from headrace.broker.client_choice import choose
from headrace.interpolation import make_interpolator
from headrace.metrics import TaskMetrics
from headrace.pipeline.control import TaskControl
from headrace.registry import Registry
from headrace.runtime.config_origins import ConfigOrigins
from headrace.runtime.task_build import TaskBuilder
from headrace.settings import WorkerSettings
from headrace.states import TaskId
from headrace.stores import FileLog, OffsetStore
from headrace.validation import Validator

CONVERTERS = {
    "key.converter.schemas.enable": "false",
    "value.converter.schemas.enable": "false",
    "value.converter.decimal.format": "NUMERIC",
}
_POLL = 0.005  # seconds between two reads of the counters; each costs CPU time


def run(
    clock: Clock, config: Mapping[str, str], client: str, bootstrap: str, folder: str, counter: str, count: int
) -> int:
    """Run one task until ``counter`` has reached ``count``, then stop it as a worker does. Return the counter.

    The clock starts at the first record that is read.
    """
    settings = WorkerSettings.parse({"bootstrap.servers": bootstrap, "kafka.client": client, **CONVERTERS})
    registry = Registry()
    validator = Validator(registry, make_interpolator(registry))
    offsets = OffsetStore(FileLog(Path(folder) / f"{config['name']}-offsets.jsonl"))
    broker = choose(settings.kafka_client).open(settings.client_settings())
    builder = TaskBuilder(registry, validator, broker, offsets, settings, ConfigOrigins())
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
    pipeline = builder.build(TaskId(config["name"], 0), config, control, lambda reason: None, trusted=True)
    failures: list[BaseException] = []

    def body() -> None:
        try:
            pipeline.run()
        except BaseException as error:  # raised again below, on the measuring thread
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    values = metrics.values
    while values[counter] < count and not failures:
        if values["source_record_poll_total"] or values["sink_record_read_total"]:
            clock.start()
        thread.join(_POLL)
    clock.stop()
    stop_event.set()
    thread.join()
    offsets.close()
    if failures:
        raise failures[0]
    return values[counter]
