"""kill -9 while several connections read two large tables that change: in the end the topics equal the tables."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from headrace.broker.kafka_python import KafkaPythonBroker
from headrace.testing.exactness import Comparison, compare_topic, settle, table_rows, topic_entries
from headrace.testing.waiting import eventually

SEED = 20261127
ROWS = 30_000
TABLE = "(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text, updated_at timestamptz NOT NULL DEFAULT now())"

PARTS = {f'["{name}",{{"protocol":"1","table":"public.{name}","part":"snapshot"}}]' for name in ("updated", "added")}


class Writer(threading.Thread):
    """Updates, inserts and long transactions, all over the table that is being read."""

    def __init__(self, connection: psycopg.Connection[Any], seed: int) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._chance = random.Random(seed)
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.02):
            note = f"{self.name} {self._chance.random()}"
            first = self._chance.randrange(ROWS)
            self._connection.execute(
                "UPDATE updated SET note = %s, updated_at = now() WHERE id BETWEEN %s AND %s", [note, first, first + 20]
            )
            self._connection.execute("INSERT INTO updated (note) VALUES (%s)", [note])
            self._connection.execute("INSERT INTO added (note) VALUES (%s)", [note])
            if self._chance.random() < 0.1:
                self.done.wait(self._chance.random())
            self._connection.commit()


@pytest.mark.timeout(300)
def test_a_parallel_snapshot_and_kill_9(
    kafka: Any, database: str, make_worker: Callable[..., Any], box: Any, unique_name: str
) -> None:
    with box.connect(database) as connection:
        for table in ("updated", "added"):
            connection.execute(f"CREATE TABLE {table} {TABLE}")
            connection.execute(f"INSERT INTO {table} (note) SELECT 'row ' || n FROM generate_series(1, {ROWS}) n")
        connection.execute("CREATE INDEX ON updated (updated_at, id)")
    worker = make_worker(kafka.bootstrap_servers, offset_flush_interval_ms="50")
    source = {
        "connector.class": "SqlSource",
        "connection.url": database,
        "poll.interval.ms": "50",
        "topic.prefix": f"{unique_name}.",
        "incrementing.column.name": "id",
        "snapshot.parallelism": "2",
        "batch.max.rows": "20",
    }
    stamped = {"mode": "timestamp+incrementing", "timestamp.column.name": "updated_at"}
    worker.write("updated", {**source, **stamped, "table.whitelist": "updated"})
    worker.write("added", {**source, "mode": "incrementing", "table.whitelist": "added"})
    connections = [box.connect(database) for _ in range(2)]
    for connection in connections:
        connection.autocommit = False
    writers = [Writer(connection, SEED + number) for number, connection in enumerate(connections)]
    for writer in writers:
        writer.start()
    for _ in range(3):
        worker.start(wait=False)
        _wait_for_more(worker.folder / "offsets.jsonl", box.patience)
        worker.kill()
    # In the middle of both: the tables have no position yet.
    assert set(_stored(worker.folder / "offsets.jsonl")) == PARTS
    for writer in writers:
        writer.done.set()
    for writer in writers:
        writer.join()
    for connection in connections:
        connection.close()

    worker.start()
    with box.connect(database) as connection:
        tables = {name: table_rows(connection, f"SELECT * FROM {name}", key="id") for name in ("updated", "added")}
    broker = KafkaPythonBroker({"bootstrap.servers": kafka.bootstrap_servers})

    def topics() -> list[Comparison]:
        return [compare_topic(rows, topic_entries(broker, f"{unique_name}.{name}")) for name, rows in tables.items()]

    settle(topics, box.patience)
    assert worker.stop() == 0
    for comparison in topics():
        print(comparison)
        assert comparison.complete
        # Three restarts at its beginning would have sent it thrice.
        assert len(comparison.doubled) < ROWS
    assert set(_stored(worker.folder / "offsets.jsonl")).isdisjoint(PARTS)


def _stored(file: Path) -> dict[str, Any]:
    """By connector and partition; what was forgotten is left out, and a last line that was being written."""
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
    found = dict(map(json.loads, whole.splitlines()))
    return {key: offset for key, offset in found.items() if offset is not None}


def _wait_for_more(file: Path, patience: float) -> None:
    """Until both snapshots are further than they were."""
    before = _stored(file)

    def moved() -> bool:
        """both snapshots have moved"""
        now = _stored(file)
        return all(part in now and now[part] != before.get(part) for part in PARTS)

    eventually(moved, patience)
