"""``headrace run --workers 2`` as a process, without a Kafka that answers: signals, restarts, the end of the parent."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from headrace.embedded.tcp_ports import free_port
from headrace.testing.waiting import eventually
from tests.engines.http import HTTP

SETTINGS = {
    "bootstrap.servers": "127.0.0.1:1",
    "group.id": "g",
    "config.storage.topic": "g-configs",
    "offset.storage.topic": "g-offsets",
    "status.storage.topic": "g-statuses",
}


class RunningCommand:
    """``headrace run`` with its log."""

    def __init__(self, box: Any, folder: Path, *options: str, **environment: str) -> None:
        self.ports = two_free_ports()
        self._log = folder / "log"
        worker = folder / "worker.yaml"
        worker.write_text(yaml.safe_dump({**SETTINGS, "listeners": f"http://127.0.0.1:{self.ports[0]}"}))
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(box.headrace), "run", str(worker), "--log-format", "json", *options],
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )
        self._timeout: float = box.timeout

    def events(self) -> list[dict[str, Any]]:
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def workers(self) -> list[psutil.Process]:
        """Return the processes of the workers, in the order of their numbers."""
        children = psutil.Process(self.process.pid).children()
        return sorted(children, key=lambda child: child.cmdline()[-1])

    def wait_until_live(self) -> None:
        def live() -> bool:
            try:
                return all(
                    HTTP.get(f"http://127.0.0.1:{port}/health/live", timeout=5).status_code == 200
                    for port in self.ports
                )
            except httpx.TransportError:
                return False

        eventually(live, self._timeout)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(self._timeout)


def two_free_ports() -> tuple[int, int]:
    """Return a free port whose next one is free, too."""
    while True:
        port = free_port()
        try:
            socket.create_server(("127.0.0.1", port + 1)).close()
        except OSError:
            continue
        return port, port + 1


@pytest.fixture
def run(box: Any, tmp_path: Path) -> Iterator[Callable[..., RunningCommand]]:
    made: list[RunningCommand] = []

    def start(*options: str, **environment: str) -> RunningCommand:
        made.append(RunningCommand(box, tmp_path, *options, **environment))
        return made[-1]

    yield start
    for each in made:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def test_several_workers_share_a_log_and_are_restarted_and_stopped_together(
    run: Callable[..., RunningCommand], box: Any
) -> None:
    command = run("--workers", "2")
    command.wait_until_live()
    first, second = command.workers()
    second.kill()
    eventually(lambda: [event for event in command.events() if event["event"] == "worker ended"], box.timeout)
    (ended,) = [event for event in command.events() if event["event"] == "worker ended"]
    assert (ended["process"], ended["reason"]) == ("worker-2", "signal SIGKILL")
    eventually(lambda: len(command.workers()) == 2, box.timeout)
    command.wait_until_live()
    assert command.workers()[0].pid == first.pid, "the other worker is not touched"
    listening = [event for event in command.events() if event["event"] == "rest.listening"]
    assert [event["process"] for event in sorted(listening, key=lambda event: str(event["urls"]))] == [
        "worker-1",
        "worker-2",
        "worker-2",
    ]
    workers = command.workers()
    assert command.stop() == 0
    assert not any(worker.is_running() for worker in workers)

    again = run("--workers", "2")
    eventually(lambda: len(again.workers()) == 2, box.timeout)
    workers = again.workers()
    again.process.kill()
    again.process.wait()
    psutil.wait_procs(workers, box.timeout)
    assert not any(worker.is_running() for worker in workers), "workers end with their parent"


def test_systemd_is_told_that_a_worker_waits_for_kafka_and_is_alive(
    run: Callable[..., RunningCommand], tmp_path: Path, box: Any
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(box.timeout)
        command = run(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="3000000")
        first = systemd.recv(4096).decode()
        assert "STATUS=Worker is still starting up: " in first
        assert "WATCHDOG=1" in first
        seen = [first]
        while "WATCHDOG=1" not in seen[-1] or len(seen) < 2:
            seen.append(systemd.recv(4096).decode())
        assert command.stop() == 0
        systemd.settimeout(1)
        try:
            while True:
                seen.append(systemd.recv(4096).decode())
        except TimeoutError:
            pass
        assert seen[-1] == "STOPPING=1"
        assert not any("READY=1" in text for text in seen), "it has not joined its group"
