"""systemd is told when the worker has started, what it waits for, and that its threads are alive."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.cli.service_notify import ServiceNotifier
from headrace.runtime.api import Health
from headrace.testing.waiting import eventually


class ServiceManager:
    """The other end of systemd's socket, and the health of a worker."""

    def __init__(self, address: str) -> None:
        self.environment = {"NOTIFY_SOCKET": address.replace("\0", "@"), "WATCHDOG_USEC": "30000", "OTHER": "1"}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(20)
        self.health, self.live = Health("starting", "Kafka does not answer"), Health("healthy", "")
        self.seen: list[str] = []

    def notifier(self) -> ServiceNotifier:
        return ServiceNotifier(lambda: self.live, lambda: self.health, self.environment)

    def receive(self, count: int = 1) -> list[str]:
        """Return the lines of the next datagrams."""
        lines = [line for _ in range(count) for line in self._socket.recv(4096).decode().splitlines()]
        self.seen += lines
        return lines

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServiceManager]:
    path = str(tmp_path / "notify")
    made = ServiceManager(path if request.param == "path" else f"\0{path}")
    yield made
    made.close()


def test_the_worker_is_ready_when_it_has_joined_and_says_what_it_waits_for(systemd: ServiceManager) -> None:
    notifier = systemd.notifier()
    assert systemd.environment == {"OTHER": "1"}, "no other process may use the socket"
    notifier.start()
    assert systemd.receive() == ["STATUS=Kafka does not answer", "WATCHDOG=1"]
    systemd.health = Health("healthy", "ready to handle requests")
    eventually(lambda: "READY=1" in systemd.receive())
    assert "STATUS=ready to handle requests" in systemd.seen
    systemd.receive(3)
    notifier.stop()
    eventually(lambda: "STOPPING=1" in systemd.receive())
    assert systemd.seen.count("READY=1") == 1


def test_a_worker_that_hangs_does_not_feed_the_watchdog(systemd: ServiceManager) -> None:
    systemd.live = Health("unhealthy", "the control thread has ended")
    notifier = systemd.notifier()
    notifier.start()
    assert systemd.receive() == ["STATUS=Kafka does not answer"]
    systemd.live = Health("healthy", "")
    assert systemd.receive() == ["WATCHDOG=1"]
    notifier.stop()


def test_without_systemd_nothing_is_sent() -> None:
    notifier = ServiceNotifier(lambda: Health("healthy", ""), lambda: Health("healthy", ""), {})
    notifier.start()
    notifier.stop()
