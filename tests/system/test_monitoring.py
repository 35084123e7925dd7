"""A real Prometheus scrapes a real worker: alerts come with faults and end with them, dashboards find their metrics.

The age of data is compared with what a reader of the index measures.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kafka.admin import NewTopic
from sqlalchemy import make_url

from headrace.embedded import Kafka
from headrace.monitoring.alert_rules import AlertOptions, alert_rules, rules_file
from headrace.monitoring.grafana_dashboard import PANELS
from headrace.testing.waiting import eventually
from tests.engines.addresses import HttpAddress, SqlAddress, libpq_url
from tests.engines.http import HTTP
from tests.engines.prometheus import Prometheus, promtool
from tests.faults.world import World, send, send_all

pytestmark = pytest.mark.timeout(240)
OPTIONS = AlertOptions(pending="1s", patience="1s", window="8s", lag=100, position_lag=1)
STAMPED = "id serial PRIMARY KEY, note text, updated_at timestamptz NOT NULL DEFAULT clock_timestamp()"
SETTLED = 90.0
"""Seconds until an alert must have come, or must have ended."""
STRIMZI = {
    "namespace": "shop",
    "strimzi_io_kind": "KafkaConnect",
    "strimzi_io_cluster": "shop",
    "kubernetes_pod_name": "shop-connect-0",
}
"""Labels that the scrape configuration adds in Strimzi's deployments."""


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, postgres: SqlAddress, elasticsearch: HttpAddress, box: Any
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("monitoring")
    settings = {
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
    }

    name = f"monitoring_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(libpq_url(postgres.url), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        database = make_url(postgres.url).set(database=name).render_as_string(hide_password=False)
        kafka = Kafka(folder, settings=settings, heap="256m")
        made = World(
            folder,
            kafka,
            database,
            elasticsearch.url,
            box,
            metrics_names="headrace,kafka-connect",
            metrics_elasticsearch_url=elasticsearch.url,
            metrics_elasticsearch_interval="500ms",
            metrics_elasticsearch_namespace=folder.name,
        )
        with kafka:
            try:
                made.start()
                yield made
            finally:
                if made.worker is not None and made.worker.process.poll() is None:
                    made.worker.kill()
                made.close()
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="module")
def prometheus(world: World) -> Iterator[Prometheus]:
    server = Prometheus(
        world.folder / "prometheus", f"127.0.0.1:{world.worker.port}", rules=rules_file(OPTIONS), labels=STRIMZI
    )
    with server:
        yield server


@pytest.fixture(autouse=True)
def restored(world: World) -> Iterator[None]:
    yield
    world.restore()


def come(prometheus: Prometheus, expected: set[tuple[str, str]], meanwhile: Callable[[], object] = lambda: 0) -> None:
    """Wait until each alert has fired: those of events end after their window. ``meanwhile`` is called repeatedly."""
    seen: set[tuple[str, str]] = set()

    def all_seen() -> bool:
        meanwhile()
        seen.update(prometheus.alerts())
        return expected <= seen

    try:
        eventually(all_seen, SETTLED)
    except AssertionError as error:
        raise AssertionError(f"missing: {expected - seen}") from error


def end(prometheus: Prometheus, expected: set[tuple[str, str]]) -> None:
    try:
        eventually(lambda: not expected & prometheus.alerts(), SETTLED)
    except AssertionError as error:
        raise AssertionError(f"still firing: {expected & prometheus.alerts()}") from error


CONNECTOR_FAULTS = {
    "HeadraceConnectorFailed",
    "HeadraceTaskFailed",
    "HeadraceTaskRetrying",
    "HeadraceCondition",
    "HeadraceDeadLetters",
    "HeadraceSinkBehind",
    "HeadracePositionHeld",
    "HeadraceDataTooOld",
}


