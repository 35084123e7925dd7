"""Chosen ports are free, and a port in use is named."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.embedded.tcp_ports import free_port, is_free, preferred_port, require_free
from headrace.errors import ConfigError, InfrastructureError


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_no_port_is_chosen_twice() -> None:
    ports = [free_port() for _ in range(200)]

    assert len(set(ports)) == 200
    # Below the range that the system gives to clients: none of them can take an engine's port while it is down.
    assert all(20000 <= port <= 32000 for port in ports)


def test_a_preferred_port_is_chosen_if_it_is_free(taken: Any) -> None:
    wish = free_port()

    assert preferred_port(wish) == wish
    assert preferred_port(taken) != taken


def test_ports_are_chosen_from_the_range_of_the_environment(taken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_EMBEDDED_PORTS", "19000-19009")

    ports = [free_port() for _ in range(3)]

    assert len(set(ports)) == 3
    assert all(19000 <= port <= 19009 for port in ports)
    assert preferred_port(ports[0]) == ports[0]
    assert 19000 <= preferred_port(9092) <= 19009


def test_a_range_without_a_free_port_is_an_error(taken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_EMBEDDED_PORTS", f"{taken}-{taken}")

    with pytest.raises(InfrastructureError, match=f"no free TCP port between {taken} and {taken}"):
        free_port()


@pytest.mark.parametrize("text", ["", "9092", "9-1", "1-70000", "a-b", "0-10"])
def test_an_invalid_range_is_a_configuration_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_EMBEDDED_PORTS", text)

    with pytest.raises(ConfigError, match="HEADRACE_EMBEDDED_PORTS") as caught:
        free_port()

    assert "21000-21999" in caught.value.hint


def test_ports_for_several_brokers_are_all_free(taken: Any) -> None:
    first = preferred_port(taken - 1, 3)

    assert taken not in range(first, first + 3)
    assert all(is_free(port) for port in range(first, first + 3))


def test_a_port_in_use_is_reported_with_its_engine_and_how_to_choose_another(taken: Any) -> None:
    with pytest.raises(
        InfrastructureError, match=f"kafka cannot listen on 127.0.0.1:{taken}: the port is in use"
    ) as caught:
        require_free(taken, "kafka")

    assert caught.value.code == "embedded.port_in_use"
    assert caught.value.exit_code == 3
    assert "--kafka-port" in caught.value.hint
