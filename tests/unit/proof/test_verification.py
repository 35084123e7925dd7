"""Verification against a system in memory: it finds exactly what differs, and repair makes it equal."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import DataError, Entry, Rejection, SinkBatch, TopicPartition, Verifier
from headrace.broker.in_memory import InMemoryBroker
from headrace.builtin.converters.string import StringConverter
from headrace.errors import ConflictError, NotFoundError
from headrace.metrics import TaskMetrics
from headrace.pipeline.fault_policy import FaultPolicy
from headrace.pipeline.stages import Stages
from headrace.proof import History, spill, verify
from headrace.records import EncodedBatch
from headrace.settings import SinkSettings

TOPIC, GROUP = "orders", "connect-search"


class System(Verifier):
    """Documents by key, each with the offset it was written from."""

    def __init__(self) -> None:
        self.documents: dict[bytes, tuple[int, bytes]] = {}
        self.before_look: Any = None
        self.writes = 0

    def put(self, batch: SinkBatch) -> None:
        for key, value, offset in zip(batch.keys, batch.values, batch.offsets, strict=True):
            if value is None:
                self.documents.pop(key.encode(), None)
            else:
                self.documents[key.encode()] = (offset, value.encode())

    def expected(self, batch: SinkBatch) -> Sequence[Entry | DataError | None]:
        def entry(key: str | None, value: str | None, offset: int) -> Entry | DataError | None:
            if key is None:
                return DataError("no key")
            return Entry(key.encode(), offset, (value or "").encode())

        return list(map(entry, batch.keys, batch.values, batch.offsets))

    def found(self) -> Iterator[Sequence[Entry]]:
        for name, (version, value) in list(self.documents.items()):
            yield [Entry(name, version, value)]

    def look(self, names: Sequence[bytes]) -> Mapping[bytes, Entry]:
        if self.before_look is not None:
            self.before_look()
        return {name: Entry(name, *self.documents[name]) for name in names if name in self.documents}

    def write(self, batch: SinkBatch, present: Sequence[Entry | None]) -> Sequence[Rejection]:
        self.writes += len(batch)
        assert [self.documents.get(key.encode()) for key in batch.keys] == [
            None if entry is None else (entry.version, entry.digest) for entry in present
        ]
        self.put(batch)
        return []

    def remove(self, surplus: Sequence[Entry]) -> None:
        for entry in surplus:
            del self.documents[entry.name]

    def close(self) -> None:
        pass


class World:
    """A topic with two partitions, a system that a sink has filled from it, and what a verification needs."""

    def __init__(self, **keys: str) -> None:
        self.broker, self.system = InMemoryBroker(), System()
        self.broker.create(TOPIC, 2)
        self.settings = SinkSettings.parse({"name": "search", "connector.class": "x", **(keys or {"topics": TOPIC})})
        log = structlog.stdlib.get_logger("test")
        policy = FaultPolicy(self.settings, lambda key: key, threading.Event(), log, TaskMetrics())
        converters = StringConverter(), StringConverter()
        for converter, is_key in zip(converters, (True, False), strict=True):
            converter.configure({}, is_key=is_key)
        self.stages = Stages(*converters, (), policy)
        self.producer = self.broker.producer({})

    @property
    def history(self) -> History:
        return History(self.broker.reader(), self.broker.admin({}), self.stages, self.settings, GROUP)

    def produce(self, *records: tuple[str | None, str | None]) -> None:
        keys = [None if key is None else key.encode() for key, _ in records]
        values = [None if value is None else value.encode() for _, value in records]
        self.producer.send(EncodedBatch(TOPIC, values, keys))

    def sink(self) -> None:
        """Write all records and commit."""
        history = self.history
        ends = history.ends()
        for portion in history.read({}, ends):
            for batch in portion.batches:
                self.system.put(batch)
        self.broker.groups[GROUP].committed.update(ends)


@pytest.fixture
def world() -> World:
    return World()


def test_equal(world: World) -> None:
    world.produce(("a", "1"), ("b", "1"), ("a", "2"), ("b", None), ("c", "3"))
    world.sink()
    report = verify(world.system, world.history)

    assert report.equal
    assert (report.records, report.names, report.found, report.behind) == (5, 3, 2, 0)


def test_each_kind_with_its_place(world: World) -> None:
    world.produce(("a", "1"), ("b", "1"), ("c", "1"), ("c", None), ("d", "1"))
    world.sink()
    world.system.documents[b"b"] = (1, b"tampered")
    del world.system.documents[b"a"]
    world.system.documents[b"c"] = (9, b"risen")
    world.system.documents[b"z"] = (0, b"nobody's")
    report = verify(world.system, world.history)

    assert {(item.kind, item.name) for item in report.samples} == {
        ("missing", b"a"), ("stale", b"b"), ("extra", b"c"), ("extra", b"z"),
    }  # fmt: skip
    assert report.counts == {"missing": 1, "stale": 1, "extra": 2}
    assert not report.equal
    missing = next(item for item in report.samples if item.kind == "missing")
    place, offset = missing.record or (None, 0)
    assert place is not None
    stored = world.broker.records(TOPIC)
    assert next(r for r in stored if (r.partition, r.offset) == (place.partition, offset)).key == b"a"


def test_repair_writes_only_what_differs(world: World) -> None:
    world.produce(*((f"k{number}", str(number)) for number in range(50)))
    world.sink()
    del world.system.documents[b"k7"]
    world.system.documents[b"k8"] = (0, b"tampered")
    world.system.documents[b"z"] = (0, b"nobody's")
    report = verify(world.system, world.history, repair=True)

    assert (report.differences, report.repaired, report.unrepaired) == (3, 3, 0)
    assert report.equal
    assert world.system.writes == 2
    assert verify(world.system, world.history).differences == 0


def test_what_the_sink_has_not_written_yet_is_not_missing(world: World) -> None:
    world.produce(("a", "1"))
    world.sink()
    world.produce(("a", "2"), ("b", "1"))
    report = verify(world.system, world.history)

    assert (report.differences, report.behind) == (0, 2)
    assert verify(world.system, world.history, to_end=True).counts == {"missing": 1, "stale": 1, "extra": 0}


def test_records_that_come_meanwhile_are_no_differences(world: World) -> None:
    world.produce(("a", "1"), ("b", "1"), ("c", "1"))
    world.sink()
    history = world.history
    world.produce(("a", "2"), ("b", None), ("d", "1"))
    until = world.broker.groups[GROUP].committed.copy()
    world.sink()
    world.broker.groups[GROUP].committed.update(until)  # written, not committed
    report = verify(world.system, history)

    assert report.differences == 0


def test_a_write_during_the_second_look(world: World) -> None:
    world.produce(("a", "1"))
    world.sink()
    del world.system.documents[b"a"]
    committed = world.broker.groups[GROUP].committed.copy()

    def write_on() -> None:
        world.produce(("a", "2"))
        world.sink()
        world.broker.groups[GROUP].committed.update(committed)

    world.system.before_look = write_on
    assert verify(world.system, world.history).differences == 0


def test_equal_content_under_a_version_above_the_record(world: World) -> None:
    world.produce(("a", "1"))
    world.sink()
    world.system.documents[b"a"] = (99, b"1")
    report = verify(world.system, world.history)

    assert (report.equal, report.ahead) == (True, 1)


def test_what_no_record_speaks_of_is_kept_when_retention_may_have_taken_the_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.produce(("a", "1"), ("b", None))
    world.sink()
    world.system.documents |= {b"z": (0, b"old"), b"b": (0, b"risen")}
    history = world.history
    monkeypatch.setattr(history.reader, "beginnings", lambda partitions: dict.fromkeys(partitions, 3))
    report = verify(world.system, history, repair=True)

    assert (report.expired, report.repaired, report.unrepaired) == (True, 1, 1)
    assert b"z" in world.system.documents
    assert b"b" not in world.system.documents  # a tombstone says so
    assert "retention" in report.unrepaired_reason


def test_records_that_cannot_be_written_are_counted(world: World) -> None:
    world.produce((None, "1"), ("a", "1"))
    world.system.documents[b"a"] = (0, b"1")
    report = verify(world.system, world.history, to_end=True)

    assert (report.equal, report.unusable, report.unusable_reason) == (True, 1, "no key")


def test_a_connector_that_never_wrote_proves_nothing(world: World) -> None:
    world.produce(("a", "1"))
    world.system.documents[b"a"] = (0, b"1")
    with pytest.raises(ConflictError, match="has not committed any position"):
        verify(world.system, world.history, repair=True)
    assert world.system.documents


def test_a_topic_that_is_not_there() -> None:
    with pytest.raises(NotFoundError, match="no topic is called nothing"):
        verify(System(), World(topics="nothing").history)


def test_topics_by_pattern() -> None:
    world = World(**{"topics.regex": "ord.*"})
    world.produce(("a", "1"))
    world.sink()

    assert verify(world.system, world.history).equal


KEYS = st.sampled_from([f"k{number}" for number in range(8)])
VALUES = st.one_of(st.none(), st.sampled_from("123"))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(KEYS, VALUES), max_size=40),
    st.lists(st.tuples(KEYS, VALUES), max_size=10),
    st.booleans(),
)
def test_it_finds_what_was_tampered_with_and_mends_it(
    records: list[tuple[str, str | None]], tampered: list[tuple[str, str | None]], to_disk: bool
) -> None:
    most, spill._MOST_IN_MEMORY = spill._MOST_IN_MEMORY, 3 if to_disk else 250_000
    try:
        world = World()
        world.produce(*records)
        world.sink()
        right = {name: value for name, (_, value) in world.system.documents.items()}
        for key, value in tampered:
            if value is None:
                world.system.documents.pop(key.encode(), None)
            else:
                world.system.documents[key.encode()] = (0, value.encode())
        wrong = {name: value for name, (_, value) in world.system.documents.items()}
        different = {name for name in {*right, *wrong} if right.get(name) != wrong.get(name)}
        report = verify(world.system, world.history, to_end=True, repair=True, samples=100)

        assert {item.name for item in report.samples} == different
        assert {name: value for name, (_, value) in world.system.documents.items()} == right
        assert report.equal
    finally:
        spill._MOST_IN_MEMORY = most


def test_positions_are_left_alone(world: World) -> None:
    world.produce(("a", "1"), ("b", "2"))
    world.sink()
    before = dict(world.broker.groups[GROUP].committed)
    verify(world.system, world.history)

    assert world.broker.groups[GROUP].committed == before
    assert set(world.broker.groups) == {GROUP}
    assert TopicPartition(TOPIC, 0) in before
