"""Fixtures of verifications and rebuilds: an in-memory topic, and a system that a sink has filled from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import structlog

from headrace import DataError, Rejection, SinkBatch, StoredEntry, Verifier
from headrace.broker.in_memory import InMemoryKafka
from headrace.converters.string import StringConverter
from headrace.metrics import TaskMetrics
from headrace.pipeline.fault_policy import FaultPolicy
from headrace.pipeline.stages import Stages
from headrace.records import EncodedBatch
from headrace.settings import SinkSettings
from headrace.verification import History

TOPIC, GROUP = "orders", "connect-search"


class InMemorySystem(Verifier):
    """Documents by key, each with the offset of its record."""

    def __init__(self) -> None:
        self.documents: dict[bytes, tuple[int, bytes]] = {}
        self.before_lookup: Any = None
        self.writes = 0

    def put(self, batch: SinkBatch) -> None:
        for key, value, offset in zip(batch.keys, batch.values, batch.offsets, strict=True):
            if value is None:
                self.documents.pop(key.encode(), None)
            else:
                self.documents[key.encode()] = (offset, value.encode())

    def expected_entries(self, batch: SinkBatch) -> Sequence[StoredEntry | DataError | None]:
        def entry(key: str | None, value: str | None, offset: int) -> StoredEntry | DataError | None:
            if key is None:
                return DataError("no key")
            return StoredEntry(key.encode(), offset, (value or "").encode())

        return list(map(entry, batch.keys, batch.values, batch.offsets))

    def stored_entries(self) -> Iterator[Sequence[StoredEntry]]:
        for name, (version, value) in list(self.documents.items()):
            yield [StoredEntry(name, version, value)]

    def lookup(self, names: Sequence[bytes]) -> Mapping[bytes, StoredEntry]:
        if self.before_lookup is not None:
            self.before_lookup()
        return {name: StoredEntry(name, *self.documents[name]) for name in names if name in self.documents}

    def write(self, batch: SinkBatch, present: Sequence[StoredEntry | None]) -> Sequence[Rejection]:
        self.writes += len(batch)
        assert [self.documents.get(key.encode()) for key in batch.keys] == [
            None if entry is None else (entry.version, entry.digest) for entry in present
        ]
        self.put(batch)
        return []

    def remove(self, surplus: Sequence[StoredEntry]) -> None:
        for entry in surplus:
            del self.documents[entry.name]

    def close(self) -> None:
        pass


class SinkScenario:
    """A topic with two partitions, and a system that a sink has filled from it."""

    def __init__(self, **keys: str) -> None:
        self.kafka, self.system = InMemoryKafka(), InMemorySystem()
        self.kafka.create(TOPIC, 2)
        self.settings = SinkSettings.parse({"name": "search", "connector.class": "x", **(keys or {"topics": TOPIC})})
        log = structlog.stdlib.get_logger("test")
        policy = FaultPolicy(self.settings, lambda key: key, threading.Event(), log, TaskMetrics())
        converters = StringConverter(), StringConverter()
        for converter, is_key in zip(converters, (True, False), strict=True):
            converter.configure({}, is_key=is_key)
        self.stages = Stages(*converters, (), policy)
        self.producer = self.kafka.producer({})
        self.isolation = "read_committed"

    @property
    def history(self) -> History:
        reader, committed = self.kafka.reader({"isolation.level": self.isolation}), self.isolation == "read_committed"
        return History(reader, self.kafka.admin({}), self.stages, self.settings, GROUP, read_committed=committed)

    def produce(self, *records: tuple[str | None, str | None]) -> None:
        keys = [None if key is None else key.encode() for key, _ in records]
        values = [None if value is None else value.encode() for _, value in records]
        self.producer.send(EncodedBatch(TOPIC, values, keys))

    def sink(self) -> None:
        """Write all records and commit."""
        history = self.history
        ends = history.ends()
        for page in history.read({}, ends):
            for batch in page.batches:
                self.system.put(batch)
        self.kafka.groups[GROUP].committed.update(ends)


@pytest.fixture
def make_scenario() -> Callable[..., SinkScenario]:
    """Return a function that creates scenarios: ``make_scenario(**{"topics.regex": "o.*"})``."""
    return SinkScenario


@pytest.fixture
def scenario() -> SinkScenario:
    return SinkScenario()
