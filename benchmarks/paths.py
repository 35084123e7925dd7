"""What the framework costs on both paths, beside the bare loops of its own libraries, in one run.

    python -m benchmarks.paths [--rows 100000] [--rounds 3] [--json]

Real PostgreSQL, Kafka and Elasticsearch (embedded). Each round runs bare loop and headrace one after the other, in an
order that alternates; a ratio is headrace's rate by the bare loop's of the same round, and the median of them is the
result. 1.0 = costs nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
from sqlalchemy import make_url

from benchmarks import bare, framework
from headrace.embedded import EmbeddedStack

LIMIT = 0.7
"""Below this the framework costs too much."""

TABLE = """
CREATE TABLE rows AS
SELECT n::bigint AS id, 'customer ' || n AS name, md5(n::text) || '@example.com' AS email,
       (n % 100000 / 100.0)::numeric(10, 2) AS amount, n % 7 = 0 AS active,
       timestamptz '2026-01-01' + n * interval '1 second' AS placed_at, rpad('', 130, md5((n * 7)::text)) AS note
FROM generate_series(1, {rows}) AS n;
ALTER TABLE rows ADD PRIMARY KEY (id);
ANALYZE rows;
"""


class Paths:
    """One embedded stack, one table, and a name for every run so that none sees another's data."""

    def __init__(self, stack: EmbeddedStack, folder: Path, rows: int) -> None:
        self.stack, self.folder, self.rows = stack, folder, rows
        self.bootstrap, self.database = stack.kafka.bootstrap_servers, stack.postgres.url
        self.search = stack.elasticsearch.url
        self.runs = 0
        plain = make_url(self.database).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(TABLE.format(rows=rows).encode())
            size = connection.execute("SELECT avg(length(row_to_json(rows)::text)) FROM rows").fetchone()
        assert size is not None
        self.row_bytes = round(size[0])

    def name(self) -> str:
        self.runs += 1
        return f"run{self.runs}"

    def bare_source(self) -> int:
        return bare.source(self.database, "rows", self.bootstrap, f"{self.name()}.rows")

    def headrace_source(self) -> int:
        name = self.name()
        config = {
            "name": name,
            "connector.class": "SqlSource",
            "connection.url": self.database,
            "table.whitelist": "rows",
            "mode": "incrementing",
            "incrementing.column.name": "id",
            "pk.mode": "primary_key",
            "timestamp.granularity": "micros_iso_datetime_string",
            "topic.prefix": f"{name}.",
        }
        return framework.run(config, self.bootstrap, self.folder, "source_record_write_total", self.rows)

    def bare_sink(self) -> int:
        index = self.name()
        self._make_index(index)
        host, port = self.search.removeprefix("http://").split(":")
        return bare.sink(self.bootstrap, "source.rows", self.rows, host, int(port), index)

    def headrace_sink(self) -> int:
        name = self.name()
        self._make_index(name)
        config = {
            "name": name,
            "connector.class": "ElasticsearchSink",
            "connection.url": self.search,
            "topics": "source.rows",
            "topic.to.external.resource.mapping": f"source.rows:{name}",
        }
        return framework.run(config, self.bootstrap, self.folder, "sink_record_send_total", self.rows)

    def fill_topic(self) -> None:
        """What both sinks read."""
        bare.source(self.database, "rows", self.bootstrap, "source.rows")

    def _make_index(self, index: str) -> None:
        # Refreshes would come at other moments for each of the two.
        body = {"settings": {"number_of_replicas": 0, "refresh_interval": "-1"}}
        httpx.put(f"{self.search}/{index}", json=body, timeout=60).raise_for_status()


def measure(
    rival: Callable[[], int], ours: Callable[[], int], rows: int, rounds: int, say: Callable[[str], None]
) -> Any:
    """Rates of both and the ratio of each round."""
    rates: dict[str, list[float]] = {"bare": [], "headrace": []}
    for number in range(-1, rounds):  # the first warms both up and does not count
        order = [("bare", rival), ("headrace", ours)]
        for who, call in order if number % 2 else order[::-1]:
            began = time.perf_counter()
            done = call()
            seconds = time.perf_counter() - began
            if done < rows:
                raise RuntimeError(f"{who} moved {done} of {rows}")
            if number >= 0:
                rates[who].append(rows / seconds)
                say(f"  round {number + 1}  {who:9} {rows / seconds:>9,.0f}/s")
    ratios = [ours / rival for ours, rival in zip(rates["headrace"], rates["bare"], strict=True)]
    return {
        "bare_per_second": round(statistics.median(rates["bare"])),
        "headrace_per_second": round(statistics.median(rates["headrace"])),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio": round(statistics.median(ratios), 3),
        "limit": LIMIT,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="rows and documents of each run")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    options = parser.parse_args()
    logging.disable(logging.WARNING)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        say("starting PostgreSQL, Kafka, Elasticsearch")
        with EmbeddedStack(folder / "stack") as stack:
            paths = Paths(stack, folder, options.rows)
            say(f"{options.rows:,} rows of {paths.row_bytes} bytes as JSON\nsource: PostgreSQL → Kafka")
            results = {
                "source": measure(paths.bare_source, paths.headrace_source, options.rows, options.rounds, say),
            }
            paths.fill_topic()
            say("sink: Kafka → Elasticsearch")
            results["sink"] = measure(paths.bare_sink, paths.headrace_sink, options.rows, options.rounds, say)
    if options.json:
        print(json.dumps({"rows": options.rows, "row_bytes": paths.row_bytes, **results}, indent=2))
    else:
        print(f"\n{'path':8}{'bare loop':>14}{'headrace':>14}{'ratio':>8}{'at least':>10}")
        for path, result in results.items():
            print(
                f"{path:8}{result['bare_per_second']:>12,}/s{result['headrace_per_second']:>12,}/s"
                f"{result['ratio']:>8.2f}{LIMIT:>10}"
            )
    return 0 if all(result["ratio"] >= LIMIT for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
