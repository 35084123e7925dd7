"""Reports in the status what a slow statement waits for: a lock, or the response of the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from headrace import StatusReasons
from headrace_sources.sql.access.session import Activity, Session

_TICK = 0.5
_DIAGNOSIS_INTERVAL = 5.0
"""Seconds between two queries for what the statement waits for."""
_FORGOTTEN = 5.0
"""Seconds after which a slow statement that has ended is not reported any more, if no other one runs."""


@dataclass
class _Watched:
    session: Session
    activity: Activity | None = None
    """The activity that is reported."""
    ended: float | None = None
    next_diagnosis: float = 0.0
    told: str = ""

    @property
    def cause(self) -> tuple[str, int]:
        """The cause of the status reason."""
        return "database", id(self.session)


class StatementWatch(threading.Thread):
    """Checks the sessions of a task while the task's thread waits for their results."""

    def __init__(
        self,
        sessions: tuple[Session, ...],
        reasons: StatusReasons,
        log: structlog.stdlib.BoundLogger,
        slow: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``slow``: seconds after which a statement is reported."""
        super().__init__(name=f"{threading.current_thread().name}-watch", daemon=True)
        self._watched = [_Watched(session) for session in sessions]
        self._reasons = reasons
        self._log = log
        self._slow = slow
        self._monotonic = monotonic
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(min(_TICK, self._slow)):
            self.look()

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()

    def look(self) -> None:
        """Report slow activities and what they wait for, or remove the report."""
        for watched in self._watched:
            self._look(watched)

    def _look(self, watched: _Watched) -> None:
        now, activity = self._monotonic(), watched.session.activity
        if activity is not None and now - activity.since >= self._slow:
            self._report(watched, activity, now)
        elif watched.activity is not None and self._is_over(watched, activity, now):
            watched.activity, watched.ended, watched.told = None, None, ""
            self._reasons.set(watched.cause, None)
            self._log.info("the database answers again", address=watched.session.address)

    def _is_over(self, watched: _Watched, activity: Activity | None, now: float) -> bool:
        """Return whether statements are fast again. Between two slow statements the report stays."""
        if activity is watched.activity:
            return False
        if watched.session.last_duration < self._slow:
            return True
        if activity is not None:
            watched.ended = None
            return False
        watched.ended = watched.ended or now
        return now - watched.ended >= _FORGOTTEN

    def _report(self, watched: _Watched, activity: Activity, now: float) -> None:
        session = watched.session
        if watched.activity is not activity:
            watched.next_diagnosis = now
            watched.activity, watched.ended = activity, None
            if not watched.told:  # else the text of an earlier activity stays until more is known
                # At once, because the diagnosis may take seconds.
                self._reasons.set(watched.cause, _waiting(f"{session.address} has not answered for {self._slow:g} s"))
        if now >= watched.next_diagnosis:
            found = session.diagnose() or f"no answer for {self._slow:g} s"
            watched.next_diagnosis = self._monotonic() + _DIAGNOSIS_INTERVAL
            if session.activity is activity:
                self._tell(watched, f"{session.address} does not answer while it {activity.doing}: {found}")

    def _tell(self, watched: _Watched, reason: str) -> None:
        if reason != watched.told:
            watched.told = reason
            self._reasons.set(watched.cause, _waiting(reason))
            self._log.warning("waiting for the database", code="sql.slow", reason=reason)


def _waiting(reason: str) -> str:
    return f"waiting for the database: {reason}"
