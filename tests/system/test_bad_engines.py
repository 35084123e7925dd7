"""Failing engines: the status gives the reason within seconds, the worker recovers by itself, and no record is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import UserScramCredentialUpsertion

from headrace.broker.kafka_python import KafkaPythonClients
from headrace.embedded import EmbeddedStack, Kafka
from headrace.errors import RetriableError
from headrace.testing.data_comparison import (
    Comparison,
    compare_index,
    compare_topic,
    index_entries,
    settle,
    table_rows,
    topic_entries,
)
from headrace.testing.faults import TcpProxy
from headrace.testing.waiting import eventually
from tests.engines.certificates import Authority
from tests.engines.http import HTTP

pytestmark = pytest.mark.timeout(300)
VISIBLE = 30.0
"""Seconds until the operator must see it; on an idle machine it takes two."""
SHORT = {f"{client}.request.timeout.ms": "2000" for client in ("producer", "consumer", "admin")}
"""Of a worker: so that an outage outlasts all of its patience."""
USER, PASSWORD, OTHER = "ada", "correct horse", "wrong-do-not-show"


@dataclass
class SecuredKafka:
    """One broker with TLS and SCRAM behind a proxy, for all tests here. ``tls_file`` is its certificate at a start."""

    kafka: Kafka
    proxy: TcpProxy
    authority: Authority

    @property
    def settings(self) -> dict[str, str]:
        """Return the settings of clients."""
        return {
            "bootstrap.servers": self.proxy.address,
            "security.protocol": "SASL_SSL",
            "ssl.cafile": str(self.authority.ca_file),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": USER,
            "sasl.password": PASSWORD,
        }

    def members(self, group: str) -> int:
        """Return the number of members of the group, queried without the proxy."""
        admin = KafkaAdminClient(bootstrap_servers=self.kafka.brokers[0].internal_address)
        try:
            return len(admin.describe_groups([group])[group]["members"])
        finally:
            admin.close()

    def set_password(self, password: str) -> None:
        """Return when the broker accepts no other password: it confirms a change before the change is in effect."""
        admin = KafkaAdminClient(bootstrap_servers=self.kafka.brokers[0].internal_address)
        try:
            answer = admin.alter_user_scram_credentials([UserScramCredentialUpsertion(USER, "SCRAM-SHA-512", password)])
            assert answer == {USER: None}
        finally:
            admin.close()
        kafka_clients = KafkaPythonClients({**self.settings, "sasl.password": password})

        def accepts_the_password() -> bool:
            try:
                kafka_clients.admin({}).close()
            except RetriableError:
                return False
            return True

        eventually(accepts_the_password, 60)

    def show(self, authority: Authority) -> None:
        """Start again with a certificate of this authority."""
        self.kafka.stop()
        assert self.kafka.security.tls_file is not None
        shutil.copyfile(authority.server_file("other"), self.kafka.security.tls_file)
        self.kafka.start()


@pytest.fixture(scope="module")
def shared(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    settings = {
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.num.partitions": "1",
    }
    folder = tmp_path_factory.mktemp("secured")
    kafka = Kafka(folder, tls_file=authority.server_file("bad-engines"), users={USER: PASSWORD}, settings=settings)
    with TcpProxy(f"127.0.0.1:{kafka.port}") as proxy:
        kafka.brokers[0].advertised_port = proxy.port
        with kafka:
            yield SecuredKafka(kafka, proxy, authority)


@pytest.fixture
def secured(shared: SecuredKafka) -> Iterator[SecuredKafka]:
    """The broker in its normal state, before and after the test."""
    yield shared
    shared.proxy.restore()
    shared.kafka.start()
    shared.set_password(PASSWORD)


class TableToIndex:
    """A table, its topic, its index, and the worker between them."""

    def __init__(self, worker: Any, database: str, search: str, name: str, box: Any, source: dict[str, str]) -> None:
        self.worker, self.name, self.search = worker, name, search
        self._database, self._box = database, box
        with box.connect(database) as connection:
            connection.execute(
                "CREATE TABLE items (id serial PRIMARY KEY, note text,"
                " at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )
        self.source = self._connector(
            "source",
            {
                "connector.class": "SqlSource",
                "connection.url": database,
                "table.whitelist": "items",
                "mode": "incrementing",
                "incrementing.column.name": "id",
                "pk.mode": "primary_key",
                "topic.prefix": f"{name}_",
                "poll.interval.ms": "100",
                **source,
            },
        )
        self.sink = self._connector(
            "sink",
            {
                "connector.class": "ElasticsearchSink",
                "connection.url": search,
                "topics": self.topic,
                "key.ignore": "false",
                "schema.ignore": "true",
                "consumer.override": {"session.timeout.ms": "6000", "heartbeat.interval.ms": "1000"},
            },
        )

    def _connector(self, kind: str, config: dict[str, Any]) -> str:
        self.worker.write(f"{self.name}-{kind}", config)
        return f"{self.name}-{kind}"

    @property
    def topic(self) -> str:
        return f"{self.name}_items"

    def insert(self, count: int = 50) -> None:
        with self._box.connect(self._database) as connection:
            connection.execute("INSERT INTO items (note) SELECT 'n' || n FROM generate_series(1, %s) AS n", [count])

    def reason(self, connector: str) -> str:
        """Return the reason in the status why its task waits or has failed; empty without a problem."""
        status = self.worker.get(f"/connectors/{connector}/status")
        return "; ".join(task.get("reason") or task.get("trace") or "" for task in status["tasks"])

    def says(self, connector: str, *words: str) -> None:
        """Assert that the status has all these texts within seconds, and that the task has not failed."""
        try:
            eventually(lambda: all(word in self.reason(connector) for word in words), VISIBLE)
        except AssertionError as error:
            status = self.worker.get(f"/connectors/{connector}/status")
            raise AssertionError(f"{words} are not what it says: {status}") from error
        assert "FAILED" not in self.worker.task_states(connector)

    def is_well(self) -> bool:
        return all(self.worker.running(name) and not self.reason(name) for name in (self.source, self.sink))

    def arrives(self, kafka: dict[str, str] | None = None) -> None:
        """Assert that every row is in the index with its values; with ``kafka`` (settings) also in the topic."""
        with self._box.connect(self._database) as connection:
            rows = table_rows(connection, "SELECT * FROM items", key="id")
        assert rows

        def look() -> list[Comparison]:
            return [compare_index(rows, index_entries(self.search, self.topic))]

        settle(look, self._box.timeout)
        if kafka is not None:
            kafka_clients = KafkaPythonClients(kafka)
            comparison = compare_topic(rows, topic_entries(kafka_clients, self.topic))
            assert comparison.complete, str(comparison)
        eventually(self.is_well, VISIBLE)


@pytest.fixture
def chain(
    make_worker: Callable[..., Any], database: str, elasticsearch: Any, unique_name: str, box: Any
) -> Callable[..., TableToIndex]:
    def make(
        bootstrap: str,
        settings: dict[str, str] | None = None,
        url: str = database,
        search: str = elasticsearch.url,
        **source: str,
    ) -> TableToIndex:
        worker = make_worker(bootstrap)
        worker.settings.update({**SHORT, **(settings or {})})
        keys = {key.replace("_", "."): value for key, value in source.items()}
        return TableToIndex(worker, url, search, unique_name, box, keys)

    return make


def test_an_unreachable_broker_at_start_is_reported_and_recovered_from(
    secured: SecuredKafka, chain: Callable[..., TableToIndex]
) -> None:
    secured.proxy.refuse()
    made = chain(secured.proxy.address, secured.settings)
    made.insert()
    made.worker.start()
    for connector in (made.source, made.sink):
        made.says(connector, secured.proxy.address)
    health = HTTP.get(f"{made.worker.url}/health")
    assert health.status_code == 503
    assert secured.proxy.address in health.text
    secured.proxy.restore()
    made.arrives(secured.settings)
    assert made.worker.stop() == 0


@pytest.mark.parametrize(
    ("fault", "client"), [("refuse", "auto"), ("blackhole", "kafka-python"), ("blackhole", "auto")]
)
def test_no_row_is_lost_in_an_outage_longer_than_any_timeout(
    secured: SecuredKafka, chain: Callable[..., TableToIndex], fault: str, client: str
) -> None:
    """Requests time out several times, the group removes its member, and rows are still inserted."""
    made = chain(secured.proxy.address, {**secured.settings, "kafka.client": client})
    made.insert()
    made.worker.start()
    made.arrives(secured.settings)
    getattr(secured.proxy, fault)()
    for connector in (made.source, made.sink):
        made.insert()
        made.says(connector, secured.proxy.address)
    eventually(lambda: not secured.members(f"connect-{made.sink}"), 60)
    made.insert()
    secured.proxy.restore()
    made.arrives(secured.settings)
    assert made.worker.stop() == 0


def test_an_unknown_password_is_reported_until_kafka_accepts_it(
    secured: SecuredKafka, chain: Callable[..., TableToIndex]
) -> None:
    made = chain(secured.proxy.address, {**secured.settings, "sasl.password": OTHER})
    made.insert()
    made.worker.start()
    for connector in (made.source, made.sink):
        made.says(connector, "refused the credentials", "sasl.mechanism")
    assert "refused the credentials" in HTTP.get(f"{made.worker.url}/health").text
    secured.set_password(OTHER)
    made.arrives({**secured.settings, "sasl.password": OTHER})
    assert made.worker.stop() == 0
    assert "kafka.authentication" in made.worker.log
    assert OTHER not in made.worker.log


def test_a_password_changed_at_run_time_is_reported_until_it_is_restored(
    secured: SecuredKafka, chain: Callable[..., TableToIndex]
) -> None:
    made = chain(secured.proxy.address, secured.settings)
    made.insert()
    made.worker.start()
    made.arrives(secured.settings)
    secured.set_password(OTHER)
    secured.proxy.cut()
    made.insert()
    for connector in (made.source, made.sink):
        made.says(connector, "refused the credentials")
    secured.set_password(PASSWORD)
    made.arrives(secured.settings)
    assert made.worker.stop() == 0


def test_an_untrusted_certificate_is_reported_until_it_is_replaced(
    secured: SecuredKafka, chain: Callable[..., TableToIndex], tmp_path: Path
) -> None:
    secured.show(Authority(tmp_path / "unknown"))
    made = chain(secured.proxy.address, secured.settings)
    made.insert()
    made.worker.start()
    for connector in (made.source, made.sink):
        made.says(connector, "certificate is not trusted", "ssl.cafile")
    secured.show(secured.authority)
    made.arrives(secured.settings)
    assert made.worker.stop() == 0


def test_a_red_index_is_reported_and_loses_no_row(
    kafka: Any, elasticsearch: Any, chain: Callable[..., TableToIndex]
) -> None:
    made = chain(kafka.bootstrap_servers)
    nowhere = {"settings": {"index.number_of_replicas": 0, "index.routing.allocation.require._name": "no-such-node"}}
    created = HTTP.put(f"{made.search}/{made.topic}?wait_for_active_shards=0", json=nowhere)
    assert created.status_code == 200, created.text
    health = HTTP.get(f"{made.search}/_cluster/health/{made.topic}").json()
    assert health["status"] == "red"
    made.insert()
    made.worker.start()
    made.says(made.sink, made.topic, "shard")
    anywhere = {"index.routing.allocation.require._name": None}
    HTTP.put(f"{made.search}/{made.topic}/_settings", json=anywhere).raise_for_status()
    made.arrives({"bootstrap.servers": kafka.bootstrap_servers})
    assert made.worker.stop() == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of one megabyte."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system of a megabyte")
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"this machine does not permit mounting a file system: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_of_the_database_is_reported_and_loses_no_row(
    small_disk: Path,
    kafka: Any,
    private_stack: Callable[..., EmbeddedStack],
    chain: Callable[..., TableToIndex],
    box: Any,
) -> None:
    """PostgreSQL sorts large results on disk, and its disk has no room."""
    stack = private_stack("postgres")
    url = stack.postgres.url
    shutil.chown(small_disk, "nobody")
    # There is no index on the column, so that every statement has to sort.
    order = {"mode": "timestamp+incrementing", "timestamp_column_name": "at", "timestamp_delay_interval_ms": "0"}
    made = chain(kafka.bootstrap_servers, url=url, **order)
    made.insert(20_000)
    with box.connect(url) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        connection.execute("ALTER DATABASE headrace SET temp_tablespaces = small")
        connection.execute("ALTER DATABASE headrace SET work_mem = '64kB'")
        connection.execute("UPDATE items SET note = repeat(md5(id::text), 20)")
    made.worker.start()
    made.says(made.source, "No space left on device")
    with box.connect(url) as connection:
        connection.execute("ALTER DATABASE headrace RESET temp_tablespaces")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    made.arrives({"bootstrap.servers": kafka.bootstrap_servers})
    assert made.worker.stop() == 0


def test_no_row_is_lost_when_engines_or_the_worker_are_suspended(
    private_stack: Callable[..., Any], chain: Callable[..., TableToIndex]
) -> None:
    """SIGSTOP: connections stay open and nothing answers. Nothing is restarted."""
    stack = private_stack()
    kafka = {"bootstrap.servers": stack.kafka.bootstrap_servers}
    made = chain(stack.kafka.bootstrap_servers, url=stack.postgres.url, search=stack.elasticsearch.url)
    made.insert()
    made.worker.start()
    made.arrives(kafka)

    stack.kafka.pause()
    made.insert()
    made.says(made.source, "acknowledge 50 records")
    stack.kafka.resume()
    made.arrives(kafka)

    stack.elasticsearch.pause()
    made.insert()
    made.says(made.sink, "waiting for Elasticsearch", "to answer")
    stack.elasticsearch.resume()
    made.arrives(kafka)

    made.insert()
    stack.postgres.pause()
    threading.Event().wait(1)  # long enough for a poll to run into it
    stack.postgres.resume()
    made.arrives(kafka)

    made.worker.pause()
    made.insert()
    admin = KafkaAdminClient(bootstrap_servers=stack.kafka.bootstrap_servers)
    try:
        group = f"connect-{made.sink}"
        eventually(lambda: not admin.describe_groups([group])[group]["members"], 60)
    finally:
        admin.close()
    made.worker.resume()
    made.arrives(kafka)
    assert made.worker.stop() == 0
