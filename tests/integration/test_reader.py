"""Readers of both Kafka clients on a real Kafka."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kafka as kafka_python
import pytest

from headrace.broker.interfaces import KafkaClients
from headrace.broker.kafka_python import KafkaPythonClients
from headrace.broker.librdkafka import LibrdkafkaClients
from headrace.records import TopicPartition
from headrace.testing.reader_contract import ReaderContract


@pytest.fixture(params=[KafkaPythonClients, LibrdkafkaClients], ids=["kafka-python", "confluent"])
def kafka_clients(request: pytest.FixtureRequest, kafka: Any) -> KafkaClients:
    settings = {"bootstrap.servers": kafka.bootstrap_servers, "bootstrap.timeout.ms": "60000"}
    clients: KafkaClients = request.param(settings)
    return clients


class TestReaders(ReaderContract):
    @pytest.fixture
    def delete_records(self, kafka: Any) -> Callable[[TopicPartition, int], None]:
        def delete(place: TopicPartition, offset: int) -> None:
            admin = kafka_python.KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
            admin.delete_records({kafka_python.TopicPartition(*place): offset})
            admin.close()

        return delete
