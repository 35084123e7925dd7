"""Connections and transactions of kafka-python, as the adapter corrects them."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError, NotCoordinatorError
from kafka.net.selector import NetworkSelector
from kafka.producer.transaction_manager import TransactionManager

from headrace.broker.kafka_python.connection import TrackingConnectionManager, complete_transactional_request
from headrace.testing.waiting import eventually


def test_a_client_that_is_closed_with_an_unsent_request_closes_its_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        net = NetworkSelector()
        manager = TrackingConnectionManager(net, bootstrap_servers=[f"127.0.0.1:{server.getsockname()[1]}"])
        connection = manager.get_connection(manager.cluster.bootstrap_brokers()[0].node_id)

        def connected() -> bool:
            net.poll(timeout_ms=50)
            return connection.transport is not None

        eventually(connected)
        transport = connection.transport
        transport.write(b"a request")
        transport.close()  # which waits until it is sent
        manager.close()
        net.close()

        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(10)
            while accepted.recv(4096):
                pass  # until the end of the connection; raises TimeoutError while it is open
        assert transport.is_closing()


class _Producer:
    """A transaction manager of kafka-python with a sender that, like its own, ends one request when it is woken."""

    def __init__(self) -> None:
        self._transaction_manager = manager = TransactionManager("payments")
        manager.initialize_transactions()
        response = SimpleNamespace(error_code=0, producer_id=1, producer_epoch=0)
        manager.next_request_handler(False).handle_response(response)
        manager.begin_transaction()
        self._sender = self

    def wakeup(self) -> None:
        self._transaction_manager.next_request_handler(False)


def test_a_transactional_request_behind_another_one_ends_after_an_error() -> None:
    producer = _Producer()

    def begin(manager: Any) -> Any:
        manager.maybe_add_partition_to_transaction(TopicPartition("payments", 0))
        result = manager.send_offsets_to_transaction({}, "group")
        manager.transition_to_abortable_error(NotCoordinatorError("moved"))
        return result

    with pytest.raises(NotCoordinatorError):
        complete_transactional_request(cast("KafkaProducer", producer), begin, timeout=60)


def test_a_transactional_request_without_a_response_ends_after_its_timeout() -> None:
    producer = _Producer()
    with pytest.raises(KafkaTimeoutError):
        complete_transactional_request(
            cast("KafkaProducer", producer), lambda manager: manager.send_offsets_to_transaction({}, "group"), timeout=0
        )
