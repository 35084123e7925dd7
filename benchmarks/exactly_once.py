"""Exactly-once delivery of a source beside at-least-once delivery: ``python -m benchmarks.exactly_once [--rows N]``.

One worker in a group of its own reads a table of PostgreSQL into Kafka (embedded engines). The three ways take turns in
one run; a rate is counted from the first to the last record that Kafka has acknowledged.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx
import orjson
import psycopg
from sqlalchemy import make_url

from headrace.embedded import EmbeddedStack

HEADRACE = Path(sysconfig.get_path("scripts")) / "headrace"
_TIMEOUT = 300.0
T = TypeVar("T")


class Way(NamedTuple):
    """How a source delivers."""

    name: str
    support: str
    keys: dict[str, str]


WAYS = (
    Way("at least once", "disabled", {}),
    Way("exactly once, poll", "enabled", {"transaction.boundary": "poll"}),
    Way(
        "exactly once, interval 1 s",
        "enabled",
        {"transaction.boundary": "interval", "transaction.boundary.interval.ms": "1000"},
    ),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=200_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--client", default="confluent", choices=["confluent", "kafka-python"])
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedStack(Path(folder), engines=("kafka", "postgres")) as stack:
        url = make_url(stack.postgres.url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE rows AS SELECT n::bigint AS id, md5(n::text) AS name, rpad('', 150, md5(n::text)) AS note"
                f" FROM generate_series(1, {given.rows}) AS n"
            )
            connection.execute("ALTER TABLE rows ADD PRIMARY KEY (id)")
        rates: dict[str, list[float]] = {way.name: [] for way in WAYS}
        for number in range(given.rounds):
            for way in WAYS if number % 2 == 0 else reversed(WAYS):
                group = f"{way.name.replace(' ', '-').replace(',', '')}-{number}"
                settings = {"bootstrap.servers": stack.kafka.bootstrap_servers, "kafka.client": given.client}
                rate = _rate(Path(folder), group, settings, way, stack.postgres.url, given.rows)
                rates[way.name].append(rate)
                print(f"round {number + 1}: {way.name}: {rate:,.0f} rows/s", flush=True)
    base = statistics.median(rates[WAYS[0].name])
    print(f"\nload {os.getloadavg()[0]:.1f}, {given.client}\n\n| | rows/s | ratio |\n|---|---:|---:|")
    for name, found in rates.items():
        print(f"| {name} | {statistics.median(found):,.0f} | {statistics.median(found) / base:.2f} |")


def _rate(folder: Path, group: str, settings: dict[str, str], way: Way, database: str, rows: int) -> float:
    """Run a worker until it has sent all rows; return the rows per second."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{found.getsockname()[1]}"
    topics = {f"{part}.storage.topic": f"{group}-{part}s" for part in ("config", "offset", "status")}
    file = folder / f"{group}.json"
    file.write_bytes(
        orjson.dumps(
            {
                **settings,
                **topics,
                "group.id": group,
                "listeners": url,
                "exactly.once.source.support": way.support,
                "value.converter.schemas.enable": "false",
                "key.converter.schemas.enable": "false",
            }
        )
    )
    config = {
        "connector.class": "SqlSource",
        "connection.url": database,
        "table.whitelist": "rows",
        "mode": "incrementing",
        "incrementing.column.name": "id",
        "pk.mode": "primary_key",
        "topic.prefix": f"{group}.",
        **way.keys,
    }
    with (folder / f"{group}.log").open("wb") as log:
        worker = subprocess.Popen([str(HEADRACE), "run", str(file)], stdout=log, stderr=log)
    try:
        _wait(lambda: _get(f"{url}/health") is not None)
        httpx.put(f"{url}/connectors/rows/config", json=config, timeout=60).raise_for_status()
        before = _wait(lambda: _written(url))
        began = time.perf_counter()
        _wait(lambda: _written(url) == rows)
        return (rows - before) / (time.perf_counter() - began)
    finally:
        worker.terminate()
        worker.wait(60)


def _get(url: str) -> httpx.Response | None:
    try:
        answer = httpx.get(url, timeout=30)
    except httpx.TransportError:
        return None
    return answer if answer.status_code == 200 else None


def _written(url: str) -> int:
    answer = _get(f"{url}/v1/connectors/rows/records")
    return sum(task["counts"]["written"] for task in answer.json()["tasks"]) if answer is not None else 0


def _wait(condition: Callable[[], T]) -> T:
    """Return the first result that counts as true. Raise TimeoutError."""
    end = time.monotonic() + _TIMEOUT
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise TimeoutError("the worker did not send all rows in time")


if __name__ == "__main__":
    main()
