"""kill -9 while several connections read a large table that changes: in the end the topic equals the table."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from headrace.broker.kafka_python import KafkaPythonClients
from headrace.testing.data_comparison import Comparison, compare_topic, settle, table_rows, topic_entries
from headrace.testing.faults import TcpProxy
from headrace.testing.waiting import eventually

SEED = 20261127
ROWS = 30_000
KILLS = 3
BYTES = 40_000
"""A second, on each connection: all rows take more than half a minute."""
TABLE = """
    CREATE TABLE rows (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text, updated_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX ON rows (updated_at, id);
"""
PART = '["snap",{"protocol":"1","table":"public.rows","part":"snapshot"}]'
MAIN = '["snap",{"protocol":"1","table":"public.rows"}]'
MODES = {
    "timestamp+incrementing": {"timestamp.column.name": "updated_at", "incrementing.column.name": "id"},
    "incrementing": {"incrementing.column.name": "id"},
}


class Writer(threading.Thread):
    """Inserts rows, and updates rows in the whole table; some transactions stay open for a while."""

    def __init__(self, connection: psycopg.Connection[Any], seed: int, *, updates: bool) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._chance = random.Random(seed)
        self._updates = updates
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.02):
            note = f"{self.name} {self._chance.random()}"
            self._connection.execute("INSERT INTO rows (note) VALUES (%s)", [note])
            first = self._chance.randrange(ROWS)
            if self._updates:
                self._connection.execute(
                    "UPDATE rows SET note = %s, updated_at = now() WHERE id BETWEEN %s AND %s", [note, first, first + 9]
                )
            if self._chance.random() < 0.1:
                self.done.wait(self._chance.random())
            self._connection.commit()


class SlowConnection:
    """A connection to the database that is so slow that no snapshot ends before the kill."""

    def __init__(self, postgres: str) -> None:
        address = make_url(postgres)
        self.proxy = TcpProxy(f"{address.host}:{address.port}")
        self.proxy.throttle(BYTES)

    def url(self, database: str) -> str:
        """Return the URL of a database through the proxy."""
        behind = make_url(database).set(host="127.0.0.1", port=self.proxy.port)
        return behind.render_as_string(hide_password=False)


@pytest.fixture
def slow(database: str) -> Iterator[SlowConnection]:
    line = SlowConnection(database)
    with line.proxy:
        yield line


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", MODES)
def test_the_topic_equals_the_table_after_kill_9_of_a_parallel_snapshot(
    kafka: Any,
    database: str,
    make_worker: Callable[..., Any],
    box: Any,
    unique_name: str,
    mode: str,
    slow: SlowConnection,
) -> None:
    with box.connect(database) as connection:
        connection.execute(TABLE)
        connection.execute(f"INSERT INTO rows (note) SELECT 'row ' || n FROM generate_series(1, {ROWS}) n")
    worker = make_worker(kafka.bootstrap_servers, offset_flush_interval_ms="50")
    source = {
        "connector.class": "SqlSource",
        "connection.url": slow.url(database),
        "poll.interval.ms": "50",
        "topic.prefix": f"{unique_name}.",
        "table.whitelist": "rows",
        "mode": mode,
        "snapshot.parallelism": "2",
        "batch.max.rows": "20",
    }
    worker.write("snap", {**source, **MODES[mode]})
    connections = [box.connect(database) for _ in range(2)]
    for connection in connections:
        connection.autocommit = False
    updates = mode != "incrementing"
    writers = [Writer(connection, SEED + place, updates=updates) for place, connection in enumerate(connections)]
    for writer in writers:
        writer.start()
    positions = worker.folder / "offsets.jsonl"
    for _ in range(KILLS):
        before = _stored(positions).get(PART)
        worker.start(wait=False)
        eventually(lambda before=before: _stored(positions).get(PART) not in (None, before), box.timeout)  # type: ignore[misc]
        worker.kill()
    for writer in writers:
        writer.done.set()
    for writer in writers:
        writer.join()
    for connection in connections:
        connection.close()
    # Each kill happened during a snapshot.
    assert set(_stored(positions)) == {PART}

    slow.proxy.restore()
    worker.start()
    with box.connect(database) as connection:
        rows = table_rows(connection, "SELECT * FROM rows", key="id")
    kafka_clients = KafkaPythonClients({"bootstrap.servers": kafka.bootstrap_servers})

    def topic() -> list[Comparison]:
        return [compare_topic(rows, topic_entries(kafka_clients, f"{unique_name}.rows"))]

    settle(topic, box.timeout)
    eventually(lambda: set(_stored(positions)) == {MAIN}, box.timeout)
    assert worker.stop() == 0
    [comparison] = topic()
    print(comparison)
    assert comparison.complete


def _stored(file: Path) -> dict[str, Any]:
    """Return the offsets by connector and partition, without deleted ones and an incomplete last line."""
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
    found = dict(map(json.loads, whole.splitlines()))
    return {key: offset for key, offset in found.items() if offset is not None}
