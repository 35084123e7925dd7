"""``headrace run --workers N`` passes on signals, restarts dead workers, and ends when a restart does not help."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from headrace.cli.worker_processes import MISTAKE, WorkerProcesses, numbered, require_group
from headrace.errors import CommandError, ConfigError
from headrace.settings import WorkerSettings
from headrace.testing.waiting import eventually

GROUP = {
    "bootstrap.servers": "x:1",
    "group.id": "g",
    "config.storage.topic": "configs",
    "offset.storage.topic": "offsets",
    "status.storage.topic": "statuses",
}


class FakeChild:
    """A process that ends when a test says so, or with its answer to SIGTERM; None: it ignores the signal."""

    def __init__(self, on_term: int | None) -> None:
        self._on_term = on_term
        self._ended = threading.Event()
        self.code = 0
        self.signals: list[int] = []

    def end(self, code: int) -> None:
        self.code = code
        self._ended.set()

    def wait(self, timeout: float | None = None) -> int:
        self._ended.wait(timeout)
        return self.code

    def send_signal(self, sig: int) -> None:
        self.signals.append(sig)
        if self._on_term is not None:
            self.end(self._on_term)

    def kill(self) -> None:
        self.end(-signal.SIGKILL)


class Running:
    """A parent with two fake workers."""

    def __init__(self, on_term: int | None = 0, **options: Any) -> None:
        self.children: dict[int, list[FakeChild]] = {}
        self.ended = threading.Event()
        self.code: int | None = None
        self._on_term = on_term
        self._processes = WorkerProcesses(self._start, 2, self.ended, backoff=(0.01, 0.04), **options)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _start(self, number: int) -> FakeChild:
        child = FakeChild(self._on_term)
        self.children.setdefault(number, []).append(child)
        return child

    def _run(self) -> None:
        self.code = self._processes.run()

    def starts(self, number: int) -> int:
        return len(self.children.get(number, []))

    def stop(self) -> int | None:
        self.ended.set()
        self.thread.join(20)
        return self.code


@pytest.fixture
def run() -> Callable[..., Running]:
    def start(**options: Any) -> Running:
        made = Running(**options)
        eventually(lambda: made.starts(1) == made.starts(2) == 1)
        return made

    return start


def test_a_stop_is_passed_on_to_every_worker_once(run: Callable[..., Running]) -> None:
    made = run()
    assert made.stop() == 0
    assert [child.signals for children in made.children.values() for child in children] == [[signal.SIGTERM]] * 2


def test_the_exit_code_is_that_of_the_worker_that_did_not_stop_in_order(run: Callable[..., Running]) -> None:
    assert run(on_term=1).stop() == 1


def test_a_dead_worker_is_started_again_and_the_log_says_so(run: Callable[..., Running]) -> None:
    with capture_logs() as logs:
        made = run()
        for number in range(1, 4):
            made.children[2][-1].end(-signal.SIGKILL)
            eventually(lambda number=number: made.starts(2) == number + 1)  # type: ignore[misc]
        assert made.starts(1) == 1, "the other worker is not touched"
        assert made.stop() == 0
    told = [(entry["process"], entry["reason"], entry["next"]) for entry in logs if entry["event"] == "worker ended"]
    waits = ["0.01 s", "0.02 s", "0.04 s"]
    assert told == [("worker-2", "signal SIGKILL", f"it is started again in {wait}") for wait in waits]


def test_a_wrong_configuration_stops_all_workers(run: Callable[..., Running]) -> None:
    made = run()
    made.children[1][0].end(MISTAKE)
    made.thread.join(20)
    assert made.code == MISTAKE
    assert (made.starts(1), made.children[2][0].signals) == (1, [signal.SIGTERM])


def test_a_worker_that_does_not_stop_is_killed(run: Callable[..., Running]) -> None:
    made = run(on_term=None, timeout=0.1)
    assert made.stop() == 128 + signal.SIGKILL


def test_each_worker_has_its_own_ports_and_state() -> None:
    given = {"listeners": "http://127.0.0.1:8083", "admin.listeners": "https://[::1]:9083", "state.dir": "/s"}
    settings = WorkerSettings.parse({**GROUP, **given, "rest.advertised.port": "80"})
    assert numbered(settings, 1).listeners == ("http://127.0.0.1:8083",)
    third = numbered(settings, 3)
    assert (third.listeners, third.admin_listeners) == (("http://127.0.0.1:8085",), ("https://[::1]:9085",))
    assert (third.advertised_port, third.state_dir) == (82, "/s/worker-3")
    any_port = WorkerSettings.parse({**GROUP, "listeners": "http://0.0.0.0:0"})
    assert numbered(any_port, 2).listeners == ("http://0.0.0.0:0",)


def test_several_workers_need_a_group_and_enough_ports() -> None:
    with pytest.raises(CommandError, match=r"has no group\.id"):
        require_group(WorkerSettings.parse({"bootstrap.servers": "x:1"}), 2)
    close = WorkerSettings.parse({**GROUP, "listeners": "http://127.0.0.1:8083, https://127.0.0.1:8084"})
    with pytest.raises(ConfigError, match="overlap"):
        require_group(close, 2)
    require_group(close, 1)
