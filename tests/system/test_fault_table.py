"""Each fault of the table, injected into running workers: status and log name it, and workers recover by themselves.

The engines and one worker are shared by all cases; each case has tables, topics and connectors of its own.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from kafka.admin import (
    ACLOperation,
    ConfigResource,
    ConfigResourceType,
    NewTopic,
    ResourceType,
)
from sqlalchemy import make_url

from headrace.embedded import Kafka
from headrace.errors import RetriableError
from headrace.testing.faults import StatusFault
from headrace.testing.waiting import eventually
from tests.engines.addresses import HttpAddress, SqlAddress, libpq_url
from tests.engines.http import HTTP
from tests.faults.table import LIVE, PAGE, ROWS, WRITE, FaultRow, page, scores_of
from tests.faults.world import HEALED, World, block, documents, send

pytestmark = pytest.mark.timeout(180)
SEEN = 20.0
"""Seconds until the status must name the cause: 10 on an idle machine."""
LIVE_ROWS = {row.number: row for row in ROWS if row.proof == LIVE}


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, postgres: SqlAddress, elasticsearch: HttpAddress, box: Any
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("faults")
    settings = {
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.num.partitions": "1",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        "group.initial.rebalance.delay.ms": "0",
    }
    name = f"faults_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(libpq_url(postgres.url), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        database = make_url(postgres.url).set(database=name).render_as_string(hide_password=False)
        kafka = Kafka(folder, settings=settings, heap="256m")
        made = World(folder, kafka, database, elasticsearch.url, box.worker_process)
        with kafka:
            try:
                made.start()
                yield made
            finally:
                if made.worker is not None and made.worker.process.poll() is None:
                    made.worker.kill()
                made.close()
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


class Case:
    """A running case: expected texts, the start of its part of the log, and cleanup."""

    def __init__(self, world: World, row: FaultRow) -> None:
        self.world, self.row = world, row
        self.observed: set[str] = set()
        """What counts for the score: cause, next step, recovery."""
        self.cleanup = ExitStack()
        self._log_start = len(world.worker.log)

    def says(self, name: str, worker: Any = None) -> str:
        """Wait until the status has all texts of the row, and the log those of the cause."""
        words = [*self.row.says, *self.row.todo]
        try:
            eventually(lambda: all(word in self.world.said(name, worker) for word in self.row.says), SEEN)
            start = 0 if worker is not None else self._log_start
            eventually(lambda: self.row.says[-1] in (worker or self.world.worker).log[start:], SEEN)
            self.observed.add("cause")
            eventually(lambda: all(word in self.world.said(name, worker) for word in words), SEEN)
            self.observed.add("next step")
        except AssertionError as error:
            log = (worker or self.world.worker).log[-3000:]
            raise AssertionError(f"not said: {words}\n{self.world.status(name, worker)}\n{log}") from error
        return self.world.said(name, worker)

    def is_said_in(self, text: str) -> None:
        """Assert that an answer or a log has all texts of the row."""
        for kind, words in (("cause", self.row.says), ("next step", self.row.todo)):
            for word in words:
                assert word in text, text
            self.observed.add(kind)

    def heals(self, name: str, worker: Any = None) -> None:
        try:
            eventually(lambda: self.world.is_well(name, worker), HEALED)
        except AssertionError as error:
            raise AssertionError(f"not well: {self.world.status(name, worker)}") from error


CASES: dict[str, Callable[[Case, World], None]] = {}
SCORES: dict[str, int] = {}
"""What this run has observed, by number of the fault."""


def case(number: str) -> Callable[[Callable[[Case, World], None]], Callable[[Case, World], None]]:
    def add(run: Callable[[Case, World], None]) -> Callable[[Case, World], None]:
        CASES[number] = run
        return run

    return add


@pytest.mark.parametrize("number", [row.number for row in ROWS if row.proof == LIVE])
def test_the_fault_is_named_and_the_worker_recovers(world: World, number: str) -> None:
    running = Case(world, LIVE_ROWS[number])
    try:
        with running.cleanup:
            running.cleanup.callback(world.restore)
            CASES[number](running, world)
        running.observed.add("recovery")
    finally:
        SCORES[number] = len(running.observed)


def test_the_page_of_faults_has_the_scores_that_were_observed() -> None:
    """After all cases, in the order of this file."""
    before = PAGE.read_text(encoding="utf-8")
    observed = page({**scores_of(before), **SCORES})
    if os.environ.get(WRITE):
        PAGE.write_text(observed, encoding="utf-8")
    assert before == observed or os.environ.get(WRITE), f"the page differs; write it: {WRITE}=1 pytest {LIVE}"


@case("1")
def password(case: Case, world: World) -> None:
    role, secrets = f"r{uuid.uuid4().hex[:8]}", world.folder / "secrets.properties"
    table = world.table()
    world.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'first'; GRANT SELECT ON {table} TO {role}")
    case.cleanup.callback(lambda: world.sql(f"DROP OWNED BY {role}; DROP ROLE {role}"))
    case.cleanup.callback(world.restore)
    secrets.write_text("password=first\n")
    url = make_url(world.source_config(table)["connection.url"]).set(username=None, password=None)
    keys = {"connection.url": str(url), "connection.user": role, "connection.password": f"${{file:{secrets}:password}}"}
    name = world.create(f"source-{table}", world.source_config(table) | keys)
    world.sql(f"ALTER ROLE {role} PASSWORD 'second'")
    world.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
    case.says(name)
    secrets.write_text("password=second\n")
    case.heals(name)


@case("2")
def database_down(case: Case, world: World) -> None:
    name = world.source(world.table())
    world.sql_proxy.refuse()
    case.says(name)
    world.sql_proxy.restore()
    case.heals(name)


@case("3")
def database_black_hole(case: Case, world: World) -> None:
    name = world.source(world.table())
    world.sql_proxy.blackhole()
    case.says(name)
    world.sql_proxy.restore()
    case.heals(name)


@case("4")
def locked_table(case: Case, world: World) -> None:
    table = world.table()
    name = world.source(table)
    with psycopg.connect(libpq_url(world.database), application_name="nightly") as holder:
        holder.execute(f"LOCK TABLE {table}")
        said = case.says(name)
        assert f"process {holder.info.backend_pid} " in said
        assert "application 'nightly'" in said
    case.heals(name)


@case("5")
def dropped_table(case: Case, world: World) -> None:
    table = world.table()
    name = world.source(table)
    world.sql(f"DROP TABLE {table}")
    case.says(name)
    world.sql(f"CREATE TABLE {table} (id serial PRIMARY KEY, note text)")
    case.heals(name)


@case("6")
def renamed_column(case: Case, world: World) -> None:
    table = world.table()
    name = world.source(table)
    world.sql(f"ALTER TABLE {table} RENAME COLUMN id TO idd")
    case.says(name)
    world.sql(f"ALTER TABLE {table} RENAME COLUMN idd TO id")
    case.heals(name)


@case("6b")
def renamed_other_column(case: Case, world: World) -> None:
    table = world.table()
    name = world.source(table)
    world.sql(f"ALTER TABLE {table} RENAME COLUMN note TO remark; INSERT INTO {table} (remark) VALUES ('x')")
    said = case.says(name)
    assert f"note of table public.{table} (new: remark)" in said
    answer = HTTP.post(f"{world.worker.url}/v1/connectors/{name}/acknowledge", timeout=30)
    assert answer.status_code == 200, answer.text
    assert "sql.columns_gone" not in world.said(name)


@case("9")
def kafka_down(case: Case, world: World) -> None:
    topic = world.topic()
    names = [world.source(world.table()), world.sink(topic)]
    world.kafka_proxy.refuse()
    for name in names:
        case.says(name)
    world.kafka_proxy.restore()
    for name in names:
        case.heals(name)


@case("11")
def idle_tasks(case: Case, world: World) -> None:
    topic = world.topic()
    name = world.sink(topic, runs=False, tasks_max="4")
    case.says(name)
    world.sink(topic, tasks_max="1")
    case.heals(name)


@case("12")
def missing_acl(case: Case, world: World) -> None:
    table = world.table()
    with world.admin() as admin:
        admin.create_topics([NewTopic(f"f_{table}", 1, 1)])
    with world.forbidden(f"f_{table}"):
        name = world.source(table, runs=False)
        said = case.says(name)
        assert f"--operation Write --topic f_{table}" in said
        # `headrace check` names it, too.
        for admin in world.admins():
            allowed = admin.topic_operations([f"f_{table}"])[f"f_{table}"]
            assert {"READ", "DESCRIBE"} <= allowed
            assert "WRITE" not in allowed
    case.heals(name)
    # `headrace check` also names groups as which a sink may not read.
    group = f"g_{table}"

    def may_read() -> list[bool] | None:
        try:
            return [admin.may_read_as(group) for admin in world.admins()]
        except RetriableError:  # no answer within its seconds on a busy machine
            return None

    eventually(lambda: may_read() == [True, True], SEEN)
    with world.forbidden(group, ACLOperation.READ, ResourceType.GROUP):
        # Brokers learn of an ACL shortly after it was accepted.
        eventually(lambda: may_read() == [False, False], SEEN)


@case("13")
def large_record(case: Case, world: World) -> None:
    table = world.table()
    name = world.source(table)
    world.sql(f"INSERT INTO {table} (note) VALUES (repeat('x', 2000000))")
    case.says(name)
    config = world.source_config(table) | {"producer.override.max.request.size": "5000000"}
    with world.admin() as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, f"f_{table}", {"max.message.bytes": "5000000"})])
    world.create(name, config)
    case.heals(name)


@case("14")
def search_down(case: Case, world: World) -> None:
    topic = world.topic()
    name = world.sink(topic)
    world.search_wire.refuse()
    send(world, topic)
    case.says(name)
    world.search_wire.restore()
    case.heals(name)
    eventually(lambda: documents(world, topic) == 1, HEALED)


@case("15")
def search_overloaded(case: Case, world: World) -> None:
    topic = world.topic()
    name = world.sink(topic)
    world.search_proxy.always(StatusFault(429), path="_bulk")
    send(world, topic)
    case.says(name)
    world.search_proxy.restore()
    case.heals(name)


@case("16")
def disks_full(case: Case, world: World) -> None:
    topic = world.topic()
    name = world.sink(topic)
    send(world, topic)
    eventually(lambda: documents(world, topic) == 1, HEALED)
    block(world, topic, True)
    send(world, topic)
    case.says(name)
    block(world, topic, None)
    case.heals(name)


@case("18")
def deleted_index(case: Case, world: World) -> None:
    topic = world.topic()
    name = world.sink(topic)
    send(world, topic)
    eventually(lambda: documents(world, topic) == 1, HEALED)
    HTTP.delete(f"{world.elasticsearch}/{topic}", timeout=30).raise_for_status()
    send(world, topic)
    case.says(name)
    eventually(lambda: documents(world, topic) == 1, HEALED)


@case("19")
def inactive_shard(case: Case, world: World) -> None:
    def allocate(what: str | None) -> None:
        body = {"transient": {"cluster.routing.allocation.enable": what}}
        HTTP.put(f"{world.elasticsearch}/_cluster/settings", json=body, timeout=30).raise_for_status()

    topic = world.topic()
    name = world.sink(topic)
    case.cleanup.callback(lambda: allocate(None))
    allocate("none")
    send(world, topic)
    case.says(name)
    allocate(None)
    case.heals(name)


@case("20")
def forbidden_dead_letters(case: Case, world: World) -> None:
    topic, letters = world.topic(), world.topic()
    keys: dict[str, Any] = {"errors_tolerance": "all", "errors_deadletterqueue_topic_name": letters}
    name = world.sink(topic, errors_deadletterqueue_topic_replication_factor="1", **keys)
    with world.forbidden(letters):
        send(world, topic, b"no JSON")
        case.says(name)
    eventually(lambda: all(task["state"] == "RUNNING" for task in world.status(name)["tasks"]), HEALED)


@case("21")
def mistake(case: Case, world: World) -> None:
    config = world.source_config("watched") | {"table.whitelst": "x"}
    answer = HTTP.put(f"{world.worker.url}/connectors/typo/config", json=config, timeout=90)
    assert answer.status_code == 400
    case.is_said_in(answer.text)


def ends(world: World, case: Case, worker: Any, code: int) -> None:
    """Start a worker that must end by itself with a message."""
    worker.start(wait=False)
    assert worker.process.wait(60) == code, worker.log
    case.is_said_in(worker.log)


@case("22")
def port_in_use(case: Case, world: World) -> None:
    ends(world, case, world.process("second", listeners=world.worker.url), 3)


@case("25")
def same_files(case: Case, world: World) -> None:
    shared = str(world.worker.folder / "offsets.jsonl")
    ends(world, case, world.process("second", **{"offset.storage.file.filename": shared}), 3)


@case("26")
def damaged_offsets(case: Case, world: World) -> None:
    worker = world.process("damaged")
    (worker.folder / "offsets.jsonl").write_text("garbage\n")
    ends(world, case, worker, 2)


@case("27")
def changed_file(case: Case, world: World) -> None:
    before = world.watched.read_text()
    world.worker.write("watched", world.source_config("watched", poll_interval_ms="200"))
    case.says("watched")
    world.watched.write_text(before)
    case.heals("watched")


@case("25b")
def same_sink(case: Case, world: World) -> None:
    topic = world.topic()
    name = world.sink(topic)
    second = world.process("second")
    config = HTTP.get(f"{world.worker.url}/connectors/{name}/config", timeout=30).json()
    second.write(name, {key: value for key, value in config.items() if key != "name"})
    second.start()
    case.cleanup.callback(lambda: second.process.poll() is None and second.kill())

    def worker_that_reports() -> Any:
        """one of both says that another member has the partition"""
        return next((each for each in (world.worker, second) if case.row.says[0] in world.said(name, each)), None)

    eventually(worker_that_reports, SEEN)
    case.says(name, worker_that_reports())
    assert second.stop() == 0
    case.heals(name)


@case("23")
def killed_worker(case: Case, world: World) -> None:
    topic = world.topic()
    worker = world.process("killed")
    config = {"connector.class": "ElasticsearchSink", "connection.url": f"http://{world.search_wire.address}"}
    timeouts = {"consumer.override.session.timeout.ms": "20000", "consumer.override.heartbeat.interval.ms": "1000"}
    worker.write(topic, {**config, **timeouts, "topics": topic, "key.ignore": "false", "schema.ignore": "true"})
    worker.start()
    case.cleanup.callback(lambda: worker.process.poll() is None and worker.kill())
    eventually(lambda: "partitions assigned" in worker.log, HEALED)
    worker.kill()
    worker.start()
    case.says(topic, worker)
    case.heals(topic, worker)
    assert worker.stop() == 0
