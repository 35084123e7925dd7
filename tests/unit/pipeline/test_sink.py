"""Every record before a committed position is in the sink, in the dead letter queue, or dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import DataError, TaskError
from headrace.metrics import TaskMetrics
from headrace.pipeline.sink import PutLimits
from headrace.pipeline.sink_metrics import SinkMetrics
from headrace.records import ConsumedBatch, Rejection, SinkBatch, TopicPartition
from headrace.testing.waiting import eventually
from tests.unit.examples import examples
from tests.unit.pipeline.scripted_sink import (
    AWAY,
    CheckedConsumer,
    OverlappingSinkTask,
    SequentialSinkTask,
    Sink,
    letters,
)


def test_records_are_written_and_their_offsets_committed(sink: Callable[..., Sink]) -> None:
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
    """Its put blocks beyond the stop timeout and returns when its successor has committed other offsets."""
    hanging, released = threading.Event(), threading.Event()

    class HangingTask(SequentialSinkTask):
        def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
            hanging.set()
            assert released.wait(30)
            return super().put(batches)

    made = sink(task=HangingTask)
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

    class HangingTask(SequentialSinkTask):
        def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
            puts.append(sum(map(len, batches)))
            hanging.set()
            assert released.wait(30)
            return [Rejection(batch.topic_partition, batch.offsets[0], DataError("bad")) for batch in batches]

    made = sink(dlq=True, errors_tolerance="all", task=HangingTask, limits=PutLimits(records=1))
    made.send(range(3), keys=[b'"k"'] * 3)
    thread = made.harness.run(made.pipeline)
    assert hanging.wait(30)
    assert made.harness.fence.close()  # without a stop: only the fence prevents the commit
    released.set()
    thread.join(30)
    assert not thread.is_alive()
    assert puts == [1]
    assert letters(made.harness.broker) == []
    assert made.committed() == 0
    assert made.task.stopped == 1


@settings(max_examples=examples(0.3), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(["before", "after"]), max_size=4),
    st.lists(st.sampled_from(["commit", "poll", "down", "member", "pause"]), max_size=5),
    st.sets(st.integers(0, 59), max_size=3),
    st.sets(st.integers(0, 59), max_size=3),
)
def test_after_any_failures_no_record_is_lost(
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
    # A record may be written twice (a commit failed in between), but never not at all.
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


def test_the_status_shows_an_outage_and_the_consumer_stays_in_its_group(sink: Callable[..., Sink]) -> None:
    made = sink()
    made.store.faults = ["before"] * 5
    made.send(range(10))
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.committed() == 10)
    assert str(AWAY) in made.harness.reasons
    assert made.harness.reasons[-1] is None
    assert made.harness.metrics.values["total_retries"] == 5
    made.harness.end(thread)


def test_no_records_are_written_during_an_outage_and_all_of_them_after_it(sink: Callable[..., Sink]) -> None:
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


@pytest.mark.parametrize("sink", [OverlappingSinkTask], indirect=True)
def test_several_puts_run_at_once_and_are_finished_in_order(
    sink: Callable[..., Sink],
) -> None:
    made = sink(limits=PutLimits(records=5))
    made.send(range(100))
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.committed() == 100)
    made.harness.end(thread)
    assert made.store.most_begun == 3
    assert set(made.store.begun.values()) == {0}


def test_a_paused_sink_reads_no_records_and_keeps_its_partitions(sink: Callable[..., Sink]) -> None:
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


def test_a_stop_during_an_outage_is_prompt_and_commits_no_unwritten_records(sink: Callable[..., Sink]) -> None:
    made = sink()
    made.store.faults = ["before"] * 1_000_000
    made.send(range(10))
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.store.puts > 3)
    made.harness.end(thread)
    assert made.committed() == 0


def test_the_status_names_a_broker_that_does_not_respond_until_it_delivers_again(
    sink: Callable[..., Sink],
) -> None:
    said = "broker k:9092 does not answer"
    problems: list[str] = [said]

    class UnresponsiveConsumer(CheckedConsumer):
        def connection_problem(self) -> str | None:
            return problems[0] if problems else None

    made = sink(consumer=UnresponsiveConsumer)
    thread = made.harness.run(made.pipeline)
    eventually(lambda: f"waiting for Kafka: {said}" in made.harness.reasons)
    problems.clear()
    eventually(lambda: made.harness.reasons[-1] is None)
    made.send(range(10))
    eventually(lambda: made.committed() == 10)
    made.harness.end(thread)


def test_a_consumer_that_delivers_while_paused_stops_the_task(sink: Callable[..., Sink]) -> None:
    class UnpausableConsumer(CheckedConsumer):
        def pause_all(self) -> None:
            """Ignore the pause."""

    made = sink(consumer=UnpausableConsumer)
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


def test_the_status_names_an_unavailable_broker(sink: Callable[..., Sink]) -> None:
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
