"""Transactions through librdkafka."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from headrace.broker.client_errors import TRANSACTION_ABORTED
from headrace.broker.interfaces import GroupMetadata
from headrace.broker.librdkafka.broker_monitor import BrokerMonitor
from headrace.broker.librdkafka.error_mapping import refuses_record, translate
from headrace.broker.librdkafka.producer import ANY_PARTITION, require_valid
from headrace.broker.librdkafka.record_sending import produce_records
from headrace.errors import HeadraceError, RetriableError
from headrace.records import EncodedBatch, TopicPartition

_TIMEOUT = 30.0  # seconds for each step of a transaction
_POLL_INTERVAL = 0.1
_CLOSE_TIMEOUT = 5.0


class LibrdkafkaTransactionalProducer:
    """See :class:`headrace.broker.interfaces.TransactionalProducer`."""

    def __init__(self, client: tuple[Producer, BrokerMonitor]) -> None:
        self._producer, self._monitor = client
        self._error: HeadraceError | None = None
        self._refusal: KafkaError | None = None  # of a record in this transaction
        self._closed = False

    def init(self) -> None:
        self._run("initialize transactions", lambda: self._producer.init_transactions(_TIMEOUT))

    def begin(self) -> None:
        self._run("begin a transaction", self._producer.begin_transaction)

    def send(self, batch: EncodedBatch, partition: int | None = None) -> None:
        require_valid(batch)
        self._run(f"write to {batch.topic}", lambda: self._produce(batch, partition))

    def _produce(self, batch: EncodedBatch, partition: int | None) -> None:
        produce_records(self._producer.produce, batch, ANY_PARTITION if partition is None else partition, self._report)
        self._producer.poll(0)

    def _report(self, error: KafkaError | None, message: Message) -> None:
        """Delivery callback for a failed record: keeps a refusal, which explains the failed commit."""
        if error is not None and refuses_record(error):
            self._refusal = self._refusal or error

    def send_offsets(self, offsets: Mapping[TopicPartition, int], group: GroupMetadata) -> None:
        wanted = [confluent_kafka.TopicPartition(*item, offset) for item, offset in offsets.items()]
        self._run(
            "send offsets to the transaction",
            lambda: self._producer.send_offsets_to_transaction(wanted, group, _TIMEOUT),
        )

    def commit(self) -> None:
        self._run("commit the transaction", lambda: self._producer.commit_transaction(_TIMEOUT))

    def abort(self) -> None:
        self._run("abort the transaction", lambda: self._producer.abort_transaction(_TIMEOUT))

    def connection_problem(self) -> str | None:
        self._producer.poll(0)
        failure = self._monitor.failure()
        return failure.describe() if failure is not None else None

    def close(self, timeout: float) -> None:
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + min(timeout, _CLOSE_TIMEOUT)
        self._producer.purge()
        while len(self._producer) and time.monotonic() < deadline:
            self._producer.poll(_POLL_INTERVAL)

    def _run(self, doing: str, step: Any) -> None:
        if self._error is not None:
            raise RuntimeError(f"cannot {doing}: the producer has failed; create a new one") from self._error
        try:
            step()
        except BufferError as error:
            text = f"cannot {doing}: librdkafka's send buffer is full"
            hint = "raise queue.buffering.max.kbytes, or commit more often"
            self._error = RetriableError(text, code="kafka.buffer_full", hint=hint)
            raise self._error from error
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            self._error = self._translated(reason, doing)
            raise self._error from error

    def _translated(self, reason: KafkaError, doing: str) -> HeadraceError:
        if self._refusal is not None:
            return translate(self._refusal, doing)
        failure = translate(reason, doing, self._monitor.failure())
        if failure.code == "kafka.failed" and reason.txn_requires_abort():
            return TRANSACTION_ABORTED.error(doing, reason.str())
        return failure
