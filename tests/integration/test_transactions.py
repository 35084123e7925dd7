"""Transactions of both Kafka clients on a real Kafka."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.broker.interfaces import KafkaClients
from headrace.broker.kafka_python import KafkaPythonClients
from headrace.broker.librdkafka import LibrdkafkaClients
from headrace.testing.transaction_contract import TransactionContract


@pytest.fixture(params=[KafkaPythonClients, LibrdkafkaClients], ids=["kafka-python", "confluent"])
def kafka_clients(request: pytest.FixtureRequest, kafka: Any) -> KafkaClients:
    settings = {"bootstrap.servers": kafka.bootstrap_servers, "bootstrap.timeout.ms": "60000"}
    clients: KafkaClients = request.param(settings)
    return clients


class TestTransactions(TransactionContract):
    """The same contract as in memory."""
