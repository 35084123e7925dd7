"""Transactions through kafka-python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import kafka
from kafka.errors import KafkaError, UnsupportedVersionError

from headrace.broker.client_errors import PRODUCER_FENCED
from headrace.broker.interfaces import GroupMetadata
from headrace.broker.kafka_python.batch_sending import BatchSender, SentRecords
from headrace.broker.kafka_python.connection import (
    ClientHandle,
    close_producer,
    complete_transactional_request,
    fail_on_stale_epoch,
    transaction_error,
)
from headrace.broker.kafka_python.error_mapping import kind_of, translate
from headrace.broker.kafka_python.producer import invalid_topic
from headrace.errors import HeadraceError
from headrace.records import EncodedBatch, TopicPartition

_FLUSH_TIMEOUT = 30.0  # seconds
_REQUEST_TIMEOUT = 30.0
"""Seconds, long enough for the broker to end the transaction that was open before."""


class KafkaPythonTransactionalProducer:
    """See :class:`headrace.broker.interfaces.TransactionalProducer`.

    After a failed record a later commit may raise an error that hides the reason. So the records' results are checked
    before a commit, and the producer is not used any more after the first error. It never asks for a new epoch by
    itself: that would fence the producer which has replaced it.
    """

    def __init__(self, client: ClientHandle) -> None:
        self._client = client
        self._producer: kafka.KafkaProducer = client.client
        fail_on_stale_epoch(self._producer)
        self._sender = BatchSender(self._producer)
        self._sent: list[SentRecords] = []  # in this transaction
        self._error: HeadraceError | None = None
        self._closed = False

    def init(self) -> None:
        self._run("initialize transactions", self._producer.init_transactions)

    def begin(self) -> None:
        self._run("begin a transaction", self._producer.begin_transaction)

    def send(self, batch: EncodedBatch, partition: int | None = None) -> None:
        try:
            self._run(f"write to {batch.topic}", lambda: self._sent.extend(self._sender.send(batch, partition)))
        except ValueError as error:
            raise invalid_topic(batch, error) from error

    def send_offsets(self, offsets: Mapping[TopicPartition, int], group: GroupMetadata) -> None:
        wanted = {
            kafka.TopicPartition(*item): kafka.OffsetAndMetadata(offset, "", -1) for item, offset in offsets.items()
        }
        self._run(
            "send offsets to the transaction",
            lambda: self._complete(lambda manager: manager.send_offsets_to_transaction(wanted, group)),
        )

    def commit(self) -> None:
        self._run("commit the transaction", self._commit)
        self._sent.clear()

    def _commit(self) -> None:
        self._producer.flush(timeout=_FLUSH_TIMEOUT)
        if failed := self._failures():
            raise failed[0]
        self._complete(lambda manager: manager.begin_commit())

    def abort(self) -> None:
        self._run("abort the transaction", lambda: self._complete(lambda manager: manager.begin_abort()))
        self._sent.clear()

    def connection_problem(self) -> str | None:
        failure = self._client.failure()
        return failure.describe() if failure is not None else None

    def close(self, timeout: float) -> None:
        del timeout  # nothing is flushed: an open transaction is aborted
        if not self._closed:
            self._closed = True
            close_producer(self._producer)

    def _run(self, doing: str, step: Callable[[], object]) -> None:
        if self._error is not None:
            raise RuntimeError(f"cannot {doing}: the producer has failed; create a new one") from self._error
        try:
            step()
        except KafkaError as error:
            self._error = self._translated(error, doing)
            raise self._error from error

    def _complete(self, begin: Callable[[Any], Any]) -> None:
        complete_transactional_request(self._producer, begin, _REQUEST_TIMEOUT)

    def _failures(self) -> list[Exception]:
        return [error for part in self._sent for error, _ in part.errors()]

    def _translated(self, error: KafkaError, doing: str) -> HeadraceError:
        causes = [*self._failures(), error, transaction_error(self._producer), error.__cause__]
        if any(cause is not None and kind_of(cause) is PRODUCER_FENCED for cause in causes):
            return PRODUCER_FENCED.error(doing, "")
        if isinstance(error, UnsupportedVersionError):
            return translate(error, doing)
        return translate(next(cause for cause in causes if cause is not None), doing, self._client.failure())
