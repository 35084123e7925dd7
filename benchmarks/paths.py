"""The two paths, measured with headrace, a baseline and a limit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.engines import CLIENTS, Engines, Runner, line
from benchmarks.report import Line
from benchmarks.runners import run

SIZES = {"100 B": 0, "1 kB": 830, "10 kB": 9_900}
"""Length of the filler column by the size of a row as JSON (without it a row has 200 bytes)."""


def postgres_kafka(engines: Engines) -> list[Line]:
    """Measure PostgreSQL → Kafka, with ``COPY`` and the baseline as limits, for each client."""
    tables = {client: f"rows_{number}" for number, client in enumerate(CLIENTS)}
    for client, table in tables.items():
        size = engines.make_table(table, engines.rows_for(client))
        engines.say(f"  {client}: {engines.rows_for(client):,} rows of {size} bytes as JSON")
    wanted: dict[str, Callable[[], Runner]] = {"COPY": partial(_copy, engines, tables[CLIENTS[0]])}
    for client, table in tables.items():
        wanted[f"baseline, {client}"] = partial(_baseline_postgres, engines, table, client)
        wanted[f"headrace, {client}"] = partial(source, engines, table, client)
    found = engines.measure(wanted)
    lines = []
    for client in CLIENTS:
        ours = found[f"headrace, {client}"]
        lines.append(line(f"PostgreSQL → Kafka, {client} : baseline", ours, found[f"baseline, {client}"]))
        lines.append(line(f"PostgreSQL → Kafka, {client} : COPY to nowhere", ours, found["COPY"]))
    return lines


def kafka_elasticsearch(engines: Engines) -> list[Line]:
    """Measure Kafka → Elasticsearch, with the baseline and prepared bulk bodies as limits, for each client."""
    topic = fill(engines)
    best = best_concurrency(engines, topic)
    wanted: dict[str, Callable[[], Runner]] = {"raw _bulk": partial(raw_bulk, engines, topic, best)}
    for client in CLIENTS:
        wanted[f"baseline, {client}"] = partial(_baseline_sink, engines, topic, client)
        wanted[f"headrace, {client}"] = partial(sink, engines, topic, client, best)
    found = engines.measure(wanted)
    lines = []
    for client in CLIENTS:
        ours = found[f"headrace, {client}"]
        lines.append(line(f"Kafka → Elasticsearch, {client} : raw _bulk, {best} at a time", ours, found["raw _bulk"]))
        lines.append(line(f"Kafka → Elasticsearch, {client} : baseline", ours, found[f"baseline, {client}"]))
    return lines


def best_concurrency(engines: Engines, topic: str, count: int | None = None) -> int:
    """Return the number of concurrent raw ``_bulk`` requests with the highest rate."""
    tries: dict[int, float] = {}
    for threads in (1, 2, 4, 8):
        runner = raw_bulk(engines, topic, threads, count)
        tries[threads] = run(runner.module, runner.function, **runner.arguments).rate
    engines.say("  raw _bulk by requests at a time: " + ", ".join(f"{n}: {rate:,.0f}/s" for n, rate in tries.items()))
    return max(tries, key=lambda threads: tries[threads])


def sqlite_kafka(engines: Engines) -> list[Line]:
    """Measure SQLite → Kafka; the baseline uses the driver of the standard library."""
    wanted: dict[str, Callable[[], Runner]] = {}
    for client in CLIENTS:
        path = str(engines.make_sqlite(engines.rows_for(client)))
        arguments = {"path": path, "client": client, "bootstrap": engines.bootstrap}
        wanted[f"baseline, {client}"] = partial(_baseline_sqlite, engines, arguments)
        wanted[f"headrace, {client}"] = partial(source, engines, "rows", client, f"sqlite:///{path}")
    found = engines.measure(wanted)
    return [
        line(f"SQLite → Kafka, {client} : baseline", found[f"headrace, {client}"], found[f"baseline, {client}"])
        for client in CLIENTS
    ]


def sizes(engines: Engines) -> list[Line]:
    """Measure PostgreSQL → Kafka by the size of a record, with the faster client."""
    lines = []
    for number, (name, filler) in enumerate(SIZES.items()):
        rows = max(2_000, engines.rows // 10) if filler > 5_000 else engines.rows
        table = f"size{number}"
        size = engines.make_table(table, rows, filler)
        found = engines.measure(
            {
                "baseline": partial(_baseline_postgres, engines, table, CLIENTS[0]),
                "headrace": partial(source, engines, table, CLIENTS[0], rows=rows),
            }
        )
        label = f"PostgreSQL → Kafka, records of {name} ({size} B as JSON) : baseline"
        lines.append(line(label, found["headrace"], found["baseline"]))
    return lines


def snapshot(engines: Engines) -> list[Line]:
    """Measure the snapshot of a table over several connections of one task, compared with one connection."""
    engines.make_table("rows", engines.rows)
    threads = (1, 2, 4)
    found = engines.measure(
        {
            f"{number} connections": partial(source, engines, "rows", CLIENTS[0], parallelism=number)
            for number in threads
        }
    )
    return [
        line(
            f"first reading of a table, {number} connections : 1",
            found[f"{number} connections"],
            found["1 connections"],
        )
        for number in threads[1:]
    ]


def noise(engines: Engines) -> list[Line]:
    """A/A test: a baseline against itself. Smaller differences than this one mean nothing in other lines."""
    engines.make_table("same", engines.rows)
    topic = fill(engines)
    found = engines.measure(
        {
            "source, baseline, first": partial(_baseline_postgres, engines, "same", CLIENTS[0]),
            "source, baseline, again": partial(_baseline_postgres, engines, "same", CLIENTS[0]),
            "sink, baseline, first": partial(_baseline_sink, engines, topic, CLIENTS[0]),
            "sink, baseline, again": partial(_baseline_sink, engines, topic, CLIENTS[0]),
        }
    )
    return [
        line(
            f"A/A noise, {path}: baseline : itself",
            found[f"{path}, baseline, again"],
            found[f"{path}, baseline, first"],
        )
        for path in ("source", "sink")
    ]


def fill(engines: Engines) -> str:
    """Create a topic of ``rows`` records in one partition; return its name."""
    engines.make_table(table := engines.name(), engines.rows)
    engines.make_topic(topic := f"{table}.rows")
    run(
        "baseline",
        "postgres",
        database=engines.database,
        table=table,
        client="confluent",
        bootstrap=engines.bootstrap,
        topic=topic,
    )
    return topic


def _copy(engines: Engines, table: str) -> Runner:
    return Runner("baseline", "copy", {"libpq": engines.libpq, "table": table})


def _baseline_postgres(engines: Engines, table: str, client: str) -> Runner:
    topic = f"{engines.name()}.rows"
    engines.make_topic(topic)
    arguments = {"database": engines.database, "table": table, "client": client, "bootstrap": engines.bootstrap}
    return Runner("baseline", "postgres", {**arguments, "topic": topic})


def _baseline_sqlite(engines: Engines, arguments: dict[str, Any]) -> Runner:
    return Runner("baseline", "sqlite", {**arguments, "topic": engines.name()})


def source_config(engines: Engines, name: str, tables: str, database: str) -> dict[str, str]:
    """Return the configuration of a source."""
    return {
        "name": name,
        "connector.class": "SqlSource",
        "connection.url": database,
        "table.whitelist": tables,
        "mode": "incrementing",
        "incrementing.column.name": "id",
        "pk.mode": "primary_key",
        "timestamp.granularity": "micros_iso_datetime_string",
        "topic.prefix": f"{name}.",
    }


def source(
    engines: Engines,
    table: str,
    client: str,
    database: str | None = None,
    rows: int | None = None,
    parallelism: int = 1,
) -> Runner:
    """Return the runner that writes the ``rows`` of a table to a new topic through headrace."""
    name = engines.name()
    engines.make_topic(f"{name}.{table}")
    config = source_config(engines, name, table, database or engines.database)
    config["snapshot.parallelism"] = str(parallelism)
    wanted = rows or engines.rows_for(client)
    return Runner("framework", "run", _run(engines, config, client, "source_record_write_total", wanted))


def sink(engines: Engines, topic: str, client: str, at_a_time: int, count: int | None = None) -> Runner:
    """Return the runner that writes ``count`` documents of the topic through headrace."""
    name = engines.name()
    engines.make_index(name)
    config = {
        "name": name,
        "connector.class": "ElasticsearchSink",
        "connection.url": engines.search,
        "topics": topic,
        "key.ignore": "false",
        "external.resource.usage": "INDEX",
        "topic.to.external.resource.mapping": f"{topic}:{name}",
        "max.in.flight.requests": str(at_a_time),
    }
    wanted = count or engines.rows_for(client)
    return Runner("framework", "run", _run(engines, config, client, "sink_record_send_total", wanted))


def _run(engines: Engines, config: dict[str, str], client: str, counter: str, count: int) -> dict[str, object]:
    return {
        "config": config,
        "client": client,
        "bootstrap": engines.bootstrap,
        "folder": str(engines.folder),
        "counter": counter,
        "count": count,
    }


def _baseline_sink(engines: Engines, topic: str, client: str) -> Runner:
    return Runner("baseline", "sink", {**_bulk(engines, topic, engines.rows_for(client)), "client": client})


def raw_bulk(engines: Engines, topic: str, threads: int, count: int | None = None) -> Runner:
    """Return the runner that writes ``count`` documents of the topic from prepared bodies."""
    return Runner(
        "baseline",
        "raw_bulk",
        {**_bulk(engines, topic, count or engines.rows), "client": CLIENTS[0], "threads": threads},
    )


def _bulk(engines: Engines, topic: str, count: int) -> dict[str, object]:
    index = engines.name()
    engines.make_index(index)
    host, port = engines.search.removeprefix("http://").split(":")
    return {
        "bootstrap": engines.bootstrap,
        "topic": topic,
        "count": count,
        "host": host,
        "port": int(port),
        "index": index,
    }
