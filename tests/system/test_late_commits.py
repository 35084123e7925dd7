"""kill -9 while transactions commit late and out of order: in the end the topic equals the tables."""

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

SEED = 20261126
WRITERS = 4
ROUNDS = 4
TABLE = "(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text, updated_at timestamptz NOT NULL DEFAULT now())"


class LateWriter(threading.Thread):
    """Transactions that are open for up to a second and a half; every fifth is rolled back."""

    def __init__(self, connection: psycopg.Connection[Any], seed: int) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._chance = random.Random(seed)
        self.done = threading.Event()
        self.committed = 0

    def run(self) -> None:
        chance = self._chance
        own: list[int] = []
        while not self.done.is_set():
            note = f"{self.name} {chance.random()}"
            [identity] = self._one("INSERT INTO updated (note) VALUES (%s) RETURNING id", [note])
            self._connection.execute("INSERT INTO added (note) VALUES (%s)", [note])
            if own and chance.random() < 0.5:
                update = "UPDATE updated SET note = %s, updated_at = now() WHERE id = %s"
                self._connection.execute(update, [note, chance.choice(own)])
            self.done.wait(chance.choice([0, 0, 0.05, 0.2, 1.5]) * chance.random())
            if chance.random() < 0.2:
                self._connection.rollback()
                continue
            self._connection.commit()
            own.append(identity)
            self.committed += 1
        self._connection.rollback()

    def _one(self, statement: str, parameters: list[Any]) -> tuple[Any, ...]:
        found: tuple[Any, ...] | None = self._connection.execute(statement.encode(), parameters).fetchone()
        assert found is not None
        return found


@pytest.mark.timeout(300)
def test_the_topic_equals_the_tables_after_late_commits_and_kill_9(
    kafka: Any, database: str, make_worker: Callable[..., Any], box: Any, unique_name: str
) -> None:
    chance = random.Random(SEED)
    with box.connect(database) as connection:
        connection.execute(f"CREATE TABLE updated {TABLE}")
        connection.execute(f"CREATE TABLE added {TABLE}")
    worker = make_worker(kafka.bootstrap_servers)
    source = {
        "connector.class": "SqlSource",
        "connection.url": database,
        "poll.interval.ms": "50",
        "topic.prefix": f"{unique_name}.",
        "incrementing.column.name": "id",
    }
    stamped = {"mode": "timestamp+incrementing", "timestamp.column.name": "updated_at"}
    worker.write("updated", {**source, **stamped, "table.whitelist": "updated"})
    worker.write("added", {**source, "mode": "incrementing", "table.whitelist": "added"})
    connections = [box.connect(database) for _ in range(WRITERS)]
    for connection in connections:
        connection.autocommit = False
    writers = [LateWriter(connection, SEED + number) for number, connection in enumerate(connections)]
    for writer in writers:
        writer.start()
    for number in range(ROUNDS):
        worker.start(wait=False)
        if number % 3:
            eventually(lambda: worker.answers() and _both_run(worker), box.timeout)
        writers[0].done.wait(chance.uniform(0.5, 2))
        worker.kill()
    eventually(lambda: sum(writer.committed for writer in writers) > 100, box.timeout)
    for writer in writers:
        writer.done.set()
    for writer in writers:
        writer.join()
    for connection in connections:
        connection.close()

    worker.start()
    with box.connect(database) as connection:
        tables = {name: table_rows(connection, f"SELECT * FROM {name}", key="id") for name in ("updated", "added")}
    assert sum(writer.committed for writer in writers) == len(tables["added"]) > 100
    kafka_clients = KafkaPythonClients({"bootstrap.servers": kafka.bootstrap_servers})

    def topics() -> list[Comparison]:
        return [
            compare_topic(rows, topic_entries(kafka_clients, f"{unique_name}.{name}")) for name, rows in tables.items()
        ]

    settle(topics, box.timeout)
    assert worker.stop() == 0
    for comparison in topics():
        print(comparison)
        assert comparison.complete


def _both_run(worker: Any) -> bool:
    return bool(worker.running("updated") and worker.running("added"))
