"""The topics of a JVM cluster, as they were recorded: headrace reads them, and writes the same bytes."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from headrace.broker.in_memory import InMemoryKafka
from headrace.cli.main import app
from headrace.records import EncodedBatch
from headrace.stores import ConfigStore, MemoryLog, OffsetStore, StatusStore
from headrace.stores.log import Entries
from headrace.stores.offsets import offset_key
from tests.golden.connect_group.topics import TOPICS, recorded_topics

RECORDS = recorded_topics()
CONFIGS, OFFSETS, STATUSES = ([item for item in RECORDS if item.topic == topic] for topic in TOPICS)
MODES = ("by-both", "by-id", "by-query", "by-time")


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What ``headrace migrate`` says of the recorded cluster."""
    kafka = InMemoryKafka()
    producer = kafka.producer({})
    for record in RECORDS:
        value = None if record.value is None else record.value.encode()
        producer.send(EncodedBatch(record.topic, [value], [record.key.encode()]))
    assert producer.flush(10)
    command = ["migrate", "--bootstrap", "kafka:9092", "--topics", ",".join(TOPICS), "--json"]
    found: dict[str, Any] = json.loads(CliRunner().invoke(app, command, obj=kafka).stdout)
    return found


def connector(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(dict(item) for item in report["connectors"] if item["name"] == name)


def test_all_connectors_of_the_cluster_are_found_with_their_target_states(report: dict[str, Any]) -> None:
    targets = {item["name"]: item["target"] for item in report["connectors"]}
    started = dict.fromkeys(("copy", "lines", *MODES), "STARTED")
    assert targets == {**started, "paused": "PAUSED", "stopped": "STOPPED"}
    assert report["workers"] == ["jvm:8083"]
    assert report["records"] == []


@pytest.mark.parametrize("name", MODES)
def test_the_positions_of_the_jdbc_source_are_understood_in_every_mode(report: dict[str, Any], name: str) -> None:
    found = connector(report, name)
    assert found["verdict"] in ("runs unchanged", "runs with differences"), found
    assert len(found["continues"]) == 1
    assert found["read_again"] == []
    names = {"by-both": ("incrementing", "timestamp", "timestamp_nanos"), "by-time": ("timestamp", "timestamp_nanos")}
    assert sorted(found["continues"][0]["offset"]) == sorted(names.get(name, ("incrementing",)))


@pytest.mark.parametrize("name", ["copy", "lines", "paused", "stopped"])
def test_connectors_without_a_plugin_are_named_and_left_alone(report: dict[str, Any], name: str) -> None:
    found = connector(report, name)
    assert found["verdict"] == "cannot run"
    assert [item["code"] for item in found["findings"]] == ["plugin.unknown"]
    assert len(found["untouched"]) == (0 if name == "copy" else 1)


class _Bytes:
    """What a store appends, as bytes."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.written: dict[str, bytes | None] = {}
        self.log.follow(self._take)

    def _take(self, entries: Entries) -> None:
        self.written |= {key: None if value is None else orjson.dumps(value) for key, value in entries.items()}


def test_configurations_tasks_and_target_states_have_the_bytes_of_kafka_connect() -> None:
    read, written = MemoryLog(), _Bytes()
    source, target = ConfigStore(read, shared=True), ConfigStore(written.log, shared=True)
    for record in CONFIGS:
        read.append({record.key: None if record.value is None else orjson.loads(record.value)})
    desired = source.desired()
    for name, config in desired.configs.items():
        target.put_connector(name, config)
        target.put_tasks(name, desired.tasks[name])
        if name in desired.targets:
            target.put_target(name, desired.targets[name])
    for record in CONFIGS:
        # The tasks of a stopped connector are left in the topic, and are not valid any more.
        if record.key.startswith("task-stopped-"):
            continue
        assert written.written[record.key] == (record.value or "").encode(), record.key


def test_offsets_have_the_bytes_of_kafka_connect() -> None:
    written = _Bytes()
    store = OffsetStore(written.log)
    for record in OFFSETS:
        name, partition = orjson.loads(record.key)
        assert offset_key(name, partition) == record.key
        store.set(name, [(partition, orjson.loads(record.value or "null"))])
    assert written.written == {record.key: (record.value or "").encode() for record in OFFSETS}


def test_statuses_of_kafka_connect_are_read() -> None:
    log = MemoryLog()
    log.append({item.key: None if item.value is None else orjson.loads(item.value) for item in STATUSES})
    statuses = StatusStore(log)
    assert {task.connector for task in statuses.tasks()} >= {"copy", "lines", "paused", *MODES}
    assert {status.worker_id for status in statuses.tasks().values()} == {"jvm:8083"}
    assert statuses.connectors() == {"copy", "lines", "paused", "stopped", *MODES}
