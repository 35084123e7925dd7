"""Events of tasks and of the group that are no state: rebalances, transitions of experiments.

The reporter of metrics reads them (``metrics.elasticsearch.url``). Only the newest of each task are kept, in memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_KEPT = 100
"""Events of a task that can happen between two reports."""


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """Something that has happened. ``fields``: more of it, by the names of fields of the stream of events."""

    kind: str
    action: str
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)


class StampedEvent(NamedTuple):
    """An event and when it happened, epoch milliseconds."""

    at: int
    event: WorkerEvent


class EventsSnapshot(NamedTuple):
    """The newest events at one moment, and how many there were so far."""

    total: int = 0
    newest: tuple[StampedEvent, ...] = ()

    def since(self, total: int) -> tuple[StampedEvent, ...]:
        """Return the events after the first ``total``, as far as they are kept; all when there were fewer."""
        grown = self.total - total if self.total >= total else self.total
        return self.newest[len(self.newest) - min(grown, len(self.newest)) :]


class RecentEvents:
    """Written by one thread, read by any."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._newest: deque[StampedEvent] = deque(maxlen=_KEPT)
        self._snapshot = EventsSnapshot()

    def add(self, event: WorkerEvent) -> None:
        self._newest.append(StampedEvent(round(self._clock() * 1000), event))
        self._snapshot = EventsSnapshot(self._snapshot.total + 1, tuple(self._newest))

    def snapshot(self) -> EventsSnapshot:
        return self._snapshot


def rebalance(action: str, text: str, **fields: Any) -> WorkerEvent:
    """Return the event of a rebalance."""
    return WorkerEvent("rebalance", action, text, fields)


def partitions_event(action: str, partitions: list[str]) -> WorkerEvent:
    """Return the event of partitions that a task was assigned, or that were revoked."""
    return rebalance(f"partitions {action}", f"{action}: {', '.join(partitions)}", partitions=partitions)
