"""Rate, lag, age of the newest record and dead letters of a task, from the counters of its loop."""

from headrace.metrics import RecordRate, TaskMetrics, now_ms
from headrace.pipeline.sink_metrics import SinkMetrics
from headrace.records import ConsumedBatch, TopicPartition
from headrace.runtime.progress import task_progress


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def consumed(first: int, last: int, end: int, timestamp: int = 1) -> ConsumedBatch:
    offsets = list(range(first, last + 1))
    count = len(offsets)
    place = TopicPartition("t", 0)
    return ConsumedBatch(place, offsets, [None] * count, [b"1"] * count, [timestamp] * count, [()] * count, end)


def test_the_rate_is_that_of_the_last_minute() -> None:
    clock = Clock()
    rate = RecordRate(clock)
    assert rate.per_second() == 0
    rate.note(100)
    rate.note(100)
    clock.now += 10
    assert rate.per_second() == 20  # of the time since it began
    clock.now += 40
    rate.note(400)
    clock.now += 5
    assert rate.per_second() == 600 / 55
    clock.now += 10
    assert rate.per_second() == 400 / 60
    clock.now += 3600
    assert rate.per_second() == 0
    rate.note(6)
    assert rate.per_second() == 0.1


def test_trial_10_a_sink_that_cannot_write_is_behind_from_its_first_poll() -> None:
    """Before, the lag was 0 until the first put was finished (finding 10 of the trials)."""
    values = TaskMetrics()
    metrics = SinkMetrics(values)
    metrics.consumed([consumed(0, 9, end=5000)])
    assert task_progress(values).lag == 5000
    metrics.consumed([consumed(10, 19, end=5000)])
    assert task_progress(values).lag == 5000, "nothing is written yet"
    metrics.durable([consumed(0, 19, end=5000)])
    assert task_progress(values).lag == 4980


def test_the_age_is_that_of_the_record_with_the_greatest_timestamp() -> None:
    values = TaskMetrics()
    assert task_progress(values).newest_record_age_ms is None
    now = now_ms()
    metrics = SinkMetrics(values)
    metrics.durable([consumed(0, 1, end=2, timestamp=now - 60_000)])
    metrics.durable([consumed(2, 2, end=3, timestamp=now - 3_600_000)])  # another partition, far behind
    age = task_progress(values).newest_record_age_ms
    assert age is not None
    assert 60_000 <= age < 120_000


def test_dead_letters_that_kafka_refused_are_not_counted() -> None:
    values = TaskMetrics()
    values.add("deadletterqueue_produce_requests", 5)
    values.add("deadletterqueue_produce_failures", 2)
    assert task_progress(values).dead_letters == 3
