"""Limits of the REST API: what a client may send, in what time, and how often the same problem is logged."""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

MOST_CONFIG_KEYS = 1_000
"""Keys of one configuration. Each is validated by rules and searched for similar names."""
_MOST_CONNECTIONS = 256
_FILES_PER_CONNECTION = 4  # files of the process for each connection, so that tasks and stores can open theirs


class RestLimits(NamedTuple):
    """Limits of one server; durations in seconds."""

    body_bytes: int = 1 << 20
    header_timeout: float = 10.0
    """From the connection, or from the last response, until the headers of a request are complete."""
    body_timeout: float = 30.0
    write_timeout: float = 30.0
    """How long a client may leave a response unread."""
    connections: int = _MOST_CONNECTIONS


DEFAULT_LIMITS = RestLimits()


def default_limits() -> RestLimits:
    """Return the limits, with fewer connections if the process may open few files (``ulimit -n``)."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    bounded = _MOST_CONNECTIONS if files == resource.RLIM_INFINITY else files // _FILES_PER_CONNECTION
    return RestLimits(connections=max(8, min(_MOST_CONNECTIONS, bounded)))


class RepeatedLines:
    """Admits one log line of a kind per interval, and counts the others. Thread-safe."""

    def __init__(self, interval: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[str, tuple[float, int]] = {}  # when the last line was admitted, how many were not since

    def admit(self, kind: str) -> int | None:
        """Return how many lines of this kind were suppressed before this one; None suppresses this one."""
        now = self._clock()
        with self._lock:
            last, suppressed = self._kinds.get(kind, (None, 0))
            if last is not None and now - last < self._interval:
                self._kinds[kind] = (last, suppressed + 1)
                return None
            self._kinds[kind] = (now, 0)
            return suppressed


class RepeatedRecords(logging.Filter):
    """Filter of a logger whose lines clients can cause, such as uvicorn's "Invalid HTTP request received."."""

    def __init__(self, lines: RepeatedLines) -> None:
        super().__init__()
        self._lines = lines

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is logged; its message says how many were not."""
        suppressed = self._lines.admit(str(record.msg))
        if suppressed:
            record.msg = f"{record.msg} ({suppressed} more since the last such line)"
        return suppressed is not None
