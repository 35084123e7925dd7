"""Tells the other workers of the group about this one, and reports mistakes in the setup of the group."""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Callable

import structlog

from headrace.errors import Finding
from headrace.stores.worker_records import INTERVAL, WorkerRecords

log = structlog.stdlib.get_logger("headrace.group")
_LEADERS = "group.clock"
"""Code of problems that only the leader reports: each worker compares its clock with all others."""
_STOP = 2.0


class WorkerPresence:
    """Works on a thread of its own. Call ``start`` and ``stop`` once."""

    def __init__(self, records: WorkerRecords, plugins: frozenset[str], leads: Callable[[], bool]) -> None:
        """``plugins``: names of the installed connector plugins. ``leads``: whether this worker is the leader."""
        self._records = records
        self._plugins = plugins
        self._leads = leads
        self._version = importlib.metadata.version("headrace")
        self._told: dict[str, str] = {}
        self._joined = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="group-presence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def joined(self) -> None:
        """Note that this worker is a member of the group: from now on it writes its record."""
        self._joined.set()

    def stop(self) -> None:
        """Delete the record of this worker, which leaves the group."""
        self._stopping.set()
        self._joined.set()
        if self._thread.is_alive():
            self._thread.join(_STOP)

    def _run(self) -> None:
        self._joined.wait()
        if self._stopping.is_set():
            return
        while True:
            self._records.write(self._version, self._plugins)
            if self._stopping.wait(INTERVAL):
                break
            self.report()
            if self._leads():
                self._records.delete_forgotten()
        self._records.delete()

    def report(self) -> list[Finding]:
        """Return the present problems, and log those that are new and those that have ended."""
        leads = self._leads()
        found = [problem for problem in self._records.problems() if leads or problem.code != _LEADERS]
        now = {problem.code: problem for problem in found}
        for code, problem in now.items():
            if code not in self._told:
                log.error("the group is not set up correctly", code=code, reason=problem.message, next=problem.hint)
        for code in self._told.keys() - now.keys():
            log.info("the problem of the group has ended", code=code, reason=self._told[code])
        self._told = {code: problem.message for code, problem in now.items()}
        return found
