"""Exactly-once delivery of a source task (KIP-618): records and their positions are one transaction.

After an error of the producer it is not known whether its last commit succeeded. The task starts over: a new producer
is initialised, which ends the transaction that was open, and then a new instance of the task reads the positions
that are stored. Nothing is sent again from memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from headrace.broker.interfaces import TransactionalProducer
from headrace.errors import DataError, HeadraceError, RetriableError, TaskError
from headrace.pipeline.control import LONGEST_SLEEP, TaskControl
from headrace.pipeline.delivery import DeliveryParts
from headrace.pipeline.fault_policy import Failure
from headrace.pipeline.in_flight import InFlightBatch, partition_key
from headrace.pipeline.refused_rows import SourceDeadLetters
from headrace.pipeline.shutdown import close_clients
from headrace.pipeline.source import SourcePipeline
from headrace.pipeline.transactions import TaskTransaction
from headrace.records import EncodedBatch, SourceBatch, SourceOffset, SourcePartition
from headrace.retries import Backoff

_MAX_RECORDS = 50_000
"""Records of a transaction after which it is committed before its time: clients buffer a bounded number."""

Position = tuple[SourcePartition, SourceOffset | None]


class Boundary(StrEnum):
    """When a transaction ends (``transaction.boundary``)."""

    POLL = "poll"
    """With each batch that the task returns."""
    INTERVAL = "interval"
    """Every ``transaction.boundary.interval.ms``."""


class StartOverError(HeadraceError):
    """The transaction of a source task has failed; a new instance of the task continues at the stored positions."""

    default_code = "source.starts_over"

    def __init__(self, reason: RetriableError) -> None:
        super().__init__(reason.message, code=reason.code, hint=reason.hint)
        self.reason = reason


class TransactionPermit(Protocol):
    """Whether a task may write in its group. Methods raise RetriableError while it may not."""

    def prepare(self) -> None:
        """Fence the producers of the set of tasks before this one. Called before the producer is initialised."""
        ...

    def confirm(self) -> None:
        """Check that no other task has taken this one's place meanwhile. Called when the producer is initialised."""
        ...


@dataclass(frozen=True)
class TransactionFactory:
    """What the transactions of a source task are made with."""

    open_producer: Callable[[], TransactionalProducer]
    transactional_id: str
    permit: TransactionPermit
    position_records: Callable[[Iterable[Position]], EncodedBatch]
    """Returns the records that store positions."""
    ensure_topic: Callable[[str], None]
    buffer_bytes: int
    boundary: Boundary
    interval: float
    """Seconds, of :attr:`Boundary.INTERVAL`."""
    open_dead_letters: Callable[[TaskTransaction], SourceDeadLetters] | None = None


