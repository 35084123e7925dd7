"""Compares the age of a sink's data with ``freshness.slo``, and reports which hop held it back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from headrace.freshness import Held, TaskFreshness
from headrace.pipeline.control import TaskControl

_SHORTEST = 5.0
"""Seconds for which an exceeded objective is reported at least, and between two reports with other numbers."""
_CHECK_INTERVAL = 1.0
"""Seconds between two checks of records that wait."""
CONDITION = "freshness.slo"


class FreshnessObjective:
    """Used from the task's thread."""

    def __init__(
        self,
        seconds: float,
        freshness: TaskFreshness,
        control: TaskControl,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._freshness = freshness
        freshness.objective = seconds
        self._control = control
        self._monotonic = monotonic
        self._end = 0.0  # no earlier end of the report
        self._next_check = 0.0
        self._place = ""

    def due(self) -> bool:
        """Return whether records that wait should be checked again."""
        now = self._monotonic()
        if now < self._next_check:
            return False
        self._next_check = now + _CHECK_INTERVAL
        return True

    def judge(self, age: float, held: Iterable[Held]) -> None:
        """Judge the newest data that was written. ``held``: the parts of its way."""
        if age > self._seconds:
            self._exceed("was", age, held)
        elif self._freshness.exceeded and self._monotonic() >= self._end:
            self._meet()

    def waits(self, age: float, held: Iterable[Held]) -> None:
        """Judge the oldest data that was read and is not written yet."""
        if age > self._seconds:
            self._exceed("is", age, held)

    def idle(self) -> None:
        """Note that nothing waits: all data that has arrived is written."""
        if self._freshness.exceeded and self._monotonic() >= self._end:
            self._meet()

    def _exceed(self, verb: str, age: float, held: Iterable[Held]) -> None:
        now = self._monotonic()
        longest = max(held, key=lambda part: part.seconds)
        first = not self._freshness.exceeded
        if first or longest.place != self._place or now >= self._end:
            text = (
                f"data {verb} {age:.1f} s old, and freshness.slo is {self._seconds:g} s: "
                f"{longest.seconds:.1f} s of it by {longest.place}"
            )
            self._control.notes.set(CONDITION, text)
            if first:
                self._control.log.warning("data is too old", code=CONDITION, reason=text)
                hint = f"{longest.place} is the slowest hop; the metrics of hops show for how long"
                self._control.raise_condition(CONDITION, text, hint)
        self._place = longest.place
        self._freshness.exceeded = True
        self._end = now + _SHORTEST

    def _meet(self) -> None:
        self._freshness.exceeded = False
        self._control.notes.set(CONDITION, None)
        self._control.log.info("data is fresh again", code=CONDITION)
