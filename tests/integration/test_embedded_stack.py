"""The embedded engines are real: acknowledged data survives a kill, and no process outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from elasticsearch import ApiError, Elasticsearch
from elasticsearch import ConnectionError as ElasticsearchConnectionError
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from sqlalchemy import create_engine, text

from headrace.embedded import EmbeddedStack
from headrace.errors import ConflictError, InfrastructureError
from headrace.testing.waiting import eventually

pytestmark = pytest.mark.timeout(300)


def produce(bootstrap_servers: str, topic: str, *values: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
    try:
        for value in values:
            producer.send(topic, value).get(120)
    finally:
        producer.close()


def consume(bootstrap_servers: str, topic: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", consumer_timeout_ms=120_000
    )
    try:
        return [next(consumer).value for _ in range(count)]
    finally:
        consumer.close()


def select(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_records_are_written_and_read_with_kafka(kafka: Any, unique_name: str) -> None:
    produce(kafka.bootstrap_servers, unique_name, b"one", b"two")

    assert consume(kafka.bootstrap_servers, unique_name, 2) == [b"one", b"two"]


def test_documents_are_indexed_and_found_in_elasticsearch(elasticsearch: Any, unique_name: str) -> None:
    with Elasticsearch(elasticsearch.url, request_timeout=60) as client:
        client.index(index=unique_name, id="1", document={"name": "Ada"}, refresh="wait_for")

        found = client.search(index=unique_name, query={"match": {"name": "ada"}})
        assert [hit["_id"] for hit in found["hits"]["hits"]] == ["1"]
        assert client.info()["version"]["number"] == elasticsearch.version


def test_each_test_gets_an_empty_database(database: str) -> None:
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE city (name text)"))
        connection.execute(text("INSERT INTO city VALUES ('Zürich')"))
        assert connection.execute(text("SELECT name FROM city")).scalars().all() == ["Zürich"]
        tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        assert connection.execute(text(tables)).scalar() == 1
    engine.dispose()


def test_acknowledged_data_survives_a_kill(private_stack: Callable[..., Any], unique_name: str) -> None:
    stack = private_stack()
    ports = {name: engine.port for name, engine in stack.engines.items()}
    produce(stack.kafka.bootstrap_servers, unique_name, b"kept")
    with Elasticsearch(stack.elasticsearch.url, request_timeout=60) as client:
        client.index(index=unique_name, id="1", document={"kept": True})
    select(stack.postgres.url, "CREATE TABLE kept AS SELECT 42 AS answer")

    for engine in stack.engines.values():
        old = engine.pid
        engine.kill()
        assert not psutil.pid_exists(old)
    for engine in stack.engines.values():
        engine.restart()

    assert ports == {name: engine.port for name, engine in stack.engines.items()}
    assert consume(stack.kafka.bootstrap_servers, unique_name, 1) == [b"kept"]
    with Elasticsearch(stack.elasticsearch.url, request_timeout=60) as client:
        assert client.get(index=unique_name, id="1")["_source"] == {"kept": True}
    assert select(stack.postgres.url, "SELECT answer FROM kept") == [(42,)]


def test_three_brokers_continue_when_one_is_killed(private_stack: Callable[..., Any], unique_name: str) -> None:
    kafka = private_stack("kafka", brokers=3).kafka
    produce(kafka.bootstrap_servers, unique_name, b"before")

    kafka.brokers[1].kill()
    produce(kafka.bootstrap_servers, unique_name, b"during")
    kafka.brokers[1].start()

    assert consume(kafka.bootstrap_servers, unique_name, 2) == [b"before", b"during"]
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    try:
        eventually(lambda: len(admin.describe_cluster()["brokers"]) == 3)  # the queried broker may learn of it later
    finally:
        admin.close()


def test_a_restarted_stack_has_its_data(tmp_path: Path, unique_name: str) -> None:
    with EmbeddedStack(tmp_path) as stack:
        produce(stack.kafka.bootstrap_servers, unique_name, b"kept")
        with Elasticsearch(stack.elasticsearch.url, request_timeout=60) as client:
            client.index(index=unique_name, id="1", document={"kept": True})
        select(stack.postgres.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert not below(tmp_path)
    with EmbeddedStack(tmp_path) as stack:
        assert consume(stack.kafka.bootstrap_servers, unique_name, 1) == [b"kept"]
        with Elasticsearch(stack.elasticsearch.url, request_timeout=60) as client:
            assert client.get(index=unique_name, id="1")["_source"] == {"kept": True}
        assert select(stack.postgres.url, "SELECT answer FROM kept") == [(42,)]


def test_one_engine_is_stopped_and_started_while_the_others_run(
    private_stack: Callable[..., Any], unique_name: str
) -> None:
    stack = private_stack("elasticsearch", "postgres")
    url = stack.elasticsearch.url
    with Elasticsearch(url, max_retries=0, request_timeout=60) as client:
        client.index(index=unique_name, id="1", document={"kept": True})

        stack.elasticsearch.stop()
        with pytest.raises(ElasticsearchConnectionError):
            client.info()
        assert select(stack.postgres.url, "SELECT 1") == [(1,)]
        stack.elasticsearch.start()

        assert stack.elasticsearch.url == url
        assert client.get(index=unique_name, id="1")["_source"] == {"kept": True}


def test_postgres_runs_as_another_user_in_a_folder_only_root_may_enter(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root meets this")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    with EmbeddedStack(closed, engines=["postgres"]) as stack:
        assert psutil.Process(stack.postgres.pid).username() == "nobody"
        assert select(stack.postgres.url, "SELECT 1") == [(1,)]

    assert closed.stat().st_mode & 0o777 == 0o700


def test_an_elasticsearch_with_a_small_write_queue_returns_429(
    private_stack: Callable[..., Any], unique_name: str
) -> None:
    """The purpose of ``settings``: responses of an overloaded cluster."""
    settings = {"thread_pool.write.queue_size": 1, "thread_pool.write.size": 1}
    stack = private_stack("elasticsearch", options={"elasticsearch": {"settings": settings}})
    lines: list[dict[str, Any]] = [{"index": {}}, {"n": 1, "text": "word " * 50}] * 500

    def statuses(_: int) -> set[int]:
        with Elasticsearch(stack.elasticsearch.url, max_retries=0, request_timeout=60) as client:
            try:
                answer = client.bulk(index=unique_name, operations=lines)
            except ApiError as error:
                return {error.status_code}
            return {item["index"]["status"] for item in answer["items"]}

    seen: set[int] = set()

    def both() -> bool:
        seen.update(*pool.map(statuses, range(16)))
        return len(seen) > 1

    with ThreadPoolExecutor(16) as pool:
        eventually(both, 60)

    assert seen == {201, 429}


def test_uncollected_memory_does_not_trip_the_circuit_breaker(
    private_stack: Callable[..., Any], unique_name: str
) -> None:
    stack = private_stack("elasticsearch")
    with Elasticsearch(stack.elasticsearch.url, request_timeout=60) as client:
        client.index(index=unique_name, id="1", document={"name": "Ada"})
        (node,) = client.nodes.stats(metric="breaker")["nodes"].values()
    used = {name: breaker["estimated_size_in_bytes"] for name, breaker in node["breakers"].items()}
    assert used.pop("parent") == sum(used.values())  # not the used heap


def test_a_second_stack_in_the_same_folder_is_refused(private_stack: Callable[..., Any]) -> None:
    stack = private_stack("postgres")

    with pytest.raises(ConflictError, match="already running"):
        EmbeddedStack(stack.data, engines=["postgres"]).start()


def test_a_failing_engine_shows_its_log_and_stops_the_others(tmp_path: Path) -> None:
    stack = EmbeddedStack(
        tmp_path, engines=["kafka", "postgres"], options={"postgres": {"settings": {"no_such_parameter": "on"}}}
    )

    with pytest.raises(InfrastructureError, match="no_such_parameter"):
        stack.start()

    assert not stack.kafka.running
    assert not below(tmp_path)


def test_a_port_in_use_is_named(private_stack: Callable[..., Any], tmp_path: Path) -> None:
    port = private_stack("postgres").postgres.port

    with pytest.raises(InfrastructureError, match=f"127.0.0.1:{port}: the port is in use"):
        EmbeddedStack(tmp_path, engines=["postgres"], postgres_port=port).start()


def test_no_engine_outlives_a_killed_owner(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from headrace.embedded import EmbeddedStack\n"
        f"stack = EmbeddedStack(Path({str(tmp_path)!r})); stack.start(); print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        engines = below(tmp_path)
        assert len(engines) >= 6  # three engines and their supervisors; PostgreSQL's children

        owner.send_signal(signal.SIGKILL)

    psutil.wait_procs(engines, timeout=60)
    assert not below(tmp_path)


def test_an_engine_ends_with_its_killed_supervisor(private_stack: Callable[..., Any]) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux has a death signal")
    stack = private_stack("postgres")
    engine = psutil.Process(stack.postgres.pid)
    supervisor = engine.parent()
    assert supervisor is not None

    os.kill(supervisor.pid, signal.SIGKILL)

    assert psutil.wait_procs([engine], timeout=30)[1] == []


def below(folder: Path) -> list[psutil.Process]:
    """Return every process with the folder on its command line, and its children."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(str(folder) in part for part in process.cmdline()):
                found.update({child.pid: child for child in process.children(recursive=True)})
                found[process.pid] = process
        except psutil.NoSuchProcess:
            continue
    return list(found.values())
