"""Limits the concurrent queries of this process per database, over all its connectors and tasks.

A session that gets no permit is queued, first come, first served, and tries again later: no thread blocks here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from sqlalchemy import URL

WAITER_TTL = 5.0
"""Seconds without a new attempt after which a queued session is removed: its task was paused or has ended."""
HOLDER_TTL = 60.0
"""Seconds without a new query after which a permit expires: Kafka is unavailable, or the task is paused."""


class QuerySemaphore:
    """The permits of one database. Used from any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._holders: dict[object, float] = {}  # with the time of their last query
        self._waiters: dict[object, float] = {}  # in order of arrival, with the time of their last attempt

    def acquire(self, session: object, limit: int) -> bool:
        """Return whether ``session`` holds a permit until :meth:`release`; without one it is queued.

        ``limit`` is the session's own limit of permits, its own included.
        """
        with self._lock:
            now = self._monotonic()
            self._holders = {other: seen for other, seen in self._holders.items() if now - seen < HOLDER_TTL}
            self._waiters = {other: seen for other, seen in self._waiters.items() if now - seen < WAITER_TTL}
            if session not in self._holders:
                self._waiters[session] = now  # a session that is queued already keeps its position
                if len(self._holders) + list(self._waiters).index(session) >= limit:
                    return False
                del self._waiters[session]
            self._holders[session] = now
            return True

    def release(self, session: object) -> None:
        """Return the permit of ``session`` and remove it from the queue; it may have neither."""
        with self._lock:
            self._holders.pop(session, None)
            self._waiters.pop(session, None)


_SEMAPHORES: dict[Hashable, QuerySemaphore] = {}
_LOCK = threading.Lock()


def query_semaphore_of(url: URL) -> QuerySemaphore:
    """Return the semaphore of a database, which all its users share."""
    query = {name: value for name, value in url.query.items() if name in ("host", "hostaddr", "port", "service")}
    key = (url.get_backend_name(), url.host, url.port, url.database, tuple(sorted(query.items())))
    with _LOCK:
        return _SEMAPHORES.setdefault(key, QuerySemaphore())
