"""Whether the database may be asked now, and if not, why: a budget of queries, a replica that is behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from headrace_sources.sql.access.session import Session
from headrace_sources.sql.configuration.config import SqlSourceConfig

_QUEUE = 0.05
"""Seconds between two looks whether it is one's turn."""
_LAG = 1.0
"""Seconds between two looks whether a replica has caught up."""


class Held(NamedTuple):
    """Why to wait, and for how long until the next look."""

    seconds: float
    subject: str
    reason: str


SUBJECTS = ("budget", "lag")
"""All that :class:`Held` may be about."""


@dataclass(frozen=True)
class Restraint:
    """Used from any thread, each with its own session. ``where``: where the user wrote a key."""

    config: SqlSourceConfig
    where: Callable[[str], str]

    def admits(self, session: Session) -> Held | None:
        """None: ``session`` may ask now, until its transaction is closed."""
        if session.admitted():
            return None
        limit = f"{self.config.max_queries} ({self.where('connection.max.queries')})"
        text = f"waiting until others have asked the database: connection.max.queries is {limit}"
        return Held(_QUEUE, "budget", text)

    def holds_back(self, session: Session) -> Held | None:
        """As :meth:`admits`, before rows are read: also a replica may be spared. Raises what asking it raises."""
        held = self.admits(session)
        if held is not None or self.config.max_lag is None:
            return held
        with session.reading("the replica's lag") as connection:
            lag = session.database.lag(connection)
        if lag is None or lag * 1000 <= self.config.max_lag:
            return None
        session.close_transaction()
        limit = f"{self.config.max_lag} ({self.where('replica.max.lag.ms')})"
        return Held(_LAG, "lag", f"the replica is {lag:.1f} s behind its primary: replica.max.lag.ms is {limit}")
