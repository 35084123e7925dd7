"""A rebuild with an in-memory system loses no document, for any event between its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from headrace.records import EncodedBatch
from headrace.verification import rebuild
from headrace.verification.rebuild import RebuildReport
from tests.unit.examples import examples

TOPIC = "orders"
ALL = 1_000
"""Records: more than any topic here has."""
Documents = dict[bytes, tuple[int, bytes]]
Record = tuple[str, str | None]
Write = tuple[int, bool]
"""How many records of each partition the sink writes, and whether it commits."""


class ProcessKilledError(BaseException):
    """Stands for a killed process."""


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


class InMemoryGenerations(Rebuilder):
    """Two generations in memory. ``hooks``, by method name, are called once, before the method does anything.

    The hook "looked up" is called after entries of the current generation were looked up. ``at_every_step`` is called
    before and after every method.
    """

    def __init__(self) -> None:
        self.present: Documents = {}
        self.new: Documents = {}
        self.saved: Mapping[TopicPartition, int] = {}
        self.written: Mapping[TopicPartition, int] = {}
        self.switched = self.finished = False
        self.writable = True  # has a writer for each topic
        self.unfit: str | None = None
        """A value that the new generation takes only after it was created again."""
        self.prepared: str | None = None
        self.does_not_fit: set[bytes] = set()
        """Names that cannot be copied."""
        self.hooks: dict[str, Callable[[], None]] = {}
        self.at_every_step: Callable[[], None] = lambda: None

    @property
    def live(self) -> Documents:
        return self.new if self.switched else self.present

    def _hook(self, name: str) -> None:
        if (hook := self.hooks.pop(name, None)) is not None:
            hook()
        self.at_every_step()

    def begin(self, topics: Sequence[str], *, rollback: bool) -> Rebuild:
        self._hook("begin")
        if self.unfit is not None and self.prepared is self.unfit:  # created again, with room for that record
            self.new, self.saved, self.unfit = {}, {}, None
        return Rebuild({topic: {} for topic in topics if self.writable}, self.saved, self.switched)

    def prepare(self, batches: Sequence[SinkBatch]) -> bool:
        fits = all(self.unfit is None or self.unfit not in batch.values for batch in batches)
        if not fits:
            self.prepared = self.unfit
        return fits

    def copy(self, names: Sequence[bytes]) -> Sequence[DataError]:
        for name in names:
            if name not in self.does_not_fit and self.present.get(name, (0, b""))[1]:
                self.new.setdefault(name, (-1, self.present[name][1]))
        return [DataError("does not fit", code="test.refused") for name in names if name in self.does_not_fit]

    def save_positions(self, positions: Mapping[TopicPartition, int]) -> None:
        self.saved = dict(positions)
        self._hook("save_positions")

    def entries(self, *, new: bool) -> Iterator[Sequence[StoredEntry]]:
        self._hook("entries")
        for name, (version, value) in list((self.new if new else self.present).items()):
            if value:
                yield [StoredEntry(name, version, value)]

    def lookup(self, names: Sequence[bytes], *, new: bool) -> Mapping[bytes, StoredEntry]:
        self._hook("lookup")
        documents = self.new if new else self.present
        found = {name: StoredEntry(name, *documents[name]) for name in names if documents.get(name, (0, b""))[1]}
        if not new:
            self._hook("looked up")
        return found

    def switch(self, written: Mapping[TopicPartition, int]) -> None:
        self._hook("switch")
        self.written = dict(written)
        self.switched = True
        self._hook("switched")

    def finish(self) -> None:
        self._hook("finish")
        self.finished = True

    def abort(self, topics: Sequence[str]) -> Sequence[str]:
        raise NotImplementedError

    def delete_previous_generations(self, topics: Sequence[str]) -> Sequence[str]:
        raise NotImplementedError

    def describe(self, topics: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Rebuilding:
    """A scenario whose sink writes to the current generation."""

    def __init__(self, scenario: Any) -> None:
        self.scenario, self.generations = scenario, InMemoryGenerations()
        self.writers: list[Writer] = []
        self.refuses: bytes | None = None
        self.failures: list[Exception] = []
        self.sink_positions: dict[TopicPartition, int] = {}

    def sink_writes(self, records: int, *, commit: bool) -> None:
        """Let the sink write at most ``records`` more records of each partition to the live generation."""
        history, sink = self.scenario.history, Writer(self.generations.live)
        for item, end in history.ends().items():
            until = min(end, self.sink_positions.get(item, 0) + records)
            for page in history.read({item: self.sink_positions.get(item, 0)}, {item: until}):
                sink.put(page.batches)
            self.sink_positions[item] = until
        if commit:
            self.scenario.kafka.groups["connect-search"].committed.update(self.sink_positions)

    def play(self, arrivals: Sequence[Sequence[Record]], writes: Mapping[int, Write]) -> None:
        """Let records arrive and the sink write at the rebuild's calls, which are counted from 0."""
        calls = count()

        def step() -> None:
            number = next(calls)
            if number < len(arrivals):
                self.scenario.produce(*arrivals[number])
            if number in writes:
                records, commit = writes[number]
                self.sink_writes(records, commit=commit)

        self.generations.at_every_step = step

    def live(self, *records: tuple[str, str | None]) -> None:
        """Produce, and let the sink write and commit."""
        self.scenario.produce(*records)
        self.sink_writes(ALL, commit=True)

    def run(self, **options: Any) -> RebuildReport:
        def open_writer(topic: str, properties: Mapping[str, str]) -> SinkTask:
            assert topic == TOPIC
            self.writers.append(Writer(self.generations.new, self.refuses))
            self.writers[-1].fail = self.failures
            return self.writers[-1]

        return rebuild(
            self.generations, self.scenario.history, open_writer, self.scenario.system.expected_entries, **options
        )

    def values(self, documents: Documents) -> dict[bytes, bytes]:
        return {name: value for name, (_, value) in documents.items() if value}

    def topic_values(self) -> dict[bytes, bytes]:
        """Return the last value of each key in the topic."""
        everything: Documents = {}
        history = self.scenario.history
        for page in history.read({}, history.ends()):
            Writer(everything).put(page.batches)
        return self.values(everything)


