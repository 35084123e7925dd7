"""Topics that connectors have used since they were created or reset (KIP-558)."""

from __future__ import annotations

from headrace.metrics import now_ms
from headrace.states import TaskId
from headrace.stores.log import CompactedLog, Entries, MemoryLog

_PREFIX, _SEPARATOR = "status-topic-", ":connector-"


class TopicTracker:
    """Remembers topics by connector, with the keys of Kafka Connect's status topic. Thread-safe."""

    def __init__(self, log: CompactedLog | None = None, *, enabled: bool = True, reset_allowed: bool = True) -> None:
        """``log``: where topics are kept; in memory by default."""
        self.enabled = enabled
        self.reset_allowed = enabled and reset_allowed
        self._log = log or MemoryLog()
        self._known: set[str] = set()
        self._log.follow(self._take)

    def add(self, task: TaskId, topic: str) -> None:
        """Called once per batch and topic, not per record."""
        if self.enabled and (key := _key(task.connector, topic)) not in self._known:
            names = {"name": topic, "connector": task.connector, "task": task.number}
            self._log.append({key: {"topic": {**names, "discoverTimestamp": now_ms()}}})
            self._known.add(key)

    def topics(self, connector: str) -> list[str]:
        """Return the topics, sorted."""
        return sorted(key.removeprefix(_PREFIX).rpartition(_SEPARATOR)[0] for key in self._keys(connector))

    def forget(self, connector: str) -> None:
        """Forget the topics; those still in use are added again with their next batch."""
        keys = self._keys(connector)
        self._known.difference_update(keys)
        self._log.append(dict.fromkeys(keys))

    def _keys(self, connector: str) -> list[str]:
        end = _SEPARATOR + connector
        return [key for key in self._log.read() if key.startswith(_PREFIX) and key.endswith(end)]

    def _take(self, entries: Entries) -> None:
        for key, value in entries.items():
            if key.startswith(_PREFIX) and value is None:  # another worker has reset them
                self._known.discard(key)


def _key(connector: str, topic: str) -> str:
    return f"{_PREFIX}{topic}{_SEPARATOR}{connector}"
