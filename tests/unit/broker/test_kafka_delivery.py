"""Batches over kafka-python: its sender thread acknowledges records concurrently."""

from __future__ import annotations

from kafka.errors import KafkaError, MessageSizeTooLargeError, RequestTimedOutError
from kafka.producer.future import FutureProduceResult
from kafka.structs import TopicPartition

from headrace.broker.kafka_python.batch_sending import SentRecords
from headrace.broker.kafka_python.producer import KafkaPythonDelivery
from headrace.errors import DataError, RetriableError

PART_OF_A_BATCH = "Failed to append record because it was part of a batch which had one more more invalid records"


class AcknowledgedMeanwhile:
    """A batch's future that completes between the first and the second check."""

    exception = None
    value = (0, -1, None)

    def __init__(self) -> None:
        self.looks = 0

    @property
    def is_done(self) -> bool:
        self.looks += 1
        return self.looks > 1


class Batches:
    """Futures of kafka-python's batches, and a delivery of three records in each."""

    def __init__(self, count: int) -> None:
        self.futures = [FutureProduceResult(TopicPartition("t", number)) for number in range(count)]
        self.parts = [SentRecords(future, 2, 3) for future in self.futures]
        self.failures: list[None] = []
        self.delivery = KafkaPythonDelivery("t", self.parts, lambda: self.failures.append(None))

    def acknowledge(self, number: int) -> None:
        self.futures[number].success((100, -1, None))

    def refuse(self, number: int, *errors: Exception) -> None:
        """``errors``: of the records of the batch, in order."""
        self.futures[number].success((-1, -1, lambda index: errors[min(index, len(errors) - 1)]))


def test_a_batch_acknowledged_between_two_checks_is_done_and_not_failed() -> None:
    failures: list[None] = []
    parts = [SentRecords(AcknowledgedMeanwhile(), 0, 1)]
    delivery = KafkaPythonDelivery("t", parts, lambda: failures.append(None))

    delivery.done()
    assert delivery.done()
    assert not delivery.never_done
    assert failures == []


def test_a_delivery_is_done_when_all_of_its_batches_are_acknowledged() -> None:
    batches = Batches(2)
    batches.acknowledge(1)
    assert not batches.delivery.done()
    batches.acknowledge(0)
    assert batches.delivery.done()
    assert batches.delivery.error() is None
    assert batches.delivery.records == 6


def test_a_failure_is_reported_when_the_results_before_it_are_known() -> None:
    batches = Batches(2)
    batches.refuse(1, RequestTimedOutError())
    assert not batches.delivery.done()
    batches.acknowledge(0)
    assert batches.delivery.done()
    assert isinstance(batches.delivery.error(), RetriableError)
    assert batches.failures == [None]


def test_records_refused_because_of_another_delivery_are_marked_for_resending() -> None:
    batches = Batches(1)
    batches.refuse(0, MessageSizeTooLargeError(), KafkaError(PART_OF_A_BATCH))  # the delivery begins at record 2
    assert not batches.delivery.done()
    assert batches.delivery.never_done
    assert batches.failures == [None]


def test_the_record_that_the_broker_refuses_fails_its_delivery() -> None:
    future = FutureProduceResult(TopicPartition("t", 0))
    delivery = KafkaPythonDelivery("t", [SentRecords(future, 0, 3)], lambda: None)
    errors = [KafkaError(PART_OF_A_BATCH), MessageSizeTooLargeError("too large"), KafkaError(PART_OF_A_BATCH)]
    future.success((0, -1, lambda index: errors[index]))
    assert delivery.done()
    assert isinstance(delivery.error(), DataError)


def test_records_of_a_batch_that_kafka_python_splits_are_acknowledged_with_their_new_batches() -> None:
    batches = Batches(1)
    (part,) = batches.parts
    halves = [FutureProduceResult(TopicPartition("t", 0)) for _ in range(2)]
    for row, (half, index) in enumerate([(halves[0], 0), (halves[0], 1), (halves[1], 0)]):
        assert not part.done()
        part.move(row, half, index)
    halves[0].success((7, -1, None))
    assert not batches.delivery.done()
    halves[1].success((9, -1, None))
    assert batches.delivery.done()
    assert batches.delivery.error() is None
