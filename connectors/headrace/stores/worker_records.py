"""Records that the workers of a group write about themselves into the status topic, and what they show: two groups on
one set of topics, two workers with one address, plugins that some workers lack, clocks that differ.

Keys: ``headrace-worker-<group>/<worker>``. Workers of Kafka Connect ignore such keys.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.errors import Finding
from headrace.metrics import now_ms
from headrace.stores.log import CompactedLog, Entries

INTERVAL = 20.0
"""Seconds between two records of a worker."""
SILENCE = 60.0
"""Seconds without a record after which a worker, and so its group, is taken for ended."""
FORGOTTEN = 86_400.0
"""Seconds without a record after which the last one is deleted: containers have a new name after each start."""
CLOCK_TOLERANCE = 5.0
_SAMPLES = 3
_PREFIX = "headrace-worker-"


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """What a worker reports about itself."""

    group: str
    worker: str
    """``host:port`` of its REST API."""
    version: str
    plugins: frozenset[str]
    """Names of the connector plugins that are installed."""
    instance: str
    """Another one after each start of the worker."""
    written: int
    """Epoch milliseconds, by the worker's clock."""


@dataclass(slots=True)
class _Heard:
    record: WorkerRecord
    at: float | None
    """When it was read, by the monotonic clock; None: it was there before this worker started."""
    delays: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    """Seconds between the writing and the reading of the newest records: the difference of the clocks, plus the way."""


class WorkerRecords:
    """Thread-safe."""

    def __init__(
        self,
        log: CompactedLog,
        group: str,
        worker: str,
        *,
        replaying: Callable[[], bool] = lambda: False,
        now: Callable[[], int] = now_ms,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``replaying``: whether the log still reads what was written before it was opened. ``now``: epoch
        milliseconds; ``monotonic``: seconds."""
        self._log = log
        self._group, self._worker = group, worker
        self._instance = uuid.uuid4().hex
        self._now, self._monotonic = now, monotonic
        self._lock = threading.Lock()
        self._heard: dict[str, _Heard] = {}
        self._same_address: float | None = None
        self._replaying: Callable[[], bool] = lambda: True
        log.follow(self._take)
        self._replaying = replaying

    def write(self, version: str, plugins: frozenset[str]) -> None:
        """Write this worker's record, as it has to be done every :data:`INTERVAL`."""
        value = {"version": version, "plugins": sorted(plugins), "instance": self._instance, "written": self._now()}
        self._log.append({self._key: value})

    def delete(self) -> None:
        """Delete this worker's record: it has left the group."""
        self._log.append({self._key: None})

    def delete_forgotten(self) -> None:
        """Delete the records of workers that have not written for a day; called by the leader."""
        with self._lock:
            old = [key for key, heard in self._heard.items() if self._age(heard) >= FORGOTTEN]
        if old:
            self._log.append(dict.fromkeys(old))

    def present(self) -> list[WorkerRecord]:
        """Return the newest records of the group's workers that have written lately, by worker."""
        with self._lock:
            found = [heard.record for heard in self._recent() if heard.record.group == self._group]
        return sorted(found, key=lambda record: record.worker)

    def with_plugin(self, name: str) -> list[str]:
        """Return the other workers of the group that have a connector plugin of this name."""
        return [item.worker for item in self.present() if item.worker != self._worker and name in item.plugins]

    def other_group(self) -> Finding | None:
        """Return the finding that another group uses the same topics now."""
        with self._lock:
            others = [heard.record for heard in self._recent() if heard.record.group != self._group]
        if not others:
            return None
        other = max(others, key=lambda record: record.written)
        workers = ", ".join(sorted(record.worker for record in others if record.group == other.group))
        return _problem(
            "group.topics_in_use",
            f"the worker group {other.group} (workers {workers}) uses the same topics as the group {self._group}: both "
            "would run every connector, and overwrite each other's offsets",
            "give each group its own config.storage.topic, offset.storage.topic and status.storage.topic; when the "
            f"other group was renamed or has ended, its topics are free {SILENCE:.0f} s after its last record",
        )

    def problems(self) -> Iterator[Finding]:
        """Yield what is wrong now."""
        if (other := self.other_group()) is not None:
            yield other
        with self._lock:
            doubled = self._same_address is not None and self._monotonic() - self._same_address < SILENCE
            offsets = dict(self._clock_offsets())
        if doubled:
            yield _problem(
                "group.same_address",
                f"another worker of the group {self._group} has the address {self._worker}, too: requests that are "
                "forwarded to one of them reach the other",
                "set rest.advertised.host.name (or rest.advertised.port) of each worker to where other workers reach "
                "it; listeners on 127.0.0.1 are reached from the same machine only",
            )
        for worker, seconds in sorted(offsets.items()):
            if abs(seconds) > CLOCK_TOLERANCE:
                yield _problem(
                    "group.clock",
                    f"the clock of worker {worker} is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} "
                    f"that of worker {self._worker}: times in statuses and logs cannot be compared",
                    "run `timedatectl status` on both machines, and let them use a time server",
                )

    def clock_offsets(self) -> Mapping[str, float]:
        """Return how many seconds the clocks of the group's other workers are ahead of this one's, where known."""
        with self._lock:
            return dict(self._clock_offsets())

    @property
    def _key(self) -> str:
        return f"{_PREFIX}{self._group}/{self._worker}"

    def _take(self, entries: Entries) -> None:
        with self._lock:
            for key, value in entries.items():
                if key.startswith(_PREFIX):
                    self._apply(key, value)

    def _apply(self, key: str, value: Any) -> None:
        record = _from_json(key, value)
        if record is None:
            self._heard.pop(key, None)
            return
        live = not self._replaying()
        if key == self._key and record.instance != self._instance:
            if live:
                self._same_address = self._monotonic()
            return
        known = self._heard.get(key)
        if known is None or known.record.instance != record.instance:
            known = self._heard[key] = _Heard(record, None)
        known.record = record
        known.at = self._monotonic() if live else None
        if live:
            known.delays.append((self._now() - record.written) / 1000)

    def _recent(self) -> Iterator[_Heard]:
        return (heard for heard in self._heard.values() if self._age(heard) < SILENCE)

    def _age(self, heard: _Heard) -> float:
        if heard.at is not None:
            return self._monotonic() - heard.at
        # Of a record that was there before this worker started, only the other clock says how old it is.
        return abs(self._now() - heard.record.written) / 1000

    def _clock_offsets(self) -> Iterator[tuple[str, float]]:
        for heard in self._recent():
            if heard.record.group != self._group or heard.record.worker == self._worker or not heard.delays:
                continue
            # The way of a record only adds: the smallest of several is nearest. One that arrives before it was written
            # needs no other to say that the clocks differ.
            shortest = min(heard.delays)
            if shortest < 0 or len(heard.delays) == _SAMPLES:
                yield heard.record.worker, -shortest


def _from_json(key: str, value: Any) -> WorkerRecord | None:
    """Return a record; None for one that another version has written in a form that this one does not know."""
    group, _, worker = key.removeprefix(_PREFIX).rpartition("/")
    try:
        plugins = frozenset(map(str, value["plugins"]))
        return WorkerRecord(
            group, worker, str(value["version"]), plugins, str(value["instance"]), int(value["written"])
        )
    except (KeyError, TypeError, ValueError):
        return None


def _problem(code: str, text: str, hint: str) -> Finding:
    return Finding(code, text, hint=hint, cause="environment")