def test_alerts_of_connectors_come_with_a_fault_and_end_with_it(world: World, prometheus: Prometheus) -> None:
    missing = f"t{uuid.uuid4().hex[:8]}"
    failed_connector = world.source(missing, runs=False)

    bad = world.topic()
    send(world, bad, b"{not json")
    failed_task = world.sink(bad, runs=False)

    refused = world.topic()
    letters = world.sink(
        refused,
        errors_tolerance="all",
        errors_deadletterqueue_topic_name=f"dlq-{refused}",
        errors_deadletterqueue_topic_replication_factor="1",
    )
    # Prometheus counts increases of series that it knows.
    produced = f'headrace_deadletterqueue_produce_requests_total{{connector="{letters}"}} == 0'
    eventually(lambda: prometheus.query(produced), SETTLED)
    send(world, refused, b"{not json")

    held = world.table(columns=STAMPED)
    held_source = world.source(held, mode="timestamp+incrementing", timestamp_column_name="updated_at")

    blocked = world.topic()
    behind = world.sink(blocked, freshness_slo="2s")
    expected = {
        ("HeadraceConnectorFailed", failed_connector),
        ("HeadraceTaskFailed", failed_task),
        ("HeadraceDeadLetters", letters),
        ("HeadraceCondition", letters),
        ("HeadracePositionHeld", held_source),
        ("HeadraceTaskRetrying", behind),
        ("HeadraceSinkBehind", behind),
        ("HeadraceDataTooOld", behind),
    }
    assert {name for name, _ in expected} == CONNECTOR_FAULTS
    with psycopg.connect(libpq_url(world.database)) as open_transaction:
        open_transaction.execute(f"INSERT INTO {held} (note) VALUES ('open')")
        world.search_wire.refuse()
        send_all(world, blocked, [b'{"n": 1}'] * 2 * OPTIONS.lag)
        # The position waits for the open transaction, and the rows that are read meanwhile become newer.
        come(prometheus, expected, lambda: world.sql(f"INSERT INTO {held} (note) VALUES ('committed')"))
        open_transaction.commit()
    world.search_wire.restore()
    world.sql(f"CREATE TABLE {missing} (id serial PRIMARY KEY)")
    restart = f"{world.worker.url}/connectors/{failed_connector}/restart?includeTasks=true"
    HTTP.post(restart, timeout=90).raise_for_status()
    config = HTTP.get(f"{world.worker.url}/connectors/{failed_task}/config").json()
    world.create(failed_task, {**config, "errors.tolerance": "all"}, runs=False)
    eventually(lambda: world.worker.running(failed_task), SETTLED)
    for name in (letters, failed_task, behind):
        eventually(lambda name=name: acknowledged(world, name), SETTLED)  # type: ignore[misc]
    end(prometheus, expected)


def acknowledged(world: World, name: str) -> bool:
    HTTP.post(f"{world.worker.url}/v1/connectors/{name}/acknowledge", timeout=30).raise_for_status()
    return not world.status(name).get("conditions")


def test_failed_commits_are_an_alert(world: World, prometheus: Prometheus) -> None:
    topic = world.topic()
    name = world.sink(topic)
    world.search_wire.blackhole()
    send(world, topic)
    in_flight = f'headrace_sink_records_in_flight{{connector="{name}"}} > 0'
    eventually(lambda: prometheus.query(in_flight), SETTLED)
    world.kafka_proxy.refuse()
    world.search_wire.restore()  # the record is written, and its offset cannot be committed
    expected = {("HeadraceCommitsFail", name)}
    come(prometheus, expected)
    world.kafka_proxy.restore()
    end(prometheus, expected)


def test_a_worker_that_is_down_is_an_alert(world: World, prometheus: Prometheus) -> None:
    world.worker.kill()
    come(prometheus, {("HeadraceWorkerDown", "")})
    world.worker.start()
    end(prometheus, {("HeadraceWorkerDown", "")})


def test_every_rule_has_a_fault_in_this_file() -> None:
    faults = CONNECTOR_FAULTS | {"HeadraceCommitsFail", "HeadraceWorkerDown"}
    assert {rule.name for rule in alert_rules()} == faults


