"""A database that responds slowly is named in the status, with what the statement waits for."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import structlog

from headrace import StatusReasons
from headrace_sources.sql.access.session import Activity
from headrace_sources.sql.access.statement_watch import StatementWatch

LOCK = "it waits for a lock that process 4711 holds"


def session(diagnose: Callable[[], str | None]) -> Any:
    return SimpleNamespace(activity=None, last_duration=0.0, address="db:5432", diagnose=diagnose)


class Watched:
    """A session, the watch, and the clock of both."""

    def __init__(self) -> None:
        self.now = 100.0
        self.answers: list[str | None] = []
        self.session = session(lambda: self.answers.pop(0))
        self.reasons = StatusReasons()
        log = structlog.stdlib.get_logger("test")
        self.watch = StatementWatch((self.session,), self.reasons, log, 3.0, lambda: self.now)

    def begin(self) -> None:
        self.session.activity = Activity("reads table orders", self.now)

    def end(self) -> None:
        self.session.last_duration = self.now - self.session.activity.since
        self.session.activity = None

    def after(self, seconds: float) -> str | None:
        self.now += seconds
        self.watch.look()
        return self.reasons.current


def test_fast_statements_are_not_reported() -> None:
    watched = Watched()
    for _ in range(5):
        watched.begin()
        assert watched.after(2.9) is None
        watched.end()
        assert watched.after(60) is None


def test_a_lock_is_named_until_it_is_released() -> None:
    watched = Watched()
    watched.begin()
    watched.answers = [LOCK]
    said = watched.after(3)
    assert said is not None
    assert "waiting for the database: db:5432 does not answer while it reads table orders" in said
    assert LOCK in said
    assert watched.after(4.9) == said, "it is not asked again at once"
    watched.end()
    watched.begin()
    assert watched.after(0.1) == said, "the statement took long, and the next one has not been answered yet"
    watched.end()
    assert watched.after(0) is None, "an answer was quick"


def test_a_slow_database_is_reported_when_no_second_connection_responds() -> None:
    watched = Watched()
    watched.begin()
    watched.answers = [None]
    said = watched.after(3)
    assert said is not None
    assert "db:5432 does not answer while it reads table orders: no answer for 3 s" in said
    watched.answers = ["another connection is not answered either: timeout expired"]
    said = watched.after(5)
    assert said is not None
    assert "timeout expired" in said


def test_a_slow_statement_is_reported_only_shortly_after_its_end() -> None:
    """A table that is read once an hour must not show one slow statement for an hour."""
    watched = Watched()
    watched.begin()
    watched.answers = [LOCK]
    assert watched.after(4) is not None
    watched.end()
    assert watched.after(1) is not None
    assert watched.after(6) is None


def test_consecutive_slow_statements_are_one_report() -> None:
    watched = Watched()
    for _ in range(3):
        watched.begin()
        watched.answers = [LOCK]
        said = watched.after(4)
        watched.end()
        assert watched.after(0.5) == said is not None
