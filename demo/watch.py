"""The two modes of the demo: watch until Ctrl+C, or verify that the index equals the database and end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NoReturn

from elasticsearch import Elasticsearch
from rich.console import Console
from rich.live import Live

from demo.compare import TableComparison, compare
from demo.prober import Prober
from demo.progress import Progress, Watcher
from demo.tables import ENRICHED, IMPRESSIONS, INDICES, TABLES
from demo.trickle import Trickle
from demo.view import View
from demo.worker import DemoWorker
from headrace.errors import InfrastructureError, TaskError

LOOK_EVERY = 0.5
LINE_EVERY = 2.0


@dataclass(frozen=True)
class DemoRun:
    """Parts of a running demo. The caller starts and stops them, except that ``Watch`` starts trickle and prober."""

    console: Console
    worker: DemoWorker
    watcher: Watcher
    trickle: Trickle
    prober: Prober
    loaded: Mapping[str, int]
    indexed_before: int
    began: float


@dataclass(frozen=True, slots=True)
class FirstLoad:
    """How long the rows that were there before the worker took to become searchable, its start included.

    ``rows`` leaves out those that an earlier run has indexed: a reused folder has no rate.
    """

    rows: int
    seconds: float

    def __str__(self) -> str:
        if self.rows <= 0:
            return "already there, indexed by an earlier run"
        rate = self.rows / self.seconds
        return f"{self.rows:,} rows in {self.seconds:.1f} s ({rate:,.0f} rows/s) from the worker's start to searchable"


class Watch:
    """Reads and draws progress, and raises an error if a part ended that cannot recover."""

    def __init__(self, run: DemoRun) -> None:
        self._run = run
        self._view = View(run.prober)
        self._live: Live | None = None
        self._next_line = 0.0
        self.first_load: FirstLoad | None = None
        self.changing = False
        """Whether rows are changed: after everything that was there before has arrived."""

    def screen(self) -> AbstractContextManager[Any]:
        """Show the live table while it is entered; without a terminal do nothing."""
        if not self._run.console.is_terminal:
            return nullcontext()
        self._live = Live(console=self._run.console, auto_refresh=False)
        return self._live

    def look(self) -> Progress:
        """Read and draw progress once, then pause. Raises TaskError if worker, trickle or prober ended."""
        run, progress = self._run, self._run.watcher.look()
        self._view.add(progress)
        if self._live:
            self._live.update(self._view.table(), refresh=True)
        elif progress.at >= self._next_line:
            self._next_line = progress.at + LINE_EVERY
            run.console.print(self._view.line())
        if run.worker.ended:
            raise TaskError("the worker ended by itself", code="demo.worker")
        for part in (run.trickle, run.prober):
            if part.error is not None:
                raise TaskError(
                    f"the demo's own {type(part).__name__.lower()} failed: {part.error}", code="demo.failed"
                )
        if self.first_load is None and progress.answered and arrived(progress, run.loaded):
            self.first_load = FirstLoad(sum(run.loaded.values()) - run.indexed_before, progress.at - run.began)
        if self.first_load is not None and not self.changing and enriched(progress, run.loaded):
            # The trickle begins after everything else, so that freshness does not measure a backlog.
            self.changing = True
            run.trickle.start()
            run.prober.start()
        time.sleep(LOOK_EVERY)
        return progress


def arrived(progress: Progress, rows: Mapping[str, int]) -> bool:
    """Return whether every index has at least as many documents as its table has rows."""
    return all(progress.documents[table] >= rows[table.name] for table in TABLES)


def enriched(progress: Progress, rows: Mapping[str, int]) -> bool:
    """Return whether the index of enriched impressions has at least as many documents as there are impressions."""
    return progress.documents[ENRICHED] >= rows[IMPRESSIONS.name]


def watch(run: DemoRun) -> NoReturn:
    """Watch until KeyboardInterrupt, which the caller handles."""
    looking = Watch(run)
    with looking.screen():
        while True:
            looking.look()


def prove(run: DemoRun, database: str, client: Elasticsearch, *, trickle_for: float, timeout: float) -> int:
    """Wait until the index equals the database after ``trickle_for`` s of changes. Return 0, or 1 after the timeout."""
    looking, deadline = Watch(run), time.monotonic() + timeout
    quiet_at: float | None = None
    comparisons: Sequence[TableComparison] = ()
    failed: Mapping[str, str] = {}
    with looking.screen():
        while time.monotonic() < deadline and not failed:
            progress = looking.look()
            failed = progress.failed
            if looking.changing and quiet_at is None:
                quiet_at = time.monotonic() + trickle_for
            if quiet_at is None or time.monotonic() < quiet_at:
                continue
            run.trickle.stop()
            comparisons = [compare(database, client, table) for table in INDICES]
            if all(comparison.equal for comparison in comparisons):
                break
    run.trickle.stop()
    if failed or not comparisons or not all(comparison.equal for comparison in comparisons):
        comparisons = [compare(database, client, table) for table in INDICES]
    return report(run, looking.first_load, comparisons, failed)


def report(
    run: DemoRun, first_load: FirstLoad | None, comparisons: Sequence[TableComparison], failed: Mapping[str, str]
) -> int:
    """Print the summary; return the exit code."""
    show = run.console.print
    equal = all(comparison.equal for comparison in comparisons) and not failed
    show()
    for comparison in comparisons:
        verdict = "equal, ids and values" if comparison.equal else f"{len(comparison.differences):,} differences"
        show(f"{comparison.table.name:12} {comparison.rows:>7,} rows  {comparison.documents:>7,} documents  {verdict}")
        for difference in comparison.differences[:5]:
            show(f"    {difference}")
    for name, reason in failed.items():
        show(f"{name} FAILED: {reason}")
    show(f"first load   {first_load or 'did not arrive'}")
    freshness = run.prober.freshness()
    if freshness.p50 is not None and freshness.worst is not None:
        show(
            f"freshness    p50 {freshness.p50:.2f} s, max {freshness.worst:.2f} s, commit to readable by id, "
            f"{freshness.count} of {run.trickle.writes} changed rows followed"
        )
    show(f"total        {time.monotonic() - run.began:.1f} s")
    show("The index equals the database." if equal else "The index does NOT equal the database.")
    return 0 if equal else 1


def wait_for_rest(worker: DemoWorker, watcher: Watcher, timeout: float) -> None:
    """Wait until the worker responds. Raises InfrastructureError if it ends or ``timeout`` seconds are over."""
    deadline = time.monotonic() + timeout
    while not watcher.look().answered:
        if worker.ended:
            raise InfrastructureError("the worker ended while it started", code="demo.worker")
        if time.monotonic() > deadline:
            raise InfrastructureError(f"the worker does not respond after {timeout:.0f} s", code="demo.worker")
        time.sleep(0.1)