@pytest.fixture
def rebuilding(scenario: Any) -> Rebuilding:
    made = Rebuilding(scenario)
    made.live(*((f"k{number}", str(number)) for number in range(40)), ("k3", None), ("k4", "new"))
    return made


def test_the_new_generation_equals_the_topic(rebuilding: Rebuilding) -> None:
    report = rebuilding.run()

    assert rebuilding.generations.finished
    assert rebuilding.values(rebuilding.generations.new) == rebuilding.topic_values()
    assert (report.records, report.refused, report.lost, report.resumed) == (42, 0, 0, False)
    assert all(writer.stopped for writer in rebuilding.writers)


@pytest.mark.parametrize("moment", ["begin", "entries", "save_positions", "switch", "switched", "finish"])
def test_records_that_arrive_at_any_step_are_written(rebuilding: Rebuilding, moment: str) -> None:
    def more() -> None:
        rebuilding.live(("k5", f"at {moment}"), ("late", "1"), ("k6", None))

    rebuilding.generations.hooks[moment] = more
    rebuilding.run()

    assert rebuilding.values(rebuilding.generations.live) == rebuilding.topic_values()


def test_records_of_open_transactions_are_written_if_the_sink_reads_them(rebuilding: Rebuilding) -> None:
    rebuilding.scenario.isolation = "read_uncommitted"
    producer = rebuilding.scenario.kafka.transactional_producer("orders", {})
    producer.init()
    producer.begin()

    def more() -> None:
        producer.send(EncodedBatch(TOPIC, [b"1"], [b"open"]))
        rebuilding.sink_writes(ALL, commit=True)

    rebuilding.generations.hooks["switch"] = more
    rebuilding.run()

    assert rebuilding.values(rebuilding.generations.live) == rebuilding.topic_values()
    assert b"open" in rebuilding.topic_values()


