"""Sending batches through librdkafka: one C call per record, and Python is called for failures only.

How a batch is known to be acknowledged. librdkafka counts what it holds: a record counts from ``produce`` until its
delivery report was served, and a report of a failure calls us *before* it stops counting. So when the count is zero,
every record that was handed over is acknowledged, but for those we were called for. The count does not say *which*
records are left, so batches go in windows: what is sent while a window is on its way waits here, and goes as the next
window when the count has come to zero. librdkafka's threads write one window while the caller reads and encodes the
next; nothing is assumed about partitions, order of answers or retries.

When the broker refuses a record, librdkafka fails all that travelled with it in one request, good records too. So after
such a failure, when it hits several batches, they go again, alone, one window each: the one to blame fails by itself.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from itertools import repeat
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from headrace.broker.librdkafka.brokers import Brokers
from headrace.broker.librdkafka.failures import describe, is_refusal, translate
from headrace.errors import DataError, HeadraceError, InfrastructureError, RetriableError
from headrace.records import EncodedBatch

Open = Callable[[], tuple[Producer, Brokers]]

_ANY = -1  # partition: the partitioner's choice
_NOW = 0  # timestamp
_SILENT = 3.0  # seconds without a single acknowledgement after which brokers are said to be silent
_GONE = 5.0  # seconds for a client that was told to give up what it has
_ALONE_WAIT = 10.0  # seconds for the answer to one batch, while batches go one by one
_NEIGHBOUR = KafkaError._INVALID_DIFFERENT_RECORD  # refused for the sake of another record of the same request
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class LibrdkafkaDelivery:
    """One batch: waiting here, on its way, or done."""

    __slots__ = ("_producer", "batch", "failure", "reason", "refusal", "settled")

    def __init__(self, producer: LibrdkafkaProducer, batch: EncodedBatch) -> None:
        self._producer = producer
        self.batch = batch
        self.reason: KafkaError | None = None
        """Why a record of it failed, this time; what the broker refuses apart."""
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
        """Called by librdkafka for a record that failed; the first reason of each kind is kept, its own before those
        of its neighbours."""
        if error is None:
            return
        if not is_refusal(error):
            self.reason = self.reason or error
        elif self.refusal is None or self.refusal.code() == _NEIGHBOUR:
            self.refusal = error

    def settle(self, failure: HeadraceError | None = None) -> None:
        """Its fate is known; the first word counts."""
        if not self.settled:
            self.settled, self.failure = True, failure


class LibrdkafkaProducer:
    """See :class:`headrace.broker.interfaces.Producer`. Sends never block."""

    def __init__(self, open_producer: Open) -> None:
        self._open = open_producer
        self._producer, self._brokers = open_producer()
        self._window: list[LibrdkafkaDelivery] = []  # handed over
        self._waiting: deque[LibrdkafkaDelivery] = deque()
        self._alone = 0  # records that go in windows of one batch
        self._broken = False
        self._closed = False
        self._left, self._moved = 0, time.monotonic()  # what was on its way when that last changed, and when

    def send(self, batch: EncodedBatch) -> LibrdkafkaDelivery:
        _require_contents(batch)
        self.serve()
        if self._broken:
            self._renew()
        delivery = LibrdkafkaDelivery(self, batch)
        alone = self._alone > 0
        self._waiting.append(delivery)
        if not self._window:
            self._next_window()
        if alone:
            self.flush(_ALONE_WAIT)
        elif delivery.failure is not None:
            raise delivery.failure
        return delivery

    def serve(self) -> None:
        """Let librdkafka report; when the window is done, judge it and begin the next one. Never blocks."""
        if self._window:
            self._advance(lambda: self._producer.poll(0))

    def _advance(self, report: Callable[[], object]) -> None:
        try:
            report()
        except KafkaException as error:  # fatal: this client will never send again
            self._break(error.args[0])
            return
        if len(self._producer) == 0:
            self._judge()
            self._next_window()

    def _renew(self) -> None:
        self._discard()
        self._producer, self._brokers = self._open()
        self._broken = False

    def _next_window(self) -> None:
        alone = self._alone > 0
        while self._waiting:
            delivery = self._waiting.popleft()
            # Also one that fails at once: records of it may be on their way.
            self._window.append(delivery)
            self._hand_over(delivery)
            if alone:
                break
        self._left, self._moved = len(self._producer), time.monotonic()

    def _hand_over(self, delivery: LibrdkafkaDelivery) -> None:
        batch = delivery.batch
        self._alone = max(0, self._alone - len(batch))
        produce, report = self._producer.produce, delivery.report
        count = len(batch.values)
        columns: list[Any] = [
            repeat(batch.topic, count),
            batch.values,
            batch.keys if batch.keys is not None else repeat(None, count),
            repeat(_ANY, count),
            repeat(report, count),
        ]
        if batch.timestamps is not None or batch.headers is not None:
            columns += [
                repeat(report, count),
                batch.timestamps if batch.timestamps is not None else repeat(_NOW, count),
                map(list, batch.headers) if batch.headers is not None else repeat(None, count),
            ]
        try:
            deque(map(produce, *columns), maxlen=0)
        except BufferError:
            # Part of it is on its way; whoever sends it again must do so with a new client.
            text = f"cannot write to {batch.topic}: more is sent than librdkafka may hold"
            hint = "raise queue.buffering.max.kbytes"
            delivery.settle(RetriableError(text, code="kafka.buffer_full", hint=hint))
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            delivery.settle(translate(reason, f"write to {batch.topic}", self._brokers.failure()))

    def _judge(self) -> None:
        """The fate of every record of the window is known."""
        self._brokers.well()
        window, self._window = self._window, []
        refused = [delivery for delivery in window if delivery.refusal is not None]
        again: list[LibrdkafkaDelivery] = []
        if refused:
            # Order is kept per topic: what came after the first of its topic goes again with it.
            topics = {delivery.batch.topic for delivery in refused}
            later = window[window.index(refused[0]) :]
            suspects = [delivery for delivery in later if delivery.batch.topic in topics and not delivery.settled]
            self._alone = max(self._alone, sum(len(delivery.batch) for delivery in suspects))
            if len(refused) > 1:  # which of them is to blame does not show
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
        return translate(reason, f"write to {delivery.batch.topic}", self._brokers.failure())

    def _break(self, error: KafkaError) -> None:
        """All that is not done is to be sent again, by a new client."""
        self._broken = True
        self._give_up(RetriableError(f"the Kafka producer gave up: {error.str()}", code="kafka.failed"))

    def _give_up(self, failure: HeadraceError) -> None:
        for delivery in (*self._window, *self._waiting):
            delivery.settle(failure)
        self._window, self._waiting = [], deque()

    def flush(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while self._window:
            # Also sends what waits for company (linger.ms).
            self._advance(lambda: self._producer.flush(max(0.0, deadline - time.monotonic())))
            if self._window and time.monotonic() >= deadline:
                return False
        return True

    def trouble(self) -> str | None:
        self.serve()
        if not self._window:
            return None
        if (failure := self._brokers.failure()) is not None:
            return describe(failure)
        # librdkafka tells of a silent broker only when a request has timed out.
        left, now = len(self._producer), time.monotonic()
        if left != self._left:
            self._left, self._moved = left, now
        return f"no answer from Kafka at {self._brokers.servers}" if now - self._moved >= _SILENT else None

    def close(self, timeout: float) -> None:
        if self._closed:
            return
        self._closed = True
        self.flush(timeout)
        try:
            self._discard()
        finally:
            self._give_up(RetriableError("given up: the producer was closed", code="kafka.unreachable"))

    def _discard(self) -> None:
        try:
            self._producer.purge()
            self._producer.flush(_GONE)
            if len(self._producer) == 0:
                self._producer.close()  # would wait for ever for what is left; the collector does not
        except KafkaException as error:
            raise translate(error.args[0], "close the producer") from error


def _require_contents(batch: EncodedBatch) -> None:
    """What librdkafka would only learn from the broker, or would take though no other client does."""
    if _TOPIC.fullmatch(batch.topic) is None:
        raise InfrastructureError(
            f"cannot write to {batch.topic}: not the name of a topic",
            code="kafka.invalid_topic",
            hint="use letters, digits, '.', '_' and '-', at most 249",
        )
    if None not in batch.values:
        return
    keys = batch.keys if batch.keys is not None else repeat(None, len(batch))
    if any(key is None and value is None for key, value in zip(keys, batch.values, strict=False)):
        raise DataError("a record without key and value cannot be sent", code="data.empty_record")
