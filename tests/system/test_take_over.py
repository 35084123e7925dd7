"""headrace takes a Kafka Connect cluster over from a JVM worker, and the JVM worker goes on after headrace.

A folder of plugins in HEADRACE_TEST_CONNECT_PLUGINS that has a JDBC source adds this one to the file connectors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from headrace.broker.kafka_python import KafkaPythonClients
from headrace.testing.waiting import eventually
from tests.engines.connect import PLUGINS_VARIABLE, ConnectWorker
from tests.engines.http import HTTP
from tests.golden.connect.requests import SINK, SOURCE

ROOT = Path(__file__).parents[2]
STRING = "org.apache.kafka.connect.storage.StringConverter"
GROUP = {
    "key.converter": STRING,
    "value.converter": STRING,
    "offset.flush.interval.ms": "200",
    "session.timeout.ms": "6000",
    "heartbeat.interval.ms": "1000",
    "scheduled.rebalance.max.delay.ms": "0",
}
FACTORS = {f"{kind}.storage.replication.factor": "1" for kind in ("config", "offset", "status")}
ENTRY_POINTS = """
[headrace.connectors]
FileStreamSource = tests.golden.connect.file_connectors:FileStreamSourceConnector
FileStreamSink = tests.golden.connect.file_connectors:FileStreamSinkConnector
"""


class Files:
    """The input and the output of the file connectors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.input, self.output = folder / "input.txt", folder / "output.txt"
        self.written = 0

    def append(self, lines: int) -> None:
        with self.input.open("a", encoding="utf-8") as file:
            for number in range(self.written, self.written + lines):
                file.write(f"line {number:03}\n")
        self.written += lines

    def has_all_once(self) -> bool:
        """Return whether the sink has written every line; none may be there twice."""
        if not self.output.exists():
            return False
        lines = self.output.read_text(encoding="utf-8").splitlines()
        assert len(lines) == len(set(lines)), "a line was delivered twice"
        return len(lines) == self.written

    def source(self, **more: str) -> dict[str, str]:
        return {"connector.class": SOURCE, "file": str(self.input), "topic": "take-over-lines", **more}

    def sink(self) -> dict[str, str]:
        return {"connector.class": SINK, "file": str(self.output), "topics": "take-over-lines"}


def headrace_plugins(folder: Path) -> dict[str, str]:
    """Return variables with which headrace finds Python versions of the file connectors."""
    installed = folder / "plugins" / "file_connectors-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: file-connectors\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(ENTRY_POINTS)
    return {"PYTHONPATH": os.pathsep.join([str(installed.parent), str(ROOT)])}


def put(url: str, name: str, config: Mapping[str, str], timeout: float) -> None:
    """Create or change a connector; a worker answers 409 while its group rebalances."""
    eventually(lambda: HTTP.put(f"{url}/connectors/{name}/config", json=config).status_code in (200, 201), timeout)