@pytest.mark.parametrize("moment", ["begin", "entries", "save_positions", "switch", "switched", "finish"])
def test_a_rebuild_resumes_after_a_crash_at_any_step(rebuilding: Rebuilding, moment: str) -> None:
    def crash() -> None:
        raise ProcessKilledError

    rebuilding.generations.hooks[moment] = crash
    with pytest.raises(ProcessKilledError):
        rebuilding.run()
    assert all(writer.stopped for writer in rebuilding.writers)
    assert rebuilding.values(rebuilding.generations.present) == rebuilding.topic_values()
    rebuilding.live(("after", "the crash"), ("k7", None))
    rebuilding.run()

    assert rebuilding.generations.finished
    assert rebuilding.values(rebuilding.generations.live) == rebuilding.topic_values()


def test_a_rebuild_resumes_at_the_saved_positions(rebuilding: Rebuilding) -> None:
    rebuilding.generations.hooks["switch"] = lambda: (_ for _ in ()).throw(ProcessKilledError)
    with pytest.raises(ProcessKilledError):
        rebuilding.run()
    rebuilding.live(("one", "more"))
    report = rebuilding.run()

    assert (report.resumed, report.records) == (True, 1)


def test_a_rollback_starts_at_the_committed_offsets_of_the_sink(rebuilding: Rebuilding) -> None:
    committed = dict(rebuilding.scenario.kafka.groups["connect-search"].committed)
    rebuilding.scenario.produce(("not", "written yet"))
    rebuilding.run()

    assert dict(rebuilding.generations.written) == committed


def test_a_document_without_a_record_prevents_the_switch(rebuilding: Rebuilding) -> None:
    rebuilding.generations.present[b"old"] = (0, b"expired")
    with pytest.raises(ConflictError, match=r"1 documents would be lost.*old.*gone from the topic") as raised:
        rebuilding.run()

    assert raised.value.code == "reindex.would_lose"
    assert not rebuilding.generations.switched
    assert "--copy-lost" in raised.value.hint
    assert rebuilding.run(accept_lost=True).lost == 1
    assert rebuilding.generations.finished


def test_documents_without_records_are_copied_on_request(rebuilding: Rebuilding) -> None:
    rebuilding.generations.present[b"old"] = (7, b"expired")
    report = rebuilding.run(copy_lost=True)

    assert (report.copied, report.lost) == (1, 0)
    assert rebuilding.values(rebuilding.generations.live) == {**rebuilding.topic_values(), b"old": b"expired"}
    rebuilding.live(("old", "a new record"))
    assert rebuilding.generations.live[b"old"][1] == b"a new record"


def test_a_document_that_cannot_be_copied_prevents_the_switch(rebuilding: Rebuilding) -> None:
    rebuilding.generations.present |= {b"old": (7, b"expired"), b"older": (8, b"expired")}
    rebuilding.generations.does_not_fit = {b"older"}
    with pytest.raises(ConflictError, match=r"1 documents would be lost.*older.*1 records were refused: does not fit"):
        rebuilding.run(copy_lost=True)

    assert not rebuilding.generations.switched


@pytest.mark.parametrize("value", ["0", "39", "new"])
def test_operations_17_a_generation_that_cannot_take_all_records_is_created_again(
    rebuilding: Rebuilding, value: str
) -> None:
    rebuilding.generations.unfit = value
    report = rebuilding.run()

    assert rebuilding.generations.finished
    assert rebuilding.values(rebuilding.generations.new) == rebuilding.topic_values()
    assert report.records == 42
    assert all(writer.stopped for writer in rebuilding.writers)


def test_a_deletion_that_the_sink_has_not_written_yet_is_not_a_loss(rebuilding: Rebuilding) -> None:
    rebuilding.scenario.produce(("k8", None), ("k9", None), ("k9", "again"))
    rebuilding.generations.present[b"old"] = (0, b"expired")
    with pytest.raises(ConflictError, match="1 documents would be lost"):
        rebuilding.run()  # only what has no record at all

    del rebuilding.generations.present[b"old"]
    report = rebuilding.run()
    assert report.lost == 0
    assert rebuilding.values(rebuilding.generations.new) == rebuilding.topic_values()


def test_a_deletion_that_the_sink_writes_during_the_comparison_is_not_a_loss(rebuilding: Rebuilding) -> None:
    rebuilding.scenario.produce(("k8", None), ("k9", None))
    rebuilding.generations.hooks["looked up"] = lambda: rebuilding.sink_writes(ALL, commit=True)
    report = rebuilding.run()

    assert report.lost == 0
    assert rebuilding.values(rebuilding.generations.live) == rebuilding.topic_values()


