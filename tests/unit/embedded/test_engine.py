"""Start and end of an engine, tested with small programs: messages of a failed start, and cleanup."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import psutil
import pytest

from headrace.embedded.engine import Engine
from headrace.embedded.lock import FileLock
from headrace.embedded.process import SupervisedProcess
from headrace.errors import InfrastructureError
from headrace.testing.waiting import eventually

SERVER = "import time; print('ready', flush=True); time.sleep(600)"


def children() -> set[psutil.Process]:
    """Return the children of this process, including engines of other tests."""
    return set(psutil.Process().children(recursive=True))


class ProgramEngine(Engine):
    name = "toy"
    title = "Toy"

    def __init__(
        self, folder: Path, program: str = SERVER, port: int | None = None, start_timeout: float = 90.0
    ) -> None:
        super().__init__(folder, port)
        self.start_timeout = start_timeout
        self.program = program
        self.prepared = 0

    @property
    def version(self) -> str:
        return "1"

    @property
    def log_path(self) -> Path:
        return self.folder / "toy.log"

    def prepare(self) -> None:
        self.prepared += 1

    def command(self) -> list[str]:
        return [sys.executable, "-I", "-S", "-c", self.program]

    def answers(self, process: SupervisedProcess) -> bool:
        return "ready" in process.log_text()


def test_a_started_engine_runs_until_it_is_stopped(tmp_path: Path) -> None:
    with ProgramEngine(tmp_path / "new" / "folder") as engine:
        assert engine.running
        pid = engine.pid
        engine.start()  # harmless
        assert engine.pid == pid

    assert not engine.running
    assert not psutil.pid_exists(pid)
    with pytest.raises(InfrastructureError, match="Toy is not running"):
        _ = engine.pid


def test_a_killed_engine_starts_again_on_its_port(tmp_path: Path) -> None:
    with ProgramEngine(tmp_path) as engine:
        port, pid = engine.port, engine.pid

        engine.kill()
        assert not psutil.pid_exists(pid)
        engine.start()

        assert (engine.port, engine.running) == (port, True)
        assert engine.pid != pid


def test_an_engine_that_ends_during_its_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    engine = ProgramEngine(tmp_path, "print('no such setting: colour'); raise SystemExit(1)")

    with pytest.raises(InfrastructureError, match="ended while it started") as caught:
        engine.start()

    assert "no such setting: colour" in caught.value.message
    assert str(engine.log_path) in caught.value.hint
    assert (caught.value.code, caught.value.exit_code) == ("embedded.start", 3)


def test_an_engine_that_does_not_respond_is_killed_after_the_start_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children()
    engine = ProgramEngine(
        tmp_path, "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)", start_timeout=0.2
    )
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InfrastructureError, match="does not answer"):
        engine.start()

    assert not engine.running
    assert children() <= before


class InterruptedEngine(ProgramEngine):
    """An engine whose start is interrupted by Ctrl+C."""

    def answers(self, process: SupervisedProcess) -> bool:
        raise KeyboardInterrupt


def test_an_interrupted_start_leaves_no_process(tmp_path: Path) -> None:
    before = children()

    with pytest.raises(KeyboardInterrupt):
        InterruptedEngine(tmp_path).start()

    assert children() <= before


def test_an_engine_that_ended_by_itself_is_detected(tmp_path: Path) -> None:
    with ProgramEngine(tmp_path) as engine:
        engine.check()
        killed = psutil.Process(engine.pid)
        killed.kill()
        psutil.wait_procs([killed])
        eventually(lambda: not engine.running, 30)

        with pytest.raises(InfrastructureError, match="Toy ended by itself") as caught:
            engine.check()
        assert caught.value.code == "embedded.ended"

        engine.start()
        engine.check()


def test_a_stopped_engine_is_not_reported_as_ended_by_itself(tmp_path: Path) -> None:
    engine = ProgramEngine(tmp_path)
    engine.start()
    engine.stop()

    engine.check()


def test_a_port_in_use_is_reported_before_anything_is_prepared(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        engine = ProgramEngine(tmp_path / "data", port=listener.getsockname()[1])

        with pytest.raises(InfrastructureError, match="the port is in use"):
            engine.start()

    assert engine.prepared == 0
    assert not engine.folder.exists()


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InfrastructureError, match="cannot be started: Not a directory") as caught:
        ProgramEngine(tmp_path / "file" / "data").start()

    assert caught.value.code == "embedded.folder"
    assert str(tmp_path / "file") in caught.value.message


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "toy.log").mkdir()

    with pytest.raises(InfrastructureError, match="cannot be started: Is a directory") as caught:
        ProgramEngine(tmp_path).start()

    assert caught.value.code == "embedded.folder"


def test_locks_held_by_an_engine_are_released_when_it_has_ended(tmp_path: Path) -> None:
    lock, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert lock.try_acquire()
    assert lock.descriptor is not None
    engine = ProgramEngine(tmp_path)
    engine.hold(lock.descriptor)
    engine.start()
    os.close(lock.descriptor)  # as the death of this process would do

    assert not other.try_acquire()
    engine.kill()

    assert other.try_acquire()
    other.release()
