"""All engines start or none: the first failure ends the wait for the others."""

from __future__ import annotations

from threading import Event

import pytest

from headrace.embedded.parallel_start import start_in_parallel, stop_in_parallel
from headrace.errors import InfrastructureError


class ScriptedEngine:
    """Starts at once, fails, or waits until it is killed."""

    def __init__(self, start: str = "at once", running: bool = False) -> None:
        self._start, self.running = start, running
        self._killed = Event()

    def start(self) -> None:
        if self._start == "fails":
            raise InfrastructureError("no", code="toy.no")
        self.running = True
        if self._start == "waits":
            assert self._killed.wait(60)
            raise InfrastructureError("killed", code="toy.killed")

    def stop(self) -> None:
        if self._start == "stop fails":
            raise InfrastructureError("stays", code="toy.stays")
        self.running = False

    def kill(self) -> None:
        self.running = False
        self._killed.set()


def test_all_are_started_and_all_are_stopped() -> None:
    engines = [ScriptedEngine(), ScriptedEngine(), ScriptedEngine()]

    start_in_parallel(engines)
    assert all(engine.running for engine in engines)

    stop_in_parallel(engines)
    assert not any(engine.running for engine in engines)


def test_the_first_failure_is_reported_and_the_other_engines_are_killed() -> None:
    engines = [ScriptedEngine("waits"), ScriptedEngine(), ScriptedEngine("fails")]

    with pytest.raises(InfrastructureError, match="no"):
        start_in_parallel(engines)

    assert not any(engine.running for engine in engines)


def test_an_engine_that_ran_before_keeps_running() -> None:
    before = ScriptedEngine(running=True)

    with pytest.raises(InfrastructureError):
        start_in_parallel([before, ScriptedEngine("fails")])

    assert before.running


def test_a_failed_stop_does_not_prevent_other_stops() -> None:
    engines = [ScriptedEngine("stop fails", running=True), ScriptedEngine(running=True)]

    with pytest.raises(InfrastructureError, match="stays"):
        stop_in_parallel(engines)

    assert not engines[1].running


def test_no_engines_are_started_and_stopped_without_an_error() -> None:
    start_in_parallel([])
    stop_in_parallel([])
