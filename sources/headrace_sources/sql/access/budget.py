"""How many queries at a time a database is asked by this process, over all connectors and tasks that read it.

Whoever may not ask yet stands in a queue, first come, first served, and comes back; nobody blocks a thread here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from sqlalchemy import URL

AWAY = 5.0
"""Seconds after which a place in the queue is lost: a task that was paused or is gone does not come back for it."""
ASLEEP = 60.0
"""Seconds after which whoever has not gone on asking is not counted: Kafka is away, or the task is paused."""


class Budget:
    """Of one database. Used from any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._asking: dict[object, float] = {}  # when each was last heard of
        self._waiting: dict[object, float] = {}  # in the order in which they came

    def admit(self, who: object, limit: int) -> bool:
        """Whether ``who`` may ask now; if so, until :meth:`leave`. Otherwise his place in the queue is kept.

        ``limit`` is his own idea of how many may ask at a time, himself included.
        """
        with self._lock:
            now = self._monotonic()
            self._asking = {other: seen for other, seen in self._asking.items() if now - seen < ASLEEP}
            self._waiting = {other: seen for other, seen in self._waiting.items() if now - seen < AWAY}
            if who not in self._asking:
                self._waiting[who] = now  # an old place stays where it is
                if len(self._asking) + list(self._waiting).index(who) >= limit:
                    return False
                del self._waiting[who]
            self._asking[who] = now
            return True

    def leave(self, who: object) -> None:
        """``who`` asks nothing any more. Harmless when he never did."""
        with self._lock:
            self._asking.pop(who, None)
            self._waiting.pop(who, None)


_BUDGETS: dict[Hashable, Budget] = {}
_LOCK = threading.Lock()


def budget_of(url: URL) -> Budget:
    """The budget that everybody shares who reads this database, as whichever user."""
    query = {name: value for name, value in url.query.items() if name in ("host", "hostaddr", "port", "service")}
    key = (url.get_backend_name(), url.host, url.port, url.database, tuple(sorted(query.items())))
    with _LOCK:
        return _BUDGETS.setdefault(key, Budget())
