"""A lock between processes that the system releases when its holders end, also by ``kill -9``."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.retries import wait_for


class FileLock:
    """Exclusive lock per open file (``flock``); it excludes threads of the same process too. The file is not deleted.

    The file contains its holder's process id. Processes that inherit :attr:`descriptor` hold the lock too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor: int | None = None
        """The open lock file while this object holds the lock."""

    def try_acquire(self) -> bool:
        """Return False at once if another object holds it. The folder must exist. Raise OSError."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self.descriptor = descriptor
        return True

    def acquire_within(self, seconds: float) -> bool:
        """Wait for other holders to release it; return whether it was acquired."""
        return wait_for(self.try_acquire, timeout=seconds, interval=0.05)  # flock has no timeout

    def holder(self) -> int | None:
        """Return the process id of the lock's owner; None when the lock is free. Raise OSError."""
        if not self._path.exists():
            return None
        with self._path.open("rb") as file:
            try:
                # Shared, so that two callers of this method do not see each other as holders.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                said = file.read().strip()
                return int(said) if said.isdigit() else None
        return None

    def release(self) -> None:
        """Release it for all processes that hold it through this object. Do nothing if it is not held."""
        if self.descriptor is not None:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            os.close(self.descriptor)
            self.descriptor = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock in a ``with`` block, after waiting for it without a timeout."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
