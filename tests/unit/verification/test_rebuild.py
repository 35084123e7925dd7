"""A rebuild against a system in memory: nothing is lost, whatever happens between its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from headrace import (
    DataError,
    Rebuild,
    Rebuilder,
    Rejection,
    RetriableError,
    SinkBatch,
    SinkTask,
    StoredEntry,
    TaskError,
    TopicPartition,
)
from headrace.errors import ConflictError
from headrace.verification import rebuild
from headrace.verification.rebuild import RebuildReport

TOPIC = "orders"
Documents = dict[bytes, tuple[int, bytes]]


class Crash(BaseException):
    """The process dies."""


class Writer(SinkTask):
    """Writes into a generation by external versions."""

    def __init__(self, documents: Documents, refuses: bytes | None = None) -> None:
        self.documents, self.refuses = documents, refuses
        self.fail: list[Exception] = []
        self.stopped = False

    def start(self, context: Any) -> None:
        raise NotImplementedError

    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        if self.fail:
            raise self.fail.pop()
        rejections = []
        for batch in batches:
            for key, value, offset in zip(batch.keys, batch.values, batch.offsets, strict=True):
                name, content = key.encode(), b"" if value is None else value.encode()
                if content == self.refuses:
                    error = DataError("does not fit", code="test.refused")
                    rejections.append(Rejection(batch.topic_partition, offset, error))
                elif self.documents.get(name, (-1, b""))[0] < offset:
                    self.documents[name] = (offset, content)
        return rejections

    def stop(self) -> None:
        self.stopped = True


class Generations(Rebuilder):
    """Two generations in memory. ``hooks`` are called by the names of methods before they do anything."""

    def __init__(self) -> None:
        self.present: Documents = {}
        self.new: Documents = {}
        self.kept: Mapping[TopicPartition, int] = {}
        self.written: Mapping[TopicPartition, int] = {}
        self.switched = self.finished = False
        self.hooks: dict[str, Callable[[], None]] = {}

    @property
    def live(self) -> Documents:
        return self.new if self.switched else self.present

    def _hook(self, name: str) -> None:
        if (hook := self.hooks.pop(name, None)) is not None:
            hook()

    def begin(self, topics: Sequence[str], *, back: bool) -> Rebuild:
        self._hook("begin")
        return Rebuild({topic: {} for topic in topics}, self.kept, self.switched)

    def keep(self, positions: Mapping[TopicPartition, int]) -> None:
        self.kept = dict(positions)
        self._hook("keep")

    def entries(self, *, new: bool) -> Iterator[Sequence[StoredEntry]]:
        self._hook("entries")
        for name, (version, value) in list((self.new if new else self.present).items()):
            if value:
                yield [StoredEntry(name, version, value)]

    def look(self, names: Sequence[bytes], *, new: bool) -> Mapping[bytes, StoredEntry]:
        documents = self.new if new else self.present
        return {name: StoredEntry(name, *documents[name]) for name in names if documents.get(name, (0, b""))[1]}

    def switch(self, written: Mapping[TopicPartition, int]) -> None:
        self._hook("switch")
        self.written = dict(written)
        self.switched = True
        self._hook("switched")

    def finish(self) -> None:
        self._hook("finish")
        self.finished = True

    def abandon(self, topics: Sequence[str]) -> Sequence[str]:
        raise NotImplementedError

    def tidy(self, topics: Sequence[str]) -> Sequence[str]:
        raise NotImplementedError

    def describe(self, topics: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Rebuilding:
    """A world whose sink writes to the live generation."""

    def __init__(self, world: Any) -> None:
        self.world, self.generations = world, Generations()
        self.writers: list[Writer] = []
        self.refuses: bytes | None = None
        self.failures: list[Exception] = []

    def live(self, *records: tuple[str, str | None]) -> None:
        """Produce, and let the sink write and commit."""
        self.world.produce(*records)
        history = self.world.history
        ends = history.ends()
        sink = Writer(self.generations.live)
        for portion in history.read({}, ends):
            sink.put(portion.batches)
        self.world.broker.groups["connect-search"].committed.update(ends)

    def run(self, **options: Any) -> RebuildReport:
        def open_writer(topic: str, properties: Mapping[str, str]) -> SinkTask:
            assert topic == TOPIC
            self.writers.append(Writer(self.generations.new, self.refuses))
            self.writers[-1].fail = self.failures
            return self.writers[-1]

        return rebuild(self.generations, self.world.history, open_writer, self.world.system.expected, **options)

    def values(self, documents: Documents) -> dict[bytes, bytes]:
        return {name: value for name, (_, value) in documents.items() if value}

    def said(self) -> dict[bytes, bytes]:
        """What the topic says."""
        everything: Documents = {}
        history = self.world.history
        for portion in history.read({}, history.ends()):
            Writer(everything).put(portion.batches)
        return self.values(everything)


@pytest.fixture
def rebuilding(world: Any) -> Rebuilding:
    made = Rebuilding(world)
    made.live(*((f"k{number}", str(number)) for number in range(40)), ("k3", None), ("k4", "new"))
    return made


def test_the_new_generation_says_what_the_topic_says(rebuilding: Rebuilding) -> None:
    report = rebuilding.run()

    assert rebuilding.generations.finished
    assert rebuilding.values(rebuilding.generations.new) == rebuilding.said()
    assert (report.records, report.refused, report.lost, report.resumed) == (42, 0, 0, False)
    assert all(writer.stopped for writer in rebuilding.writers)


@pytest.mark.parametrize("moment", ["begin", "entries", "keep", "switch", "switched", "finish"])
def test_records_that_come_at_any_moment_are_there(rebuilding: Rebuilding, moment: str) -> None:
    def more() -> None:
        rebuilding.live(("k5", f"at {moment}"), ("late", "1"), ("k6", None))

    rebuilding.generations.hooks[moment] = more
    rebuilding.run()

    assert rebuilding.values(rebuilding.generations.live) == rebuilding.said()


@pytest.mark.parametrize("moment", ["begin", "entries", "keep", "switch", "switched", "finish"])
def test_a_crash_at_any_moment_is_survived(rebuilding: Rebuilding, moment: str) -> None:
    def crash() -> None:
        raise Crash

    rebuilding.generations.hooks[moment] = crash
    with pytest.raises(Crash):
        rebuilding.run()
    assert all(writer.stopped for writer in rebuilding.writers)
    assert rebuilding.values(rebuilding.generations.present) == rebuilding.said()
    rebuilding.live(("after", "the crash"), ("k7", None))
    rebuilding.run()

    assert rebuilding.generations.finished
    assert rebuilding.values(rebuilding.generations.live) == rebuilding.said()


def test_it_goes_on_at_the_noted_positions(rebuilding: Rebuilding) -> None:
    rebuilding.generations.hooks["switch"] = lambda: (_ for _ in ()).throw(Crash)
    with pytest.raises(Crash):
        rebuilding.run()
    rebuilding.live(("one", "more"))
    report = rebuilding.run()

    assert (report.resumed, report.records) == (True, 1)


def test_the_way_back_begins_at_what_the_sink_had_committed(rebuilding: Rebuilding) -> None:
    committed = dict(rebuilding.world.broker.groups["connect-search"].committed)
    rebuilding.world.produce(("not", "written yet"))
    rebuilding.run()

    assert dict(rebuilding.generations.written) == committed


def test_a_document_without_record_stops_it_before_the_switch(rebuilding: Rebuilding) -> None:
    rebuilding.generations.present[b"old"] = (0, b"expired")
    with pytest.raises(ConflictError, match=r"1 documents would be lost.*old.*gone from the topic") as raised:
        rebuilding.run()

    assert raised.value.code == "reindex.would_lose"
    assert not rebuilding.generations.switched
    assert rebuilding.run(accept_lost=True).lost == 1
    assert rebuilding.generations.finished


def test_what_a_waiting_sink_has_not_deleted_yet_is_not_lost(rebuilding: Rebuilding) -> None:
    rebuilding.world.produce(("k8", None), ("k9", None), ("k9", "again"))
    rebuilding.generations.present[b"old"] = (0, b"expired")
    with pytest.raises(ConflictError, match="1 documents would be lost"):
        rebuilding.run()  # only what has no record at all

    del rebuilding.generations.present[b"old"]
    report = rebuilding.run()
    assert report.lost == 0
    assert rebuilding.values(rebuilding.generations.new) == rebuilding.said()


def test_a_deletion_before_a_refused_record_explains_nothing(rebuilding: Rebuilding) -> None:
    rebuilding.refuses = b"again"
    rebuilding.world.produce(("k9", None), ("k9", "again"))
    with pytest.raises(ConflictError, match=r"1 documents would be lost.*k9.*refused"):
        rebuilding.run()


def test_a_document_that_the_new_generation_refuses_stops_it(rebuilding: Rebuilding) -> None:
    rebuilding.refuses = b"17"
    with pytest.raises(ConflictError, match=r"k17.*1 records were refused: does not fit"):
        rebuilding.run()


def test_a_system_that_is_away_is_waited_for(rebuilding: Rebuilding) -> None:
    rebuilding.failures = [RetriableError("away", delay=0.0), RetriableError("away", delay=0.0)]
    said: list[str] = []
    rebuilding.run(progress=lambda step, done, whole: said.append(step))

    assert said.count("waiting: away") == 2
    assert rebuilding.values(rebuilding.generations.new) == rebuilding.said()


def test_records_that_a_transform_leads_elsewhere(rebuilding: Rebuilding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding.generations, "begin", lambda topics, back: Rebuild({}, {}, False))
    with pytest.raises(TaskError, match="none of the connector's topics"):
        rebuilding.run()
