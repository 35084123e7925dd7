"""The transactions of a task: its records, dead letters and positions are committed together, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from headrace.broker.interfaces import GroupMetadata, TransactionalProducer
from headrace.broker.producer_fencing import initialized
from headrace.errors import RetriableError, TaskError
from headrace.pipeline.control import TaskControl
from headrace.records import EncodedBatch, TopicPartition

_CLOSE_TIMEOUT = 5.0  # seconds


class SentInTransaction:
    """The delivery of a batch in a transaction: a failure appears when the transaction is committed."""

    def done(self) -> bool:
        return True

    def error(self) -> Exception | None:
        return None


_SENT = SentInTransaction()


class TaskTransaction:
    """The producer of a task and its open transaction, which begins with the first batch.

    After an error in any method, call :meth:`discard`: nothing of the transaction becomes visible, unless it was raised
    by a commit, whose result is known only when a new producer has been opened.
    It is a :class:`headrace.broker.interfaces.Producer`, too, for the dead letter queue.
    """

    def __init__(
        self,
        open_producer: Callable[[], TransactionalProducer],
        transactional_id: str,
        consequence: Callable[[TaskError], TaskError | RetriableError],
        control: TaskControl,
    ) -> None:
        """``consequence`` returns what to raise for an error of the producer, such as ``kafka.producer_fenced``."""
        self._open_producer = open_producer
        self._id = transactional_id
        self._consequence = consequence
        self._control = control
        self._producer: TransactionalProducer | None = None
        self._open = False
        self.records = 0
        """Records of the open transaction."""

    def open(self) -> None:
        """Create a producer; a transaction that an earlier process of this task left open is aborted."""
        if self._producer is None:
            with self._effect():
                self._producer = initialized(self._open_producer(), self._id)

    def send(self, batch: EncodedBatch, partition: int | None = None) -> SentInTransaction:
        with self._effect():
            self._begun().send(batch, partition)
        self.records += len(batch)
        return _SENT

    def commit(self, offsets: Mapping[TopicPartition, int], group: Callable[[], GroupMetadata]) -> None:
        """Commit the sent records together with the offsets. Do nothing if there are neither."""
        if not self._open and not offsets:
            return
        with self._effect():
            producer = self._begun()
            if offsets:
                producer.send_offsets(offsets, group())
            producer.commit()
        self._open, self.records = False, 0

    def commit_sent(self) -> None:
        """Commit what was sent, without offsets."""
        with self._effect():
            self._begun().commit()
        self._open, self.records = False, 0

    def abort(self) -> None:
        """Abort the open transaction, so that readers do not wait for its timeout."""
        if self._open:
            with self._effect():
                self._begun().abort()
            self._open, self.records = False, 0

    def discard(self) -> None:
        """Close the producer without a commit; the broker aborts an open transaction."""
        producer, self._producer = self._producer, None
        self._open, self.records = False, 0
        if producer is not None:
            producer.close(_CLOSE_TIMEOUT)

    def flush(self, timeout: float) -> bool:
        return True

    def connection_problem(self) -> str | None:
        return self._producer.connection_problem() if self._producer is not None else None

    def abandon(self) -> bool:
        """Return True: the fence prevents the commit, and nothing becomes visible without it."""
        return True

    def close(self, timeout: float) -> None:
        self.discard()

    @contextmanager
    def _effect(self) -> Iterator[None]:
        """Guard calls of the producer: none has an effect when the task was abandoned."""
        try:
            with self._control.fence:
                yield
        except TaskError as error:
            consequence = self._consequence(error)
            if consequence is error:
                raise
            raise consequence from error

    def _begun(self) -> TransactionalProducer:
        assert self._producer is not None
        if not self._open:
            self._producer.begin()
            self._open = True
        return self._producer
