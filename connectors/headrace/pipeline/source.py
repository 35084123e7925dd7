"""A source task's loop: poll, transform, convert, send, and commit what is acknowledged.

The position of a batch is stored only after every record of it, and of all batches before it, is acknowledged by the
broker; so a crash at any moment repeats records and loses none. Sent and unacknowledged bytes are bounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from headrace.broker.interfaces import Producer
from headrace.errors import DataError, RetriableError
from headrace.metrics import now_ms
from headrace.pipeline.control import LONGEST_SLEEP, TaskControl
from headrace.pipeline.fault_policy import NO_OFFSET, NO_PARTITION, Failure, Stage, note_failures, raise_skipped
from headrace.pipeline.hop_times import SourceHops
from headrace.pipeline.in_flight import InFlight, InFlightBatch
from headrace.pipeline.refused_rows import SourceDeadLetters, refused_by_kafka, row_name
from headrace.pipeline.shutdown import close_clients, shut_down
from headrace.pipeline.stages import Stages
from headrace.plugin import SourceContext, SourceTask, Wait
from headrace.records import EncodedBatch, SourceBatch, SourceOffset, SourcePartition, TopicPartition
from headrace.retries import Backoff

_BUFFER_FULL_SLEEP = 0.005  # seconds between checks while the buffer is full: acknowledgements come in milliseconds
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
    dead_letter_topic: str = ""


class SourcePipeline:
    """One task's loop. Everything runs on the thread that calls :meth:`run`."""

    def __init__(
        self,
        task: SourceTask,
        context: SourceContext,
        stages: Stages,
        factory: ProducerFactory,
        offsets: OffsetWriter,
        control: TaskControl,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._task = task
        self._context = context
        self._stages = stages
        self._factory = factory
        self._offsets = offsets
        self._control = control
        self._metrics = control.metrics
        self._executor = f"{type(task).__module__}.{type(task).__qualname__}"
        self._in_flight = InFlight()
        self._producer: Producer | None = None
        self._dead_letters: SourceDeadLetters | None = None
        self._due = 0.0  # monotonic: no poll before
        self._next_commit = time.monotonic() + control.flush_interval
        self._monotonic = monotonic  # measures polls, and how long Kafka does not acknowledge
        self._last_progress = monotonic()
        self._stalled = False
        self._poll_backoff = Backoff(control.retry_policy)
        self._unconverted: SourceBatch | None = None  # read, and waiting for its conversion
        self._polling = 0.0  # seconds spent in polls
        self._resend_backoff = Backoff(control.retry_policy)
        name = context.task.connector
        self._hops = SourceHops(control.metrics.freshness, name, marks=control.hop_headers)
        self._polled = 0  # epoch milliseconds: when the last batch was read

    def run(self) -> None:
        """Run until the task must stop. Raise what fails the task; acknowledged positions are stored in any case."""
        with shut_down(self._finish, self._task.stop, self._stages):
            self._producer = self._control.retry(self._factory.open_producer)
            if self._factory.open_dead_letters is not None:
                self._dead_letters = self._control.retry(self._factory.open_dead_letters)
            self._control.retry(lambda: self._task.start(self._context))
            if not self._control.stopping():
                self._control.started()
            while not self._control.stopping():
                self._turn()

    def _turn(self) -> None:
        self._process_deliveries()
        now = time.monotonic()
        if now >= self._next_commit:
            self._commit()
            self._next_commit = now + self._control.flush_interval
        paused = self._control.paused.is_set()
        if self._in_flight.size >= self._factory.buffer_bytes:
            self._control.sleep(_BUFFER_FULL_SLEEP)
        elif paused or now < self._due:
            wait = LONGEST_SLEEP if paused else self._due - now
            if self._in_flight:
                wait = min(wait, _IN_FLIGHT_SLEEP)
            self._control.sleep(min(wait, self._next_commit - now))
        else:
            self._poll()

    def _poll(self) -> None:
        """Read a batch and convert it, or convert the batch that was read before. Retry after a RetriableError."""
        try:
            answer = self._unconverted if self._unconverted is not None else self._read()
            if self._control.stopping():
                return  # stopped during the poll: the next task reads the same rows
            if isinstance(answer, SourceBatch):
                self._unconverted = answer
                encoded = self._stages.encode(answer)
                failures = self._failures(answer, encoded.failures)
                self._write_dead_letters(answer, failures)
        except RetriableError as error:
            wait = self._poll_backoff.next_wait(error)
            if wait is None:
                raise
            self._control.retrying(error, self._poll_backoff.failures, "poll")
            self._due = time.monotonic() + wait
            return
        if self._poll_backoff.failures:
            self._control.recovered(self._poll_backoff.reset(), "poll")
        if isinstance(answer, Wait):
            self._due = time.monotonic() + answer.seconds
        else:
            self._unconverted = None
            self._stages.policy.apply_tolerance(failures)
            self._count_unsent(failures, encoded.filtered, encoded.split)
            self._take(answer, encoded.batches)

    def _failures(self, batch: SourceBatch, refused: list[Failure]) -> list[Failure]:
        """Return the rows that the task rejected, then those that a stage refused, with their names."""
        if not (refused or batch.rejections):
            return refused
        place = TopicPartition(batch.topic, NO_PARTITION)
        rejected = [
            Failure(Stage.TASK_POLL, self._executor, item.error, place, NO_OFFSET, item.row)
            for item in batch.rejections
        ]
        return [*rejected, *(_named(item, batch) for item in refused)]

    def _count_unsent(self, failures: Sequence[Failure], filtered: int = 0, split: int = 0) -> None:
        if not (failures or filtered or split):
            return
        outcome = "skipped" if self._dead_letters is None else "dead_lettered"
        self._metrics.change(
            {
                "source_record_active_count": split - filtered - len(failures),
                f"source_record_{outcome}_total": len(failures),
                "source_record_filtered_total": filtered,
                "source_record_split_total": split,
            }
        )
        note_failures(self._metrics.causes, outcome, failures)
        topic = self._factory.dead_letter_topic if self._dead_letters is not None else ""
        raise_skipped(self._control.raise_condition, failures, topic, self._context.task.connector)
        if filtered:
            self._metrics.causes.note("filtered", "transform", filtered)

    def _read(self) -> SourceBatch | Wait:
        began = self._monotonic()
        answer = self._task.poll()
        self._polling += self._monotonic() - began  # most polls take less than a millisecond
        self._metrics.set("poll_batch_time_ms_total", round(self._polling * 1000))
        if isinstance(answer, SourceBatch):
            rows = len(answer) + len(answer.rejections)
            self._metrics.change({"source_record_poll_total": rows, "source_record_active_count": rows})
            self._metrics.set("last_record_timestamp_ms", now_ms())
            self._polled = self._hops.polled(answer)
        return answer

    def _take(self, batch: SourceBatch, encoded: list[EncodedBatch]) -> None:
        for topic in {part.topic for part in encoded}:
            self._control.retry(lambda topic=topic: self._ensure_topic(topic))  # type: ignore[misc]
        if self._control.stopping() and self._producer is None:
            return
        self._hops.sending(batch, encoded, self._polled)
        entry = InFlightBatch(batch, encoded, [], self._polled)
        self._send(entry)
        if not self._in_flight:
            self._last_progress = self._monotonic()
        self._in_flight.add(entry)

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
        self._acknowledge(acknowledged)

    def _acknowledge(self, acknowledged: list[InFlightBatch]) -> None:
        records = sum(entry.records() for entry in acknowledged)
        self._metrics.change({"source_record_write_total": records, "source_record_active_count": -records})
        self._metrics.rate.note(records)
        self._metrics.note_newest(max((_newest(entry) for entry in acknowledged if entry.encoded), default=0))
        self._hops.acknowledged(acknowledged)
        self._control.fence.check()
        for entry in acknowledged:
            self._task.acknowledged(entry.batch)

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
            failures = [self._refusal(failed.batch, failed.encoded[place], error) for place, error in refused]
            if self._control.retry(lambda: self._write_dead_letters(failed.batch, failures)) is None:
                return  # told to stop: the position stays before the batch
            self._stages.policy.apply_tolerance(failures)
            self._count_unsent(failures)
            self._in_flight.records -= len(refused)
            gone = {place for place, _ in refused}
            failed.encoded = [part for place, part in enumerate(failed.encoded) if place not in gone]
        else:
            failed.encoded = [single for part in failed.encoded for single in _singles(part)]

    def _refusal(self, batch: SourceBatch, record: EncodedBatch, error: DataError) -> Failure:
        executor = f"{type(self._producer).__module__}.{type(self._producer).__qualname__}"
        explained = refused_by_kafka(error, record, self._task.key_hint)
        topic = TopicPartition(record.topic, NO_PARTITION)
        return _named(Failure(Stage.KAFKA_PRODUCE, executor, explained, topic, record.rows[0]), batch)

    def _write_dead_letters(self, batch: SourceBatch, failures: list[Failure]) -> bool:
        """Return (True) when the letters are in Kafka. The position moves past a refused row only after that."""
        if failures and self._dead_letters is not None:
            with self._control.fence:
                self._dead_letters.write(batch, failures, self._factory.dead_letter_topic)
        return True

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

    def _finish(self) -> None:
        """Wait up to the flush timeout for acknowledgements and store their positions. Other records are read again."""
        try:
            self._finish_sent()
        finally:
            rest = self._metrics.values["source_record_active_count"]
            self._metrics.change({"source_record_active_count": -rest, "source_record_discarded_total": rest})

    def _finish_sent(self) -> None:
        if self._dead_letters is not None:
            close_clients(self._control, self._dead_letters.close)
        if self._producer is None:
            return
        if self._control.fence.closed:
            self._producer.close(0)
            return
        try:
            self._producer.flush(self._control.flush_timeout)
            try:
                if self._in_flight.failed() is None:
                    self._acknowledge(self._in_flight.remove_acknowledged())
            finally:
                self._commit()
        finally:
            timeout = 0 if self._in_flight else self._control.flush_timeout
            close_clients(self._control, partial(self._producer.close, timeout))


def _named(failure: Failure, batch: SourceBatch) -> Failure:
    return failure._replace(row=row_name(batch, failure.offset))


def _newest(entry: InFlightBatch) -> int:
    """Return the greatest timestamp of a batch in which Kafka took the time of arrival for records without one."""
    return max(max(part.timestamps) if part.timestamps else now_ms() for part in entry.encoded)


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
