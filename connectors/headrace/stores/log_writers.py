"""How a worker writes to the topics of its group: with a producer, or as the leader in transactions.

Every write is complete when it returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from headrace.broker.interfaces import KafkaClients, Producer, TransactionalProducer
from headrace.broker.producer_fencing import initialized
from headrace.errors import DataError, HeadraceError, RetriableError, TaskError
from headrace.records import EncodedBatch

log = structlog.stdlib.get_logger("headrace.worker")

_TIMEOUT = 10.0
"""Seconds within which Kafka has to store an append."""
_TRANSACTION_TIMEOUT = "15000"
"""Milliseconds after which Kafka aborts a transaction of a leader that was killed."""


class LogWriter(Protocol):
    """Writes batches. After an error the same batch may be written again."""

    def write(self, batch: EncodedBatch) -> None:
        """Write a batch; durable when it returns. Raise RetriableError, DataError."""
        ...

    def discard_unsent(self) -> None:
        """Discard what was not sent yet: this worker may not write any more. Never blocks; on any thread."""
        ...

    def close(self) -> None: ...


class ProducerWriter:
    """Writes with a producer. Used with the lock of a log."""

    def __init__(
        self, kafka: KafkaClients, settings: Mapping[str, str], allowed: Callable[[], bool] = lambda: True
    ) -> None:
        """``allowed``: whether this worker may write."""
        self._kafka = kafka
        self._settings = settings
        self._allowed = allowed
        self._producer: Producer | None = None

    def write(self, batch: EncodedBatch) -> None:
        require_allowed(batch.topic, allowed=self._allowed())
        if self._producer is None:
            self._producer = self._kafka.producer(self._settings)
        try:
            delivery = self._producer.send(batch)
            stored = self._producer.flush(_TIMEOUT)
            error = delivery.error() if stored else None
        except RetriableError as failure:
            stored, error = False, failure
        if stored and error is None:
            return
        reason = str(error) if error is not None else self._producer.connection_problem() or "no answer"
        # A producer that is used again would write later what is reported as failed now.
        self._producer.abandon()
        self._producer.close(0)
        self._producer = None
        if isinstance(error, DataError):
            raise error
        raise RetriableError(f"cannot write to {batch.topic}: {reason}", code="store.write")

    def discard_unsent(self) -> None:
        if (producer := self._producer) is not None:
            producer.abandon()

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close(0)


class TransactionalWriter:
    """Writes each batch in a transaction, so that a leader that was replaced cannot write any more (KIP-618).

    All leaders have one transactional.id, and each fences the one before it. Thread-safe.
    """

    def __init__(
        self,
        kafka: KafkaClients,
        transactional_id: str,
        settings: Mapping[str, str],
        allowed: Callable[[], bool],
    ) -> None:
        """``allowed``: whether this worker leads its group."""
        self._kafka = kafka
        self._id = transactional_id
        self._settings = {"transaction.timeout.ms": _TRANSACTION_TIMEOUT, **settings}
        self._allowed = allowed
        self._producer: TransactionalProducer | None = None
        self._lock = threading.RLock()

    def follow_leadership(self, topic: str) -> bool:
        """Fence the writers of earlier leaders when this worker has become the leader, and return True then.

        Forget the producer when it leads no more. Raise HeadraceError.
        """
        with self._lock:
            if self._allowed():
                return self._claim(topic)
            self._release()
            return False

    def _claim(self, topic: str) -> bool:
        """Fence the writers of other workers; return whether that was necessary."""
        if self._producer is not None:
            return False
        require_allowed(topic, allowed=self._allowed())
        try:
            producer = initialized(self._kafka.transactional_producer(self._id, self._settings), self._id)
        except HeadraceError as error:
            raise _failed(topic, error) from error
        if not self._allowed():  # it may have fenced the new leader, which initialises another producer then
            producer.close(0)
            require_allowed(topic, allowed=False)
        self._producer = producer
        return True

    def _release(self) -> None:
        if (producer := self._producer) is not None:
            self._producer = None
            producer.close(0)

    def write(self, batch: EncodedBatch) -> None:
        with self._lock:
            self._write_once_or_twice(batch)

    def _write_once_or_twice(self, batch: EncodedBatch) -> None:
        claimed = self._claim(batch.topic)
        try:
            self._write(batch)
        except TaskError as error:
            if error.code != "kafka.producer_fenced" or claimed or not self._allowed():
                raise _failed(batch.topic, error) from error
            log.info("claims the right to write configurations again", reason=str(error))
            self._claim(batch.topic)
            try:
                self._write(batch)
            except TaskError as again:
                raise _failed(batch.topic, again) from again

    def _write(self, batch: EncodedBatch) -> None:
        """Raise TaskError when the producer was fenced, RetriableError, DataError; then there is none any more."""
        producer = self._producer
        assert producer is not None
        require_allowed(batch.topic, allowed=self._allowed())
        try:
            producer.begin()
            producer.send(batch)
            producer.commit()
        except (TaskError, DataError):
            self._release()
            raise
        except HeadraceError as error:
            self._release()
            raise _failed(batch.topic, error) from error

    def discard_unsent(self) -> None:
        """Do nothing: what a new leader does not allow, Kafka refuses."""

    def close(self) -> None:
        with self._lock:
            self._release()


def _failed(topic: str, error: HeadraceError) -> RetriableError:
    return RetriableError(f"cannot write to {topic}: {error.message}", code="store.write", hint=error.hint)


def require_allowed(topic: str, *, allowed: bool) -> None:
    """Raise RetriableError unless this worker may write."""
    if not allowed:
        text = f"nothing is written to {topic}: this worker is not a member of its group, or another one leads it"
        raise RetriableError(text, code="group.not_member")
