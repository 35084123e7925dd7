"""What a case of the fault table observes: cause, next step, recovery."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from headrace.testing.waiting import eventually
from tests.faults.table import SEEN, FaultRow
from tests.faults.world import HEALED, World


class Case:
    """A running case: expected texts, the start of its part of the log, and cleanup."""

    def __init__(self, world: World, row: FaultRow) -> None:
        self.world, self.row = world, row
        self.observed: set[str] = set()
        """What counts for the score: cause, next step, recovery."""
        self.cleanup = ExitStack()
        self._log_start = len(world.worker.log)

    def says(self, name: str, worker: Any = None) -> str:
        """Wait until the status has all texts of the row, and the log the cause; return what the status says."""
        asked = worker or self.world.worker
        start = 0 if worker is not None else self._log_start
        words = {"cause": self.row.says, "next step": self.row.todo}

        def all_is_said() -> bool:
            said = self.world.said(name, worker)
            if not all(word in said for word in self.row.says) or self.row.says[-1] not in asked.log[start:]:
                return False
            self.observed.add("cause")
            if not all(word in said for word in self.row.todo):
                return False
            self.observed.add("next step")
            return True

        began = time.monotonic()
        try:
            eventually(all_is_said, SEEN)
        except AssertionError as error:
            status, log = self.world.status(name, worker), asked.log[-3000:]
            raise AssertionError(f"not said: {words}\n{status}\n{log}") from error
        print(f"fault {self.row.number}: named after {time.monotonic() - began:.1f} s")
        return self.world.said(name, worker)

    def is_said_in(self, text: str) -> None:
        """Assert that an answer or a log has all texts of the row."""
        for kind, words in (("cause", self.row.says), ("next step", self.row.todo)):
            for word in words:
                assert word in text, text
            self.observed.add(kind)

    def heals(self, name: str, worker: Any = None) -> None:
        try:
            eventually(lambda: self.world.is_well(name, worker), HEALED)
        except AssertionError as error:
            raise AssertionError(f"not well: {self.world.status(name, worker)}") from error


Cases = Mapping[str, Callable[[Case, World], None]]
"""Functions that inject a fault and wait for the recovery, by number of the fault."""
