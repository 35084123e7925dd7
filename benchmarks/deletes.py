"""The cost of finding deleted rows: one comparison of a table's keys with the keys that were sent, without other work.

The task reads the whole table first. This is not measured, but it is part of the peak memory of the process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import runners
from benchmarks.engines import Engines
from benchmarks.report import Line
from benchmarks.runners import Clock
from headrace import SourceBatch
from headrace.testing.driver import SourceDriver
from headrace_sources.sql import SqlSourceConnector
from headrace_sources.sql.task import SqlSourceTask

_KEYS = {"bigint": "n", "uuid": "md5(n::text)::uuid"}
_TABLE = """
    DROP TABLE IF EXISTS keyed;
    CREATE TABLE keyed AS SELECT {key} AS id, n AS at FROM generate_series(1, {rows}::bigint) n;
    ALTER TABLE keyed ADD PRIMARY KEY (id), ALTER at SET NOT NULL;
    CREATE INDEX ON keyed (at)
"""
_NOTHING = "SELECT 1"
_FEW = "DELETE FROM keyed WHERE at % (SELECT max(at) / 10 FROM keyed) = 0"
_PERCENT = "DELETE FROM keyed WHERE at % 100 = 7"


def deletes(engines: Engines) -> list[Line]:
    """Compare a million keys (``--rows`` with ``--quick``), of which none, ten and one in a hundred are deleted."""
    rows = engines.rows if engines.quick else 1_000_000
    lines = []
    for kind, key in _KEYS.items():
        engines.connection.execute(_TABLE.format(key=key, rows=rows).encode())
        engines.connection.execute(b"VACUUM ANALYZE keyed")  # as autovacuum would have by the time rows are deleted
        folder = engines.folder / engines.name()
        folder.mkdir()
        measured = runners.run("deletes", "compare", url=engines.database, libpq=engines.libpq, folder=str(folder))
        for found in json.loads((folder / "comparisons.json").read_text()):
            engines.say(f"  {kind}: {found}")
            lines.append(
                Line(
                    f"{rows:,} keys compared ({kind}), {found.pop('what')}",
                    rate=rows / found["seconds"],
                    cpu_s_per_million=found.pop("cpu") / rows * 1e6,
                    peak_rss_mb=measured.peak_rss_mb,
                    notes=found,
                )
            )
    return lines


def compare(clock: Clock, url: str, libpq: str, folder: str) -> int:
    """Runner: read everything, then compare several times; write the cost of each comparison to a file."""
    config = {
        "connection.url": url,
        "table.whitelist": "keyed",
        "mode": "incrementing",
        "incrementing.column.name": "at",
        "topic.prefix": "",
        "batch.max.rows": "5000",
        "delete.detection": "reconcile",
        "delete.reconcile.schedule": "0 0 1 1 *",  # this script triggers comparisons
        "delete.ledger.directory": folder,
    }
    report = []
    with SourceDriver(SqlSourceConnector, config) as driver, psycopg.connect(libpq, autocommit=True) as connection:
        rows = _read_all(driver)
        assert isinstance(driver.task, SqlSourceTask)
        [comparison] = driver.task.comparisons
        cases: list[tuple[str, str, bool]] = [
            ("nothing gone", _NOTHING, True),
            ("10 gone", _FEW, True),
            ("1 % gone", _PERCENT, True),
            ("nothing gone, every key read and marked", _NOTHING, False),
        ]
        clock.start()
        for what, statement, ordered in cases:
            gone = max(0, connection.execute(statement.encode()).rowcount) if statement != _NOTHING else 0
            comparison.ordered = ordered
            report.append({"what": what, **_compare(driver, comparison, gone)})
        clock.stop()
    [ledger] = Path(folder).glob("*.ledger")
    report[0]["ledger MB"] = round(ledger.stat().st_size / 1e6, 1)
    (Path(folder) / "comparisons.json").write_text(json.dumps(report))
    return rows


def _read_all(driver: SourceDriver) -> int:
    rows = 0
    for batch in _batches(driver, lambda: True):
        rows += len(batch)
    return rows


def _compare(driver: SourceDriver, comparison: Any, gone: int) -> dict[str, float]:
    began, cpu, walk = time.perf_counter(), time.process_time(), comparison.ledger.walk
    comparison.due = comparison.due.replace(year=2000)
    tombstones = 0
    for batch in _batches(driver, lambda: comparison.ledger.walk > walk and not comparison.active):
        tombstones += sum(value is None for value in batch.values)
    if tombstones != gone:
        raise AssertionError(f"{tombstones} tombstones for {gone} deleted rows")
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu": time.process_time() - cpu,
        "queries": comparison.statements,
        "keys read": comparison.read,
        "tombstones": tombstones,
    }


def _batches(driver: SourceDriver, over: Callable[[], bool]) -> Any:
    """Yield every batch, acknowledged, until the task returns a wait and ``over`` holds."""
    while True:
        answer = driver.poll()
        if isinstance(answer, SourceBatch):
            driver.store(answer)
            yield answer
        elif answer.seconds > 0 and over():
            return
