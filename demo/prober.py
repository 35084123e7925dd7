"""Measures freshness outside the worker: the time from a row's commit until Elasticsearch returns its document."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from elasticsearch import ApiError, Elasticsearch, TransportError

from demo.compare import moment
from demo.tables import ENRICHED, IMPRESSIONS, TABLES, Table
from demo.trickle import Write

INTERVAL = 0.05
"""Seconds between two requests, which is the resolution of the measurement."""
_FOLLOWED = (*TABLES, ENRICHED)
WINDOW = 20
"""Number of last rows from which the median is computed."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds. ``p50`` of the last rows and ``worst`` of all; None before the first. ``waiting``: age of the row asked
    for right now, which shows a stall that no median can show yet; 0 when none is."""

    p50: float | None = None
    worst: float | None = None
    count: int = 0
    waiting: float = 0.0


class DocumentReader:
    """Reads the document of a row by its id."""

    def __init__(self, url: str) -> None:
        self._client = Elasticsearch(url, request_timeout=5, max_retries=0)

    def find(self, write: Write) -> dict[str, Any] | None:
        """Return the document; None when there is none, and when Elasticsearch does not respond."""
        try:
            answer = self._client.options(ignore_status=404).get(index=write.table.index, id=str(write.id))
        except (ApiError, TransportError):
            return None  # the age of the row grows
        return answer["_source"] if answer.get("found") else None

    def close(self) -> None:
        self._client.close()


class Prober:
    """Follows one row per table at a time: the newest write when the one before has arrived.

    It asks by id, which Elasticsearch answers from its log before the next refresh: the document is durable and
    readable by id; searches see it after ``index.refresh_interval`` (1 s by default) at the latest.
    """

    def __init__(self, find: Callable[[Write], dict[str, Any] | None]) -> None:
        """``find`` returns the document of a row, as :meth:`DocumentReader.find` does."""
        self._find = find
        self._lock = threading.Lock()
        self._newest: dict[Table, Write] = {}
        self._asked: dict[Table, Write] = {}
        self._seen: dict[Table, deque[float]] = {table: deque(maxlen=WINDOW) for table in _FOLLOWED}
        self._worst: dict[Table, float] = {}
        self._count = dict.fromkeys(_FOLLOWED, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)
        self.error: Exception | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. May be called twice."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def expect(self, write: Write) -> None:
        """Accept a committed row. Called on the writer's thread."""
        with self._lock:
            self._newest[write.table] = write
            if write.table is IMPRESSIONS:  # the stream application makes another document of it, with the same id
                self._newest[ENRICHED] = replace(write, table=ENRICHED)

    def freshness(self, *tables: Table) -> Freshness:
        """Return the freshness of the given tables, or of all tables."""
        chosen, now = tables or TABLES, time.monotonic()
        with self._lock:
            seconds = [second for table in chosen for second in self._seen[table]]
            worst = [self._worst[table] for table in chosen if table in self._worst]
            waiting = [now - self._asked[table].committed for table in chosen if table in self._asked]
            count = sum(self._count[table] for table in chosen)
        return Freshness(
            statistics.median(seconds) if seconds else None, max(worst, default=None), count, max(waiting, default=0.0)
        )

    def _run(self) -> None:
        try:
            while not self._stop.wait(INTERVAL):
                for table in _FOLLOWED:
                    self.step(table)
        except Exception as error:  # the main thread reports it and ends the demo
            self.error = error

    def step(self, table: Table) -> None:
        """Request the followed row of ``table`` once, if there is one."""
        with self._lock:
            if table not in self._asked and table in self._newest:
                self._asked[table] = self._newest.pop(table)
            write = self._asked.get(table)
        if write is None or not arrived(write, self._find(write)):
            return
        seconds = time.monotonic() - write.committed
        with self._lock:
            del self._asked[table]
            self._seen[table].append(seconds)
            self._worst[table] = max(seconds, self._worst.get(table, 0.0))
            self._count[table] += 1


def arrived(write: Write, document: dict[str, Any] | None) -> bool:
    """Return whether ``document`` is the written version of the row or a later one."""
    if document is None:
        return False
    if write.updated_at is None:
        return True
    found: datetime | None = moment(document.get("updated_at"))
    return found is not None and found >= write.updated_at
