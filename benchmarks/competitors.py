"""headrace and JVM Kafka Connect: whole workers, one after the other, on the same engines.

Both workers start as users start them, without connectors. A measurement begins when a connector is created over REST
and ends when the broker or the index has the last record, so it includes connecting, planning and reading the catalog.
The first connector of a new worker is *cold*. The same work is repeated twice under other names, and the last
repetition is *warm*: by then the JVM has compiled its code. Counters of the workers are not used: records are counted
in the topic, and documents in the index.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from sqlalchemy import make_url

from benchmarks.engines import Engines, line
from benchmarks.kafka_connect import LOCK, KafkaConnect
from benchmarks.paths import fill, source_config
from benchmarks.report import Line
from benchmarks.runners import Measurement
from benchmarks.worker import WorkerProcess
from headrace.broker.client_choice import choose
from headrace.embedded.artifacts import locked

_POLL = 0.02
_STATUS = 5.0  # seconds between two requests for the connector's status
_TIMEOUT = 600.0
_JDBC = ("io.aiven.connect.jdbc.JdbcSourceConnector", "io.confluent.connect.jdbc.JdbcSourceConnector")
_SINKS = (
    "io.aiven.connect.elasticsearch.ElasticsearchSinkConnector",
    "io.confluent.connect.elasticsearch.ElasticsearchSinkConnector",
)
_DEBEZIUM = "io.debezium.connector.postgresql.PostgresConnector"
_TIMES = ("cold", "warming", "warm")


@dataclass(frozen=True)
class Competitor:
    """One of the compared products: how its worker starts, and the configuration of a connector called ``name``."""

    start: Callable[[], WorkerProcess | KafkaConnect]
    config: Callable[[str], Mapping[str, str]]
    target: Callable[[str], str]
    """The topic or index that this connector writes."""


def competitors(engines: Engines) -> list[Line]:
    """Measure both paths with headrace and with every competitor that is available."""
    engines.make_table("rows", engines.rows)
    theirs = _found(engines)
    jdbc, sink = (next((name for name in known if name in theirs), None) for known in (_JDBC, _SINKS))
    for what, name in (("JDBC source", jdbc), ("Elasticsearch sink", sink)):
        if name is None:
            engines.say(f"  {what}: none in --plugins, not measured")
    connect = locked("connect", LOCK).version
    sources = {
        "headrace": Competitor(
            lambda: WorkerProcess(engines, []),
            lambda name: source_config(engines, name, "rows", engines.database),
            _topic,
        )
    }
    if jdbc:
        title = f"Kafka Connect {connect}, JDBC source of {jdbc.split('.')[1].capitalize()}"
        sources[title] = Competitor(lambda: _connect(engines), lambda name: _jdbc_source(engines, jdbc, name), _topic)
    title = f"Kafka Connect {locked('connect-for-debezium', LOCK).version}, Debezium {locked('debezium', LOCK).version}"
    sources[title] = Competitor(
        lambda: KafkaConnect(engines.folder / engines.name(), engines.bootstrap),
        lambda name: _debezium_source(engines, name),
        lambda name: f"{name}.public.rows",
    )
    lines = _lines(engines, "PostgreSQL → Kafka", sources, _in_topic)
    if sink:
        topic = fill(engines)
        title = f"Kafka Connect {connect}, Elasticsearch sink of {sink.split('.')[1].capitalize()}"
        sinks = {
            "headrace": Competitor(
                lambda: WorkerProcess(engines, []), lambda name: _our_sink(engines, topic, name), str
            ),
            title: Competitor(lambda: _connect(engines), lambda name: _sink(engines, sink, topic, name), str),
        }
        lines += _lines(engines, "Kafka → Elasticsearch", sinks, _in_index)
    return lines


def _connect(engines: Engines) -> KafkaConnect:
    return KafkaConnect(engines.folder / engines.name(), engines.bootstrap, engines.plugins)


def _found(engines: Engines) -> Collection[str]:
    """Return the classes of the connectors in ``--plugins``."""
    if engines.plugins is None:
        return ()
    worker = _connect(engines)
    found = worker.plugins() or ()
    worker.stop()
    return found


def _lines(
    engines: Engines,
    path: str,
    compared: Mapping[str, Competitor],
    counter: Callable[[Engines, str], Callable[[], int]],
) -> list[Line]:
    found: dict[str, dict[str, list[Measurement]]] = {name: {when: [] for when in _TIMES} for name in compared}
    starts: dict[str, list[float]] = {name: [] for name in compared}
    for number in range(engines.rounds):
        for name in list(compared) if number % 2 else list(compared)[::-1]:
            competitor = compared[name]
            began = time.perf_counter()
            worker = competitor.start()
            starts[name].append(time.perf_counter() - began)
            try:
                for when in _TIMES:
                    measured = _measure(engines, worker, competitor, counter)
                    found[name][when].append(measured)
                    engines.say(f"  round {number + 1}  {name:50} {when:8} {measured.rate:>9,.0f}/s")
            finally:
                worker.stop()
    lines = []
    for name in compared:
        if name == "headrace":
            continue
        for when in ("cold", "warm"):
            theirs = found[name][when]
            title = f"{path}, {when} : {name}"
            entry = line(title, found["headrace"][when], theirs)
            notes = {
                **entry.notes,
                "limit's peak MB": round(max(item.peak_rss_mb for item in theirs)),
                "worker starts in s": round(statistics.median(starts["headrace"]), 1),
                "limit's starts in s": round(statistics.median(starts[name]), 1),
            }
            lines.append(Line(**{**entry.__dict__, "notes": notes}))
    return lines


def _measure(
    engines: Engines,
    worker: WorkerProcess | KafkaConnect,
    competitor: Competitor,
    counter: Callable[[Engines, str], Callable[[], int]],
) -> Measurement:
    name = engines.name()
    count = counter(engines, competitor.target(name))
    config = dict(competitor.config(name))
    cpu, began = _cpu(worker.process), time.perf_counter()
    httpx.put(f"{worker.url}/connectors/{name}/config", json=config, timeout=60).raise_for_status()
    look = began + _STATUS
    while count() < engines.rows:
        now = time.perf_counter()
        if now > look:
            look = now + _STATUS
            _require_well(worker, name, count(), now - began)
        time.sleep(_POLL)
    seconds, spent = time.perf_counter() - began, _cpu(worker.process) - cpu
    peak = peak_mb(worker.process)
    httpx.delete(f"{worker.url}/connectors/{name}", timeout=60).raise_for_status()
    return Measurement(engines.rows, seconds, spent, peak)


def _require_well(worker: WorkerProcess | KafkaConnect, name: str, count: int, seconds: float) -> None:
    status = httpx.get(f"{worker.url}/connectors/{name}/status", timeout=60).text
    if '"FAILED"' in status or seconds > _TIMEOUT:
        raise RuntimeError(
            f"{name} has written {count:,} records in {seconds:.0f} s and does not go on: {status[:4000]}"
        )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def peak_mb(process: psutil.Process) -> float:
    """Return the peak memory since the process started (Linux), elsewhere its present memory."""
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        [text] = [entry for entry in status.read_text().splitlines() if entry.startswith("VmHWM:")]
        return int(text.split()[1]) / 1024
    return float(process.memory_info().rss) / 2**20


def _in_topic(engines: Engines, topic: str) -> Callable[[], int]:
    engines.make_topic(topic)
    admin = choose("confluent").open({"bootstrap.servers": engines.bootstrap}).admin({})
    return lambda: sum(admin.end_offsets([topic]).values())


def _in_index(engines: Engines, index: str) -> Callable[[], int]:
    engines.make_index(index)

    def count() -> int:
        answer = httpx.get(f"{engines.search}/{index}/_stats/indexing", timeout=60).raise_for_status().json()
        return int(answer["_all"]["primaries"]["indexing"]["index_total"])

    return count


def _topic(name: str) -> str:
    return f"{name}.rows"


def _our_sink(engines: Engines, topic: str, name: str) -> dict[str, str]:
    return {
        "name": name,
        "connector.class": "ElasticsearchSink",
        "connection.url": engines.search,
        "topics": topic,
        "key.ignore": "false",
        "external.resource.usage": "INDEX",
        "topic.to.external.resource.mapping": f"{topic}:{name}",
        "max.in.flight.requests": "5",
    }


def _sink(engines: Engines, plugin: str, topic: str, name: str) -> dict[str, str]:
    """Batch size and concurrency are its defaults; headrace has the same. Document versions are the offsets."""
    return {
        "name": name,
        "connector.class": plugin,
        "connection.url": engines.search,
        "topics": topic,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "key.ignore": "false",
        "schema.ignore": "true",
        "type.name": "_doc",
        "topic.index.map": f"{topic}:{name}",
        "batch.size": "2000",
        "max.in.flight.requests": "5",
        "max.buffered.records": "20000",
        "linger.ms": "1",
        "read.timeout.ms": "60000",
        "consumer.override.auto.offset.reset": "earliest",
    }


def _jdbc_source(engines: Engines, plugin: str, name: str) -> dict[str, str]:
    """``batch.max.rows`` is that of headrace (its default is 100). It creates no record keys, while headrace does."""
    url = make_url(engines.database)
    return {
        "name": name,
        "connector.class": plugin,
        "connection.url": f"jdbc:postgresql://{url.host}:{url.port}/{url.database}",
        "connection.user": url.username or "",
        "connection.password": str(url.password or ""),
        "table.whitelist": "rows",
        "mode": "incrementing",
        "incrementing.column.name": "id",
        "numeric.mapping": "best_fit",
        "batch.max.rows": "1000",
        "topic.prefix": f"{name}.",
    }


def _debezium_source(engines: Engines, name: str) -> dict[str, str]:
    """Only its snapshot is comparable, not its logical decoding. The transform extracts rows from its envelopes."""
    url = make_url(engines.database)
    return {
        "name": name,
        "connector.class": _DEBEZIUM,
        "database.hostname": url.host or "",
        "database.port": str(url.port),
        "database.user": url.username or "",
        "database.password": str(url.password or ""),
        "database.dbname": url.database or "",
        "topic.prefix": name,
        "table.include.list": "public.rows",
        "plugin.name": "pgoutput",
        "slot.name": name,
        "slot.drop.on.stop": "true",
        "publication.name": name,
        "snapshot.mode": "initial_only",
        "snapshot.fetch.size": "10240",
        "max.batch.size": "8192",
        "max.queue.size": "32768",
        "decimal.handling.mode": "double",
        "transforms": "unwrap",
        "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
    }