def test_a_document_that_is_written_again_during_the_comparison_is_not_a_loss(rebuilding: Rebuilding) -> None:
    rebuilding.scenario.produce(("k8", None))
    rebuilding.generations.hooks["lookup"] = lambda: rebuilding.live(("k8", "again"))
    report = rebuilding.run()

    assert report.lost == 0
    assert rebuilding.values(rebuilding.generations.live) == rebuilding.topic_values()


KEYS = st.integers(0, 2).map(lambda number: f"k{number}")
RECORDS = st.lists(st.tuples(KEYS, st.none() | st.integers().map(str)), max_size=6)
OF_STEPS = settings(max_examples=examples(0.6), suppress_health_check=[HealthCheck.function_scoped_fixture])
ARRIVALS = st.lists(st.just([]) | RECORDS, max_size=10)
CATCH_UP = st.integers(0, 8).map(lambda call: {call: (ALL, True)})
PARTIAL_WRITES = st.dictionaries(st.integers(0, 8), st.tuples(st.just(1), st.booleans()), max_size=2)
WRITES = st.builds(lambda partial, catch_up: partial | catch_up, PARTIAL_WRITES, CATCH_UP)
"""The sink writes all records at one call, and perhaps a few at others."""


@OF_STEPS
@given(before=RECORDS, arrivals=ARRIVALS, writes=WRITES)
def test_no_document_is_reported_lost_while_all_records_exist_whenever_the_sink_writes(
    make_scenario: Callable[..., Any], before: list[Record], arrivals: list[list[Record]], writes: dict[int, Write]
) -> None:
    rebuilding = Rebuilding(make_scenario())
    rebuilding.live(("k0", "first"), ("k1", "first"), ("k2", "first"))
    rebuilding.scenario.produce(*before)
    rebuilding.play(arrivals, writes)
    report = rebuilding.run()
    rebuilding.sink_writes(ALL, commit=True)

    assert report.lost == 0
    assert rebuilding.values(rebuilding.generations.live) == rebuilding.topic_values()


@OF_STEPS
@given(before=RECORDS, arrivals=ARRIVALS, writes=WRITES)
def test_a_document_without_a_record_is_reported_whenever_the_sink_writes(
    make_scenario: Callable[..., Any], before: list[Record], arrivals: list[list[Record]], writes: dict[int, Write]
) -> None:
    rebuilding = Rebuilding(make_scenario())
    rebuilding.generations.present[b"old"] = (0, b"expired")
    rebuilding.scenario.produce(*before)
    rebuilding.play(arrivals, writes)
    with pytest.raises(ConflictError, match=r"^1 documents would be lost.*\(old\)"):
        rebuilding.run()


def test_a_deletion_before_a_refused_record_does_not_hide_the_loss(rebuilding: Rebuilding) -> None:
    rebuilding.refuses = b"again"
    rebuilding.scenario.produce(("k9", None), ("k9", "again"))
    with pytest.raises(ConflictError, match=r"1 documents would be lost.*k9.*refused"):
        rebuilding.run()


def test_a_document_that_the_new_generation_refuses_prevents_the_switch(rebuilding: Rebuilding) -> None:
    rebuilding.refuses = b"17"
    with pytest.raises(ConflictError, match=r"k17.*1 records were refused: does not fit"):
        rebuilding.run()


def test_writes_are_retried_while_the_system_is_unavailable(rebuilding: Rebuilding) -> None:
    rebuilding.failures = [RetriableError("away", delay=0.0), RetriableError("away", delay=0.0)]
    steps: list[str] = []
    rebuilding.run(progress=lambda step, done, whole: steps.append(step))

    assert steps.count("waiting: away") == 2
    assert rebuilding.values(rebuilding.generations.new) == rebuilding.topic_values()


def test_records_that_a_transform_sends_to_another_topic_are_refused(rebuilding: Rebuilding) -> None:
    rebuilding.generations.writable = False
    with pytest.raises(TaskError, match="not one of the connector's topics"):
        rebuilding.run()
