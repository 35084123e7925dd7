"""A compacted log of key → JSON value: what every store is written over, in memory or in a file.

The same keys and values as Kafka Connect's internal topics (``connect-offsets`` and its sisters), so a log kept in
Kafka is one more implementation of the same two methods.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson

from headrace.errors import ConfigError, InfrastructureError, RetriableError

Entries = Mapping[str, Any]
"""Values by key; None deletes."""

# Rewriting costs as much as reading the file; do it when most of the file is history.
_COMPACT_FACTOR = 4
_COMPACT_MINIMUM = 10_000


class CompactedLog(Protocol):
    """Thread-safe."""

    def append(self, entries: Entries) -> None:
        """Store; durable when it returns. Raises RetriableError, then the same entries may be appended again."""
        ...

    def read(self) -> dict[str, Any]:
        """The latest value of every key that is not deleted, in the order of their first writing."""
        ...

    def close(self) -> None: ...


class MemoryLog:
    """Forgets when the process ends."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._lock = threading.Lock()

    def append(self, entries: Entries) -> None:
        with self._lock:
            _merge(self._values, entries)

    def read(self) -> dict[str, Any]:
        with self._lock:
            return dict(self._values)

    def close(self) -> None:
        pass


class FileLog:
    """JSON lines ``[key, value]``, synced at every append, compacted when most of it is history.

    One process at a time (an advisory lock on the file). A last line that a crash cut short is dropped: its append
    never returned. A damaged line anywhere else stops the worker: guessing positions could lose rows.
    """

    def __init__(self, path: Path, *, compact_minimum: int = _COMPACT_MINIMUM) -> None:
        """``compact_minimum``: lines below which the file is not compacted."""
        self._path, self._compact_minimum = path, compact_minimum
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {}
        self._lines = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._open()
            self._length = self._load()
            if self._lines > len(self._values):
                self._compact()
        except OSError as error:
            raise InfrastructureError(
                f"cannot use {path}: {error.strerror}", code="store.unusable", hint="name another file or fix this one"
            ) from error

    def append(self, entries: Entries) -> None:
        lines = b"".join(orjson.dumps([key, value]) + b"\n" for key, value in entries.items())
        with self._lock:
            try:
                os.ftruncate(self._file, self._length)  # what a failed append may have left
                os.pwrite(self._file, lines, self._length)
                os.fsync(self._file)
            except OSError as error:
                raise RetriableError(
                    f"cannot write {self._path}: {error.strerror}",
                    code="store.write",
                    hint="free disk space or replace the disk",
                ) from error
            self._length += len(lines)
            self._lines += len(entries)
            _merge(self._values, entries)
            if self._lines > max(self._compact_minimum, _COMPACT_FACTOR * len(self._values)):
                self._compact()

    def read(self) -> dict[str, Any]:
        with self._lock:
            return dict(self._values)

    def close(self) -> None:
        with self._lock:
            os.close(self._file)

    def _open(self) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise InfrastructureError(
                f"{self._path} is in use by another worker",
                code="store.locked",
                hint="stop that worker, or give this one its own offset.storage.file.filename",
            ) from error
        return file

    def _load(self) -> int:
        """Read the file; the length of its sound part. What a crash left behind that is cut off."""
        content = self._path.read_bytes()
        sound = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:sound].splitlines(), 1):
            try:
                key, value = orjson.loads(line)
            except ValueError as error:
                raise ConfigError(
                    f"{self._path}:{number}: not a line of this log: {error}",
                    code="store.damaged",
                    hint="restore the file from a copy, or remove the line and let its source start again",
                ) from error
            _merge(self._values, {key: value})
            self._lines += 1
        if sound < len(content):
            os.ftruncate(self._file, sound)
        return sound

    def _compact(self) -> None:
        """Write the present values to a new file, then put it in the old one's place."""
        lines = b"".join(orjson.dumps([key, value]) + b"\n" for key, value in self._values.items())
        beside = self._path.with_name(self._path.name + ".new")
        file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.pwrite(file, lines, 0)
            os.fsync(file)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            beside.replace(self._path)
        except OSError:
            # History is only bulk: go on with the old file, and try when it has grown again.
            os.close(file)
            beside.unlink(missing_ok=True)
            self._lines = len(self._values)
            return
        os.close(self._file)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._file, self._length, self._lines = file, len(lines), len(self._values)


def _merge(values: dict[str, Any], entries: Entries) -> None:
    for key, value in entries.items():
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value
