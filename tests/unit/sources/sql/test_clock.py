"""Changes of the system clock while tables are scheduled (row 24 of the faults)."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace import Wait
from headrace.testing.driver import SourceDriver
from headrace_sources.sql.clock import ClockWatch
from headrace_sources.sql.tuning import Tuning

HOUR = timedelta(hours=1)


class SetClock:
    """A system clock that is set by tests."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


CLOCK = SetClock()


@pytest.fixture
def tuning() -> Tuning:
    CLOCK.ahead = timedelta()
    return Tuning(now=CLOCK)


@pytest.fixture
def waiting(sqlite: Any, drive: Callable[..., SourceDriver]) -> SourceDriver:
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);")
    driver = drive(table_whitelist="t", poll_interval_ms="600000")
    assert driver.values("id") == [1]
    return driver


def seconds_to_wait(driver: SourceDriver) -> float:
    answer = driver.poll()
    assert isinstance(answer, Wait)
    return answer.seconds


def test_a_clock_that_is_set_back_does_not_stop_a_table(waiting: SourceDriver, sqlite: Any) -> None:
    sqlite("INSERT INTO t VALUES (2)")
    CLOCK.ahead = -HOUR
    assert seconds_to_wait(waiting) > 0
    said = waiting.status_reasons.current or ""
    assert "the system clock was set back by 3600 s" in said
    CLOCK.ahead = -HOUR + timedelta(minutes=11)  # more than the interval after it was set back, less than an hour
    assert waiting.values("id") == [2]


def test_a_table_is_read_at_once_after_the_clock_is_set_forward(waiting: SourceDriver, sqlite: Any) -> None:
    sqlite("INSERT INTO t VALUES (2)")
    CLOCK.ahead = HOUR
    assert waiting.values("id") == [2]
    assert "set forward by 3600 s" in (waiting.status_reasons.current or "")


def test_the_clock_is_checked_every_few_seconds(waiting: SourceDriver) -> None:
    assert 0 < seconds_to_wait(waiting) <= 5


def test_small_corrections_of_a_time_server_are_ignored() -> None:
    clock, monotonic = SetClock(), [0.0]
    began = datetime(2026, 1, 1, tzinfo=UTC)
    watch = ClockWatch(lambda: began + timedelta(seconds=monotonic[0]) + clock.ahead, lambda: monotonic[0])
    for number in range(1, 100):
        monotonic[0] += 10
        clock.ahead = timedelta(seconds=number * 0.5)
        assert watch.moved() is None
    clock.ahead += timedelta(seconds=6)
    assert watch.moved() == timedelta(seconds=6)
    assert watch.moved() is None
