from __future__ import annotations

import pytest

from headrace.broker.kafka_python import KafkaPythonBroker
from headrace.testing.broker import BrokerContract


@pytest.fixture
def broker(kafka) -> KafkaPythonBroker:
    return KafkaPythonBroker({"bootstrap.servers": kafka.bootstrap_servers})


class TestContract(BrokerContract):
    """kafka-python against a real Kafka."""
