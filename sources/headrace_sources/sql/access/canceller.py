"""Ends what the database is doing for a task that is told to stop."""

from __future__ import annotations

import threading

from headrace_sources.sql.access.session import Session


class Canceller(threading.Thread):
    """Cancels the running statement when the task is told to stop: a sort of a large table may take minutes."""

    _LOOK = 0.5  # seconds; there is no waiting for two events at once

    def __init__(self, stop_event: threading.Event, *sessions: Session) -> None:
        super().__init__(name=f"{threading.current_thread().name}-cancel", daemon=True)
        self._stop_event = stop_event
        self._sessions = sessions
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set() and not self._stop_event.wait(self._LOOK):
            pass
        # More than once: the statement may begin a moment after the task was told to stop.
        while not self._ended.is_set():
            for session in self._sessions:
                session.cancel()
            self._ended.wait(self._LOOK)

    def end(self) -> None:
        """Nothing is to be cancelled any more."""
        self._ended.set()
