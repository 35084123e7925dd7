"""Sending batches through librdkafka: one C call per record, and Python is called for failures only.

How a batch is known to be acknowledged. librdkafka counts what it holds: a record counts from ``produce`` until its
delivery report was served, and a report of a failure calls us *before* it stops counting. So when the count is zero,
every record that was handed over is acknowledged, but for those we were called for. The count does not say *which*
records are left, so batches go in windows: what is sent while a window is on its way waits here, and goes as the next
window when the count has come to zero. librdkafka's threads write one window while the caller reads and encodes the
next; nothing is assumed about partitions, order of answers or retries.

When the broker refuses a record, librdkafka fails all that travelled with it in one request, good records too. So after
such a failure batches go alone, one window each, until the one to blame has failed by itself.
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
from headrace.broker.librdkafka.failures import describe, translate
from headrace.errors import DataError, EnvironmentFault, HeadraceError, RetriableError
from headrace.records import EncodedBatch

Open = Callable[[], tuple[Producer, Brokers]]

_ANY = -1  # partition: the partitioner's choice
_NOW = 0  # timestamp
_GONE = 5.0  # seconds for a client that was told to give up what it has
_ALONE_WAIT = 10.0  # seconds for the answer to one batch, while batches go one by one
_NEIGHBOUR = KafkaError._INVALID_DIFFERENT_RECORD  # refused for the sake of another record of the same request
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class LibrdkafkaDelivery:
    """One batch: waiting here, on its way, or done."""

    __slots__ = ("_producer", "_reported", "batch", "failure", "on_its_way", "records", "settled", "topic")

    def __init__(self, producer: LibrdkafkaProducer, batch: EncodedBatch) -> None:
        self._producer = producer
        self._reported: KafkaError | None = None
        self.batch: EncodedBatch | None = batch
        """None when its fate is known, or will never be."""
        self.records, self.topic = len(batch), batch.topic
        self.failure: HeadraceError | None = None
        self.on_its_way = False
        self.settled = False

    def done(self) -> bool:
        if self.on_its_way:
            self._producer.serve()
        return self.settled

    def error(self) -> Exception | None:
        return self.failure

    def report(self, error: KafkaError | None, message: Message) -> None:
        """Called by librdkafka for a record that failed; the first reason of its own is kept."""
        if error is not None and (self._reported is None or self._reported.code() == _NEIGHBOUR):
            self._reported = error

    def reported(self) -> KafkaError | None:
        return self._reported

    def again(self) -> None:
        """What was reported counts no longer: it goes once more."""
        self._reported, self.on_its_way = None, False

    def settle(self, failure: HeadraceError | None) -> None:
        self.settled, self.failure = True, failure
        self.forget()

    def forget(self) -> None:
        """It is done, or never will be: its caller sends it again."""
        self.batch, self.on_its_way = None, False


class LibrdkafkaProducer:
    """See :class:`headrace.broker.ports.Producer`. Sends never block."""

    def __init__(self, open_producer: Open) -> None:
        self._open = open_producer
        self._producer, self._brokers = open_producer()
        self._window: list[LibrdkafkaDelivery] = []  # handed over
        self._waiting: deque[LibrdkafkaDelivery] = deque()
        self._alone = 0  # records that go in windows of one batch
        self._broken = False
        self._closed = False

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
        while self._waiting and not self._window:
            alone = self._alone > 0
            while self._waiting:
                delivery = self._waiting.popleft()
                self._window.append(delivery)
                delivery.on_its_way = True
                self._hand_over(delivery)
                if alone or delivery.settled:
                    break
            self._window = [item for item in self._window if not item.settled]

    def _hand_over(self, delivery: LibrdkafkaDelivery) -> None:
        batch = delivery.batch
        assert batch is not None
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
            self._fail(
                delivery, RetriableError(text, code="kafka.buffer_full", hint="raise queue.buffering.max.kbytes")
            )
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            self._fail(delivery, translate(reason, f"write to {batch.topic}", self._brokers.failure()))

    def _fail(self, delivery: LibrdkafkaDelivery, failure: HeadraceError) -> None:
        """The batches after it never become done: the caller sends again, from the failed one on."""
        delivery.settle(failure)
        while self._waiting:
            self._waiting.popleft().forget()

    def _judge(self) -> None:
        """The fate of every record of the window is known."""
        self._brokers.well()
        window, self._window = self._window, []
        failed = [item for item in window if item.reported() is not None]
        if not failed:
            for delivery in window:
                delivery.settle(None)
            return
        # Order is kept per topic: what came after the first failure in its topic goes again, the rest is well.
        topics = {item.topic for item in failed}
        suspects = [item for item in window[window.index(failed[0]) :] if item.topic in topics]
        for delivery in window:
            if delivery not in suspects:
                delivery.settle(None)
        reason = failed[0].reported()
        assert reason is not None
        failure = translate(reason, f"write to {failed[0].topic}", self._brokers.failure())
        if isinstance(failure, DataError):
            self._alone = max(self._alone, sum(item.records for item in suspects))
            if len(failed) > 1:
                # Which of them is to blame does not show: all go again, alone.
                for item in suspects:
                    item.again()
                self._waiting.extendleft(reversed(suspects))
                return
        self._fail(failed[0], failure)
        for delivery in suspects[1:]:
            delivery.forget()

    def _break(self, error: KafkaError) -> None:
        self._broken = True
        failure = RetriableError(f"the Kafka producer gave up: {error.str()}", code="kafka.failed")
        window, self._window = self._window, []
        for delivery in window:
            self._fail(delivery, failure)

    def flush(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        hopeless = False
        while self._window:
            sent = [*self._window, *self._waiting]
            # Also sends what waits for company (linger.ms).
            self._advance(lambda: self._producer.flush(max(0.0, deadline - time.monotonic())))
            hopeless = hopeless or any(item.batch is None and not item.settled for item in sent)
            if self._window and time.monotonic() >= deadline:
                return False
        return not hopeless

    def trouble(self) -> str | None:
        self.serve()
        failure = self._brokers.failure() if self._window else None
        return describe(failure) if failure is not None else None

    def close(self, timeout: float) -> None:
        if self._closed:
            return
        self._closed = True
        self.flush(timeout)
        given_up = [*self._window, *self._waiting]
        self._window, self._waiting = [], deque()
        try:
            self._discard()
        finally:
            failure = RetriableError("given up: the producer was closed", code="kafka.unreachable")
            for delivery in given_up:
                delivery.settle(failure)

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
        raise EnvironmentFault(
            f"cannot write to {batch.topic}: not the name of a topic",
            code="kafka.invalid_topic",
            hint="use letters, digits, '.', '_' and '-', at most 249",
        )
    if None not in batch.values:
        return
    keys = batch.keys if batch.keys is not None else repeat(None, len(batch))
    if any(key is None and value is None for key, value in zip(keys, batch.values, strict=False)):
        raise DataError("a record without key and value cannot be sent", code="data.empty_record")
