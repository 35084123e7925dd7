"""From configuration to what a verification works with: clients, converters, the connector's own part."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import structlog

from headrace.broker.kafka_python import KafkaPythonClients
from headrace.broker.kafka_python.reader import open_reader
from headrace.errors import ConflictError
from headrace.metrics import TaskMetrics
from headrace.pipeline.fault_policy import FaultPolicy
from headrace.plugin import Rebuilder, SinkContext, SinkTask, Verifier
from headrace.registry import Registry
from headrace.runtime.stage_build import group_of, make_stages
from headrace.settings import SinkSettings, WorkerSettings
from headrace.states import TaskId
from headrace.validation import ConnectorConfig
from headrace.verification.history import History
from headrace.verification.rebuild import OpenWriter

log = structlog.stdlib.get_logger("headrace.verification")


@contextmanager
def open_history(registry: Registry, worker: WorkerSettings, config: ConnectorConfig) -> Iterator[History]:
    """A sink's topics. Raises ConflictError when it is a source, else as the broker ports say."""
    settings = config.settings
    if not isinstance(settings, SinkSettings):
        raise ConflictError(
            f"connector '{config.name}' is a source", code="proof.not_a_sink", hint="name a sink connector"
        )
    consumer = {"client.id": f"headrace-proof-{config.name}", **worker.consumer, **settings.consumer_override}
    group = consumer.get("group.id", group_of(config.name))
    policy = FaultPolicy(settings, lambda key: key, threading.Event(), log, TaskMetrics())
    stages = make_stages(registry, worker, settings, policy)
    with ExitStack() as stop:
        broker = KafkaPythonClients(worker.client_settings())
        admin = broker.admin({**worker.admin, **settings.admin_override})
        stop.callback(admin.close)
        reader = open_reader(worker.client_settings(), consumer)
        stop.callback(reader.close)
        yield History(reader, admin, stages, settings, group, config.plugin.cls.task_class.takes_json_texts)


@contextmanager
def open_verifier(config: ConnectorConfig) -> Iterator[Verifier]:
    """The connector's own part. Raises ConflictError when it has none."""
    verifier = config.plugin.cls().verifier(config.own)
    if verifier is None:
        raise ConflictError(
            f"{config.plugin.name} cannot tell what it has written", code="verify.not_supported", hint="ask its author"
        )
    try:
        yield verifier
    finally:
        verifier.close()


@contextmanager
def open_rebuilder(config: ConnectorConfig) -> Iterator[Rebuilder]:
    """The connector's own part. Raises ConflictError when it has none."""
    rebuilder = config.plugin.cls().rebuilder(config.own)
    if rebuilder is None:
        raise ConflictError(
            f"{config.plugin.name} cannot rebuild what it has written",
            code="reindex.not_supported",
            hint="ask its author",
        )
    try:
        yield rebuilder
    finally:
        rebuilder.close()


def writer_opener(config: ConnectorConfig) -> OpenWriter:
    """Makes tasks of the connector that write elsewhere."""

    def open_writer(topic: str, properties: Mapping[str, str]) -> SinkTask:
        task: SinkTask = config.plugin.cls.task_class()
        name = TaskId(f"{config.name}-reindex", 0)
        quiet = log.bind(task=str(name), topic=topic)
        task.start(SinkContext(name, properties, threading.Event(), quiet, lambda key: key, lambda reason: None))
        return task

    return open_writer
