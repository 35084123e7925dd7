"""At-least-once delivery of a source task.

The position of a batch is stored only after every record of it, and of all batches before it, is acknowledged by the
broker; so a crash at any moment repeats records and loses none. Sent and unacknowledged bytes are bounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from headrace.broker.interfaces import Producer
from headrace.errors import DataError, RetriableError
from headrace.pipeline.delivery import DeliveryParts
from headrace.pipeline.fault_policy import Failure
from headrace.pipeline.in_flight import InFlight, InFlightBatch
from headrace.pipeline.refused_rows import SourceDeadLetters
from headrace.pipeline.shutdown import close_clients
from headrace.records import EncodedBatch, SourceBatch, SourceOffset, SourcePartition
from headrace.retries import Backoff

_IN_FLIGHT_SLEEP = 0.02  # seconds between checks while batches are in flight and the source has nothing new
_STALLED = 3.0  # seconds without an acknowledgement after which the status reports it


class OffsetWriter(Protocol):
    """Stores positions."""

    def set(self, changes: Iterable[tuple[SourcePartition, SourceOffset | None]]) -> None:
        """Store positions; durable when it returns. Raise RetriableError."""
        ...


@dataclass(frozen=True)
class Refused:
    """A delivery that the client did not accept."""

    reason: Exception

    def done(self) -> bool:
        return True

    def error(self) -> Exception | None:
        return self.reason


@dataclass(frozen=True)
class ProducerFactory:
    """Creates the producers of a source task, a new one after each failure, and missing topics."""

    open_producer: Callable[[], Producer]
    ensure_topic: Callable[[str], None]
    buffer_bytes: int
    open_dead_letters: Callable[[], SourceDeadLetters] | None = None


class AcknowledgedDelivery:
    """Implements :class:`headrace.pipeline.delivery.SourceDelivery`."""

    unfinished = False

    def __init__(self, factory: ProducerFactory, offsets: OffsetWriter, parts: DeliveryParts) -> None:
        self._factory = factory
        self._offsets = offsets
        self._parts = parts
        self._refusals = parts.refusals
        self._control = parts.control
        self._metrics = parts.control.metrics
        self._monotonic = parts.monotonic
        self._in_flight = InFlight()
        self._producer: Producer | None = None
        self._next_commit = time.monotonic() + self._control.flush_interval
        self._last_progress = self._monotonic()
        self._stalled = False
        self._resend_backoff = Backoff(self._control.retry_policy)

    def open(self) -> None:
        self._producer = self._control.retry(self._factory.open_producer)
        if self._factory.open_dead_letters is not None:
            self._refusals.dead_letters = self._control.retry(self._factory.open_dead_letters)

    @property
    def is_full(self) -> bool:
        return self._in_flight.size >= self._factory.buffer_bytes

    def advance(self, *, paused: bool) -> None:
        del paused  # what is in flight is acknowledged, and its position stored, in any case
        self._process_deliveries()
        now = time.monotonic()
        if now >= self._next_commit:
            self._commit()
            self._next_commit = now + self._control.flush_interval

    def seconds_to_wait(self) -> float:
        until_commit = self._next_commit - time.monotonic()
        return min(_IN_FLIGHT_SLEEP, until_commit) if self._in_flight else until_commit

    def ensure_topics(self, topics: Collection[str]) -> bool:
        for topic in topics:
            self._control.retry(lambda topic=topic: self._ensure_topic(topic))  # type: ignore[misc]
        return not self._control.stopping() or self._producer is not None

    def poll_failed(self, error: RetriableError) -> None:
        del error  # what was sent is sent, and its position is right

    def write_dead_letters(self, batch: SourceBatch, failures: Sequence[Failure]) -> None:
        self._refusals.write_dead_letters(batch, failures)

    def send(self, entry: InFlightBatch) -> None:
        self._send(entry)
        if not self._in_flight:
            self._last_progress = self._monotonic()
        self._in_flight.add(entry)

    def finish(self) -> None:
        """Wait up to the flush timeout for acknowledgements and store their positions."""
        if self._refusals.dead_letters is not None:
            close_clients(self._control, self._refusals.dead_letters.close)
        if self._producer is None:
            return
        if self._control.fence.closed:
            self._producer.close(0)
            return
        try:
            self._producer.flush(self._control.flush_timeout)
            try:
                if self._in_flight.failed() is None:
                    self._parts.acknowledged(self._in_flight.remove_acknowledged())
            finally:
                self._commit()
        finally:
            timeout = 0 if self._in_flight else self._control.flush_timeout
            close_clients(self._control, partial(self._producer.close, timeout))

    def _ensure_topic(self, topic: str) -> None:
        with self._control.fence:
            self._factory.ensure_topic(topic)

    def _send(self, entry: InFlightBatch) -> None:
        assert self._producer is not None
        entry.deliveries = []
        for part in entry.encoded:
            try:
                with self._control.fence:
                    entry.deliveries.append(self._producer.send(part))
            except (RetriableError, DataError) as error:
                entry.deliveries.append(Refused(error))

    def _process_deliveries(self) -> None:
        if not self._in_flight:
            return
        if (failed := self._in_flight.failed()) is not None:
            self._recover(failed)
            return
        acknowledged = self._in_flight.remove_acknowledged()
        now = self._monotonic()
        if not acknowledged:
            if now - self._last_progress > _STALLED:
                self._report_stall()
            return
        self._last_progress = now
        self._resend_backoff.reset()
        if self._stalled:
            self._stalled = False
            self._control.recovered(1, "kafka")
        self._parts.acknowledged(acknowledged)

    def _report_stall(self) -> None:
        assert self._producer is not None
        reason = self._producer.connection_problem() or "no answer"
        text = f"waiting for Kafka to acknowledge {self._in_flight.records} records: {reason}"
        self._control.reasons.set("kafka", text)
        if not self._stalled:
            self._stalled = True
            self._control.log.warning("waiting", code="kafka.unacknowledged", reason=reason)

    def _recover(self, failed: InFlightBatch) -> None:
        """Send again from the failed batch on, so that records of one key keep their order."""
        error = next(found for item in failed.deliveries if item.done() and (found := item.error()) is not None)
        if isinstance(error, DataError):
            self._isolate(failed)
        elif isinstance(error, RetriableError):
            wait = self._resend_backoff.next_wait(error)
            if wait is None:
                raise error
            self._control.retrying(error, 1 if not self._stalled else 2, "kafka")
            self._stalled = True
            self._control.stop_event.wait(wait)
            self._renew_producer()
        else:
            raise error
        if self._producer is not None and not self._control.stopping():
            for entry in self._in_flight:
                self._send(entry)

    def _isolate(self, failed: InFlightBatch) -> None:
        """Split a batch with a record that the broker refuses into single records; then remove the refused ones."""
        if all(len(part) == 1 for part in failed.encoded):
            refused = [
                (place, error)
                for place, delivery in enumerate(failed.deliveries)
                if delivery.done() and isinstance(error := delivery.error(), DataError)
            ]
            executor = f"{type(self._producer).__module__}.{type(self._producer).__qualname__}"
            failures = [
                self._refusals.by_kafka(failed.batch, failed.encoded[place], error, executor)
                for place, error in refused
            ]
            if self._control.retry(lambda: self._refusals.write_dead_letters(failed.batch, failures)) is None:
                return  # told to stop: the position stays before the batch
            self._parts.policy.apply_tolerance(failures)
            self._refusals.count(failures)
            self._in_flight.records -= len(refused)
            gone = {place for place, _ in refused}
            failed.encoded = [part for place, part in enumerate(failed.encoded) if place not in gone]
        else:
            failed.encoded = [single for part in failed.encoded for single in _singles(part)]

    def _renew_producer(self) -> None:
        if self._producer is not None:
            self._producer.close(0)
        self._producer = None
        self._producer = self._control.retry(self._factory.open_producer)

    def _commit(self) -> None:
        positions = self._in_flight.take_committable()
        if not positions:
            return
        try:
            with self._control.fence:
                self._offsets.set(positions.values())
        except RetriableError as error:
            self._in_flight.give_back(positions)
            self._metrics.add("offset_commit_failure_total")
            text = f"positions cannot be stored, the next attempt is made with the next flush: {error}"
            self._control.reasons.set("offsets", text)
            self._control.log.warning("positions not stored", code=error.code, reason=str(error))
        else:
            self._control.reasons.set("offsets", None)
            self._metrics.add("offset_commit_total")


def _singles(batch: EncodedBatch) -> Iterator[EncodedBatch]:
    for index, value in enumerate(batch.values):
        yield EncodedBatch(
            batch.topic,
            [value],
            [batch.keys[index]] if batch.keys is not None else None,
            [batch.timestamps[index]] if batch.timestamps is not None else None,
            [batch.headers[index]] if batch.headers is not None else None,
            [batch.rows[index]],
        )