class TransactionalDelivery:
    """Implements :class:`headrace.pipeline.delivery.SourceDelivery`."""

    is_full = False  # a transaction that is large enough is committed at once

    def __init__(self, factory: TransactionFactory, committed: Callable[[], None], parts: DeliveryParts) -> None:
        """``committed`` is called after each commit."""
        self._factory = factory
        self._committed = committed
        self._parts = parts
        self._refusals = parts.refusals
        self._control = parts.control
        self._transaction = TaskTransaction(
            factory.open_producer, factory.transactional_id, self._consequence, parts.control
        )
        self._open = False
        self._sent: list[InFlightBatch] = []
        self._size = 0
        self._positions: dict[bytes, Position] = {}
        self._unfinished: set[bytes] = set()  # partitions whose position is before rows of the open transaction
        interval = factory.interval if factory.boundary is Boundary.INTERVAL else parts.control.flush_interval
        self._interval = interval
        self._next_commit = time.monotonic() + interval

    def open(self) -> None:
        self._control.retry(self._open_producer)

    @property
    def unfinished(self) -> bool:
        return bool(self._unfinished)

    def advance(self, *, paused: bool) -> None:
        if not self._has_work():
            self._next_commit = time.monotonic() + self._interval
        elif not self._unfinished and (paused or time.monotonic() >= self._next_commit):
            self._commit()

    def seconds_to_wait(self) -> float:
        return max(0.0, self._next_commit - time.monotonic()) if self._has_work() else LONGEST_SLEEP

    def ensure_topics(self, topics: Collection[str]) -> bool:
        for topic in topics:
            self._control.retry(lambda topic=topic: self._ensure_topic(topic))  # type: ignore[misc]
        return self._open

    def poll_failed(self, error: RetriableError) -> None:
        """Start over if the position is before rows that were sent: the next poll might return them again."""
        if self._unfinished:
            self._close()
            raise StartOverError(error) from error

    def write_dead_letters(self, batch: SourceBatch, failures: Sequence[Failure]) -> None:
        with self._starting_over():
            self._refusals.write_dead_letters(batch, failures)

    def send(self, entry: InFlightBatch) -> None:
        with self._starting_over():
            for part in entry.encoded:
                self._transaction.send(part)
        self._sent.append(entry)
        self._size += entry.size
        self._positions.update((partition_key(item[0]), item) for item in entry.batch.positions())
        key = partition_key(entry.batch.source_partition)
        self._unfinished.discard(key)
        if entry.batch.unfinished:
            self._unfinished.add(key)
        if not self._unfinished and self._is_complete():
            self._commit()

    def finish(self) -> None:
        """Commit what was sent, except rows whose position is not known yet, which are read again."""
        if not self._open:
            return
        if self._control.fence.closed:
            self._close()
            return
        try:
            if self._unfinished:
                self._transaction.abort()
            elif self._has_work() or self._transaction.records:  # dead letters have no positions
                self._commit()
        finally:
            self._close()

    def _open_producer(self) -> None:
        factory = self._factory
        factory.permit.prepare()
        self._transaction.open()
        try:
            factory.permit.confirm()
            if factory.open_dead_letters is not None:
                self._refusals.dead_letters = factory.open_dead_letters(self._transaction)
        except HeadraceError:
            self._transaction.discard()
            raise
        self._open = True

    def _has_work(self) -> bool:
        return bool(self._sent)

    def _is_complete(self) -> bool:
        """Return whether the transaction ends with what was sent last. Positions alone wait for records."""
        if not self._transaction.records:
            return False
        full = self._transaction.records >= _MAX_RECORDS or self._size >= self._factory.buffer_bytes
        return full or self._factory.boundary is Boundary.POLL

    def _commit(self) -> None:
        metrics = self._control.metrics
        with self._starting_over():
            if self._positions:
                self._transaction.send(self._factory.position_records(self._positions.values()))
            self._transaction.commit_sent()
        sent, self._sent = self._sent, []
        self._positions.clear()
        self._size = 0
        self._next_commit = time.monotonic() + self._interval
        metrics.add("offset_commit_total")
        self._committed()
        self._parts.acknowledged(sent)

    def _close(self) -> None:
        self._open = False
        close_clients(self._control, self._transaction.discard)

    def _ensure_topic(self, topic: str) -> None:
        with self._control.fence:
            self._factory.ensure_topic(topic)

    @contextmanager
    def _starting_over(self) -> Iterator[None]:
        """Raise StartOverError for failures that may end, and TaskError for a record that Kafka refuses."""
        try:
            yield
        except RetriableError as error:
            self._close()
            raise StartOverError(error) from error
        except DataError as error:
            self._close()
            text = f"Kafka refuses a record, and exactly-once delivery cannot leave it out: {error.message}"
            raise TaskError(text, code=error.code, hint=error.hint) from error
        except HeadraceError:
            self._close()  # a producer is not used after an error
            raise

    def _consequence(self, error: TaskError) -> TaskError | RetriableError:
        if error.code != "kafka.producer_fenced":
            return error
        return RetriableError(
            f"{error.message} (transactional.id {self._factory.transactional_id}). What is not committed is read again",
            code=error.code,
            hint=error.hint,
        )


class RestartingSource:
    """An exactly-once source task, which starts over when a transaction has failed. Runs on the task's thread."""

    def __init__(self, make: Callable[[Callable[[], None]], SourcePipeline], control: TaskControl) -> None:
        """``make`` creates the pipeline with a new instance of the task; its argument is called after each commit."""
        self._make = make
        self._control = control
        self._backoff = Backoff(control.retry_policy)

    def run(self) -> None:
        """Run until told to stop. Raise what fails the task."""
        while True:
            try:
                self._make(self._committed).run()
            except StartOverError as error:
                wait = self._backoff.next_wait(error.reason)
                if wait is None:
                    raise
                self._control.retrying(error.reason, self._backoff.failures, "transaction")
                if self._control.stop_event.wait(wait):
                    return
            else:
                return

    def _committed(self) -> None:
        if self._backoff.failures:
            self._control.recovered(self._backoff.reset(), "transaction")
