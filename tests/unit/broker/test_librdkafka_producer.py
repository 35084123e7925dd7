"""Batches over librdkafka: records are reported as acknowledged only if they are, for every order of responses."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from hypothesis import given
from hypothesis import strategies as st

from headrace.broker.librdkafka.broker_monitor import BrokerMonitor
from headrace.broker.librdkafka.producer import LibrdkafkaDelivery, LibrdkafkaProducer
from headrace.errors import DataError, InfrastructureError, RetriableError
from headrace.records import EncodedBatch
from headrace.testing.waiting import eventually
from tests.unit.examples import packed


class SentRecord(NamedTuple):
    value: bytes
    key: bytes
    report: Callable[[KafkaError | None, Any], None]


class FakeProducer:
    """librdkafka as its documentation has it: queues per partition, requests that succeed or fail as a whole, a count
    of what is not reported yet, and calls for failures only. ``choose(n)`` decides everything: 0 ≤ choice < n."""

    def __init__(self, log: list[tuple[bytes, bytes]], choose: Callable[[int], int]) -> None:
        self.log, self.choose = log, choose
        self.queues: list[deque[SentRecord]] = [deque() for _ in range(3)]
        self.fatal: KafkaError | None = None
        self.outages = 2

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, report: Any, *_: Any) -> None:
        self.queues[key[0] % 3].append(SentRecord(value, key, report))

    def __len__(self) -> int:
        return sum(map(len, self.queues))

    def poll(self, timeout: float) -> int:
        if self.fatal is not None:
            raise KafkaException(self.fatal)
        queue = self.queues[self.choose(3)]
        if queue:
            self._answer(queue, 1 + self.choose(len(queue)))
        return 0

    def flush(self, timeout: float) -> int:
        while len(self):
            self.poll(0)
        return 0

    def purge(self) -> None:
        for queue in self.queues:
            self.report_all(queue, len(queue), KafkaError._PURGE_QUEUE)

    def close(self) -> bool:
        return True

    def _answer(self, queue: deque[SentRecord], count: int) -> None:
        request = [queue[place] for place in range(count)]
        if any(sent.value.startswith(b"bad") for sent in request):
            self.report_all(queue, count, KafkaError.MSG_SIZE_TOO_LARGE)
            return
        outage = self.outages and self.choose(8) == 0
        if not outage or self.choose(2):
            self.log.extend((sent.key, sent.value) for sent in request)
        if outage:
            self.outages -= 1
            self.report_all(queue, count, KafkaError._MSG_TIMED_OUT)
            return
        for _ in range(count):
            queue.popleft()

    @staticmethod
    def report_all(queue: deque[SentRecord], count: int, code: int) -> None:
        for _ in range(count):
            queue[0].report(KafkaError(code), None)
            queue.popleft()


def producer_over(fake: FakeProducer) -> LibrdkafkaProducer:
    return LibrdkafkaProducer(lambda: (cast(Producer, fake), BrokerMonitor()))


class Source:
    """What the source pipeline does: on a failure it sends everything that is not settled again, in order; of a batch
    that is refused a record at a time, and a single record that is refused is given up."""

    def __init__(self, log: list[tuple[bytes, bytes]], choose: Callable[[int], int]) -> None:
        self.log, self.choose = log, choose
        self.producer = self.make()
        self.sent: list[tuple[EncodedBatch, LibrdkafkaDelivery | DataError]] = []
        self.refused: list[bytes] = []

    def make(self) -> LibrdkafkaProducer:
        return producer_over(FakeProducer(self.log, self.choose))

    def send(self, batch: EncodedBatch) -> None:
        self.sent.append((batch, self.producer.send(batch)))

    def settle(self) -> None:
        for place, (batch, delivery) in enumerate(self.sent):
            assert isinstance(delivery, LibrdkafkaDelivery)
            if not delivery.done():
                continue
            error = delivery.error()
            if error is not None:
                self._recover(place, error)
                return
            for value, key in zip(batch.values, batch.keys or [], strict=True):
                assert (key, value) in self.log, "called acknowledged, and is not in the log"
        while self.sent and cast(LibrdkafkaDelivery, self.sent[0][1]).done():
            if cast(LibrdkafkaDelivery, self.sent[0][1]).error() is not None:
                return
            self.sent.pop(0)

    def _recover(self, place: int, error: Exception) -> None:
        batches = [batch for batch, _ in self.sent]
        if isinstance(error, DataError):
            bad = batches[place]
            if len(bad) == 1:
                self.refused.append(cast(bytes, bad.values[0]))
                batches[place : place + 1] = []
            else:
                assert bad.keys is not None
                batches[place : place + 1] = [
                    EncodedBatch("t", [value], [key]) for value, key in zip(bad.values, bad.keys, strict=True)
                ]
        else:
            assert isinstance(error, RetriableError)
            self.producer.close(0)
            self.producer = self.make()
        self.sent = []
        for batch in batches:
            self.send(batch)


RECORDS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=5)
"""Key and kind of each; kind 0 is refused."""


BATCHES = st.lists(st.lists(packed(range(5), range(10)), min_size=1, max_size=5), max_size=8)
"""As ``RECORDS``, each batch."""


@given(BATCHES, st.integers(0, 2**64))
def test_no_record_is_lost_and_the_last_record_of_each_key_stays_last(
    batches: list[list[tuple[int, int]]], seed: int
) -> None:
    """For any order of responses, size of requests, refusal of a whole request, and lost response."""
    log: list[tuple[bytes, bytes]] = []
    source = Source(log, Random(seed).randrange)  # a draw of Hypothesis for each number takes most of the CPU time
    written: dict[bytes, bytes] = {}
    good: set[tuple[bytes, bytes]] = set()
    bad: set[bytes] = set()
    number = 0
    for records in batches:
        values: list[bytes | None] = []
        keys: list[bytes | None] = []
        for key_number, kind in records:
            number += 1
            key, value = bytes([key_number]), b"%s-%d" % (b"bad" if kind == 0 else b"good", number)
            keys.append(key)
            values.append(value)
            if kind == 0:
                bad.add(value)
            else:
                good.add((key, value))
                written[key] = value
        source.send(EncodedBatch("t", values, keys))
        source.settle()
    for _ in range(3_000):
        if not source.sent:
            break
        source.settle()
    assert source.sent == [], "never done"
    assert good <= set(log)
    assert set(source.refused) == bad
    assert len(source.refused) == len(bad)
    assert dict(log) == written  # later entries win


def without_outage(count: int) -> int:
    """Choose requests of one record, partition 0 first, without an outage."""
    return 1 if count == 8 else 0


class TestWindows:
    def test_waiting_records_are_settled_after_earlier_ones(self) -> None:
        fake = FakeProducer([], without_outage)
        producer = producer_over(fake)
        first = producer.send(EncodedBatch("t", [b"1", b"2"], [b"\0", b"\0"]))
        second = producer.send(EncodedBatch("t", [b"3"], [b"\0"]))
        assert len(fake) == 1  # the second send processed a response of the first
        assert not second.done()
        assert first.done()
        assert len(fake) == 1  # the second is on its way
        assert not second.settled
        assert second.done()

    def test_a_fatal_error_fails_records_in_flight_and_the_next_send_uses_a_new_client(self) -> None:
        fakes = [FakeProducer([], without_outage), FakeProducer([], without_outage)]
        left = iter(fakes)
        producer = LibrdkafkaProducer(lambda: (cast(Producer, next(left)), BrokerMonitor()))
        delivery = producer.send(EncodedBatch("t", [b"1"], [b"\0"]))
        fakes[0].fatal = KafkaError(KafkaError._FATAL, "sequence lost", fatal=True)
        assert delivery.done()
        assert isinstance(delivery.error(), RetriableError)
        fakes[0].fatal = None
        again = producer.send(EncodedBatch("t", [b"1"], [b"\0"]))
        assert again.done()
        assert again.error() is None
        assert fakes[1].log == [(b"\0", b"1")]

    def test_a_missing_acl_is_an_infrastructure_error(self) -> None:
        fake = FakeProducer([], without_outage)
        producer = producer_over(fake)
        delivery = producer.send(EncodedBatch("t", [b"1"], [b"\0"]))
        fake.report_all(fake.queues[0], 1, KafkaError.TOPIC_AUTHORIZATION_FAILED)
        assert delivery.done()
        error = delivery.error()
        assert isinstance(error, InfrastructureError)
        assert error.code == "kafka.not_authorized"

    def test_a_full_buffer_fails_the_batch(self) -> None:
        class FullProducer(FakeProducer):
            def produce(self, *arguments: Any) -> None:
                if len(self) == 1:
                    raise BufferError("Local: Queue full")
                super().produce(*arguments)

        producer = producer_over(FullProducer([], without_outage))
        with pytest.raises(RetriableError) as caught:
            producer.send(EncodedBatch("t", [b"1", b"2"], [b"\0", b"\0"]))
        assert caught.value.code == "kafka.buffer_full"

    def test_an_abandoned_producer_sends_neither_in_flight_nor_waiting_records(self) -> None:
        log: list[tuple[bytes, bytes]] = []

        class SlowPurgeProducer(FakeProducer):
            """Discards records when it is polled after a purge, as librdkafka's threads do."""

            purged = False

            def purge(self) -> None:
                self.purged = True

            def poll(self, timeout: float) -> int:
                if self.purged:
                    super().purge()
                return 0

        fake = SlowPurgeProducer(log, without_outage)
        producer = producer_over(fake)
        deliveries = [producer.send(EncodedBatch("t", [b"%d" % n], [b"\0"])) for n in range(2)]
        assert len(fake) == 1  # the second batch waits for the first window

        eventually(producer.abandon)
        assert all(delivery.done() for delivery in deliveries)
        assert all(isinstance(delivery.error(), RetriableError) for delivery in deliveries)
        with pytest.raises(RetriableError):
            producer.send(EncodedBatch("t", [b"late"], [b"\0"]))
        assert (len(fake), log) == (0, [])

        producer.close(0)
        assert producer.abandon()

    def test_deliveries_of_a_closed_producer_fail(self) -> None:
        class UnresponsiveProducer(FakeProducer):
            def flush(self, timeout: float) -> int:
                return len(self)

        producer = producer_over(UnresponsiveProducer([], without_outage))
        first = producer.send(EncodedBatch("t", [b"1"], [b"\0"]))
        second = producer.send(EncodedBatch("t", [b"2"], [b"\0"]))
        producer.close(0)
        assert second.done()
        assert isinstance(second.error(), RetriableError)
        assert first.done()
