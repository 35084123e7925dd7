"""``headrace check`` of stream applications: permissions, and the columns of the records that they read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import structlog

from headrace.broker.client_errors import acl_command
from headrace.broker.connector_clients import connects_as_admin
from headrace.errors import Finding
from headrace.metrics import TaskMetrics
from headrace.pair_checks import KafkaTopic, LocatedFinding, Produced
from headrace.pipeline.fault_policy import FaultPolicy
from headrace.pipeline.stream.topics import changelog_topic
from headrace.plugin import KnownRecords, StreamTopology
from headrace.records import ConsumedBatch
from headrace.registry import Registry
from headrace.runtime.stage_build import make_stages
from headrace.schema import Field, Schema, Type
from headrace.settings import WorkerSettings
from headrace.validation import ConnectorConfig

SampleLookup = Callable[[Sequence[str]], Mapping[str, Sequence[ConsumedBatch]]]
"""Given names of topics: the newest records of each that exists."""
_ENVELOPE = {"schema", "payload"}


def topology_of(config: ConnectorConfig) -> StreamTopology:
    """Return the topics of an application."""
    topology: StreamTopology = config.plugin.cls().topology(config.name, config.own)
    return topology


def topics_of(config: ConnectorConfig) -> dict[str, set[str]]:
    """Return the topics of an application, each with the operations that it needs there."""
    topology = topology_of(config)
    needed: dict[str, set[str]] = {}
    internal = [*topology.repartitions, *topology.shared]
    internal += [changelog_topic(config.name, store) for store in topology.stores]
    for topics, operations in (
        ((*topology.inputs, *topology.tables), {"READ"}),
        (topology.outputs, {"WRITE"}),
        (internal, {"READ", "WRITE"}),
        (topology.repartitions, {"DELETE"}),  # of processed records
    ):
        for topic in topics:
            needed.setdefault(topic, set()).update(operations)
    return needed


def permission_findings(
    config: ConnectorConfig, worker: WorkerSettings, topics: Mapping[str, KafkaTopic]
) -> Iterator[LocatedFinding]:
    """Yield the operations that the worker's user lacks; nothing is known of topics that do not exist."""
    if not all(connects_as_admin(worker, config.settings, kind) for kind in ("consumer", "producer")):
        return
    for topic, needed in topics_of(config).items():
        allowed = topics[topic].operations if topic in topics else None
        for operation in sorted(needed - allowed) if allowed is not None else ():
            does = {"READ": "read", "WRITE": "write to", "DELETE": "delete processed records of"}[operation]
            text = f"cannot {does} {topic}: the worker's user has no {operation} on TOPIC {topic}"
            # Without DELETE the application runs, and its repartition topics grow.
            severity = "warning" if operation == "DELETE" else "error"
            hint = acl_command("topic", topic, operation)
            found = Finding("kafka.not_authorized", text, "name", hint, severity=severity, cause="environment")
            yield LocatedFinding(config.name, found)


def column_findings(
    config: ConnectorConfig,
    worker: WorkerSettings,
    registry: Registry,
    sources: Iterable[Produced],
    samples: Mapping[str, Sequence[ConsumedBatch]],
) -> Iterator[LocatedFinding]:
    """Yield unknown columns and wrong types, by the newest records of topics, or by the sources that write them."""
    topology = topology_of(config)
    read = {*topology.inputs, *topology.tables} - {*topology.outputs}
    known = {
        topic.name: _produced(topic.fields)
        for produced in sources
        if not produced.config.settings.transforms
        for topic in produced.topics
        if topic.name in read and topic.fields
    }
    for topic, records in _decoded(config, worker, registry, {name: samples[name] for name in read if name in samples}):
        if any(isinstance(value, dict) and value.keys() == _ENVELOPE for value in records.examples):
            text = f"values of topic {topic} are objects with 'schema' and 'payload': they were written with schemas"
            hint = "write value.converter: JsonConverter and value.converter.schemas.enable: true"
            found = Finding("stream.envelope", text, "value.converter.schemas.enable", hint)
            yield LocatedFinding(config.name, found)
        elif records.schemas or records.examples:
            known[topic] = records
    for finding in config.plugin.cls().column_findings(config.name, config.own, known):
        yield LocatedFinding(config.name, finding)


def _produced(fields: Mapping[str, Schema]) -> KnownRecords:
    """Return what a source says of its records. Whether their schemas are sent depends on the converters."""
    members = tuple(Field(name, schema) for name, schema in fields.items())
    return KnownRecords([Schema(Type.STRUCT, fields=members)], plain=True)


def _decoded(
    config: ConnectorConfig,
    worker: WorkerSettings,
    registry: Registry,
    samples: Mapping[str, Sequence[ConsumedBatch]],
) -> Iterator[tuple[str, KnownRecords]]:
    """Yield topics with their records as the application's converters decode them; what they refuse is left out."""
    log = structlog.stdlib.get_logger("headrace.check")
    policy = FaultPolicy(config.settings, lambda key: key, threading.Event(), log, TaskMetrics())
    with ExitStack() as stop:
        stages = make_stages(registry, worker, config.settings, policy)
        stop.callback(stages.close)
        for topic, batches in samples.items():
            parts = [part for batch in batches for part in stages.decode(batch)[0]]
            schemas = {part.value_schema for part in parts if part.value_schema is not None}
            plain = [value for part in parts if part.value_schema is None for value in part.values if value is not None]
            yield topic, KnownRecords([item for item in schemas if item.type is Type.STRUCT], plain)
