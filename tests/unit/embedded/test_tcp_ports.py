"""Ports are free when they are given, and a taken one is named."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.embedded.tcp_ports import free_port, is_free, preferred_port, require_free
from headrace.errors import InfrastructureError


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_no_port_is_given_twice() -> None:
    ports = [free_port() for _ in range(200)]

    assert len(set(ports)) == 200
    # Below the range that the system gives to clients: none of them can take an engine's port while it is down.
    assert all(20000 <= port <= 32000 for port in ports)


def test_a_preferred_port_is_taken_if_it_is_free(taken: Any) -> None:
    wish = free_port()

    assert preferred_port(wish) == wish
    assert preferred_port(taken) != taken


def test_ports_for_several_brokers_are_all_free(taken: Any) -> None:
    first = preferred_port(taken - 1, 3)

    assert taken not in range(first, first + 3)
    assert all(is_free(port) for port in range(first, first + 3))


def test_a_port_in_use_says_who_wanted_it_and_how_to_choose_another(taken: Any) -> None:
    with pytest.raises(
        InfrastructureError, match=f"kafka cannot listen on 127.0.0.1:{taken}: the port is in use"
    ) as caught:
        require_free(taken, "kafka")

    assert caught.value.code == "embedded.port_in_use"
    assert caught.value.exit_code == 3
    assert "--kafka-port" in caught.value.hint
