"""A librdkafka client is opened when a broker has answered, and is made to connect."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from headrace.broker.librdkafka.open_client import open_client
from headrace.errors import RetriableError

PROPERTIES = {"bootstrap.servers": "broker:9092"}


class IdleClient:
    """A client that connects when it has a request to send, and not because its cluster is asked for."""

    def __init__(self, properties: dict[str, Any], *, reachable: bool = True) -> None:
        self._reachable = reachable
        self._connected = False
        self.closed = False

    def cluster_id(self, timeout: float = -1) -> str:
        if not self._connected:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return "cluster"

    def poll(self, timeout: float = -1) -> None:
        pass

    def list_topics(self, topic: str, timeout: float = -1) -> None:
        if not self._reachable:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        self._connected = True

    def close(self) -> None:
        self.closed = True


def test_a_client_without_a_connection_is_made_to_connect() -> None:
    client, _ = open_client(IdleClient, PROPERTIES, 5.0, IdleClient.close)

    assert client.cluster_id() == "cluster"
    assert not client.closed


def test_a_broker_that_does_not_answer_is_an_error_after_the_timeout() -> None:
    made: list[IdleClient] = []

    def make(properties: dict[str, Any]) -> IdleClient:
        made.append(IdleClient(properties, reachable=False))
        return made[-1]

    with pytest.raises(RetriableError, match="no answer within 0 s"):
        open_client(make, PROPERTIES, 0.0, IdleClient.close)
    assert made[0].closed
