"""The engines of one run of the benchmarks, with their tables and topics; runs the runners in rounds."""

from __future__ import annotations

import sqlite3
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx
import psycopg
from sqlalchemy import make_url

from benchmarks import runners
from benchmarks.cores import keep_apart
from benchmarks.report import Line
from benchmarks.runners import Measurement
from headrace.broker.client_choice import choose
from headrace.broker.interfaces import NewTopic
from headrace.embedded import EmbeddedStack

CLIENTS = ("confluent", "kafka-python")
"""Values of ``kafka.client``."""

_TABLE = """
CREATE TABLE {table} AS
SELECT n::bigint AS id, 'customer ' || n AS name, md5(n::text) || '@example.com' AS email,
       (n % 100000 / 100.0)::numeric(10, 2) AS amount, n % 7 = 0 AS active,
       timestamptz '2026-01-01' + n * interval '1 second' AS placed_at, rpad('', {filler}, md5((n * 7)::text)) AS note
FROM generate_series(1, {rows}) AS n;
ALTER TABLE {table} ADD PRIMARY KEY (id);
ANALYZE {table};
"""


class Runner(NamedTuple):
    """What a process of its own runs, with the checkout that it imports (None: this one)."""

    module: str
    function: str
    arguments: dict[str, Any]
    checkout: Path | None = None


class Engines:
    """One embedded stack. :meth:`name` returns a new name for each run, so that no run sees the data of another."""

    def __init__(
        self,
        folder: Path,
        *,
        rows: int,
        rounds: int,
        quick: bool,
        say: Callable[[str], None],
        plugins: Path | None = None,
        quix: Path | None = None,
        against: Path | None = None,
        apart: bool = False,
        applications: Sequence[str] = (),
        topologies: Sequence[str] = (),
    ) -> None:
        """``plugins``: a folder of connectors for Kafka Connect. ``quix``: a Python that has Quix Streams.

        ``against``: another checkout of headrace with its environment in ``.venv`` (versions).
        ``apart``: engines on one core, runners on another.
        ``applications``: parts of the names of the stream applications to compare with; empty = all.
        ``topologies``: what stream applications do; empty = all."""
        self.folder, self.rows, self.rounds, self.quick, self.say = folder, rows, rounds, quick, say
        self.plugins, self.quix, self.against, self._apart = plugins, quix, against, apart
        self._applications, self._topologies = applications, topologies
        self._stop = ExitStack()
        self._runs = 0

    def __enter__(self) -> Self:
        settings = {"wal_level": "logical"}  # Debezium asks for it, even for a snapshot
        options = {"postgres": {"settings": settings}}
        self.stack = self._stop.enter_context(EmbeddedStack(self.folder / "stack", options=options))
        self.bootstrap, self.database = self.stack.kafka.bootstrap_servers, self.stack.postgres.url
        self.search = self.stack.elasticsearch.url
        if self._apart:
            keep_apart(engine.pid for engine in (self.stack.postgres, self.stack.kafka, self.stack.elasticsearch))
        self.connection = self._stop.enter_context(psycopg.connect(self.libpq, autocommit=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.close()

    @property
    def libpq(self) -> str:
        return make_url(self.database).set(drivername="postgresql").render_as_string(hide_password=False)

    def versions(self) -> list[str]:
        """Return the versions of everything that is not headrace."""
        stack = self.stack
        return [
            f"PostgreSQL {stack.postgres.version}, Kafka {stack.kafka.version}, "
            f"Elasticsearch {stack.elasticsearch.version}",
            "clients: " + "; ".join(choose(name).title for name in CLIENTS),  # type: ignore[arg-type]
        ]

    def rows_for(self, client: str) -> int:
        """Return how many rows a client gets: kafka-python is ten times slower and gets a quarter of them."""
        return self.rows if client == CLIENTS[0] else max(self.rows // 4, 1_000)

    def compares(self, application: str) -> bool:
        """Return whether a stream application is one of those to compare with."""
        return not self._applications or any(part in application for part in self._applications)

    def runs_topology(self, topology: str) -> bool:
        """Return whether a topology of stream applications is measured."""
        return not self._topologies or topology in self._topologies

    def name(self) -> str:
        self._runs += 1
        return f"run{self._runs}"

    def make_table(self, table: str, rows: int, filler: int = 130) -> int:
        """Create a table of ``rows``; return the size of a row as JSON."""
        self.connection.execute(_TABLE.format(table=table, rows=rows, filler=filler).encode())
        found = self.connection.execute(f"SELECT avg(length(row_to_json(t)::text)) FROM {table} AS t".encode())
        row = found.fetchone()
        return int(row[0]) if row else 0

    def make_sqlite(self, rows: int) -> Path:
        """Create a SQLite file with the same rows."""
        path = self.folder / f"{self.name()}.sqlite"
        with sqlite3.connect(path) as connection:
            connection.execute(
                "CREATE TABLE rows (id INTEGER PRIMARY KEY, name TEXT, email TEXT, amount REAL, active INTEGER,"
                " note TEXT)"
            )
            connection.executemany(
                "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (n, f"customer {n}", f"{n * 7919:032x}@example.com", n % 100000 / 100, n % 7 == 0, "x" * 130)
                    for n in range(1, rows + 1)
                ),
            )
        connection.close()
        return path

    def make_topic(self, topic: str, partitions: int = 1) -> None:
        admin = choose("auto").open({"bootstrap.servers": self.bootstrap}).admin({})
        admin.create_topics([NewTopic(topic, partitions, 1)])
        admin.close()

    def make_index(self, index: str, **settings: Any) -> None:
        # No refreshes: they would happen at different moments for each runner.
        body = {"settings": {"number_of_replicas": 0, "refresh_interval": "-1", **settings}}
        httpx.put(f"{self.search}/{index}", json=body, timeout=60).raise_for_status()

    def measure(self, wanted: Mapping[str, Callable[[], Runner]]) -> dict[str, list[Measurement]]:
        """Run every runner ``rounds`` times in alternating order; the first round warms up and does not count."""
        found: dict[str, list[Measurement]] = {name: [] for name in wanted}
        for number in range(-1, self.rounds):
            order = list(wanted) if number % 2 else list(wanted)[::-1]
            for name in order:
                module, function, arguments, checkout = wanted[name]()
                measured = runners.run(module, function, checkout, **arguments)
                if number >= 0:
                    found[name].append(measured)
                    self.say(f"  round {number + 1}  {name:32} {measured.rate:>9,.0f}/s")
        return found


def line(path: str, ours: list[Measurement], limit: list[Measurement]) -> Line:
    """Return a line of medians. A ratio compares rates of the same round."""
    ratios = [mine.rate / other.rate for mine, other in zip(ours, limit, strict=True)]
    return Line(
        path,
        rate=statistics.median(item.rate for item in ours),
        limit=statistics.median(item.rate for item in limit),
        ratio=statistics.median(ratios),
        cpu_s_per_million=statistics.median(item.cpu_per_million for item in ours),
        peak_rss_mb=max(item.peak_rss_mb for item in ours),
        spread=(min(ratios), max(ratios)),
        notes={"limit's CPU s/million": round(statistics.median(item.cpu_per_million for item in limit), 1)},
    )