ONLY_STRIMZI = 'strimzi_io_kind=~"KafkaConnect.*",strimzi_io_cluster="shop"'
TASK_COUNT = "kafka_connect_worker_connector_{}_task_count"
QUERIES = {
    # What Strimzi's dashboard of Kafka Connect asks for: "sum" of a gauge, "rate" of a counter, by pod.
    **{
        name: f"sum({name}{{{ONLY_STRIMZI}}})"
        for name in (
            "kafka_connect_worker_connector_count",
            "kafka_connect_worker_task_count",
            "kafka_consumer_connection_count",
            "kafka_producer_connection_count",
            "kafka_admin_client_connection_count",
            "kafka_connect_worker_rebalance_rebalancing",
            *(TASK_COUNT.format(state) for state in ("running", "paused", "failed", "unassigned", "destroyed")),
        )
    },
    **{
        name: f"sum(rate({name}{{{ONLY_STRIMZI}}}[5m])) by (kubernetes_pod_name)"
        for name in ("kafka_producer_outgoing_byte_total", "kafka_consumer_incoming_byte_total")
    },
    **{
        name: f"sum({name}{{{ONLY_STRIMZI}}}) by (kubernetes_pod_name)"
        for name in ("kafka_connect_coordinator_assigned_connectors", "kafka_connect_coordinator_assigned_tasks")
    },
    **{
        f"connectors with {state} tasks": (
            f'sum({TASK_COUNT.format(state)}{{namespace="shop",{ONLY_STRIMZI}}}) by (connector) != 0'
        )
        for state in ("paused", "failed", "unassigned", "destroyed")
    },
    "status of connectors": (
        f"sum(kafka_connect_connector_status{{{ONLY_STRIMZI}}}"
        + "".join(
            f" * on (connector) group_left(connector_{fact}) kafka_connect_connector_connector_{fact}"
            for fact in ("class", "version", "type")
        )
        + ") by (connector, status, connector_class, kubernetes_pod_name, connector_version, connector_type)"
    ),
    "status of tasks": (
        f"sum(kafka_connect_task_error_total_record_failures{{{ONLY_STRIMZI}}}"
        " * on (connector, task) group_left(status) kafka_connect_connector_task_status)"
        " by (connector, status, kubernetes_pod_name, task)"
    ),
    "CPU of the container": 'sum(rate(container_cpu_usage_seconds_total{namespace="shop"}[5m])) by (pod)',
    "memory of the JVM": f"sum(jvm_memory_used_bytes{{{ONLY_STRIMZI}}}) by (kubernetes_pod_name)",
    "garbage collection": f"sum(rate(jvm_gc_collection_seconds_sum{{{ONLY_STRIMZI}}}[5m])) by (kubernetes_pod_name)",
    "threads of the JVM": f"sum(jvm_threads_current{{{ONLY_STRIMZI}}}) by (kubernetes_pod_name)",
}
WITHOUT_DATA = {
    "connectors with destroyed tasks",  # headrace removes them
    "CPU of the container",  # a metric of Kubernetes
    "memory of the JVM",
    "garbage collection",
    "threads of the JVM",
}


def test_dashboards_of_kafka_connect_find_their_metrics(world: World, prometheus: Prometheus) -> None:
    """20 of the 25 queries of Strimzi's dashboard; the others are about the JVM, its container and destroyed tasks."""
    world.source(world.table())
    topic = world.topic()
    send(world, topic)
    world.sink(topic)
    paused = world.source(world.table())
    HTTP.put(f"{world.worker.url}/connectors/{paused}/pause").raise_for_status()
    bad = world.topic()
    send(world, bad, b"{not json")
    failed = world.sink(bad, runs=False)
    eventually(lambda: world.worker.task_states(failed) == ["FAILED"], SETTLED)
    world.search_wire.refuse()
    world.sink(world.topic(), runs=False)  # waits for Elasticsearch: its task is UNASSIGNED

    def without_data() -> set[str]:
        return {name for name, query in QUERIES.items() if not prometheus.query(query)}

    assert len(QUERIES) == 25
    try:
        eventually(lambda: without_data() == WITHOUT_DATA, SETTLED)
    except AssertionError as error:
        raise AssertionError(f"other than expected: {without_data() ^ WITHOUT_DATA}") from error


def test_every_query_of_the_grafana_dashboard_returns_data(world: World, prometheus: Prometheus) -> None:
    topic = world.topic()
    world.sink(
        topic,
        errors_tolerance="all",
        errors_deadletterqueue_topic_name=f"dlq-{topic}",
        errors_deadletterqueue_topic_replication_factor="1",
    )
    world.source(world.table(columns=STAMPED), mode="timestamp+incrementing", timestamp_column_name="updated_at")
    send_all(world, topic, [b'{"n": 1}', b"{not json"])
    values = {"$job": ".*", "$connector": ".*", "$__rate_interval": "1m"}

    def without_data() -> set[str]:
        missing = set()
        for panel in PANELS:
            for query, _ in panel.queries:
                asked = query
                for name, value in values.items():
                    asked = asked.replace(name, value)
                if not prometheus.query(asked):
                    missing.add(query)
        return missing

    try:
        eventually(lambda: not without_data(), SETTLED)
    except AssertionError as error:
        raise AssertionError(f"no data: {without_data()}") from error


def test_promtool_accepts_the_metrics_of_a_worker(world: World) -> None:
    text = HTTP.get(f"{world.worker.url}/metrics").text
    own = "".join(line for line in text.splitlines(keepends=True) if "kafka_" not in line.split("{")[0])
    assert promtool("check", "metrics", stdin=own) == ""


REFRESH = 0.2
"""Seconds of ``index.refresh_interval``."""
TOLERANCE = 0.1 + REFRESH
ROWS = 40


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


