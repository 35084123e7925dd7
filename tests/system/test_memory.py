"""A source sends a table far larger than the allowed memory, and the memory of the worker does not grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psutil
import pytest

from headrace.testing.waiting import eventually

ROWS = 1_000_000
GROWTH = 100_000_000  # bytes


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["bulk", "incrementing"])
def test_memory_is_bounded_while_a_million_rows_of_300_bytes_are_sent(
    kafka: Any, database: str, make_worker: Callable[..., Any], unique_name: str, box: Any, mode: str
) -> None:
    with box.connect(database) as connection:
        connection.execute("CREATE TABLE big (id bigint PRIMARY KEY, filler text NOT NULL)")
        connection.execute(
            "INSERT INTO big SELECT n, rpad(md5(n::text), 270, 'x') FROM generate_series(1, %s) AS n", [ROWS]
        )
    worker = make_worker(kafka.bootstrap_servers)
    worker.start()
    process = psutil.Process(worker.process.pid)
    name = unique_name
    worker.write(
        name,
        {
            "connector.class": "SqlSource",
            "connection.url": database,
            "table.whitelist": "big",
            "topic.prefix": f"{name}_",
            "mode": mode,
            **({"incrementing.column.name": "id"} if mode == "incrementing" else {}),
            "poll.interval.ms": "1h",
            "pk.mode": "primary_key",
        },
    )
    before = process.memory_info().rss
    applied = box.command("connectors", "apply", worker.connectors[0], "--url", worker.url)
    assert applied.returncode == 0, applied.stderr
    highest = 0

    def all_written() -> bool:
        """all rows are acknowledged"""
        nonlocal highest
        highest = max(highest, process.memory_info().rss)
        tasks = worker.get("/v1/metrics")
        return f'"source_record_write_total": {ROWS}' in str(tasks).replace("'", '"')

    eventually(all_written, 600)
    print(f"\n{mode}: RSS {before / 1e6:.0f} MB before, {highest / 1e6:.0f} MB at most, {ROWS} rows")
    assert highest - before < GROWTH
    assert worker.stop() == 0
