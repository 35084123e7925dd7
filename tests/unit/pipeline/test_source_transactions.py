"""Exactly-once delivery: for all failures, what readers with read_committed see agrees with the stored positions."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.accounting import record_counts
from headrace.broker.in_memory import InMemoryKafka
from headrace.broker.interfaces import TransactionalProducer
from headrace.errors import DataError, InfrastructureError, RetriableError
from headrace.pipeline.dead_letters import DeadLetterQueue
from headrace.pipeline.refused_rows import SourceDeadLetters
from headrace.pipeline.source import SourcePipeline
from headrace.pipeline.source_transactions import Boundary, RestartingSource, TransactionalDelivery, TransactionFactory
from headrace.pipeline.transactions import TaskTransaction
from headrace.plugin import SourceContext, SourceTask, Wait
from headrace.records import SourceBatch, SourceOffset, SourcePartition, TopicPartition
from headrace.states import TaskId
from headrace.stores.offsets import offset_records
from headrace.testing.contexts import make_source_context
from headrace.testing.waiting import eventually
from tests.unit.examples import examples

ID = "g-rows-0"
PARTITION: SourcePartition = {"table": "rows"}


def visible(kafka: InMemoryKafka, topic: str) -> list[Any]:
    """Return the values that readers with read_committed see."""
    if topic not in kafka.topics():
        return []
    reader = kafka.reader({})
    (end,) = kafka.admin({}).end_offsets([topic]).values()
    reader.assign({TopicPartition(topic, 0): 0})
    found: list[Any] = []
    while reader.positions()[TopicPartition(topic, 0)] < end:
        for batch in reader.poll(0.1, 1000):
            found += [json.loads(value) for value in batch.values if value is not None]
    return found


class Rows(SourceTask):
    """``count`` rows in batches, from the stored position on. ``group``: so many rows have one position."""

    def __init__(self, count: int, batch: int, group: int, faults: set[int], bad: set[int]) -> None:
        self.count, self.batch, self.group, self.faults, self.bad = count, batch, group, faults, bad

    def start(self, context: SourceContext) -> None:
        (stored,) = context.offset_reader.offsets([PARTITION])
        self.next = 0 if stored is None else stored["n"]

    def poll(self) -> SourceBatch | Wait:
        if self.next in self.faults:
            self.faults.discard(self.next)
            raise RetriableError("the database is away")
        if self.next >= self.count:
            return Wait(0.01)
        first, self.next = self.next, min(self.next + self.batch, self.count)
        covered = self.next if self.next == self.count else self.next - self.next % self.group
        return SourceBatch(
            "rows",
            [{"n": "bad" if row in self.bad else row} for row in range(first, self.next)],
            source_partition=PARTITION,
            source_offset={"n": covered},
            unfinished=covered < self.next,
        )


class FaultyProducer:
    """Fails at the calls with these numbers, counted over all producers; a failed commit may have taken place."""

    def __init__(self, producer: Any, calls: Calls) -> None:
        self._producer = producer
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._producer, name)
        if name not in ("init", "begin", "send", "commit"):
            return method

        def call(*arguments: Any, **options: Any) -> Any:
            self._calls.made += 1
            error = self._calls.faults.get(self._calls.made)
            if error is not None and name != "commit":
                raise error
            answer = method(*arguments, **options)
            if error is not None:
                raise error
            return answer

        return call


@dataclass
class Calls:
    """The calls of producers that fail."""

    faults: Mapping[int, Exception] = field(default_factory=dict)
    made: int = 0


@dataclass
class Permit:
    """Records what is asked; refuses as often as it is told."""

    refusals: int = 0
    asked: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        self.asked.append("prepare")
        if self.refusals:
            self.refusals -= 1
            raise RetriableError("this worker does not own it")

    def confirm(self) -> None:
        self.asked.append("confirm")


@dataclass
class Positions:
    """The stored position, as a new task reads it."""

    kafka: InMemoryKafka

    def offsets(self, partitions: Iterable[SourcePartition]) -> list[SourceOffset | None]:
        del partitions
        return [next(reversed(visible(self.kafka, "positions")), None)]


@dataclass
class Source:
    harness: Any
    calls: Calls
    permit: Permit
    thread: Any

    @property
    def kafka(self) -> InMemoryKafka:
        kafka: InMemoryKafka = self.harness.broker
        return kafka

    def rows(self) -> list[Any]:
        return [value["n"] for value in visible(self.kafka, "rows")]

    def position(self) -> int:
        return next((int(value["n"]) for value in reversed(visible(self.kafka, "positions"))), 0)

    def finish(self, count: int) -> None:
        eventually(lambda: self.position() == count or not self.thread.is_alive())
        self.harness.end(self.thread)


Run = Callable[..., Source]


@pytest.fixture
def run(harness: Callable[[], Any]) -> Run:
    """Runs an exactly-once source."""

    def start(
        count: int = 20,
        batch: int = 3,
        group: int = 1,
        boundary: Boundary = Boundary.POLL,
        faults: Mapping[int, Exception] | None = None,
        poll_faults: Iterable[int] = (),
        bad: Iterable[int] = (),
        refusals: int = 0,
        **settings: str,
    ) -> Source:
        mine = harness()
        calls, permit = Calls(faults or {}), Permit(refusals)
        broken = set(poll_faults)

        def open_producer() -> TransactionalProducer:
            producer: Any = FaultyProducer(mine.broker.transactional_producer(ID, {}), calls)
            return producer  # type: ignore[no-any-return]

        def open_dead_letters(sender: TaskTransaction) -> SourceDeadLetters:
            queue = DeadLetterQueue(sender, "dlq", TaskId("rows", 0), mine.metrics, context_headers=True)
            return SourceDeadLetters(queue, TaskId("rows", 0))

        factory = TransactionFactory(
            open_producer,
            ID,
            permit,
            partial(offset_records, "positions", "rows"),
            lambda topic: None,
            1_000_000,
            boundary,
            0.02,
            open_dead_letters,
        )
        control = mine.control

        def make(committed: Callable[[], None]) -> SourcePipeline:
            task = Rows(count, batch, group, broken, set(bad))
            context = make_source_context({}, Positions(mine.broker))  # type: ignore[arg-type]
            delivery = partial(TransactionalDelivery, factory, committed)
            return SourcePipeline(task, context, mine.stages(**settings), delivery, control)

        return Source(mine, calls, permit, mine.run(RestartingSource(make, control)))

    return start


@pytest.mark.parametrize("boundary", list(Boundary))
def test_rows_and_positions_are_committed_together(run: Run, boundary: Boundary) -> None:
    made = run(boundary=boundary)
    made.finish(20)
    assert made.rows() == list(range(20))
    assert made.harness.error is None
    assert made.permit.asked == ["prepare", "confirm"]


def test_with_boundary_poll_each_batch_is_a_transaction(run: Run) -> None:
    made = run(count=9)
    made.finish(9)
    assert [value["n"] for value in visible(made.kafka, "positions")] == [3, 6, 9]


AWAY = RetriableError("the coordinator does not answer", code="kafka.unreachable")


@settings(max_examples=examples(4), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.sets(st.integers(1, 30), max_size=4),
    poll_faults=st.sets(st.integers(0, 20), max_size=3),
    group=st.integers(1, 4),
    batch=st.integers(1, 4),
    boundary=st.sampled_from(Boundary),
)
def test_no_row_is_lost_or_doubled_whichever_call_fails(
    run: Run, faults: set[int], poll_faults: set[int], group: int, batch: int, boundary: Boundary
) -> None:
    made = run(batch=batch, group=group, boundary=boundary, faults=dict.fromkeys(faults, AWAY), poll_faults=poll_faults)
    made.finish(20)
    assert made.rows() == list(range(20))
    counts = record_counts(made.harness.metrics.snapshot())
    lost_answers = counts["discarded"]  # a commit whose answer is lost is not counted as written
    assert counts["written"] <= 20 <= counts["written"] + lost_answers


def test_a_fenced_task_continues_at_the_stored_position(run: Run) -> None:
    made = run(count=3000, batch=1)
    eventually(lambda: made.position() > 0)
    rival = made.kafka.transactional_producer(ID, {})
    rival.init()
    eventually(lambda: len(made.permit.asked) == 4)
    made.finish(3000)
    assert made.rows() == list(range(3000))


def test_a_task_that_may_not_write_initialises_no_producer(run: Run) -> None:
    """It would fence the producer of the task that may."""
    made = run(refusals=3)
    made.finish(20)
    assert made.permit.asked == ["prepare"] * 4 + ["confirm"]
    assert made.rows() == list(range(20))


def test_refused_rows_are_in_the_dead_letter_queue_once_in_the_same_transaction(run: Run) -> None:
    made = run(count=9, bad={4}, faults={8: AWAY}, errors_tolerance="all")
    made.finish(9)
    assert made.rows() == [0, 1, 2, 3, 5, 6, 7, 8]
    (letter,) = visible(made.kafka, "dlq")
    assert letter["connector"] == "rows"


def test_a_row_that_is_not_tolerated_fails_the_task_after_its_letter_and_before_its_position(run: Run) -> None:
    made = run(count=9, bad={4})
    made.finish(9)
    assert "Tolerance exceeded" in made.harness.error.message
    assert made.position() == 3
    assert made.rows() == [0, 1, 2]
    assert len(visible(made.kafka, "dlq")) == 1


def test_a_record_that_kafka_refuses_fails_the_task(run: Run) -> None:
    made = run(faults={3: DataError("the record is too large for Kafka", code="data.record_too_large")})
    made.finish(20)
    assert made.harness.error.code == "data.record_too_large"
    assert "exactly-once delivery cannot leave it out" in made.harness.error.message
    assert made.rows() == []


def test_a_missing_acl_of_the_transactional_id_is_named(run: Run) -> None:
    refusal = InfrastructureError("not authorized (transactional.id)", code="kafka.not_authorized")
    made = run(faults={1: refusal})
    made.finish(20)
    assert f"cannot use the transactional.id {ID}" in made.harness.error.message
    assert f"--operation Write --transactional-id {ID}" in made.harness.error.hint


def test_what_is_uncommitted_when_a_task_stops_is_committed_or_not_visible(run: Run) -> None:
    made = run(count=1_000_000, batch=7, group=5, boundary=Boundary.INTERVAL)
    eventually(lambda: made.position() > 100)
    made.harness.end(made.thread)
    assert made.rows() == list(range(made.position()))


def test_an_abandoned_task_commits_nothing_more(run: Run) -> None:
    made = run(count=1_000_000, batch=2)
    eventually(lambda: made.position() > 10)
    while not made.harness.fence.close():
        time.sleep(0.001)
    position = made.position()
    made.thread.join(10)
    assert not made.thread.is_alive()
    assert made.position() == position
    assert made.rows() == list(range(position))


def test_a_paused_task_commits_what_it_has_sent(run: Run) -> None:
    made = run(count=1_000_000, batch=3, group=4, boundary=Boundary.POLL)
    eventually(lambda: made.position() > 10)
    made.harness.paused.set()
    eventually(lambda: record_counts(made.harness.metrics.snapshot())["in_flight"] == 0)
    assert made.rows() == list(range(made.position()))
