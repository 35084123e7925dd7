"""``headrace migrate`` says of each connector of a Kafka Connect cluster what headrace would do with it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from headrace.broker.in_memory import InMemoryKafka
from headrace.cli.main import app
from headrace.errors import HeadraceError
from headrace.records import EncodedBatch, TopicPartition

TOPICS = ("connect-configs", "connect-offsets", "connect-status")
COMMAND = ("migrate", "--bootstrap", "kafka:9092", "--topics", ",".join(TOPICS))
JDBC = {
    "connector.class": "io.confluent.connect.jdbc.JdbcSourceConnector",
    "connection.url": "jdbc:postgresql://db/shop?user=u&password=pa55",
    "mode": "timestamp+incrementing",
    "timestamp.column.name": "updated_at",
    "incrementing.column.name": "id",
    "table.whitelist": "orders",
    "topic.prefix": "shop.",
}
SEARCH = {
    "connector.class": "io.confluent.connect.elasticsearch.ElasticsearchSinkConnector",
    "connection.url": "http://search:9200",
    "topics": "shop.orders",
    "key.ignore": "false",
}
FILE = {"connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "file": "/f", "topic": "t"}
ORDERS = {"protocol": "1", "table": "public.orders"}
POSITION = {"timestamp_nanos": 7000000, "incrementing": 42, "timestamp": 1767225600007}


class Cluster:
    """The topics of a Kafka Connect cluster on an in-memory Kafka."""

    def __init__(self) -> None:
        self.kafka = InMemoryKafka()
        for topic, partitions in zip(TOPICS, (1, 5, 3), strict=True):
            self.kafka.create(topic, partitions, {"cleanup.policy": "compact"})
        self._producer = self.kafka.producer({})

    def put(self, topic: str, key: str, value: Any) -> None:
        data = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        self._producer.send(EncodedBatch(topic, [data], [key.encode()]))
        assert self._producer.flush(1)

    def connector(self, name: str, config: dict[str, str], state: str = "STARTED") -> None:
        self.put(TOPICS[0], f"connector-{name}", {"properties": {"name": name, **config}})
        self.put(TOPICS[0], f"target-state-{name}", {"state": state, "state.v2": state})

    def offset(self, name: str, partition: dict[str, Any], offset: Any) -> None:
        self.put(TOPICS[1], json.dumps([name, partition], separators=(",", ":")), offset)

    def run(self, *arguments: str, exit_code: int = 0, command: tuple[str, ...] = COMMAND) -> Result:
        result = CliRunner().invoke(app, [*command, *arguments], obj=self.kafka)
        if isinstance(result.exception, HeadraceError):
            raise result.exception
        assert result.exit_code == exit_code, result.output
        return result

    def report(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("--json", *arguments, exit_code=exit_code).stdout)
        return found

    def assessment(self, exit_code: int = 0) -> dict[str, Any]:
        (found,) = self.report(exit_code=exit_code)["connectors"]
        return dict(found)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_a_jdbc_source_with_its_positions_runs_and_continues(cluster: Cluster) -> None:
    cluster.connector("orders", JDBC, "PAUSED")
    cluster.offset("orders", ORDERS, POSITION)
    found = cluster.assessment()
    assert (found["verdict"], found["target"], found["type"]) == ("runs unchanged", "PAUSED", "source")
    assert found["continues"] == [{"partition": ORDERS, "offset": POSITION}]
    assert found["read_again"] == []


@pytest.mark.parametrize(
    ("mode", "partition", "offset"),
    [
        ("incrementing", ORDERS, {"incrementing": 42}),
        ("timestamp", ORDERS, {"timestamp_nanos": 7000000, "timestamp": 1767225600007}),
        ("timestamp", ORDERS, {"timestamp": 1767225600007}),
        ("timestamp+incrementing", ORDERS, POSITION),
        ("timestamp+incrementing", {"protocol": "1", "table": "shop.public.orders"}, POSITION),
        ("timestamp+incrementing", {"table": "orders"}, POSITION),
    ],
)
def test_all_forms_of_positions_of_a_jdbc_source_are_understood(
    cluster: Cluster, mode: str, partition: dict[str, str], offset: dict[str, int]
) -> None:
    cursor = {key: text for key, text in JDBC.items() if key.removesuffix(".column.name") in mode or "." not in key}
    config = {**{key: text for key, text in JDBC.items() if not key.endswith("column.name")}, **cursor, "mode": mode}
    cluster.connector("orders", config)
    cluster.offset("orders", partition, offset)
    assert cluster.assessment()["continues"] == [{"partition": partition, "offset": offset}]


def test_the_position_of_a_query_is_understood(cluster: Cluster) -> None:
    config = {key: text for key, text in JDBC.items() if key != "table.whitelist"}
    cluster.connector("orders", {**config, "query": "SELECT * FROM orders"})
    cluster.offset("orders", {"query": "query"}, POSITION)
    assert cluster.assessment()["continues"] == [{"partition": {"query": "query"}, "offset": POSITION}]


@pytest.mark.parametrize(
    ("partition", "offset", "reason"),
    [
        (ORDERS, {"incrementing": 42}, "it has nothing that mode timestamp+incrementing uses"),
        (ORDERS, {"timestamp": "now"}, "must be whole numbers"),
        ({"query": "query"}, POSITION, "it is the position of a query, which the connector does not read"),
        ({"table": "public.orders", "protocol": "1"}, POSITION, "protocol must come before table"),
        ({"protocol": "2", "table": "public.orders"}, POSITION, "version 2 of the protocol is unknown"),
        ({"filename": "/f"}, {"position": 3}, "it is not a partition of a JDBC source"),
    ],
)
def test_a_position_that_headrace_would_not_use_is_named_with_the_reason(
    cluster: Cluster, partition: dict[str, str], offset: dict[str, Any], reason: str
) -> None:
    cluster.connector("orders", JDBC)
    cluster.offset("orders", partition, offset)
    found = cluster.assessment(exit_code=1)
    assert found["continues"] == []
    (unused,) = found["read_again"]
    assert unused["partition"] == partition
    assert reason in unused["reason"]
    assert not found["ready"]


def test_with_connect_a_system_that_does_not_answer_is_an_error(cluster: Cluster) -> None:
    cluster.connector("search", {**SEARCH, "connection.url": "http://127.0.0.1:1"})
    assert cluster.assessment()["verdict"] == "runs unchanged"
    (found,) = cluster.report("--connect", exit_code=1)["connectors"]
    assert found["verdict"] == "cannot run"
    assert found["findings"][0]["code"] == "elasticsearch.unreachable"


def test_a_position_that_was_deleted_is_none(cluster: Cluster) -> None:
    cluster.connector("orders", JDBC)
    cluster.offset("orders", ORDERS, POSITION)
    cluster.offset("orders", ORDERS, None)
    assert cluster.assessment()["continues"] == []


def test_a_sink_continues_with_its_consumer_group(cluster: Cluster) -> None:
    cluster.connector("search", SEARCH)
    cluster.kafka.create("shop.orders", 2)
    cluster.kafka.groups["connect-search"].committed[TopicPartition("shop.orders", 1)] = 7
    found = cluster.assessment()
    assert (found["type"], found["consumer_group"]) == ("sink", "connect-search")
    assert found["committed"] == [{"topic": "shop.orders", "partition": 1, "offset": 7}]


def test_keys_without_effect_are_differences(cluster: Cluster) -> None:
    cluster.connector("search", {**SEARCH, "flush.timeout.ms": "5000", "linger.ms": "10"})
    found = cluster.assessment()
    assert found["verdict"] == "runs with differences"
    assert [(item["severity"], item["key"]) for item in found["findings"]] == [("warning", "flush.timeout.ms")]


def test_a_connector_without_a_plugin_is_named_and_its_positions_stay(cluster: Cluster) -> None:
    cluster.connector("lines", FILE)
    cluster.offset("lines", {"filename": "/f"}, {"position": 3})
    found = cluster.assessment(exit_code=1)
    assert found["verdict"] == "cannot run"
    (finding,) = found["findings"]
    assert finding["code"] == "plugin.unknown"
    assert "did you mean" not in finding["hint"], "the name is right: Kafka Connect has run the connector"
    assert found["untouched"] == [{"partition": {"filename": "/f"}, "offset": {"position": 3}}]


def test_a_deleted_connector_is_not_reported_and_its_task_records_are_nothing(cluster: Cluster) -> None:
    cluster.connector("old", JDBC)
    cluster.put(TOPICS[0], "task-old-0", {"properties": {}})
    cluster.put(TOPICS[0], "connector-old", None)
    cluster.put(TOPICS[0], "target-state-old", None)
    assert cluster.report()["connectors"] == []


def test_records_of_other_programs_are_named(cluster: Cluster) -> None:
    cluster.put(TOPICS[0], "connector-x", b"not json")
    cluster.put(TOPICS[1], "k", b"{}")
    texts = [item["message"] for item in cluster.report()["records"]]
    assert any("record 0 of connect-configs: not JSON" in text for text in texts)
    assert any("a record of connect-offsets with the key k: not JSON" in text for text in texts)


def test_the_text_names_the_workers_the_steps_and_no_password(cluster: Cluster) -> None:
    cluster.connector("orders", JDBC)
    cluster.connector("lines", FILE, "PAUSED")
    cluster.offset("orders", ORDERS, POSITION)
    cluster.put(TOPICS[2], "status-task-orders-0", {"state": "RUNNING", "worker_id": "a:8083", "generation": 3})
    cluster.put(TOPICS[2], "status-topic-t:connector-orders", {"topic": {"name": "t", "connector": "orders"}})
    output = cluster.run(exit_code=1).output
    assert "orders (io.confluent.connect.jdbc.JdbcSourceConnector): runs unchanged" in output
    assert "lines (org.apache.kafka.connect.file.FileStreamSourceConnector, PAUSED): cannot run" in output
    assert "stop all workers of Kafka Connect (a:8083)" in output
    assert "config.storage.topic=connect-configs" in output
    assert "2 connectors: 1 unchanged, 0 with differences, 1 cannot run" in output
    assert "pa55" not in output


def test_nothing_is_written(cluster: Cluster) -> None:
    cluster.connector("orders", JDBC)
    before = {topic: cluster.kafka.records(topic) for topic in TOPICS}
    cluster.report()
    assert {topic: cluster.kafka.records(topic) for topic in TOPICS} == before


class TestWorkerFile:
    """The file of a JVM worker names Kafka, the topics, and how placeholders are resolved."""

    def file(self, folder: Path, **keys: str) -> Path:
        properties = {
            "bootstrap.servers": "kafka:9092",
            "group.id": "shop",
            **dict(zip(("config.storage.topic", "offset.storage.topic", "status.storage.topic"), TOPICS, strict=True)),
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "plugin.path": "/plugins",
            **{name.replace("_", "."): value for name, value in keys.items()},
        }
        path = folder / "connect-distributed.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()), encoding="utf-8")
        return path

    def test_the_topics_are_those_of_the_file(self, cluster: Cluster, tmp_path: Path) -> None:
        cluster.connector("orders", JDBC)
        result = cluster.run("--json", command=("migrate", "--from-connect", str(self.file(tmp_path))))
        report = json.loads(result.stdout)
        assert report["group"] == "shop"
        assert report["topics"] == dict(zip(("configs", "offsets", "statuses"), TOPICS, strict=True))
        assert [item["key"] for item in report["worker_findings"]] == ["plugin.path"]

    def test_a_key_that_headrace_refuses_does_not_hide_the_connectors(self, cluster: Cluster, tmp_path: Path) -> None:
        cluster.connector("orders", JDBC)
        path = self.file(tmp_path, rest_port="8083")
        result = cluster.run("--json", command=("migrate", "--from-connect", str(path)), exit_code=1)
        report = json.loads(result.stdout)
        assert ("rest.port", "error") in [(item["key"], item["severity"]) for item in report["worker_findings"]]
        assert [item["verdict"] for item in report["connectors"]] == ["runs unchanged"]

    def test_a_placeholder_without_a_list_is_an_error(self, cluster: Cluster, tmp_path: Path) -> None:
        (tmp_path / "p.properties").write_text("password=pa55\n")
        config = {**JDBC, "connection.password": f"${{file:{tmp_path}/p.properties:password}}"}
        cluster.connector("orders", config)
        keys = {
            "config_providers": "file",
            "config_providers_file_class": "org.apache.kafka.common.config.provider.FileConfigProvider",
        }
        command = ("migrate", "--from-connect", str(self.file(tmp_path, **keys)))
        report = json.loads(cluster.run("--json", command=command, exit_code=1).stdout)
        (found,) = report["connectors"]
        assert found["verdict"] == "cannot run"
        assert [item["key"] for item in found["findings"]] == ["connection.password"]

    def test_with_connect_the_database_is_asked_for_the_tables(self, cluster: Cluster, tmp_path: Path) -> None:
        database = sqlite3.connect(tmp_path / "shop.db")
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        database.close()
        config = {
            **{key: JDBC[key] for key in ("connector.class", "incrementing.column.name", "topic.prefix")},
            "connection.url": f"jdbc:sqlite:{tmp_path}/shop.db",
            "mode": "incrementing",
            "table.whitelist": "orders",
        }
        cluster.connector("orders", config)
        known, gone = {"protocol": "1", "table": "orders"}, {"protocol": "1", "table": "gone"}
        cluster.offset("orders", known, {"incrementing": 42})
        cluster.offset("orders", gone, {"incrementing": 7})
        command = ("migrate", "--from-connect", str(self.file(tmp_path, connector_files_allowed_paths=str(tmp_path))))
        (unconnected,) = json.loads(cluster.run("--json", command=command).stdout)["connectors"]
        assert [item["partition"] for item in unconnected["continues"]] == [known, gone]
        result = cluster.run("--json", "--connect", command=command, exit_code=1)
        (found,) = json.loads(result.stdout)["connectors"]
        assert found["continues"] == [{"partition": known, "offset": {"incrementing": 42}}]
        (unused,) = found["read_again"]
        assert "this connector has no source partition" in unused["reason"]

    def test_the_file_of_a_standalone_worker_is_refused_with_what_to_do(self, cluster: Cluster, tmp_path: Path) -> None:
        path = tmp_path / "connect-standalone.properties"
        path.write_text("bootstrap.servers=kafka:9092\noffset.storage.file.filename=/tmp/connect.offsets\n")
        with pytest.raises(HeadraceError, match="--offsets-file imports its positions"):
            cluster.run(command=("migrate", "--from-connect", str(path)))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("migrate",), "no cluster is named"),
        (("migrate", "--bootstrap", "kafka:9092"), "no cluster is named"),
        (("migrate", "--bootstrap", "k:1", "--topics", "a,b"), "--topics has 2 names"),
        (("migrate", "--into", "x"), "--into needs --offsets-file"),
    ],
)
def test_an_incomplete_command_is_refused(cluster: Cluster, arguments: tuple[str, ...], text: str) -> None:
    with pytest.raises(HeadraceError, match=text) as caught:
        cluster.run(command=arguments)
    assert caught.value.exit_code == 2


def test_a_topic_that_does_not_exist_is_named(cluster: Cluster) -> None:
    with pytest.raises(HeadraceError, match="no topic is named other"):
        cluster.run(command=("migrate", "--bootstrap", "k:1", "--topics", "other,connect-offsets,connect-status"))


def test_kafka_that_does_not_answer_is_an_environment_problem(cluster: Cluster) -> None:
    cluster.kafka.down = True
    with pytest.raises(HeadraceError) as caught:
        cluster.run()
    assert caught.value.exit_code == 3
