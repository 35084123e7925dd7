"""A compacted log of JSON values by key, in memory or in a file; all stores use it.

Keys and values are those of Kafka Connect's internal topics (``connect-offsets``, ``connect-configs``,
``connect-status``), so that a log in Kafka can implement the same interface.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson
import structlog

from headrace.errors import ConfigError, InfrastructureError, RetriableError

log = structlog.stdlib.get_logger("headrace.worker")
_JAVA_OBJECT = b"\xac\xed"
"""Beginning of Java's serialised objects."""

Entries = Mapping[str, Any]
"""Values by key; None deletes."""

Listener = Callable[[Entries], None]

# Compaction costs as much as reading the file, so it waits until most of the lines are outdated.
_COMPACT_FACTOR = 4
_COMPACT_MINIMUM = 10_000


class CompactedLog(Protocol):
    """Thread-safe."""

    def append(self, entries: Entries) -> None:
        """Store entries; durable when it returns. Raise RetriableError: the same entries may be appended again."""
        ...

    def get(self, key: str) -> Any:
        """Return the latest value of a key; None when it has none."""
        ...

    def read(self) -> dict[str, Any]:
        """Return the latest value of every key that is not deleted, in the order in which these were written."""
        ...

    def refresh(self) -> None:
        """Read what other workers have written until now. Raise RetriableError."""
        ...

    def follow(self, listener: Listener) -> None:
        """Call ``listener`` with what the log holds now, and then with all that is written, in the order of the log.

        It is called before the append returns, on any thread, but never twice at the same time.
        """
        ...

    def close(self) -> None: ...


class LatestValues:
    """The latest value of each key, and the listeners of a log. Thread-safe."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._listeners: list[Listener] = []
        self._lock = threading.RLock()  # a listener may read

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> Any:
        with self._lock:  # an update removes a key before it writes the new value
            return self._values.get(key)

    def read(self) -> dict[str, Any]:
        with self._lock:
            return dict(self._values)

    def follow(self, listener: Listener) -> None:
        with self._lock:
            listener(dict(self._values))
            self._listeners.append(listener)

    def update(self, entries: Entries) -> None:
        with self._lock:
            for key, value in entries.items():
                self._values.pop(key, None)
                if value is not None:
                    self._values[key] = value
            for listener in self._listeners:
                listener(entries)


class MemoryLog:
    """A log in memory."""

    def __init__(self) -> None:
        self._values = LatestValues()

    def append(self, entries: Entries) -> None:
        self._values.update(entries)

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def read(self) -> dict[str, Any]:
        return self._values.read()

    def refresh(self) -> None:
        pass  # no other worker writes it

    def follow(self, listener: Listener) -> None:
        self._values.follow(listener)

    def close(self) -> None:
        pass


class FileLog:
    """A file of JSON lines ``[key, value]``, synced at every append, compacted when most lines are outdated.

    An advisory lock on the file excludes other processes. An incomplete last line is removed: the process was killed
    before its append returned. Any other invalid line raises ConfigError: wrong positions could lose rows.
    """

    def __init__(self, path: Path, *, compact_minimum: int = _COMPACT_MINIMUM) -> None:
        """``compact_minimum``: lines below which the file is not compacted."""
        self._path, self._compact_minimum = path, compact_minimum
        self._lock = threading.RLock()  # a listener may append
        self._values = LatestValues()
        self._lines = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._open()
            self._length = self._load()
            if self._lines > len(self._values):
                self._compact()
        except OSError as error:
            raise InfrastructureError(
                f"cannot use {path}: {error.strerror}",
                code="store.unusable",
                hint="set another file in offset.storage.file.filename, or fix the permissions of this one",
            ) from error

    def append(self, entries: Entries) -> None:
        lines = b"".join(orjson.dumps([key, value]) + b"\n" for key, value in entries.items())
        with self._lock:
            try:
                os.ftruncate(self._file, self._length)  # remove what a failed append may have written
                _write(self._file, lines, self._length)
                os.fsync(self._file)
            except OSError as error:
                raise RetriableError(
                    f"cannot write {self._path}: {error.strerror}",
                    code="store.write",
                    hint="free disk space or replace the disk",
                ) from error
            self._length += len(lines)
            self._lines += len(entries)
            self._values.update(entries)
            if self._lines > max(self._compact_minimum, _COMPACT_FACTOR * len(self._values)):
                self._compact()

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def read(self) -> dict[str, Any]:
        return self._values.read()

    def refresh(self) -> None:
        pass  # the file is locked: no other worker writes it

    def follow(self, listener: Listener) -> None:
        self._values.follow(listener)

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
        """Read the file and remove an incomplete last line; return the length of the complete lines."""
        content = self._path.read_bytes()
        if content.startswith(_JAVA_OBJECT):
            raise ConfigError(
                f"{self._path} is the offset file of a JVM worker of Kafka Connect, which cannot be read here",
                code="store.foreign",
                hint="name another file in offset.storage.file.filename. To continue the positions, run "
                f"`headrace migrate --offsets-file {self._path} --into` that other file",
            )
        complete = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:complete].splitlines(), 1):
            try:
                key, value = orjson.loads(line)
            except ValueError as error:
                raise ConfigError(
                    f"{self._path}:{number}: not a line of this log: {error}",
                    code="store.damaged",
                    hint="restore the file from a copy, or remove the line and let its source start again",
                ) from error
            self._values.update({key: value})
            self._lines += 1
        if complete < len(content):
            # Zeros are what a file system may leave after a power failure.
            if not content.startswith(b"[", complete) and content[complete:].strip(b"\0"):
                raise ConfigError(
                    f"{self._path}: the end of the file is not written by headrace",
                    code="store.damaged",
                    hint="name another file, or remove what does not begin with '['; nothing was changed",
                )
            log.warning(
                "incomplete end of file removed",
                file=str(self._path),
                bytes=len(content) - complete,
                reason="the worker or the machine stopped while it was written; what was stored before is complete",
            )
            os.ftruncate(self._file, complete)
        return complete

    def _compact(self) -> None:
        """Write the current values to a new file, then replace the old file by it."""
        lines = b"".join(orjson.dumps([key, value]) + b"\n" for key, value in self._values.read().items())
        replacement = self._path.with_name(self._path.name + ".new")
        file = os.open(replacement, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write(file, lines, 0)
            os.fsync(file)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            replacement.replace(self._path)
        except OSError:
            # Outdated lines do no harm: continue with the old file, and compact it after it has grown again.
            os.close(file)
            replacement.unlink(missing_ok=True)
            self._lines = len(self._values)
            return
        os.close(self._file)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._file, self._length, self._lines = file, len(lines), len(self._values)


def _write(file: int, content: bytes, offset: int) -> None:
    """Write all of ``content``. On a disk that becomes full a write ends early without an error; only the next one
    fails."""
    while content:
        written = os.pwrite(file, content, offset)
        content, offset = content[written:], offset + written
