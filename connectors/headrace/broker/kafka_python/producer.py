"""Send batches through kafka-python: one call per record, no additional object per record."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import kafka
from kafka.errors import KafkaError

from headrace.broker.client_errors import INVALID_TOPIC_NAME
from headrace.broker.kafka_python.connection import ClientHandle, close_producer, flushing, was_discarded
from headrace.broker.kafka_python.error_mapping import is_collateral, translate, translated
from headrace.errors import DataError, HeadraceError
from headrace.records import EncodedBatch

_SINGLE_BATCH_TIMEOUT = 10.0  # seconds to wait for one batch, while batches are sent one at a time


class KafkaPythonDelivery:
    """The futures of a batch's records, and how many of them, from the first, are acknowledged.

    The future of each record is checked, not that of kafka-python's batch: kafka-python may split a batch, whose
    future then never completes. A failure is reported once the result of all records before it is known. When the
    broker refuses a record, only the delivery with that record fails; others that were discarded with it stay undone,
    because their records are valid and have to be sent again.
    """

    __slots__ = ("_acknowledged", "_error", "_futures", "_on_failure", "_topic", "never_done", "records")

    def __init__(self, topic: str, futures: list[Any], on_failure: Callable[[], None]) -> None:
        self.records = len(futures)
        self.never_done = False  # to be sent again
        self._topic = topic
        self._futures = futures
        self._on_failure = on_failure
        self._acknowledged = 0
        self._error: HeadraceError | None = None

    def done(self) -> bool:
        if self._error is not None or self.never_done:
            return self._error is not None
        futures = self._futures
        place, count = self._acknowledged, self.records
        while place < count and (future := futures[place]).is_done and future.exception is None:
            place += 1
        self._acknowledged = place
        # Check for failure, not for done: it may have been acknowledged since the loop read it.
        if place < count and _failed(futures[place]):
            self._find_failure()
            return self._error is not None
        return place == count

    def error(self) -> Exception | None:
        return self._error

    def wait(self, deadline: float) -> bool:
        """Wait until done; return False at ``deadline`` (monotonic seconds), or when it will never be done."""
        while not self.done():
            left = deadline - time.monotonic()
            if left <= 0 or self.never_done:
                return False
            future = next((found for found in self._futures[self._acknowledged :] if not found.is_done), None)
            if future is not None:
                with contextlib.suppress(KafkaError):  # a timeout, or the record's failure: done() reports it
                    future.get(timeout=left)
        return True

    def _find_failure(self) -> None:
        """A record has failed: find the one that caused it, once the result of all is known."""
        rest = self._futures[self._acknowledged :]
        errors = [
            (future, translate(future.exception, f"write to {self._topic}")) for future in rest if _failed(future)
        ]
        own = [error for future, error in errors if not (isinstance(error, DataError) and _is_collateral(future))]
        if own:
            self._error = own[0]
        elif all(future.is_done for future in rest):
            self.never_done = True
        if self._error is not None or self.never_done:
            self._on_failure()


def _failed(future: Any) -> bool:
    return future.is_done and future.exception is not None


def _is_collateral(future: Any) -> bool:
    return is_collateral(future.exception) or was_discarded(future)


class KafkaPythonProducer:
    """See :class:`headrace.broker.interfaces.Producer`.

    After a failed delivery kafka-python's idempotent producer cannot be used any more, so the next ``send`` creates a
    new one; the caller sends again what was in flight. Kafka refuses all records of a request because of one, and
    kafka-python combines records of several batches in one request; so after a failure, batches are sent one at a
    time until everything that was in flight has been sent again.
    """

    def __init__(self, make_client: Callable[[], ClientHandle]) -> None:
        self._make_client = make_client
        self._sent: deque[KafkaPythonDelivery] = deque()  # all that are not known to be done, and possibly more
        self._one_at_a_time = 0  # number of records to be sent one batch at a time
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
            send_records(self._send, batch, futures.append)
        except KafkaError as error:
            raise translate(error, f"write to {batch.topic}", self._client.failure()) from error
        except ValueError as error:
            raise invalid_record(batch, error) from error
        delivery = KafkaPythonDelivery(batch.topic, futures, self._on_failure)
        self._sent.append(delivery)
        if self._one_at_a_time > 0:
            self._one_at_a_time -= len(batch)
            with flushing(self._producer):
                delivery.wait(time.monotonic() + _SINGLE_BATCH_TIMEOUT)
        return delivery

    def _on_failure(self) -> None:
        self._broken = True

    def _renew(self) -> None:
        self._one_at_a_time = max(self._one_at_a_time, sum(delivery.records for delivery in self._sent))
        self._sent.clear()
        with translated("renew the producer"):
            close_producer(self._producer)
        self._open()
        self._broken = False

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
        return failure.describe() if failure is not None else None

    def close(self, timeout: float) -> None:
        if self._closed:
            return
        self._closed = True
        self.flush(timeout)
        with translated("close the producer"):
            close_producer(self._producer)


def send_records(
    send: Callable[..., Any], batch: EncodedBatch, add: Callable[[Any], None], partition: int | None = None
) -> None:
    """Call ``send`` for each record, and ``add`` with its future."""
    topic, values = batch.topic, batch.values
    if batch.headers is None and batch.timestamps is None and partition is None:
        if batch.keys is None:
            for value in values:
                add(send(topic, value))
        else:
            for value, key in zip(values, batch.keys, strict=True):
                add(send(topic, value, key))
        return
    count = len(values)
    for value, key, fields, timestamp in zip(
        values,
        batch.keys if batch.keys is not None else [None] * count,
        batch.headers if batch.headers is not None else [()] * count,
        batch.timestamps if batch.timestamps is not None else [None] * count,
        strict=True,
    ):
        # kafka-python does not support null header values.
        wire = [(name, content if content is not None else b"") for name, content in fields]
        add(send(topic, value, key, wire, partition, timestamp))


def invalid_record(batch: EncodedBatch, error: ValueError) -> HeadraceError:
    keys = batch.keys if batch.keys is not None else [None] * len(batch)
    if any(key is None and value is None for key, value in zip(keys, batch.values, strict=True)):
        return DataError("a record without key and value cannot be sent", code="data.empty_record")
    return INVALID_TOPIC_NAME.error(f"write to {batch.topic}", str(error))
