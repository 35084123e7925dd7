"""A lock file between processes, freed by the system when its holders die, however they die."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic


class FileLock:
    """Exclusive, per open file (``flock``): it excludes threads of one process too. The file itself stays.

    It names its holder's process id. Processes that were given :attr:`descriptor` hold it too, until they end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor: int | None = None
        """Of the open lock file while this object holds it."""

    def try_acquire(self) -> bool:
        """False at once if another holds it. The folder must exist. Raises OSError."""
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
        """Waits for other holders to end."""
        deadline, pause = monotonic() + seconds, Event()
        while not self.try_acquire():
            if monotonic() >= deadline:
                return False
            pause.wait(0.05)  # flock knows no deadline
        return True

    def holder(self) -> int | None:
        """The process id of who took the lock; None when nobody has it. Raises OSError."""
        if not self._path.exists():
            return None
        with self._path.open("rb") as file:
            try:
                # Shared, so that two who only ask do not take each other for a holder.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                said = file.read().strip()
                return int(said) if said.isdigit() else None
        return None

    def release(self) -> None:
        """For all who hold it through this object. Harmless if it is not held."""
        if self.descriptor is not None:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            os.close(self.descriptor)
            self.descriptor = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Waits until it is free, however long that takes."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
