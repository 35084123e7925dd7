"""A supervised process ends when it is stopped or killed, and when its owner has ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from headrace.embedded.process import SupervisedProcess
from headrace.errors import InfrastructureError

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
ORDERLY = """
import signal, sys, time
def end(*_): print('in order', flush=True); sys.exit()
signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(600)
"""
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
print('up', child.pid, flush=True); time.sleep(600)
"""


@pytest.fixture
def started(tmp_path: Path, python: Any) -> Iterator[Callable[..., SupervisedProcess]]:
    running: list[SupervisedProcess] = []

    def start(program: str, **arguments: Any) -> SupervisedProcess:
        process = SupervisedProcess(python(program), tmp_path / "log", **arguments)
        running.append(process)
        assert process.wait_until(lambda: "up" in process.log_text(), 30), process.log_text()
        return process

    yield start
    for process in running:
        process.kill()


def test_a_stopped_process_ends_gracefully(started: Any) -> None:
    process = started(ORDERLY)

    process.stop()

    assert not process.alive
    assert not psutil.pid_exists(process.pid)
    assert process.log_text() == "up\nin order\n"


def test_a_process_that_ignores_the_stop_signal_is_killed_after_the_timeout(started: Any) -> None:
    process = started(STUBBORN, grace=0.05)

    process.stop()

    assert not psutil.pid_exists(process.pid)


def test_a_kill_ends_child_processes(started: Any) -> None:
    process = started(PARENT)
    child = int(process.log_text().split()[1])

    process.kill()

    assert not psutil.pid_exists(process.pid)
    assert not psutil.pid_exists(child)


def test_stop_and_kill_have_no_effect_on_an_ended_process(tmp_path: Path, python: Any) -> None:
    process = SupervisedProcess(python("pass"), tmp_path / "log")
    assert process.ended(30)

    process.stop()
    process.kill()

    assert not process.alive


def test_a_wait_ends_when_the_process_ends(tmp_path: Path, python: Any) -> None:
    process = SupervisedProcess(python("print('I give up'); raise SystemExit(4)"), tmp_path / "log")

    assert not process.wait_until(lambda: False, 60)
    assert "I give up" in process.log_tail()
    process.stop()


def test_the_log_tail_contains_only_the_current_start(tmp_path: Path, python: Any) -> None:
    for word in ("first", "second"):
        process = SupervisedProcess(python(f"print({word!r})"), tmp_path / "log")
        assert process.ended(30)
        process.stop()

    assert process.log_tail() == "    second"
    assert (tmp_path / "log").read_text() == "first\nsecond\n"


def test_a_program_that_cannot_be_run_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="cannot be run") as caught:
        SupervisedProcess([str(tmp_path / "absent")], tmp_path / "log")

    assert "No such file or directory" in caught.value.message
    assert "Traceback" not in caught.value.message


@pytest.mark.parametrize("victim", ["owner", "supervisor"])
def test_a_process_ends_when_its_owner_or_supervisor_is_killed(tmp_path: Path, python: Any, victim: Any) -> None:
    if victim == "supervisor" and sys.platform != "linux":
        pytest.skip("only Linux has a death signal")
    owner_program = (
        "import sys; from pathlib import Path; from headrace.embedded.process import SupervisedProcess\n"
        f"process = SupervisedProcess({python(ORDERLY)!r}, Path({str(tmp_path / 'log')!r}))\n"
        "print(process.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", owner_program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        process = psutil.Process(int(owner.stdout.readline()))
        supervisor = process.parent()
        assert supervisor is not None
        owner_process = psutil.Process(owner.pid)

        (owner_process if victim == "owner" else supervisor).send_signal(signal.SIGKILL)

        assert psutil.wait_procs([process], timeout=30)[1] == []
        owner.kill()