def states(url: str) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Return the state of each connector, and state and worker of its tasks."""
    answer = HTTP.get(f"{url}/connectors?expand=status")
    if answer.status_code != 200:
        return {}
    return {
        name: (
            item["status"]["connector"]["state"],
            [(task["state"], task["worker_id"]) for task in item["status"]["tasks"]],
        )
        for name, item in answer.json().items()
    }


def group_named(name: str) -> dict[str, str]:
    """Return the settings of workers of both kinds."""
    topics = {f"{kind}.storage.topic": f"{name}-{kind}" for kind in ("config", "offset", "status")}
    return {"group.id": name, **topics, **GROUP, **FACTORS}


@pytest.fixture
def jvm(tmp_path: Path, kafka: Any, request: pytest.FixtureRequest) -> Iterator[ConnectWorker]:
    worker = ConnectWorker(tmp_path / "connect", kafka.bootstrap_servers, group_named(request.node.name))
    with ExitStack() as stack:
        stack.callback(worker.stop)
        yield worker


@pytest.mark.timeout(600)
def test_headrace_goes_on_where_the_jvm_has_stopped_and_back_and_never_joins_it(
    jvm: ConnectWorker, kafka: Any, make_worker: Callable[..., Any], box: Any, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    files.append(40)
    worker = make_worker(kafka.bootstrap_servers)
    worker.settings = jvm.settings
    worker.environment = headrace_plugins(tmp_path)
    me = worker.url.removeprefix("http://")
    running, there = [("RUNNING", me)], [("RUNNING", f"127.0.0.1:{jvm.port}")]

    jvm.start()
    put(jvm.url, "lines", files.source(), box.timeout)
    put(jvm.url, "copy", files.sink(), box.timeout)
    put(jvm.url, "resting", files.source(topic="take-over-resting"), box.timeout)
    put(jvm.url, "java-only", files.source(topic="take-over-other", charset="x"), box.timeout)
    eventually(files.has_all_once, box.timeout)
    assert HTTP.put(f"{jvm.url}/connectors/resting/pause").status_code == 202
    eventually(lambda: states(jvm.url)["resting"][0] == "PAUSED", box.timeout)
    jvm.stop()
    files.append(30)

    migrated = box.command("migrate", "--from-connect", jvm.properties, "--json", environment=worker.environment)
    assert migrated.returncode == 1, migrated.stderr
    report = json.loads(migrated.stdout)
    assert report["workers"] == [f"127.0.0.1:{jvm.port}"]
    verdicts = {item["name"]: item["verdict"] for item in report["connectors"]}
    assert verdicts == {
        "copy": "runs unchanged",
        "java-only": "cannot run",
        "lines": "runs unchanged",
        "resting": "runs unchanged",
    }

    worker.start()
    eventually(files.has_all_once, box.timeout)
    eventually(lambda: states(worker.url)["lines"] == states(worker.url)["copy"] == ("RUNNING", running), box.timeout)
    eventually(lambda: states(worker.url)["resting"] == ("PAUSED", [("PAUSED", me)]), box.timeout)
    eventually(lambda: states(worker.url)["java-only"][0] == "FAILED", box.timeout)
    assert HTTP.get(f"{worker.url}/connectors/java-only/offsets").json()["offsets"]
    assert HTTP.put(f"{worker.url}/connectors/resting/resume").status_code == 202
    put(worker.url, "made-by-headrace", files.source(topic="take-over-more"), box.timeout)
    eventually(lambda: states(worker.url).get("made-by-headrace") == ("RUNNING", running), box.timeout)
    assert worker.stop() == 0, worker.log
    files.append(30)

    jvm.start()
    eventually(files.has_all_once, box.timeout)
    names = ("lines", "copy", "resting", "java-only", "made-by-headrace")
    eventually(lambda: all(states(jvm.url).get(name) == ("RUNNING", there) for name in names), box.timeout)
    for topic in ("take-over-lines", "take-over-resting", "take-over-other", "take-over-more"):
        eventually(lambda topic=topic: len(lines_of(kafka, topic)) >= files.written, box.timeout)  # type: ignore[misc]
        lines = lines_of(kafka, topic)
        assert lines == sorted(set(lines)), f"{topic}: a line was read again"

    worker.start(wait=False)
    eventually(lambda: worker.process.poll() is not None, box.timeout)
    assert worker.process.returncode == 3, worker.log
    assert f"group.mixed: the worker group has workers of Kafka Connect ({jvm.url}/)" in worker.log
    eventually(lambda: all(states(jvm.url).get(name) == ("RUNNING", there) for name in names), box.timeout)
    files.append(10)
    eventually(files.has_all_once, box.timeout)


@pytest.mark.timeout(600)
@pytest.mark.skipif(PLUGINS_VARIABLE not in os.environ, reason=f"{PLUGINS_VARIABLE} names no folder with a JDBC source")
def test_a_jdbc_source_continues_in_both_directions(
    jvm: ConnectWorker, kafka: Any, database: str, make_worker: Callable[..., Any], box: Any
) -> None:
    url, topic, written = make_url(database), "take-over-shop.orders", 0
    config = {
        "connector.class": "io.aiven.connect.jdbc.JdbcSourceConnector",
        "connection.url": f"jdbc:postgresql://{url.host}:{url.port}/{url.database}",
        "connection.user": url.username or "",
        "connection.password": str(url.password or ""),
        "mode": "timestamp+incrementing",
        "timestamp.column.name": "updated_at",
        "incrementing.column.name": "id",
        "table.whitelist": "orders",
        "topic.prefix": "take-over-shop.",
        "poll.interval.ms": "200",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
    }
    worker = make_worker(kafka.bootstrap_servers)
    worker.settings = jvm.settings

    def insert(connection: Any) -> None:
        nonlocal written
        connection.execute("INSERT INTO orders (updated_at) SELECT localtimestamp FROM generate_series(1, 20)")
        written += 20

    def has_all_once() -> bool:
        ids = [json.loads(value)["id"] for value in lines_of(kafka, topic)]
        assert len(ids) == len(set(ids)), "a row was read again"
        return len(ids) == written

    with box.connect(database) as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.execute("CREATE TABLE orders (id bigserial PRIMARY KEY, updated_at timestamp NOT NULL)")
        insert(connection)
        jvm.start()
        put(jvm.url, "orders", config, box.timeout)
        eventually(has_all_once, box.timeout)
        jvm.stop()
        insert(connection)
        worker.start()
        eventually(has_all_once, box.timeout)
        assert worker.stop() == 0, worker.log
        insert(connection)
        jvm.start()
        eventually(has_all_once, box.timeout)


def lines_of(kafka: Any, topic: str) -> list[bytes]:
    """Return the values of a topic of one partition."""
    clients = KafkaPythonClients({"bootstrap.servers": kafka.bootstrap_servers})
    admin, reader = clients.admin({}), clients.reader({})
    try:
        ends = admin.end_offsets([topic])
        reader.assign(admin.begin_offsets([topic]))
        found: list[bytes] = []
        while any(reader.positions()[place] < end for place, end in ends.items()):
            for batch in reader.poll(1, 10_000):
                found += [value or b"" for value in batch.values]
        return found
    finally:
        reader.close()
        admin.close()
