"""Sending batches through kafka-python: one call per record, no object of ours per record."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import kafka
from kafka.errors import KafkaError, KafkaTimeoutError

from headrace.broker.kafka_python.connection import Client, close_producer, flushing
from headrace.broker.kafka_python.failures import describe, refused_with_others, translate, translated
from headrace.errors import DataError, EnvironmentFault, HeadraceError, RetriableError
from headrace.records import EncodedBatch

_ALONE_WAIT = 10.0  # seconds for the answer to one batch, while batches are sent one by one


class KafkaPythonDelivery:
    """The records' futures, and how many of them, from the first on, are known to be acknowledged.

    A record's own future is asked, not its batch's: kafka-python may split a batch, whose future then never ends.
    A failure shows when the fate of all records before it is known.
    """

    __slots__ = ("_acknowledged", "_error", "_futures", "_on_refused", "_topic", "records")

    def __init__(self, topic: str, futures: list[Any], on_refused: Callable[[], None]) -> None:
        self.records = len(futures)
        self._topic = topic
        self._futures = futures
        self._on_refused = on_refused
        self._acknowledged = 0
        self._error: HeadraceError | None = None

    def done(self) -> bool:
        if self._error is not None:
            return True
        futures = self._futures
        place, count = self._acknowledged, self.records
        while place < count and (future := futures[place]).is_done:
            if future.exception is not None:
                self._fail(future.exception)
                return True
            place += 1
        self._acknowledged = place
        return place == count

    def error(self) -> Exception | None:
        return self._error

    def wait(self, deadline: float) -> bool:
        """Until done; False at ``deadline`` (monotonic seconds)."""
        while not self.done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            try:
                self._futures[self._acknowledged].get(timeout=left)
            except KafkaTimeoutError:
                continue  # of the wait or of the record
            except KafkaError:
                continue  # of the record
        return True

    def _fail(self, error: Exception) -> None:
        self._error = translate(error, f"write to {self._topic}")
        if refused_with_others(error):
            if self.records == 1:  # the bad one is elsewhere
                self._error = RetriableError(f"Kafka refused another record of {self._topic}", code="kafka.refused")
            self._on_refused()


class KafkaPythonProducer:
    """See :class:`headrace.broker.ports.Producer`.

    Kafka refuses all records that travel together for the sake of one, and kafka-python puts records of several
    batches together. So after a refusal batches are sent one by one, until those that were on their way then have
    been sent again: a good record must never be taken for the bad one.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._producer: kafka.KafkaProducer = client.client
        self._send = self._producer.send
        self._sent: deque[KafkaPythonDelivery] = deque()  # all that is not known to be done, and maybe more
        self._alone = 0  # records still to be sent one batch at a time
        self._closed = False

    def send(self, batch: EncodedBatch) -> KafkaPythonDelivery:
        while self._sent and self._sent[0].done():
            self._sent.popleft()
        futures: list[Any] = []
        try:
            self._hand_over(batch, futures.append)
        except KafkaError as error:
            raise translate(error, f"write to {batch.topic}", self._client.failure()) from error
        except ValueError as error:
            raise _unfit(batch, error) from error
        delivery = KafkaPythonDelivery(batch.topic, futures, self._separate)
        self._sent.append(delivery)
        if self._alone > 0:
            self._alone -= len(batch)
            with flushing(self._producer):
                delivery.wait(time.monotonic() + _ALONE_WAIT)
        return delivery

    def _hand_over(self, batch: EncodedBatch, take: Callable[[Any], None]) -> None:
        send, topic, values = self._send, batch.topic, batch.values
        if batch.headers is None and batch.timestamps is None:
            if batch.keys is None:
                for value in values:
                    take(send(topic, value))
            else:
                for value, key in zip(values, batch.keys, strict=True):
                    take(send(topic, value, key))
            return
        count = len(values)
        for value, key, fields, timestamp in zip(
            values,
            batch.keys if batch.keys is not None else [None] * count,
            batch.headers if batch.headers is not None else [()] * count,
            batch.timestamps if batch.timestamps is not None else [None] * count,
            strict=True,
        ):
            # kafka-python knows no null in a header.
            wire = [(name, content if content is not None else b"") for name, content in fields]
            take(send(topic, value, key, wire, None, timestamp))

    def _separate(self) -> None:
        self._alone = max(self._alone, sum(delivery.records for delivery in self._sent))

    def flush(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        with flushing(self._producer):
            while self._sent:
                if not self._sent[0].wait(deadline):
                    return False
                self._sent.popleft()
        return True

    def trouble(self) -> str | None:
        failure = self._client.failure()
        return describe(failure) if failure is not None else None

    def close(self, timeout: float) -> None:
        if self._closed:
            return
        self._closed = True
        self.flush(timeout)
        with translated("close the producer"):
            close_producer(self._producer)


def _unfit(batch: EncodedBatch, error: ValueError) -> HeadraceError:
    keys = batch.keys if batch.keys is not None else [None] * len(batch)
    if any(key is None and value is None for key, value in zip(keys, batch.values, strict=True)):
        return DataError("a record without key and value cannot be sent", code="data.empty_record")
    return EnvironmentFault(
        f"cannot write to {batch.topic}: {error}",
        code="kafka.invalid_topic",
        hint="use letters, digits, '.', '_' and '-', at most 249",
    )
