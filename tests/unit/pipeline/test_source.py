"""The source pipeline stores no position before its records are in Kafka, and keeps their order, for all failures."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.accounting import balance, record_counts
from headrace.errors import DataError, HeadraceError, InfrastructureError, RetriableError, TaskError
from headrace.pipeline.source import SourcePipeline
from headrace.pipeline.source_delivery import AcknowledgedDelivery, ProducerFactory
from headrace.plugin import SourceContext, SourceTask, Wait
from headrace.records import EncodedBatch, SourceBatch, SourceOffset, SourcePartition, SourceRejection
from headrace.testing.contexts import make_source_context
from headrace.testing.waiting import eventually
from tests.unit.examples import examples

AWAY = RetriableError("away for a moment")


class Rows(SourceTask):
    """``count`` rows in batches, from the stored position on; fails at configured rows."""

    def __init__(self, count: int, batch: int = 3, partitions: int = 1, faults: Iterable[int] = ()) -> None:
        self.count, self.batch, self.partitions = count, batch, partitions
        self.faults = set(faults)
        self.polls = 0
        self.acked: list[SourceBatch] = []
        self.stopped = 0
        self.bad: set[int] = set()
        self.refused: set[int] = set()
        """Rows that the broker will refuse."""

    def start(self, context: SourceContext) -> None:
        wanted: list[SourcePartition] = [{"p": number} for number in range(self.partitions)]
        stored = context.offset_reader.offsets(wanted)
        self.next = [0 if offset is None else offset["n"] for offset in stored]

    def poll(self) -> SourceBatch | Wait:
        self.polls += 1
        if self.polls in self.faults:
            raise AWAY
        partition = min(range(self.partitions), key=lambda number: self.next[number])
        first = self.next[partition]
        if first >= self.count:
            return Wait(0.01)
        end = self.next[partition] = min(first + self.batch, self.count)
        rows = range(first, end)
        return SourceBatch(
            f"t{partition}",
            [{"n": row} if row not in self.bad else {"n": "bad", "row": row} for row in rows],
            keys=[partition] * len(rows),
            source_partition={"p": partition},
            source_offset={"n": end},
        )

    def acknowledged(self, batch: SourceBatch) -> None:
        self.acked.append(batch)

    def stop(self) -> None:
        self.stopped += 1


@dataclass
class Positions:
    """Stored positions; each is checked at the moment when it becomes durable."""

    check: Callable[[int, int], None]
    failing: int = 0
    stored: dict[int, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def set(self, changes: Iterable[tuple[SourcePartition, SourceOffset | None]]) -> None:
        if self.failing:
            self.failing -= 1
            raise RetriableError("disk full")
        with self.lock:
            for partition, offset in changes:
                assert offset is not None
                self.check(partition["p"], offset["n"])
                assert offset["n"] >= self.stored.get(partition["p"], 0), "a position went back"
                self.stored[partition["p"]] = offset["n"]

    def offsets(self, partitions: Iterable[SourcePartition]) -> list[SourceOffset | None]:
        return [{"n": self.stored[item["p"]]} if item["p"] in self.stored else None for item in partitions]


@dataclass
class Source:
    harness: Any
    task: Rows
    pipeline: SourcePipeline
    positions: Positions

    def rows(self, topic: str = "t0") -> list[Any]:
        return [json.loads(record.value)["n"] for record in self.harness.broker.records(topic)]


@pytest.fixture
def source(harness: Callable[[], Any]) -> Callable[..., Source]:
    """Makes a source pipeline; positions are checked against what the broker has."""

    def make(
        task: Rows,
        buffer: int = 1_000_000,
        positions: Positions | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        flush_timeout: float = 5.0,
        **settings: str,
    ) -> Source:
        mine = harness()
        mine.flush_timeout = flush_timeout

        def check(partition: int, offset: int) -> None:
            there = {json.loads(record.value).get("n") for record in mine.broker.records(f"t{partition}")}
            missing = set(range(offset)) - there - task.bad - task.refused
            assert not missing, f"position {offset} of {partition} stored without {missing}"

        kept = positions or Positions(check)
        kept.check = check
        factory = ProducerFactory(lambda: mine.broker.producer({}), lambda topic: None, buffer)
        context = make_source_context({}, kept)  # type: ignore[arg-type]
        stages = mine.stages(**settings)
        delivery = partial(AcknowledgedDelivery, factory, kept)
        pipeline = SourcePipeline(task, context, stages, delivery, mine.control, monotonic=monotonic)
        return Source(mine, task, pipeline, kept)

    return make


def test_rows_are_sent_in_order_and_positions_stored_after_them(source: Callable[..., Source]) -> None:
    made = source(Rows(100))
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.positions.stored.get(0) == 100)
    made.harness.end(thread)
    assert made.rows() == list(range(100))
    assert sum(map(len, made.task.acked)) == 100
    assert made.task.stopped == 1
    values = made.harness.metrics.snapshot()
    assert values["source_record_poll_total"] == values["source_record_write_total"] == 100
    assert values["source_record_active_count"] == 0
    assert values["last_record_timestamp_ms"] > 0


def test_an_abandoned_task_stores_no_position(source: Callable[..., Source]) -> None:
    """Its successor may have stored later ones."""
    hangs, goes_on = threading.Event(), threading.Event()

    class HangingTask(Rows):
        def poll(self) -> SourceBatch | Wait:
            if self.polls == 1:
                hangs.set()
                goes_on.wait()
            return super().poll()

    made = source(HangingTask(100))
    made.harness.broker.hold_deliveries()
    thread = made.harness.run(made.pipeline)
    assert hangs.wait(20)
    made.harness.broker.release()
    eventually(lambda: len(made.rows()) == 3)
    made.harness.fence.close()
    made.harness.stop_event.set()
    goes_on.set()
    made.harness.end(thread)
    assert made.positions.stored == {}


def test_the_durations_of_polls_below_a_millisecond_add_up(source: Callable[..., Source]) -> None:
    ticks = itertools.count()
    made = source(Rows(100, batch=1), monotonic=lambda: next(ticks) * 0.0004)
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.harness.metrics.values["source_record_write_total"] == 100)
    made.harness.end(thread)
    assert made.harness.metrics.values["poll_batch_time_ms_total"] >= 40


def last_occurrences(rows: list[Any]) -> list[Any]:
    """Remove repeated values; keep the last of each."""
    return list(dict.fromkeys(reversed(rows)))[::-1]


FAULTS = st.sampled_from(["send", "send refused", "commit", "down", "hold"])


@settings(max_examples=examples(0.4), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.integers(1, 60),
    st.integers(1, 7),
    st.integers(1, 3),
    st.lists(FAULTS, max_size=6),
    st.sets(st.integers(1, 20), max_size=4),
    st.sampled_from([1, 100, 1_000_000]),
)
def test_after_any_failures_no_row_is_lost_and_the_order_is_kept(
    source: Callable[..., Source],
    count: int,
    batch: int,
    partitions: int,
    faults: list[str],
    polls: set[int],
    buffer: int,
) -> None:
    made = source(Rows(count, batch, partitions, polls), buffer)
    broker = made.harness.broker
    thread = made.harness.run(made.pipeline)
    for fault in faults:
        match fault:
            case "send":
                broker.fail_sends(AWAY, 2)
            case "commit":
                made.positions.failing += 1
            case "down":
                broker.down = True
                broker.down = False
            case "hold":
                broker.hold_deliveries()
                broker.release()
    eventually(lambda: [made.positions.stored.get(number) for number in range(partitions)] == [count] * partitions)
    made.harness.end(thread)
    assert made.harness.error is None
    for number in range(partitions):
        rows = made.rows(f"t{number}")
        # Batches after a failed one are sent again after it: repeats are allowed, an older row as the last one is not.
        assert last_occurrences(rows) == list(range(count))


def _has_read(made: Source, count: int) -> bool:
    return made.task.polls * 4 >= count or made.positions.stored.get(0, 0) >= count


def _has_stored(made: Source, count: int) -> bool:
    return made.positions.stored.get(0) == count


@settings(
    max_examples=examples(0.25), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=3), st.booleans())
def test_a_new_run_continues_at_the_stored_positions(
    source: Callable[..., Source], ends: list[int], hold: bool
) -> None:
    positions = None
    total = 50
    for end in [*ends, total]:
        made = source(Rows(total, 4), positions=positions, flush_timeout=0.05 if hold and end != total else 5.0)
        made.positions.check = lambda partition, offset: None
        before = made.positions.stored.get(0, 0)
        thread = made.harness.run(made.pipeline)
        eventually(partial(_has_read, made, end))
        if hold and end != total:
            made.harness.broker.hold_deliveries()
        if end == total:
            eventually(partial(_has_stored, made, total))
        made.harness.end(thread)
        rows = made.rows()
        assert rows[: len(set(rows))] == list(range(before, before + len(set(rows))))
        assert made.positions.stored.get(0, before) <= before + len(set(rows))
        positions = made.positions
    assert positions is not None
    assert positions.stored[0] == total


def hastened() -> float:
    """A clock that runs thirty times as fast."""
    return time.monotonic() * 30


def test_memory_is_bounded_while_the_broker_is_unavailable(source: Callable[..., Source]) -> None:
    one = EncodedBatch("t0", [b'{"n":1}'], [b"0"]).size()
    made = source(Rows(100_000, 10), buffer=100 * one, monotonic=hastened)
    made.harness.broker.hold_deliveries()
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.task.polls >= 9)
    # Reported after a tenth of a second without a response: time for a thousand rows.
    eventually(lambda: any("waiting for Kafka" in (reason or "") for reason in made.harness.reasons))
    polled = made.task.polls
    assert 90 <= polled * 10 <= 110
    made.harness.broker.release()
    eventually(lambda: made.task.polls > polled)
    made.harness.end(thread)


def test_the_status_names_an_unresponsive_broker_until_it_responds(source: Callable[..., Source]) -> None:
    made = source(Rows(3), monotonic=hastened)
    made.harness.broker.hold_deliveries()
    thread = made.harness.run(made.pipeline)
    eventually(lambda: any("waiting for Kafka" in (reason or "") for reason in made.harness.reasons))
    made.harness.broker.release()
    eventually(lambda: made.harness.reasons[-1] is None)
    made.harness.end(thread)


def test_a_pause_stops_polls_and_a_resume_continues_them(source: Callable[..., Source]) -> None:
    made = source(Rows(10_000, 1))
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.task.polls > 3)
    made.harness.paused.set()
    polls = made.task.polls + 1  # one may be running
    eventually(lambda: made.harness.metrics.values["source_record_active_count"] == 0)
    eventually(lambda: made.positions.stored.get(0) == len(made.rows()))
    assert made.task.polls <= polls
    made.harness.paused.clear()
    eventually(lambda: made.task.polls > polls + 5)
    made.harness.end(thread)


def test_a_bad_record_fails_the_task_and_names_the_key_to_change(source: Callable[..., Source]) -> None:
    task = Rows(10)
    task.bad = {4}
    made = source(task)
    thread = made.harness.run(made.pipeline)
    thread.join(20)
    assert isinstance(made.harness.error, TaskError)
    assert "VALUE_CONVERTER" in str(made.harness.error)
    assert "test.yaml:7:1" in str(made.harness.error)
    assert made.positions.stored.get(0, 0) <= 3
    assert task.stopped == 1


def test_tolerance_skips_only_the_bad_record(source: Callable[..., Source]) -> None:
    task = Rows(10)
    task.bad = {0, 4, 5, 9}
    made = source(task, errors_tolerance="all")
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.positions.stored.get(0) == 10)
    made.harness.end(thread)
    assert made.rows() == [1, 2, 3, 6, 7, 8]
    assert made.harness.metrics.values["total_records_skipped"] == 4


def test_a_record_that_the_broker_refuses_is_found_and_the_others_stay_in_order(source: Callable[..., Source]) -> None:
    made = source(Rows(12, 4), errors_tolerance="all")
    refused = DataError("too large")
    real = made.harness.broker.take

    def take(producer: Any, batch: Any) -> Any:
        if any(json.loads(value)["n"] == 6 for value in batch.values):
            raise refused
        return real(producer, batch)

    made.harness.broker.take = take
    made.task.refused = {6}
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.positions.stored.get(0) == 12)
    made.harness.end(thread)
    assert last_occurrences(made.rows()) == [row for row in range(12) if row != 6]


def test_an_infrastructure_error_fails_the_task(source: Callable[..., Source]) -> None:
    made = source(Rows(3))
    made.harness.broker.fail_sends(InfrastructureError("not authorised"))
    made.harness.run(made.pipeline).join(20)
    assert isinstance(made.harness.error, InfrastructureError)
    assert not made.positions.stored


def test_a_stop_while_the_broker_is_unavailable_is_prompt(source: Callable[..., Source]) -> None:
    made = source(Rows(3))
    made.harness.broker.down = True
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.harness.reasons)
    made.harness.end(thread)
    assert not made.harness.started.is_set()


class RejectingTask(Rows):
    """Rejects row 4 of each partition."""

    def poll(self) -> SourceBatch | Wait:
        batch = super().poll()
        if isinstance(batch, SourceBatch):
            places = [place for place, value in enumerate(batch.values) if value["n"] == 4]
            if places:
                batch.rejections = [SourceRejection("t0 id=4", DataError("the date is out of range", code="test.date"))]
                batch.values = [value for value in batch.values if value["n"] != 4]
                batch.keys = [0] * len(batch.values)
        return batch


@pytest.mark.parametrize("batch", [3, 1])  # 1: a batch of rejections alone
def test_a_row_that_the_task_rejects_is_skipped_and_counted_and_the_position_moves_past_it(
    source: Callable[..., Source], batch: int
) -> None:
    task = RejectingTask(10, batch)
    task.refused = {4}
    made = source(task, errors_tolerance="all")
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.positions.stored.get(0) == 10)
    made.harness.end(thread)
    assert made.rows() == [row for row in range(10) if row != 4]
    values = made.harness.metrics.snapshot()
    assert (values["total_record_errors"], values["total_records_skipped"]) == (1, 1)
    assert (values["source_record_poll_total"], values["source_record_write_total"]) == (10, 9)
    assert balance(record_counts(values)) == 0
    (cause,) = made.harness.metrics.causes.snapshot()
    assert (cause.outcome, cause.count) == ("skipped", 1)


def test_without_tolerance_a_rejected_row_fails_the_task_and_the_position_stays_before_its_batch(
    source: Callable[..., Source],
) -> None:
    made = source(RejectingTask(10))
    made.harness.run(made.pipeline).join(20)
    assert isinstance(made.harness.error, TaskError)
    assert made.harness.error.code == "test.date"
    assert "row t0 id=4" in str(made.harness.error)
    assert "the date is out of range" in str(made.harness.error)
    assert "test.yaml:7:1" in str(made.harness.error)
    assert made.positions.stored.get(0, 0) <= 3
    assert set(made.rows()) <= {0, 1, 2}


@pytest.mark.parametrize("error", [AWAY, TaskError("the ledger is full")])
def test_an_error_in_acknowledged_fails_the_task_after_the_position_is_stored(
    source: Callable[..., Source], error: HeadraceError
) -> None:
    class RefusingTask(Rows):
        def acknowledged(self, batch: SourceBatch) -> None:
            raise error

    made = source(RefusingTask(3))
    made.harness.run(made.pipeline).join(20)
    assert made.harness.error is error
    assert made.positions.stored == {0: 3}
    assert made.task.stopped == 1


def test_positions_that_cannot_be_stored_are_reported_until_they_are_stored(source: Callable[..., Source]) -> None:
    made = source(Rows(3))
    made.positions.failing = 3
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.positions.stored.get(0) == 3)
    eventually(lambda: made.harness.reasons[-1] is None)
    made.harness.end(thread)
    assert any("positions cannot be stored" in (reason or "") for reason in made.harness.reasons)
