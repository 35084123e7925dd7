"""Topics that connectors have used since they were created or reset (KIP-558)."""

from __future__ import annotations

import threading


class TopicTracker:
    """Remembers topics by connector, in memory. Thread-safe: tasks add, REST reads and resets."""

    def __init__(self, *, enabled: bool = True, reset_allowed: bool = True) -> None:
        self.enabled = enabled
        self.reset_allowed = enabled and reset_allowed
        self._topics: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def add(self, connector: str, topic: str) -> None:
        """Called once per batch and topic, not per record."""
        if self.enabled and topic not in self._topics.get(connector, ()):
            with self._lock:
                self._topics.setdefault(connector, set()).add(topic)

    def topics(self, connector: str) -> list[str]:
        """Return the topics, sorted."""
        with self._lock:
            return sorted(self._topics.get(connector, ()))

    def forget(self, connector: str) -> None:
        """Forget the topics; those still in use are added again with their next batch."""
        with self._lock:
            self._topics.pop(connector, None)
