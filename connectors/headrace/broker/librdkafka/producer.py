"""Send batches through librdkafka: one C call per record, and delivery callbacks for failures only.

How acknowledgements are detected: ``len(producer)`` counts a record from ``produce`` until its delivery report was
served, and the callback for a failed record runs *before* the count decreases. So when the count is zero, every record
is acknowledged, except those whose callback ran. The count does not show *which* records are left, so batches are sent
in windows: batches that arrive while a window is in flight wait here, and form the next window when the count is zero.
librdkafka's threads write one window while the caller reads and encodes the next; nothing is assumed about partitions,
order of responses or retries.

When the broker refuses a record, librdkafka fails all records of the same request, valid ones too. When such a failure
affects several batches, they are sent again in one window each, so that only the batch with the invalid record fails.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import repeat

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from headrace.broker.client_errors import INVALID_TOPIC_NAME
from headrace.broker.librdkafka.broker_monitor import BrokerMonitor
from headrace.broker.librdkafka.error_mapping import refuses_record, translate
from headrace.broker.librdkafka.record_sending import produce_records
from headrace.errors import DataError, HeadraceError, RetriableError
from headrace.records import EncodedBatch

Open = Callable[[], tuple[Producer, BrokerMonitor]]

ANY_PARTITION = -1  # partition: chosen by the partitioner
_STALLED = 3.0  # seconds without an acknowledgement after which ``connection_problem`` reports the brokers
_PURGE_TIMEOUT = 5.0  # seconds for a client to discard its records
_SINGLE_BATCH_TIMEOUT = 10.0  # seconds to wait for one batch, while batches are sent one at a time
_COLLATERAL = KafkaError._INVALID_DIFFERENT_RECORD  # refused because of another record of the same request
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class LibrdkafkaDelivery:
    """One batch: waiting, in flight, or done."""

    __slots__ = ("_producer", "batch", "failure", "reason", "refusal", "settled")

    def __init__(self, producer: LibrdkafkaProducer, batch: EncodedBatch) -> None:
        self._producer = producer
        self.batch = batch
        self.reason: KafkaError | None = None
        """Why a record failed in the current attempt, other than by a refusal."""
        self.refusal: KafkaError | None = None
        self.settled = False
        self.failure: HeadraceError | None = None

    def done(self) -> bool:
        if not self.settled:
            self._producer.serve()
        return self.settled

    def error(self) -> Exception | None:
        return self.failure

    def report(self, error: KafkaError | None, message: Message) -> None:
        """Delivery callback for a failed record. The first reason is kept; a refusal of this record replaces one that
        concerns another record of its request."""
        if error is None:
            return
        if not refuses_record(error):
            self.reason = self.reason or error
        elif self.refusal is None or self.refusal.code() == _COLLATERAL:
            self.refusal = error

    def settle(self, failure: HeadraceError | None = None) -> None:
        """Set the result, unless it is set already."""
        if not self.settled:
            self.settled, self.failure = True, failure


class LibrdkafkaProducer:
    """See :class:`headrace.broker.interfaces.Producer`. Sends never block."""

    def __init__(self, open_producer: Open) -> None:
        self._open = open_producer
        self._producer, self._monitor = open_producer()
        self._window: list[LibrdkafkaDelivery] = []  # in flight
        self._waiting: deque[LibrdkafkaDelivery] = deque()
        self._one_at_a_time = 0  # number of records to be sent in windows of one batch
        self._broken = False
        self._closed = False
        # Number of records in flight when it last changed, and the time of that change.
        self._left, self._moved = 0, time.monotonic()
        self._lock = threading.Lock()  # guards the fields below; held while a window is handed to librdkafka
        self._abandoned = False
        self._released = False  # the client of librdkafka is closed

    def send(self, batch: EncodedBatch) -> LibrdkafkaDelivery:
        require_valid(batch)
        self.serve()
        if self._broken:
            self._renew()
        delivery = LibrdkafkaDelivery(self, batch)
        alone = self._one_at_a_time > 0
        self._waiting.append(delivery)
        if not self._window:
            self._next_window()
        if alone:
            self.flush(_SINGLE_BATCH_TIMEOUT)
        elif delivery.failure is not None:
            raise delivery.failure
        return delivery

    def serve(self) -> None:
        """Serve delivery reports; when the window is done, set its results and start the next one. Never blocks."""
        if self._window:
            self._advance(lambda: self._producer.poll(0))

    def _advance(self, report: Callable[[], object]) -> None:
        try:
            report()
        except KafkaException as error:  # fatal: this client cannot send any more
            self._break(error.args[0])
            return
        if len(self._producer) == 0:
            self._complete_window()
            self._next_window()

    def _renew(self) -> None:
        self._discard()
        opened = self._open()
        with self._lock:
            (self._producer, self._monitor), self._released = opened, False
        self._broken = False

    def _next_window(self) -> None:
        alone = self._one_at_a_time > 0
        with self._lock:
            if self._abandoned:
                self._fail_all(RetriableError("the task of this producer was abandoned", code="kafka.failed"))
            while self._waiting:
                delivery = self._waiting.popleft()
                # Also a batch that fails at once: some of its records may be in flight.
                self._window.append(delivery)
                self._produce(delivery)
                if alone:
                    break
            self._left, self._moved = len(self._producer), time.monotonic()

    def _produce(self, delivery: LibrdkafkaDelivery) -> None:
        batch = delivery.batch
        self._one_at_a_time = max(0, self._one_at_a_time - len(batch))
        try:
            produce_records(self._producer.produce, batch, ANY_PARTITION, delivery.report)
        except BufferError:
            # Part of the batch is in flight: it must be sent again by a new client.
            text = f"cannot write to {batch.topic}: librdkafka's send buffer is full"
            hint = "raise queue.buffering.max.kbytes"
            delivery.settle(RetriableError(text, code="kafka.buffer_full", hint=hint))
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            delivery.settle(translate(reason, f"write to {batch.topic}", self._monitor.failure()))

    def _complete_window(self) -> None:
        """Set the results of the window, or send it again where the invalid record is not known."""
        self._monitor.clear()
        window, self._window = self._window, []
        refused = [delivery for delivery in window if delivery.refusal is not None]
        again: list[LibrdkafkaDelivery] = []
        if refused:
            # To keep the order of a topic, its later batches are sent again with the refused one.
            topics = {delivery.batch.topic for delivery in refused}
            later = window[window.index(refused[0]) :]
            suspects = [delivery for delivery in later if delivery.batch.topic in topics and not delivery.settled]
            self._one_at_a_time = max(self._one_at_a_time, sum(len(delivery.batch) for delivery in suspects))
            if len(refused) > 1:  # the one with the invalid record is unknown
                again = suspects
        for delivery in window:
            if delivery in again:
                delivery.reason = delivery.refusal = None
            else:
                delivery.settle(self._failure(delivery))
        self._waiting.extendleft(reversed(again))

    def _failure(self, delivery: LibrdkafkaDelivery) -> HeadraceError | None:
        reason = delivery.refusal or delivery.reason
        if reason is None:
            return None
        return translate(reason, f"write to {delivery.batch.topic}", self._monitor.failure())

    def _break(self, error: KafkaError) -> None:
        """Fail everything that is not done: it has to be sent again, by a new client."""
        self._broken = True
        self._fail_all(RetriableError(f"the Kafka producer failed: {error.str()}", code="kafka.failed"))

    def _fail_all(self, failure: HeadraceError) -> None:
        for delivery in (*self._window, *self._waiting):
            delivery.settle(failure)
        self._window, self._waiting = [], deque()

    def flush(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while self._window:
            # Also sends batches that wait for linger.ms.
            self._advance(lambda: self._producer.flush(max(0.0, deadline - time.monotonic())))
            if self._window and time.monotonic() >= deadline:
                return False
        return True

    def connection_problem(self) -> str | None:
        self.serve()
        if not self._window:
            return None
        if (failure := self._monitor.failure()) is not None:
            return failure.describe()
        # librdkafka reports a broker that does not respond only after a request has timed out.
        left, now = len(self._producer), time.monotonic()
        if left != self._left:
            self._left, self._moved = left, now
        return f"no answer from Kafka at {self._monitor.servers}" if now - self._moved >= _STALLED else None

    def abandon(self) -> bool:
        with self._lock:
            self._abandoned = True
            if self._released:
                return True
            try:
                self._producer.purge()  # returns before librdkafka's threads have discarded the records
                self._producer.poll(0)  # serves the reports of those that they have discarded
            except KafkaException:  # fatal: this client cannot send any more
                return True
            return len(self._producer) == 0

    def close(self, timeout: float) -> None:
        if self._closed:
            return
        self._closed = True
        self.flush(timeout)
        try:
            self._discard()
        finally:
            self._fail_all(
                RetriableError("the producer was closed before Kafka acknowledged the batch", code="kafka.unreachable")
            )

    def _discard(self) -> None:
        try:
            self._producer.purge()
            self._producer.flush(_PURGE_TIMEOUT)
            with self._lock:
                if len(self._producer) == 0:
                    self._producer.close()  # would wait forever for records that are left; garbage collection does not
                    self._released = True
        except KafkaException as error:
            raise translate(error.args[0], "close the producer") from error


def require_valid(batch: EncodedBatch) -> None:
    """Refuse what librdkafka accepts although the broker, or every other client, refuses it."""
    if _TOPIC.fullmatch(batch.topic) is None:
        raise INVALID_TOPIC_NAME.error(f"write to {batch.topic}", "not a topic name")
    if None not in batch.values:
        return
    keys = batch.keys if batch.keys is not None else repeat(None, len(batch))
    if any(key is None and value is None for key, value in zip(keys, batch.values, strict=False)):
        raise DataError("a record without key and value cannot be sent", code="data.empty_record")
