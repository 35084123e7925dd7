"""kill -9 during inserts, updates and deletes: in the end the topic's last value of each key equals the table."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from headrace.broker.kafka_python import KafkaPythonClients
from headrace.testing.data_comparison import Comparison, compare_topic, settle, table_rows, topic_entries
from headrace.testing.waiting import eventually

SEED = 20261127
ROUNDS = 8
KEYS = 3_000
"""That rows come and go under."""
SNAPSHOT = 20_000
"""Rows that are there before the first start, so that blows fall into reading them."""


class DeletingWriter(threading.Thread):
    """Transactions that insert, update, delete and bring back rows of ``lives``; every sixth is rolled back.

    Some rows are deleted moments after they were written, some come back under their old key.
    """

    def __init__(self, connection: psycopg.Connection[Any], seed: int) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._chance = random.Random(seed)
        self.done = threading.Event()
        self.counts = {"written": 0, "deleted": 0, "came back": 0}

    def run(self) -> None:
        chance = self._chance
        while not self.done.is_set():
            counts = dict(self.counts)
            for _ in range(chance.randint(1, 20)):
                self._turn(chance.randrange(KEYS))
            self.done.wait(chance.choice([0.005, 0.02, 0.2]) * chance.random())
            if chance.random() < 1 / 6:
                self._connection.rollback()
                self.counts = counts
            else:
                self._connection.commit()

    def _turn(self, key: int) -> None:
        if self._chance.random() < 0.35:
            self.counts["deleted"] += self._run("DELETE FROM lives WHERE id = %s", [key])
            return
        note = self._chance.choice(["", "ä€𝄞", "x" * 200, None])
        updated = self._run("UPDATE lives SET version = version + 1, note = %s, at = now() WHERE id = %s", [note, key])
        if not updated:
            self.counts["came back"] += self._run("INSERT INTO lives (id, note) VALUES (%s, %s)", [key, note])
        self.counts["written"] += 1

    def _run(self, statement: str, parameters: list[Any]) -> int:
        return max(0, self._connection.execute(statement.encode(), parameters).rowcount)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("parallelism", "rounds"), [("1", ROUNDS), ("2", ROUNDS // 2)], ids=["one reader", "two readers"]
)
def test_the_topic_equals_the_table_after_deletes_and_kill_9(
    kafka: Any,
    database: str,
    make_worker: Callable[..., Any],
    box: Any,
    unique_name: str,
    tmp_path: Any,
    parallelism: str,
    rounds: int,
) -> None:
    """``parallelism`` is that of the snapshot."""
    chance = random.Random(SEED)
    with box.connect(database) as connection:
        connection.execute(
            "CREATE TABLE lives (id bigint PRIMARY KEY, version int NOT NULL DEFAULT 0, note text,"
            " at timestamptz NOT NULL DEFAULT now())"
        )
        connection.execute("CREATE INDEX ON lives (at, id)")
        connection.execute(f"INSERT INTO lives (id) SELECT generate_series(0, {SNAPSHOT - 1})")
    worker = make_worker(kafka.bootstrap_servers)
    source = {
        "connector.class": "SqlSource",
        "connection.url": database,
        "table.whitelist": "lives",
        "mode": "timestamp+incrementing",
        "timestamp.column.name": "at",
        "incrementing.column.name": "id",
        "poll.interval.ms": "30",
        "batch.max.rows": "200",
        "topic.prefix": f"{unique_name}.",
        "topic.creation.default": {"partitions": "3", "replication.factor": "1"},
        "snapshot.parallelism": parallelism,
        "delete.detection": "reconcile",
        "delete.reconcile.schedule": "100",
        "delete.max.fraction": "1",
        "delete.ledger.directory": str(tmp_path / "ledgers"),
    }
    worker.write("lives", source)
    session = box.connect(database)
    session.autocommit = False
    life = DeletingWriter(session, SEED)
    life.start()
    for number in range(rounds):
        worker.settings["kafka.client"] = ("confluent", "kafka-python")[number % 2]
        worker.start(wait=False)
        if number % 4:  # every fourth kill happens during the start or the first read
            eventually(lambda: worker.answers() and _runs(worker), box.timeout)
        life.done.wait(chance.uniform(0.3, 2))
        worker.kill()
    eventually(lambda: life.counts["deleted"] > 150 and life.counts["came back"] > 100, box.timeout)
    life.done.set()
    life.join()
    session.close()
    worker.start()
    with box.connect(database) as connection:
        # Rows of the first read that have not changed since.
        connection.execute("DELETE FROM lives WHERE id >= %s AND id %% 1000 = 0", [KEYS])
        rows = table_rows(connection, "SELECT * FROM lives", key="id")
    assert life.counts["deleted"] > 100, life.counts
    assert life.counts["came back"] > 50, life.counts
    kafka_clients = KafkaPythonClients({"bootstrap.servers": kafka.bootstrap_servers})

    def topics() -> list[Comparison]:
        return [compare_topic(rows, topic_entries(kafka_clients, f"{unique_name}.lives"))]

    settle(topics, box.timeout)
    assert worker.stop() == 0
    entries = topic_entries(kafka_clients, f"{unique_name}.lives")
    tombstones = sum(entry.value is None for entry in entries)
    print(compare_topic(rows, entries), f"{tombstones} tombstones", life.counts)
    assert compare_topic(rows, entries).complete
    assert tombstones > 100


def _runs(worker: Any) -> bool:
    return bool(worker.running("lives"))
