"""Send batches through kafka-python and collect their results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import kafka
from kafka.errors import KafkaError

from headrace.broker.client_errors import INVALID_TOPIC_NAME
from headrace.broker.kafka_python.batch_sending import BatchSender, SentRecords
from headrace.broker.kafka_python.connection import ClientHandle, close_producer, flushing, force_close
from headrace.broker.kafka_python.error_mapping import is_collateral, translate, translated
from headrace.errors import DataError, HeadraceError
from headrace.records import EncodedBatch

_SINGLE_BATCH_TIMEOUT = 10.0  # seconds to wait for one batch, while batches are sent one at a time


class KafkaPythonDelivery:
    """The parts of a batch, and how many of them, from the first, are acknowledged.

    A failure is reported once the result of all parts before it is known. When the broker refuses a record, only the
    delivery with that record fails; others that were discarded with it stay undone, because their records are valid
    and have to be sent again.
    """

    __slots__ = ("_acknowledged", "_error", "_on_failure", "_parts", "_topic", "never_done", "records")

    def __init__(self, topic: str, parts: list[SentRecords], on_failure: Callable[[], None]) -> None:
        self.records = sum(part.count for part in parts)
        self.never_done = False  # to be sent again
        self._topic = topic
        self._parts = parts
        self._on_failure = on_failure
        self._acknowledged = 0
        self._error: HeadraceError | None = None

    def done(self) -> bool:
        if self._error is not None or self.never_done:
            return self._error is not None
        parts = self._parts
        place, count = self._acknowledged, len(parts)
        while place < count and parts[place].acknowledged():
            place += 1
        self._acknowledged = place
        # Check for failure, not for done: it may have been acknowledged since the loop read it.
        if place < count and parts[place].failed():
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
            undone = next((part for part in self._parts[self._acknowledged :] if not part.done()), None)
            if undone is not None:
                undone.wait(left)
        return True

    def _find_failure(self) -> None:
        """A record has failed: find the one that caused it, once the result of all is known."""
        rest = self._parts[self._acknowledged :]
        for error, discarded in (found for part in rest for found in part.errors()):
            translated_error = translate(error, f"write to {self._topic}")
            if not (isinstance(translated_error, DataError) and (discarded or is_collateral(error))):
                self._error = translated_error
                break
        else:
            self.never_done = all(part.done() for part in rest)
        if self._error is not None or self.never_done:
            self._on_failure()


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
        self._sender = BatchSender(self._producer)

    def send(self, batch: EncodedBatch) -> KafkaPythonDelivery:
        while self._sent and self._sent[0].done():
            self._sent.popleft()
        if self._broken:
            self._renew()
        try:
            parts = self._sender.send(batch)
        except KafkaError as error:
            raise translate(error, f"write to {batch.topic}", self._client.failure()) from error
        except ValueError as error:
            raise invalid_topic(batch, error) from error
        delivery = KafkaPythonDelivery(batch.topic, parts, self._on_failure)
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

    def connection_problem(self) -> str | None:
        failure = self._client.failure()
        return failure.describe() if failure is not None else None

    def abandon(self) -> bool:
        return force_close(self._producer)

    def close(self, timeout: float) -> None:
        if self._closed:
            return
        self._closed = True
        self.flush(timeout)
        with translated("close the producer"):
            close_producer(self._producer)


def invalid_topic(batch: EncodedBatch, error: ValueError) -> HeadraceError:
    return INVALID_TOPIC_NAME.error(f"write to {batch.topic}", str(error))
