"""A sink pipeline collects records up to a number and a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence

from headrace.pipeline.sink import PutLimits
from headrace.plugin import Linger, PendingPut
from headrace.records import Rejection, SinkBatch, TopicPartition
from headrace.testing.waiting import eventually
from tests.unit.pipeline.scripted_sink import SequentialSinkTask, Sink


def test_records_linger_until_the_batch_is_full(sink: Callable[..., Sink]) -> None:
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


def test_records_linger_no_longer_than_linger_ms(sink: Callable[..., Sink]) -> None:
    made = sink()
    made.task.linger = Linger(0.05, 1_000_000, 0)
    thread = made.harness.run(made.pipeline)
    made.send(range(10))
    eventually(lambda: made.committed() == 10)
    made.harness.end(thread)


def test_lingering_records_are_put_before_a_pause_and_read_again_by_the_next_owner(sink: Callable[..., Sink]) -> None:
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


def test_polls_request_few_records_when_records_are_large(
    sink: Callable[..., Sink],
) -> None:
    sizes: list[int] = []

    class SizeRecordingTask(SequentialSinkTask):
        def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
            sizes.append(sum(map(len, batches)))
            return super().put(batches)

    made = sink(limits=PutLimits(size=1000), task=SizeRecordingTask)
    thread = made.harness.run(made.pipeline)
    made.send(["x" * 200] * 10)
    eventually(lambda: made.committed() == 10)
    sizes.clear()
    made.send(["x" * 200] * 100)
    eventually(lambda: made.committed() == 110)
    made.harness.end(thread)
    assert max(sizes) <= 5


def test_the_consumer_is_polled_again_when_the_oldest_put_is_done(
    sink: Callable[..., Sink],
) -> None:
    begun: list[SlowPut] = []

    class SlowPut(PendingPut):
        def __init__(self, batches: Sequence[SinkBatch]) -> None:
            self.batches, self.awaited, self.answered = batches, threading.Event(), threading.Event()
            begun.append(self)

        def finish(self) -> Sequence[Rejection]:
            self.awaited.set()
            assert self.answered.wait(30)
            return made.task.put(self.batches)

        def discard(self, partitions: Collection[TopicPartition]) -> None:
            self.batches = [batch for batch in self.batches if batch.topic_partition not in partitions]

    class SlowSinkTask(SequentialSinkTask):
        def begin(self, batches: Sequence[SinkBatch]) -> PendingPut:
            return SlowPut(batches)

    made = sink(limits=PutLimits(records=10), task=SlowSinkTask)
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
