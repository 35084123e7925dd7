"""A commit with a timeout: librdkafka's own waits without limit for a coordinator that does not respond."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import confluent_kafka
from confluent_kafka import Consumer, KafkaException


class TimedCommit:
    """One synchronous commit on its own thread, which ends when librdkafka returns.

    A commit that was not answered in time may still happen later, while :meth:`is_alive`. That loses no record: offsets
    are those of records that are done.
    """

    def __init__(self, consumer: Consumer, offsets: Sequence[confluent_kafka.TopicPartition]) -> None:
        self._consumer, self._offsets = consumer, list(offsets)
        self._answers: Sequence[confluent_kafka.TopicPartition] = ()
        self._error: BaseException | None = None
        self._lock = threading.Lock()  # guards the two below
        self._ended = self._closes = False
        self._thread = threading.Thread(target=self._run, name="kafka-commit", daemon=True)
        self._thread.start()

    def answers(self, timeout: float) -> Sequence[confluent_kafka.TopicPartition] | None:
        """Return one answer per partition, or None after ``timeout`` seconds. Raise KafkaException."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            return None
        if self._error is not None:
            raise self._error
        return self._answers

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def close_when_done(self) -> bool:
        """Close the consumer when the commit ends, if it is still running; return whether that will happen.

        A consumer must not be closed while librdkafka is committing.
        """
        with self._lock:
            self._closes = not self._ended
            return self._closes

    def _run(self) -> None:
        try:
            self._answers = self._consumer.commit(offsets=self._offsets, asynchronous=False) or ()
        except BaseException as error:  # raised by answers()
            self._error = error
        with self._lock:
            self._ended = True
            closes = self._closes
        if closes:
            try:
                self._consumer.close()
            except KafkaException:
                return  # there is no caller any more; the group notices that this member has left
