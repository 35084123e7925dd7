import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from demo.worker import DemoWorker, default_command, free_port
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
def make_worker(tmp_path: Path) -> Iterator[Callable[..., DemoWorker]]:
    """Make workers that run a given command, and stop them after the test."""
    with ExitStack() as stop:

        def make(*command: str, **arguments: float) -> DemoWorker:
            worker = DemoWorker({"DATABASE_URL": "here"}, tmp_path / "worker.log", command=command, **arguments)
            stop.callback(worker.stop)
            return worker

        yield make


def wait_until(condition: Callable[[], object]) -> None:
    deadline, tick = time.monotonic() + 30, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        tick.wait(0.02)


def test_a_worker_that_does_not_stop_is_killed_with_its_children(make_worker: Callable[..., DemoWorker]) -> None:
    worker = make_worker(sys.executable, "-c", STUBBORN, stop_timeout=0.2)
    worker.start()
    wait_until(worker.tail)
    pid, environment = worker.tail().split()
    child = psutil.Process(int(pid))

    worker.stop()

    assert environment == "here"
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_the_end_of_the_log_is_available_when_it_fails(make_worker: Callable[..., DemoWorker]) -> None:
    worker = make_worker(sys.executable, "-c", "print(*range(100), sep='\\n'); raise SystemExit(3)")
    worker.start()
    wait_until(lambda: worker.ended)

    assert worker.tail(2) == "98\n99"


def test_a_missing_program_is_explained(make_worker: Callable[..., DemoWorker]) -> None:
    with pytest.raises(InfrastructureError) as caught:
        make_worker("/nowhere/headrace").start()
    assert "pip install" in caught.value.hint


def test_the_command_names_every_connector_file() -> None:
    program, verb, settings, *connectors = default_command()

    assert (Path(program).name, verb) == ("headrace", "run")
    assert Path(settings).is_file()
    assert [Path(file).stem for file in connectors] == [
        "conversions",
        "elasticsearch",
        "impressions",
        "offers",
        "enrichment",
    ]


def test_a_port_in_use_is_not_chosen() -> None:
    port = tcp_ports.free_port()  # outside the range of ephemeral ports
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()

        assert free_port(port) != port
    assert free_port(port) == port
