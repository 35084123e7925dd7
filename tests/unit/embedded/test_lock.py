"""A file lock has one holder, and is released when all processes that hold it have ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.embedded.lock import FileLock


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[FileLock]:
    lock = FileLock(tmp_path / "stack.lock")
    yield lock
    lock.release()


def test_a_held_lock_returns_its_holder(lock: Any, tmp_path: Path) -> None:
    other = FileLock(tmp_path / "stack.lock")
    assert other.holder() is None

    assert lock.try_acquire()
    assert not other.try_acquire()
    assert other.holder() == os.getpid()

    lock.release()
    assert other.holder() is None
    assert other.try_acquire()
    other.release()


def test_a_process_that_inherits_the_descriptor_holds_the_lock_until_it_ends(lock: Any, tmp_path: Path) -> None:
    other = FileLock(tmp_path / "stack.lock")
    owner = (
        "import subprocess, sys; from pathlib import Path; from headrace.embedded.lock import FileLock\n"
        f"lock = FileLock(Path({str(tmp_path / 'stack.lock')!r})); lock.try_acquire()\n"
        "subprocess.Popen([sys.executable, '-c', 'input()'], pass_fds=[lock.descriptor], stdout=subprocess.DEVNULL)"
    )
    with subprocess.Popen([sys.executable, "-c", owner], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.wait()
        assert not other.try_acquire()
        assert other.holder() == process.pid
        process.stdin.write(b"\n")  # the grandchild reads the line and ends

    assert other.acquire_within(30)
    other.release()


def test_waiting_for_a_held_lock_times_out(lock: Any, tmp_path: Path) -> None:
    assert lock.try_acquire()

    assert not FileLock(tmp_path / "stack.lock").acquire_within(0.01)
