"""Deleted rows and killed tasks in random order: in the end the topic equals the table."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from headrace import SourceBatch
from headrace.testing.contexts import Offsets
from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually
from headrace_sources.sql import SqlSourceConnector
from tests.unit.examples import examples
from tests.unit.sources.sql.reconciling import Topic


class DeletionMachine(RuleBasedStateMachine):
    """Inserts, deletes, killed tasks and late acknowledgements: in the end the topic equals the table."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.database = sqlite3.connect(folder / "source.db", isolation_level=None)
        self.database.execute("PRAGMA synchronous = OFF")  # commits do not wait for the disk
        self.stack.callback(self.database.close)
        # n is the cursor: a key that comes back gets a new one.
        self.database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL UNIQUE)")
        self.properties = {
            "connection.url": f"sqlite:///{folder / 'source.db'}",
            "table.whitelist": "t",
            "mode": "incrementing",
            "incrementing.column.name": "n",
            "topic.prefix": "",
            "poll.interval.ms": "1",
            "delete.detection": "reconcile",
            "delete.reconcile.schedule": "1",
            "delete.max.fraction": "1",
            "delete.ledger.directory": str(folder / "ledgers"),
        }
        self.offsets, self.topic, self.flying = Offsets(), Topic(), list[SourceBatch]()
        self.n = 0
        self.driver = SourceDriver(SqlSourceConnector, self.properties, self.offsets)

    @rule(key=st.integers(1, 12))
    def insert(self, key: int) -> None:
        self.n += 1
        self.database.execute(
            "INSERT INTO t VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET n = excluded.n", [key, self.n]
        )

    @rule(key=st.integers(1, 12))
    def delete(self, key: int) -> None:
        self.database.execute("DELETE FROM t WHERE id = ?", [key])

    @rule(times=st.integers(1, 6))
    def poll(self, times: int) -> None:
        for _ in range(times):
            answer = self.driver.poll()
            if isinstance(answer, SourceBatch):
                self.flying.append(answer)

    @rule(count=st.integers(1, 4))
    def acknowledge(self, count: int) -> None:
        for batch in self.flying[:count]:
            self.topic.take([batch])
            self.driver.store(batch)
        del self.flying[:count]

    @rule(arrived=st.integers(0, 2))
    def kill(self, arrived: int) -> None:
        """Kill the task; some unacknowledged batches are in Kafka."""
        self.topic.take(self.flying[:arrived])
        self.flying = []
        self.driver.stop()
        self.driver = SourceDriver(SqlSourceConnector, self.properties, self.offsets)

    def teardown(self) -> None:
        def equal() -> bool:
            """the topic equals the table"""
            self.poll(1)
            self.acknowledge(9)
            rows = dict(self.database.execute("SELECT id, n FROM t").fetchall())
            return {key: value["n"] for key, value in self.topic.last.items()} == rows

        try:
            eventually(equal)
        finally:
            self.driver.stop()
            self.stack.close()


DeletionMachine.TestCase.settings = settings(max_examples=examples(0.25), stateful_step_count=25, deadline=None)
TestDeletionMachine = DeletionMachine.TestCase
