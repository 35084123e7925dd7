"""Build the parts of a verification from configuration: clients, converters, the connector's verifier."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import structlog

from headrace.broker.client_choice import choose
from headrace.broker.connector_clients import ConnectorClients
from headrace.errors import ConflictError
from headrace.metrics import TaskMetrics
from headrace.pipeline.fault_policy import FaultPolicy
from headrace.pipeline.stages import Stages
from headrace.plugin import Previewer, Rebuilder, SinkContext, SinkTask, Verifier
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
    """Open a sink connector's topics. Raise ConflictError for a source, else the errors of ``broker.interfaces``."""
    settings = config.settings
    if not isinstance(settings, SinkSettings):
        raise ConflictError(
            f"connector '{config.name}' is a source", code="verify.not_a_sink", hint="name a sink connector"
        )
    consumer = {**worker.consumer, **settings.consumer_override}
    group = consumer.get("group.id", group_of(config.name))
    with ExitStack() as stop:
        stages = stop.enter_context(open_stages(registry, worker, config))
        clients = ConnectorClients(choose(worker.kafka_client).open(worker.client_settings()), worker, settings)
        admin = clients.admin()
        stop.callback(admin.close)
        reader = clients.reader(f"headrace-verify-{config.name}", **{"group.id": group})
        stop.callback(reader.close)
        json_texts = config.plugin.cls.task_class.takes_json_texts
        committed = consumer.get("isolation.level", "read_committed") == "read_committed"
        yield History(reader, admin, stages, settings, group, json_texts, committed)


@contextmanager
def open_stages(registry: Registry, worker: WorkerSettings, config: ConnectorConfig) -> Iterator[Stages]:
    """Open a connector's converters and transforms. Raise ConfigError."""
    policy = FaultPolicy(config.settings, lambda key: key, threading.Event(), log, TaskMetrics())
    stages = make_stages(registry, worker, config.settings, policy)
    try:
        yield stages
    finally:
        stages.close()


def previewer_of(config: ConnectorConfig) -> Previewer | None:
    """Return the sink connector's previewer; None when it has none."""
    previewer: Previewer | None = config.plugin.cls().previewer(config.own)
    return previewer


@contextmanager
def open_verifier(config: ConnectorConfig) -> Iterator[Verifier]:
    """Open the connector's verifier. Raise ConflictError when it has none."""
    verifier = config.plugin.cls().verifier(config.own)
    if verifier is None:
        raise ConflictError(
            f"{config.plugin.name} does not support verification",
            code="verify.not_supported",
            hint="its author has to implement headrace.Verifier",
        )
    try:
        yield verifier
    finally:
        verifier.close()


@contextmanager
def open_rebuilder(config: ConnectorConfig) -> Iterator[Rebuilder]:
    """Open the connector's rebuilder. Raise ConflictError when it has none."""
    rebuilder = config.plugin.cls().rebuilder(config.own)
    if rebuilder is None:
        raise ConflictError(
            f"{config.plugin.name} does not support rebuilds",
            code="reindex.not_supported",
            hint="its author has to implement headrace.Rebuilder",
        )
    try:
        yield rebuilder
    finally:
        rebuilder.close()


def writer_opener(config: ConnectorConfig) -> OpenWriter:
    """Return a function that starts tasks of the connector with another configuration."""

    def open_writer(topic: str, properties: Mapping[str, str]) -> SinkTask:
        task: SinkTask = config.plugin.cls.task_class()
        name = TaskId(f"{config.name}-reindex", 0)
        quiet = log.bind(task=str(name), topic=topic)
        task.start(SinkContext(name, properties, threading.Event(), quiet, lambda key: key, lambda reason: None))
        return task

    return open_writer
