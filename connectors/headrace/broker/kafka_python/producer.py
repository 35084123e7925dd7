"""Sending batches through kafka-python: one call per record, no object of ours per record."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import kafka
from kafka.errors import KafkaError

from headrace.broker.kafka_python.connection import Client, close_producer, flushing, was_abandoned
from headrace.broker.kafka_python.failures import describe, is_neighbour, translate, translated
from headrace.errors import DataError, HeadraceError, InfrastructureError
from headrace.records import EncodedBatch

_ALONE_WAIT = 10.0  # seconds for the answer to one batch, while batches are sent one by one


class KafkaPythonDelivery:
    """The records' futures, and how many of them, from the first on, are known to be acknowledged.

    A record's own future is asked, not its batch's: kafka-python may split a batch, whose future then never ends.
    A failure shows when the fate of all records before it is known. When the broker refuses a record, only the
    delivery with that record fails; others that suffer with it stay undone: they are good, and to be sent again.
    """

    __slots__ = ("_acknowledged", "_error", "_futures", "_on_failure", "_topic", "hopeless", "records")

    def __init__(self, topic: str, futures: list[Any], on_failure: Callable[[], None]) -> None:
        self.records = len(futures)
        self.hopeless = False  # never done: to be sent again
        self._topic = topic
        self._futures = futures
        self._on_failure = on_failure
        self._acknowledged = 0
        self._error: HeadraceError | None = None

    def done(self) -> bool:
        if self._error is not None or self.hopeless:
            return self._error is not None
        futures = self._futures
        place, count = self._acknowledged, self.records
        while place < count and (future := futures[place]).is_done and future.exception is None:
            place += 1
        self._acknowledged = place
        # Failed, not only done: it may have been acknowledged since it was looked at.
        if place < count and _failed(futures[place]):
            self._judge()
            return self._error is not None
        return place == count

    def error(self) -> Exception | None:
        return self._error

    def wait(self, deadline: float) -> bool:
        """Until done; False at ``deadline`` (monotonic seconds), or when that will never be."""
        while not self.done():
            left = deadline - time.monotonic()
            if left <= 0 or self.hopeless:
                return False
            future = next((found for found in self._futures[self._acknowledged :] if not found.is_done), None)
            if future is not None:
                with contextlib.suppress(KafkaError):  # of the wait, or of the record: done() tells
                    future.get(timeout=left)
        return True

    def _judge(self) -> None:
        """Some record has failed. Whose fault it is shows when the fate of all is known."""
        rest = self._futures[self._acknowledged :]
        errors = [
            (future, translate(future.exception, f"write to {self._topic}")) for future in rest if _failed(future)
        ]
        own = [error for future, error in errors if not (isinstance(error, DataError) and _innocent(future))]
        if own:
            self._error = own[0]
        elif all(future.is_done for future in rest):
            self.hopeless = True
        if self._error is not None or self.hopeless:
            self._on_failure()


def _failed(future: Any) -> bool:
    return future.is_done and future.exception is not None


def _innocent(future: Any) -> bool:
    return is_neighbour(future.exception) or was_abandoned(future)


class KafkaPythonProducer:
    """See :class:`headrace.broker.interfaces.Producer`.

    After a failed delivery kafka-python's idempotent producer is of no more use, so the next ``send`` makes a new
    one; what is on its way then fails, or stays undone, and is the caller's to send again. Kafka refuses all records
    that travel together for the sake of one, and kafka-python puts records of several batches together; so they are
    sent one batch at a time then, until all that was on its way has been sent again.
    """

    def __init__(self, make_client: Callable[[], Client]) -> None:
        self._make_client = make_client
        self._sent: deque[KafkaPythonDelivery] = deque()  # all that are not known to be done, and maybe more
        self._alone = 0  # records still to be sent one batch at a time
        self._broken = False
        self._closed = False
        self._open()

    def _open(self) -> None:
        self._client = self._make_client()
        self._producer: kafka.KafkaProducer = self._client.client
        self._send = self._producer.send

    def send(self, batch: EncodedBatch) -> KafkaPythonDelivery:
        while self._sent and self._sent[0].done():
            self._sent.popleft()
        if self._broken:
            self._renew()
        futures: list[Any] = []
        try:
            self._hand_over(batch, futures.append)
        except KafkaError as error:
            raise translate(error, f"write to {batch.topic}", self._client.failure()) from error
        except ValueError as error:
            raise _unfit(batch, error) from error
        delivery = KafkaPythonDelivery(batch.topic, futures, self._on_failure)
        self._sent.append(delivery)
        if self._alone > 0:
            self._alone -= len(batch)
            with flushing(self._producer):
                delivery.wait(time.monotonic() + _ALONE_WAIT)
        return delivery

    def _on_failure(self) -> None:
        self._broken = True

    def _renew(self) -> None:
        self._alone = max(self._alone, sum(delivery.records for delivery in self._sent))
        self._sent.clear()
        with translated("renew the producer"):
            close_producer(self._producer)
        self._open()
        self._broken = False

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
    return InfrastructureError(
        f"cannot write to {batch.topic}: {error}",
        code="kafka.invalid_topic",
        hint="use letters, digits, '.', '_' and '-', at most 249",
    )
