import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from demo import worker as module
from demo.worker import Worker, free_port
from headrace.embedded import tcp_ports
from headrace.errors import InfrastructureError

STUBBORN = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, os.environ["DATABASE_URL"], flush=True)
signal.pause()
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker({"DATABASE_URL": "here"}, tmp_path / "worker.log")
    yield worker
    worker.stop()


def wait_until(condition: Callable[[], object]) -> None:
    deadline, tick = time.monotonic() + 30, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        tick.wait(0.02)


def test_a_worker_that_will_not_stop_is_killed_with_its_children(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_TIMEOUT", 0.2)
    monkeypatch.setattr(Worker, "command", staticmethod(lambda: [sys.executable, "-c", STUBBORN]))
    worker.start()
    wait_until(worker.tail)
    pid, environment = worker.tail().split()
    child = psutil.Process(int(pid))

    worker.stop()

    assert environment == "here"
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_the_end_of_the_log_is_at_hand_when_it_fails(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "print(*range(100), sep='\\n'); raise SystemExit(3)"
    monkeypatch.setattr(Worker, "command", staticmethod(lambda: [sys.executable, "-c", code]))
    worker.start()
    wait_until(lambda: worker.ended)

    assert worker.tail(2) == "98\n99"


def test_a_program_that_is_not_there_is_explained(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "command", staticmethod(lambda: ["/nowhere/headrace"]))

    with pytest.raises(InfrastructureError) as caught:
        worker.start()
    assert "pip install" in caught.value.hint


def test_the_command_names_every_connector_file() -> None:
    program, verb, settings, *connectors = Worker.command()

    assert (Path(program).name, verb) == ("headrace", "run")
    assert Path(settings).is_file()
    assert [Path(file).stem for file in connectors] == ["conversions", "elasticsearch", "impressions", "offers"]


def test_a_taken_port_is_not_chosen() -> None:
    port = tcp_ports.free_port()  # none that a client may be given in between
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()

        assert free_port(port) != port
    assert free_port(port) == port
