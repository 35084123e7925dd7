"""Read partitions from given offsets through librdkafka, without joining a consumer group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import confluent_kafka
from confluent_kafka import Consumer, KafkaError

from headrace.broker.librdkafka.broker_monitor import BrokerMonitor
from headrace.broker.librdkafka.consumer import consumed_batch, group_by_partition, is_transient
from headrace.broker.librdkafka.error_mapping import translate, translated
from headrace.errors import HeadraceError
from headrace.records import ConsumedBatch, TopicPartition

_TIMEOUT = 10.0  # seconds for a response; the caller retries


class LibrdkafkaReader:
    """See :class:`headrace.broker.interfaces.Reader`. Needs a consumer with ``enable.partition.eof``.

    librdkafka's own position is that after the last record; the end-of-partition event has the offset after gaps.
    """

    def __init__(self, client: tuple[Consumer, BrokerMonitor]) -> None:
        self._consumer, self._monitor = client
        self._positions: dict[TopicPartition, int] = {}
        self._failure: HeadraceError | None = None
        """Came with records, which are returned first; librdkafka reports an error once."""
        self._closed = False

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self._positions, self._failure = dict(positions), None
        with translated("assign partitions", self._monitor):
            self._consumer.assign([confluent_kafka.TopicPartition(*item, offset) for item, offset in positions.items()])

    def poll(self, timeout: float, max_records: int) -> list[ConsumedBatch]:
        self._raise_failure()
        with translated("read", self._monitor):
            messages = self._consumer.consume(max_records, 0)
            if not messages and timeout > 0:
                messages = self._consumer.consume(1, timeout)
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._advance(TopicPartition(str(message.topic()), int(message.partition() or 0)), message.offset())
            elif not is_transient(error):
                self._failure = self._failure or translate(error, "read", self._monitor.failure())
        if not records:
            self._raise_failure()
            return []
        self._monitor.clear()
        batches = [consumed_batch(self._consumer, item, found) for item, found in group_by_partition(records)]
        for batch in batches:
            self._advance(batch.topic_partition, batch.offsets[-1] + 1)
        return batches

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _advance(self, item: TopicPartition, offset: int | None) -> None:
        if offset is not None and item in self._positions:
            self._positions[item] = max(self._positions[item], offset)

    def positions(self) -> dict[TopicPartition, int]:
        return dict(self._positions)

    def beginnings(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        found = {}
        for item in partitions:
            with translated(f"find the first record of {item}", self._monitor):
                first, _ = self._consumer.get_watermark_offsets(
                    confluent_kafka.TopicPartition(*item), timeout=_TIMEOUT, cached=False
                )
            found[item] = first
        return found

    def connection_problem(self) -> str | None:
        failure = self._monitor.failure()
        return failure.describe() if failure is not None else None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            with translated("close the reader", self._monitor):
                self._consumer.close()
