"""Cancels the running statements of a task that has to stop."""

from __future__ import annotations

import threading

from headrace_sources.sql.access.session import Session


class StatementCanceller(threading.Thread):
    """Cancels statements when the task is told to stop: a sort of a large table may take minutes."""

    _INTERVAL = 0.5  # seconds; a thread cannot wait for two events at once

    def __init__(self, stop_event: threading.Event, *sessions: Session) -> None:
        super().__init__(name=f"{threading.current_thread().name}-cancel", daemon=True)
        self._stop_event = stop_event
        self._sessions = sessions
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set() and not self._stop_event.wait(self._INTERVAL):
            pass
        # Repeatedly, because the statement may begin a moment after the task was told to stop.
        while not self._ended.is_set():
            for session in self._sessions:
                session.cancel()
            self._ended.wait(self._INTERVAL)

    def end(self) -> None:
        """Stop cancelling."""
        self._ended.set()
