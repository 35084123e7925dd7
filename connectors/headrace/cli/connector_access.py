"""What commands of plugins do with the topics of one connector: read, decode and write them as its tasks do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import structlog

from headrace.broker.connector_clients import ConnectorClients
from headrace.broker.interfaces import KafkaClients
from headrace.cli.loading import Loaded, load
from headrace.cli.topic_reading import read_to_ends
from headrace.errors import ConfigError, Finding, Location, RetriableError
from headrace.json_bytes import json_bytes
from headrace.metrics import TaskMetrics
from headrace.pipeline.fault_policy import Failure, FaultPolicy
from headrace.pipeline.stages import Stages
from headrace.pipeline.stream.encoding import decode_shared
from headrace.plugin import TopicRecord
from headrace.records import ConsumedBatch, EncodedBatch, SinkBatch
from headrace.runtime.stage_build import make_stages
from headrace.settings import WorkerSettings
from headrace.validation import ConnectorConfig

_SEND_TIMEOUT = 30.0  # seconds
_CLIENT_ID = "headrace-command"
Decode = Callable[[ConsumedBatch], tuple[list[SinkBatch], list[Failure]]]


class LoadedConnector:
    """Implements :class:`headrace.ConnectorAccess`. ``note`` gets what is said beside the result."""

    def __init__(
        self,
        loaded: Loaded,
        config: ConnectorConfig,
        open_clients: Callable[[WorkerSettings], KafkaClients],
        note: Callable[[str], None],
    ) -> None:
        self._settings = loaded.require()
        self._registry = loaded.registry
        self._config = config
        self._open_clients = open_clients
        self._note = note

    @property
    def name(self) -> str:
        return self._config.name

    @property
    def properties(self) -> Mapping[str, str]:
        return self._config.own

    def read(self, topics: Sequence[str]) -> Iterator[TopicRecord]:
        with closing(self._stages()) as stages:
            yield from self._read(topics, stages.decode)

    def read_shared(self, topics: Sequence[str]) -> Iterator[TopicRecord]:
        return self._read(topics, decode_shared)

    def write_shared(self, topic: str, key: str, value: Mapping[str, Any]) -> None:
        producer = self._clients().producer(_CLIENT_ID)
        try:
            delivery = producer.send(EncodedBatch(topic, list(json_bytes([value])), [key.encode()]))
            if not producer.flush(_SEND_TIMEOUT) or not delivery.done():
                problem = producer.connection_problem() or "there was no acknowledgement"
                raise RetriableError(
                    f"the record for topic {topic} may not be written: {problem}", code="kafka.unreachable"
                )
            if (error := delivery.error()) is not None:
                raise error
        finally:
            producer.close(_SEND_TIMEOUT)

    def _read(self, topics: Sequence[str], decode: Decode) -> Iterator[TopicRecord]:
        clients = self._clients()
        batches = read_to_ends(
            clients.admin,
            lambda: clients.reader(_CLIENT_ID, **{"isolation.level": "read_committed"}),
            topics,
            committed=True,
            hint=f"start {self.name}, and check bootstrap.servers of the worker's file",
        )
        failures: list[Failure] = []
        for consumed in batches:
            parts, failed = decode(consumed)
            failures += failed
            for part in parts:
                yield from _records(part)
        if failures:
            last = failures[-1]
            where = f"{last.topic_partition}, offset {last.offset}"
            self._note(f"{len(failures):,} records could not be decoded and are left out: {where}: {last.error}")

    def _stages(self) -> Stages:
        """Return the converters and transforms of the connector; a failure is returned and skips nothing."""
        policy = FaultPolicy(
            self._config.settings, str, threading.Event(), structlog.stdlib.get_logger("headrace"), TaskMetrics()
        )
        return make_stages(self._registry, self._settings, self._config.settings, policy)

    def _clients(self) -> ConnectorClients:
        return ConnectorClients(self._open_clients(self._settings), self._settings, self._config.settings)


def load_connector(
    worker: Path, file: Path, open_clients: Callable[[WorkerSettings], KafkaClients], note: Callable[[str], None]
) -> LoadedConnector:
    """Read the files of a worker and a connector. Raise ConfigError."""
    loaded = load([worker, file], worker=worker)
    loaded.require()
    config = next(iter(loaded.configs.values()), None)
    if config is None:
        found = Finding(
            "config.file",
            f"{file} is not the file of a connector",
            hint="set connector.class",
            location=Location(str(file), 1),
        )
        raise ConfigError(findings=[found])
    return LoadedConnector(loaded, config, open_clients, note)


def _records(batch: SinkBatch) -> Iterator[TopicRecord]:
    place = batch.topic_partition
    for offset, timestamp, key, value in zip(batch.offsets, batch.timestamps, batch.keys, batch.values, strict=True):
        yield TopicRecord(place.topic, place.partition, offset, timestamp, key, value)
