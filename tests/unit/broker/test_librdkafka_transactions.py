from __future__ import annotations

import pytest

from headrace.broker.librdkafka import LibrdkafkaClients
from headrace.embedded.tcp_ports import free_port
from headrace.errors import RetriableError


@pytest.mark.parametrize("timeout", ["1000", "10000", "60000"])
def test_a_transaction_timeout_below_the_socket_timeout_is_accepted(timeout: str) -> None:
    settings = {"bootstrap.servers": f"127.0.0.1:{free_port()}", "bootstrap.timeout.ms": "1"}
    with pytest.raises(RetriableError) as caught:  # a ConfigError before
        LibrdkafkaClients(settings).transactional_producer("t", {"transaction.timeout.ms": timeout})
    assert caught.value.code == "kafka.unreachable"