@pytest.fixture
def ways(world: World) -> tuple[str, dict[str, str]]:
    """A table, and the sinks by the index that they write: source → index, and source → stream → index."""
    table = world.table(rows=0, columns=STAMPED)
    world.source(table, mode="timestamp+incrementing", timestamp_column_name="updated_at")
    direct, copied = f"f_{table}", f"copy_{table}"
    with world.admin() as admin:
        admin.create_topics([NewTopic(direct, 1, 1), NewTopic(copied, 1, 1)])
    application = {
        "connector.class": "Stream",
        "inputs.rows": direct,
        "steps.kept.filter": "id > 0",
        f"outputs.{copied}": "kept",
        "commit.interval.ms": "100",
    }
    world.create(f"app-{table}", application)
    sinks = {}
    for topic in (direct, copied):
        settings = {"index": {"refresh_interval": f"{REFRESH * 1000:.0f}ms"}}
        HTTP.put(f"{world.elasticsearch}/{topic}", json={"settings": settings}).raise_for_status()
        sinks[topic] = world.sink(topic, freshness_slo="1000")
    return table, sinks


def test_the_age_of_data_is_what_a_reader_measures(world: World, ways: tuple[str, dict[str, str]]) -> None:
    """Each row is inserted at a known time and searched for until it is found in both indices."""
    table, sinks = ways
    measured: dict[str, list[float]] = {index: [] for index in sinks}
    for number in range(1, ROWS + 1):
        changed = f"INSERT INTO {table} (note) VALUES ('row') RETURNING extract(epoch FROM updated_at)::float8"
        [(committed,)] = world.sql(changed)
        missing = set(sinks)

        def found_everywhere(number: int = number, missing: set[str] = missing, committed: float = committed) -> bool:
            for index in sorted(missing):
                if hits(world, index, f"id:{number}"):
                    measured[index].append(time.time() - committed)
                    missing.remove(index)
            return not missing

        eventually(found_everywhere, SETTLED)
    for index, sink in sinks.items():
        eventually(lambda sink=sink: age(world, sink)["batches"] == ROWS, SETTLED)  # type: ignore[misc]
        told = age(world, sink)
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            outside = percentile(measured[index], share)
            assert abs(told[name] - outside) < TOLERANCE, f"{index} {name}: told {told[name]}, measured {outside}"


def hits(world: World, index: str, query: str) -> int:
    answer = HTTP.get(f"{world.elasticsearch}/{index}/_search", params={"q": query, "size": "0"})
    return int(answer.json()["hits"]["total"]["value"]) if answer.status_code == 200 else 0


def age(world: World, sink: str) -> dict[str, Any]:
    [task] = world.worker.get(f"/v1/connectors/{sink}/freshness")["tasks"]
    found: dict[str, Any] = task["age"]
    return found


def test_the_status_names_the_hop_that_holds_the_data_back(world: World, ways: tuple[str, dict[str, str]]) -> None:
    table, sinks = ways
    sink = sinks[f"f_{table}"]
    world.sql(f"INSERT INTO {table} (note) VALUES ('first')")
    eventually(lambda: hits(world, f"f_{table}", "id:1"), SETTLED)
    eventually(lambda: world.is_well(sink), SETTLED)
    # Of this worker, Kafka's clients wait two seconds for an answer, the sink and the source three. The proxy holds
    # each part of an answer back, and a query of the source has two.
    faults = (
        (world.sql_proxy, 1.2, f"by the source source-{table}"),
        (world.kafka_proxy, 0.9, f"by Kafka, after source-{table} had sent the data"),
        (world.search_wire, 1.0, "by the writes of this sink"),
    )
    for proxy, seconds, named in faults:
        proxy.delay(seconds)
        world.sql(f"INSERT INTO {table} (note) VALUES ('late')")
        try:
            eventually(lambda named=named: named in world.said(sink), SETTLED)  # type: ignore[misc]
        except AssertionError as error:
            raise AssertionError(f"not said: {named}\n{world.said(sink)}\n{age(world, sink)}") from error
        proxy.restore()
        eventually(lambda: acknowledged(world, sink) and world.is_well(sink), SETTLED)


def test_kibanas_dashboards_of_workers_find_their_data(world: World, tmp_path: Path, box: Any) -> None:
    """The pack over the data streams that the worker writes: every field is mapped, every query returns data."""
    topic = world.topic()
    application = {"connector.class": "Stream", "inputs.rows": topic, "steps.kept.filter": "n > 0"}
    world.create(f"app-{topic}", {**application, f"outputs.copy_{topic}": "kept"})
    send(world, topic)
    worker_file, pack = world.worker.worker_file(), tmp_path / "pack"
    built = box.command("kibana", "build", worker_file, "--output", pack, "--time-range", "1h")
    assert built.returncode == 0, built.stderr

    def passes() -> bool:
        checked = box.command("kibana", "check", pack, worker_file, "--preview", tmp_path / "pictures")
        failures.append(checked.stdout + checked.stderr)
        return bool(checked.returncode == 0)

    failures: list[str] = []
    try:
        eventually(passes, SETTLED)
    except AssertionError as error:
        raise AssertionError(failures[-1]) from error
    pictures = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert len(pictures) == 3, pictures
