"""Connections of kafka-python, as the adapter corrects them, to a server that never answers."""

from __future__ import annotations

import socket

from kafka.net.selector import NetworkSelector

from headrace.broker.kafka_python.connection import TrackingConnectionManager
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
