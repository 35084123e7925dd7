"""Status reasons of running connectors, in addition to those of their tasks."""

from __future__ import annotations

import threading
from collections import defaultdict

from headrace.redaction import Secrets
from headrace.status_reasons import StatusReasons


class ConnectorReasons:
    """Status reasons by connector and cause. Thread-safe."""

    def __init__(self, secrets: Secrets | None = None) -> None:
        """``secrets``: are taken out of all reasons."""
        self._secrets = secrets or Secrets()
        self._lock = threading.Lock()
        self._reasons: defaultdict[str, StatusReasons] = defaultdict(StatusReasons)

    def set(self, connector: str, cause: str, reason: str | None) -> None:
        """Set or replace the reason of ``cause``; None removes it."""
        shown = None if reason is None else self._secrets.redact(connector, reason)
        with self._lock:
            self._reasons[connector].set(cause, shown)

    def of(self, connector: str) -> str | None:
        """Return the reasons as one text; None when there is none."""
        with self._lock:
            return self._reasons[connector].current if connector in self._reasons else None

    def forget(self, connector: str) -> None:
        with self._lock:
            self._reasons.pop(connector, None)
