"""Reading partitions from given offsets through kafka-python, without a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import kafka

from headrace.broker.kafka_python.batch_fetching import FetchedRecords, consumed_batch, fetch_columns
from headrace.broker.kafka_python.connection import ClientHandle
from headrace.broker.kafka_python.error_mapping import translated
from headrace.records import ConsumedBatch, TopicPartition


class KafkaPythonReader:
    """See :class:`headrace.broker.interfaces.Reader`."""

    def __init__(self, client: ClientHandle) -> None:
        self._client = client
        self._consumer: kafka.KafkaConsumer = client.client
        fetch_columns(self._consumer)
        self._assigned: list[kafka.TopicPartition] = []

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self._assigned = [kafka.TopicPartition(*item) for item in positions]
        with translated("read from the beginning", self._client):
            self._consumer.assign(self._assigned)
            for item, offset in positions.items():
                self._consumer.seek(kafka.TopicPartition(*item), offset)

    def poll(self, timeout: float, max_records: int) -> list[ConsumedBatch]:
        records: dict[kafka.TopicPartition, list[FetchedRecords]] = {}
        with translated("read", self._client):
            records = self._consumer.poll(timeout_ms=timeout * 1000, max_records=max_records)
        highwater = self._consumer.highwater
        return [consumed_batch(partition, found, highwater(partition)) for partition, found in records.items()]

    def positions(self) -> dict[TopicPartition, int]:
        with translated("read", self._client):
            return {TopicPartition(*item): self._consumer.position(item) for item in self._assigned}

    def beginnings(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        with translated("find the first records", self._client):
            found = self._consumer.beginning_offsets([kafka.TopicPartition(*item) for item in partitions])
        return {TopicPartition(*item): offset for item, offset in found.items()}

    def connection_problem(self) -> str | None:
        failure = self._client.failure()
        return failure.describe() if failure is not None else None

    def close(self) -> None:
        with translated("close", self._client):
            self._consumer.close(autocommit=False)
