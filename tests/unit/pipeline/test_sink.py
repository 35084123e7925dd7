"""The sink pipeline: what a committed position has behind it is in the sink, in the dead letter queue, or dropped."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.broker.in_memory import InMemoryConsumer
from headrace.errors import DataError, RetriableError, TaskError
from headrace.metrics import TaskMetrics
from headrace.pipeline.dead_letters import DeadLetterQueue
from headrace.pipeline.sink import ConsumerFactory, PutLimits, SinkPipeline
from headrace.pipeline.sink_metrics import SinkMetrics
from headrace.plugin import Linger, PendingPut, SinkContext, SinkTask
from headrace.records import ConsumedBatch, EncodedBatch, Rejection, SinkBatch, TopicPartition
from headrace.states import TaskId
from headrace.testing.contexts import make_sink_context
from headrace.testing.waiting import eventually

AWAY = RetriableError("Elasticsearch does not answer", code="test.away")


@dataclass
class Store:
    """The system behind one or more sink tasks."""

    rows: dict[tuple[TopicPartition, int], Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    rejected: set[Any] = field(default_factory=set)
    puts: int = 0
    begun: dict[int, int] = field(default_factory=dict)
    """Puts that are open, by task."""
    most_begun: int = 0


class Writing(SinkTask):
    def __init__(self, store: Store) -> None:
        self.store = store
        self.stopped = 0

    def start(self, context: SinkContext) -> None:
        self.context = context

    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        self.store.puts += 1
        fault = self.store.faults.pop(0) if self.store.faults else ""
        if fault == "before":
            raise AWAY
        rejections = []
        for batch in batches:
            for offset, value in zip(batch.offsets, batch.values, strict=True):
                if value in self.store.rejected:
                    rejections.append(Rejection(batch.topic_partition, offset, DataError(f"cannot index {value}")))
                else:
                    self.store.rows[batch.topic_partition, offset] = value
        if fault == "after":
            raise AWAY
        return rejections

    def stop(self) -> None:
        self.stopped += 1


class Beginning(Writing):
    """Half of the records are written when the put has begun, the others when it is finished."""

    def begin(self, batches: Sequence[SinkBatch]) -> PendingPut:
        if self.store.faults and self.store.faults[0] == "before":
            self.store.puts += 1
            self.store.faults.pop(0)
            raise AWAY
        self.store.most_begun = max(self.store.most_begun, self.store.begun.get(id(self), 0) + 1)
        self.store.begun[id(self)] = self.store.begun.get(id(self), 0) + 1
        return Begun(self, batches)


class Begun(PendingPut):
    def __init__(self, task: Beginning, batches: Sequence[SinkBatch]) -> None:
        self.task, self.batches = task, list(batches)
        self.rejections = list(Writing.put(task, self.batches[::2])) if not task.store.faults else None

    def finish(self) -> Sequence[Rejection]:
        if self.rejections is None:
            self.rejections = list(Writing.put(self.task, self.batches[::2]))
        rejections = [*self.rejections, *Writing.put(self.task, self.batches[1::2])]
        self.task.store.begun[id(self.task)] -= 1
        return rejections

    def discard(self, partitions: Collection[TopicPartition]) -> None:
        kept = [batch for batch in self.batches if batch.topic_partition not in partitions]
        if len(kept) < len(self.batches):
            self.batches, self.rejections = kept, None


class CheckedConsumer(InMemoryConsumer):
    """Checks every commit before it is stored."""

    def __init__(self, broker: Any, check: Callable[[Mapping[TopicPartition, int]], None]) -> None:
        super().__init__(broker, "connect-test", "earliest")
        self.check = check

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.check(offsets)
        super().commit(offsets)


@dataclass
class Sink:
    harness: Any
    store: Store
    task: Writing
    pipeline: SinkPipeline

    def send(self, values: Sequence[Any], topic: str = "t", keys: Sequence[bytes] | None = None) -> None:
        producer = self.harness.broker.producer({})
        encoded: list[bytes | None] = [json.dumps(value).encode() for value in values]
        producer.send(EncodedBatch(topic, encoded, list(keys) if keys else None))

    def committed(self) -> int:
        return sum(self.harness.broker.committed("connect-test").values())


@pytest.fixture(params=[Writing, Beginning], ids=["puts", "begins"])
def sink(harness: Callable[[], Any], request: pytest.FixtureRequest) -> Callable[..., Sink]:
    """Makes sink pipelines of one group; every commit is checked against the store and the dead letters."""

    def make(
        broker: Any = None,
        store: Store | None = None,
        dlq: bool = False,
        limits: PutLimits | None = None,
        consumer: type[CheckedConsumer] = CheckedConsumer,
        task: type[Writing] | None = None,
        **settings: str,
    ) -> Sink:
        mine = harness()
        mine.broker = broker or mine.broker
        mine.broker.create("t", 3)
        kept = store or Store()
        made_task = (task or request.param)(kept)

        def open_dead_letters() -> DeadLetterQueue:
            producer = mine.broker.producer({})
            return DeadLetterQueue(producer, "dlq", TaskId("test", 0), mine.metrics, context_headers=True)

        def check(offsets: Mapping[TopicPartition, int]) -> None:
            dead_lettered = {
                (TopicPartition(headers["topic"], int(headers["partition"])), int(headers["offset"]))
                for headers in letters(mine.broker)
            }
            for place, end in offsets.items():
                for offset in range(end):
                    safe = (place, offset) in kept.rows or (place, offset) in dead_lettered
                    assert safe, f"{place} committed to {end} without {offset}"

        open_dlq = open_dead_letters if dlq else None
        factory = ConsumerFactory(lambda: consumer(mine.broker, check), ["t"], None, open_dlq)
        context = make_sink_context({}, stop_event=mine.stop_event)
        pipeline = SinkPipeline(
            made_task, context, mine.stages(**settings), factory, mine.control, limits or PutLimits()
        )
        return Sink(mine, kept, made_task, pipeline)

    return make


def letters(broker: Any) -> list[dict[str, str]]:
    return [
        {name.removeprefix("__connect.errors."): value.decode() for name, value in record.headers}
        for record in broker.records("dlq")
    ]


def test_records_arrive_and_positions_follow(sink: Callable[..., Sink]) -> None:
    made = sink()
    made.send(range(1000))
    made.harness.metrics.values |= {"sink_record_lag": -1, "sink_record_age_ms": -1}
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.committed() == 1000)
    made.harness.end(thread)
    assert sorted(made.store.rows.values()) == list(range(1000))
    assert made.task.stopped == 1
    values = made.harness.metrics.snapshot()
    assert values["sink_record_read_total"] == values["sink_record_send_total"] == 1000
    assert values["sink_record_lag"] == 0
    assert values["sink_record_age_ms"] >= 0
    assert values["last_record_timestamp_ms"] > 0


def test_the_lag_does_not_count_partitions_that_were_revoked() -> None:
    values = TaskMetrics()
    metrics = SinkMetrics(values)
    places = [TopicPartition("t", number) for number in range(2)]
    metrics.durable([ConsumedBatch(place, [0], [None], [b"1"], [1], [()], end_offset=8) for place in places])
    assert values.values["sink_record_lag"] == 14
    metrics.revoked(places[:1])
    assert values.values["sink_record_lag"] == 7
    metrics.revoked(places[1:])
    assert values.values["sink_record_lag"] == 0


def test_an_abandoned_task_commits_nothing(sink: Callable[..., Sink]) -> None:
    """Its put hangs beyond the stop timeout and returns later: its successor has committed other positions by then."""
    hanging, released = threading.Event(), threading.Event()

    class Hanging(Writing):
        def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
            hanging.set()
            assert released.wait(30)
            return super().put(batches)

    made = sink(task=Hanging)
    made.send(range(10))
    thread = made.harness.run(made.pipeline)
    assert hanging.wait(30)
    made.harness.stop_event.set()
    assert made.harness.fence.close()
    released.set()
    made.harness.end(thread)
    assert made.committed() == 0


def test_an_abandoned_task_writes_no_dead_letters_and_begins_no_put(sink: Callable[..., Sink]) -> None:
    hanging, released = threading.Event(), threading.Event()
    puts: list[int] = []

    class Hanging(Writing):
        def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
            puts.append(sum(map(len, batches)))
            hanging.set()
            assert released.wait(30)
            return [Rejection(batch.topic_partition, batch.offsets[0], DataError("bad")) for batch in batches]

    made = sink(dlq=True, errors_tolerance="all", task=Hanging, limits=PutLimits(records=1))
    made.send(range(3), keys=[b'"k"'] * 3)
    thread = made.harness.run(made.pipeline)
    assert hanging.wait(30)
    assert made.harness.fence.close()  # without a stop: the fence alone must hold it back
    released.set()
    thread.join(30)
    assert not thread.is_alive()
    assert puts == [1]
    assert letters(made.harness.broker) == []
    assert made.committed() == 0
    assert made.task.stopped == 1


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(["before", "after"]), max_size=4),
    st.lists(st.sampled_from(["commit", "poll", "down", "member", "pause"]), max_size=5),
    st.sets(st.integers(0, 59), max_size=3),
    st.sets(st.integers(0, 59), max_size=3),
)
def test_whatever_fails_nothing_is_lost(
    sink: Callable[..., Sink], puts: list[str], faults: list[str], rejected: set[int], undecodable: set[int]
) -> None:
    made = sink(dlq=True, errors_tolerance="all")
    made.store.faults, made.store.rejected = puts, rejected
    threads = [(made, made.harness.run(made.pipeline))]
    broker = made.harness.broker
    for number, row in enumerate(range(60)):
        made.send(["bad" if row in undecodable else row])
        if number % 10 == 5 and faults:
            match faults.pop():
                case "commit":
                    broker.fail_commits(AWAY, 2)
                case "poll":
                    broker.fail_polls(AWAY)
                case "down":
                    broker.down = True
                    broker.down = False
                case "pause":
                    made.harness.paused.set()
                    made.harness.paused.clear()
                case "member" if len(threads) < 3:
                    other = sink(broker, made.store, dlq=True, errors_tolerance="all")
                    threads.append((other, other.harness.run(other.pipeline)))
    eventually(lambda: made.committed() == 60)
    for each, thread in threads:
        each.harness.end(thread)
        assert each.harness.error is None
    assert set(made.store.rows.values()) == set(range(60)) - rejected - undecodable
    stages = [letter["stage"] for letter in letters(broker)]
    # Twice is possible (a commit failed in between), never is not.
    assert stages.count("TASK_PUT") >= len(rejected - undecodable)
    assert stages.count("VALUE_CONVERTER") >= len(undecodable)


def test_a_dead_letter_is_the_original_with_connects_headers(sink: Callable[..., Sink]) -> None:
    made = sink(dlq=True, errors_tolerance="all")
    made.store.rejected = {5}
    made.send([1, 5, 2], keys=[b'"k"'] * 3)
    made.harness.broker.fail_sends(AWAY)
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.committed() == 3)
    made.harness.end(thread)
    assert made.harness.metrics.values["deadletterqueue_produce_requests"] == 2
    assert made.harness.metrics.values["deadletterqueue_produce_failures"] == 1
    (record,) = made.harness.broker.records("dlq")
    assert (record.key, record.value) == (b'"k"', b"5")
    (headers,) = letters(made.harness.broker)
    assert headers["topic"] == "t"
    assert headers["offset"] == "1"
    assert headers["connector.name"] == "test"
    assert headers["task.id"] == "0"
    assert headers["stage"] == "TASK_PUT"
    assert headers["class.name"].endswith(type(made.task).__name__)
    assert headers["exception.class.name"] == "headrace.errors.DataError"
    assert headers["exception.message"] == "cannot index 5"
    assert "DataError: cannot index 5" in headers["exception.stacktrace"]


def test_without_tolerance_the_task_fails_after_the_letter_is_written(sink: Callable[..., Sink]) -> None:
    made = sink(dlq=True)
    made.store.rejected = {5}
    made.send([1, 5, 2], keys=[b'"k"'] * 3)
    made.harness.run(made.pipeline).join(20)
    assert isinstance(made.harness.error, TaskError)
    assert "TASK_PUT" in str(made.harness.error)
    assert "offset 1" in str(made.harness.error)
    assert "test.yaml:7:1" in str(made.harness.error)
    assert made.committed() == 0
    assert made.task.stopped == 1


def test_an_outage_is_told_and_the_member_stays(sink: Callable[..., Sink]) -> None:
    made = sink()
    made.store.faults = ["before"] * 5
    made.send(range(10))
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.committed() == 10)
    assert str(AWAY) in made.harness.reasons
    assert made.harness.reasons[-1] is None
    assert made.harness.metrics.values["total_retries"] == 5
    made.harness.end(thread)


def test_nothing_is_delivered_during_an_outage_and_all_of_it_after(sink: Callable[..., Sink]) -> None:
    made = sink()
    made.store.faults = ["before"] * 1_000_000
    made.send(range(10))
    thread = made.harness.run(made.pipeline)
    eventually(lambda: str(AWAY) in made.harness.reasons)
    made.send(range(10, 20))
    tried = made.harness.metrics.values["total_retries"]
    eventually(lambda: made.harness.metrics.values["total_retries"] >= tried + 3)
    assert made.harness.metrics.values["sink_record_read_total"] == 10
    made.store.faults.clear()
    eventually(lambda: made.committed() == 20)
    made.harness.end(thread)


@pytest.mark.parametrize("sink", [Beginning], indirect=True)
def test_a_few_puts_are_under_way_at_once_and_end_in_order(
    sink: Callable[..., Sink],
) -> None:
    made = sink(limits=PutLimits(records=5))
    made.send(range(100))
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.committed() == 100)
    made.harness.end(thread)
    assert made.store.most_begun == 3
    assert set(made.store.begun.values()) == {0}


def test_few_records_wait_for_enough_others(sink: Callable[..., Sink]) -> None:
    made = sink()
    made.task.linger = Linger(600, 10, 0)  # longer than this test takes
    thread = made.harness.run(made.pipeline)
    eventually(made.harness.started.is_set)
    for number in range(9):
        made.send([number])
    eventually(lambda: made.harness.broker.read_to("connect-test") == 9)
    assert (made.committed(), made.store.puts) == (0, 0)
    made.send([9])
    eventually(lambda: made.committed() == 10)
    made.harness.end(thread)


def test_records_wait_no_longer_than_they_are_told_to(sink: Callable[..., Sink]) -> None:
    made = sink()
    made.task.linger = Linger(0.05, 1_000_000, 0)
    thread = made.harness.run(made.pipeline)
    made.send(range(10))
    eventually(lambda: made.committed() == 10)
    made.harness.end(thread)


def test_what_waits_is_put_before_a_pause_and_read_again_by_others(sink: Callable[..., Sink]) -> None:
    made = sink()
    made.task.linger = Linger(600, 1_000_000, 0)
    made.send(range(10))
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.harness.broker.read_to("connect-test") == 10)
    assert made.store.puts == 0
    made.harness.paused.set()
    eventually(lambda: made.committed() == 10)
    made.harness.paused.clear()
    made.send(range(10, 40))
    eventually(lambda: made.harness.broker.read_to("connect-test") == 40)
    made.harness.end(thread)
    assert made.committed() == 10
    other = sink(made.harness.broker, made.store)
    second = other.harness.run(other.pipeline)
    eventually(lambda: other.committed() == 40)
    other.harness.end(second)


def test_few_records_are_asked_for_when_they_are_large(
    sink: Callable[..., Sink],
) -> None:
    sizes: list[int] = []

    class Watched(Writing):
        def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
            sizes.append(sum(map(len, batches)))
            return super().put(batches)

    made = sink(limits=PutLimits(size=1000), task=Watched)
    thread = made.harness.run(made.pipeline)
    made.send(["x" * 200] * 10)
    eventually(lambda: made.committed() == 10)
    sizes.clear()
    made.send(["x" * 200] * 100)
    eventually(lambda: made.committed() == 110)
    made.harness.end(thread)
    assert max(sizes) <= 5


def test_there_is_another_look_for_records_when_the_oldest_put_is_done(
    sink: Callable[..., Sink],
) -> None:
    begun: list[Slow] = []

    class Slow(PendingPut):
        def __init__(self, batches: Sequence[SinkBatch]) -> None:
            self.batches, self.awaited, self.answered = batches, threading.Event(), threading.Event()
            begun.append(self)

        def finish(self) -> Sequence[Rejection]:
            self.awaited.set()
            assert self.answered.wait(30)
            return made.task.put(self.batches)

        def discard(self, partitions: Collection[TopicPartition]) -> None:
            self.batches = [batch for batch in self.batches if batch.topic_partition not in partitions]

    class Slowly(Writing):
        def begin(self, batches: Sequence[SinkBatch]) -> PendingPut:
            return Slow(batches)

    made = sink(limits=PutLimits(records=10), task=Slowly)
    made.send(range(20))
    thread = made.harness.run(made.pipeline)
    eventually(lambda: len(begun) == 2)
    eventually(begun[0].awaited.is_set)
    made.send(range(20, 25))
    begun[0].answered.set()
    eventually(lambda: len(begun) == 3)  # the second is open
    for put in begun[1:]:
        put.answered.set()
    eventually(lambda: made.committed() == 25)
    made.harness.end(thread)


def test_a_pause_reads_nothing_and_keeps_the_partitions(sink: Callable[..., Sink]) -> None:
    made = sink()
    made.harness.paused.set()
    thread = made.harness.run(made.pipeline)
    eventually(made.harness.started.is_set)
    made.send(range(10))
    other = sink(made.harness.broker, made.store)
    other.harness.paused.set()
    second = other.harness.run(other.pipeline)
    eventually(lambda: len(set(map(id, made.harness.broker.groups["connect-test"].owners.values()))) == 2)
    assert made.store.puts == 0
    made.harness.paused.clear()
    other.harness.paused.clear()
    eventually(lambda: made.committed() == 10)
    made.harness.end(thread)
    other.harness.end(second)


def test_stopping_during_an_outage_is_prompt_and_commits_nothing_of_it(sink: Callable[..., Sink]) -> None:
    made = sink()
    made.store.faults = ["before"] * 1_000_000
    made.send(range(10))
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.store.puts > 3)
    made.harness.end(thread)
    assert made.committed() == 0


def test_a_silent_broker_is_told_until_it_delivers_again(
    sink: Callable[..., Sink],
) -> None:
    said = "broker k:9092 does not answer"
    problems: list[str] = [said]

    class Silent(CheckedConsumer):
        def connection_problem(self) -> str | None:
            return problems[0] if problems else None

    made = sink(consumer=Silent)
    thread = made.harness.run(made.pipeline)
    eventually(lambda: f"waiting for Kafka: {said}" in made.harness.reasons)
    problems.clear()
    eventually(lambda: made.harness.reasons[-1] is None)
    made.send(range(10))
    eventually(lambda: made.committed() == 10)
    made.harness.end(thread)


def test_a_consumer_that_delivers_while_paused_stops_the_task(
    sink: Callable[..., Sink], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sink()
    monkeypatch.setattr(InMemoryConsumer, "pause_all", lambda self: None)
    made.store.faults = ["before"] * 1_000_000
    made.send(range(10))
    raised: list[BaseException] = []

    def run() -> None:
        try:
            made.pipeline.run()
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="pipeline")
    thread.start()
    eventually(lambda: made.store.puts > 1)
    while thread.is_alive():
        made.send([1], keys=[b'"x"'])
        thread.join(0.01)
    assert "paused" in str(raised[0])


def test_a_broker_that_is_away_is_told(sink: Callable[..., Sink]) -> None:
    made = sink()
    made.send([1])
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.store.rows)
    made.harness.broker.down = True
    eventually(lambda: any("waiting for Kafka: " in (reason or "") for reason in made.harness.reasons))
    made.harness.broker.down = False
    eventually(lambda: made.harness.reasons[-1] is None)
    made.send([2])
    eventually(lambda: 2 in made.store.rows.values())
    made.harness.end(thread)
