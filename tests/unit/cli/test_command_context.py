"""What commands of plugins get: topics are read completely, with the isolation of the worker's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from headrace import NotFoundError
from headrace.broker.in_memory import InMemoryKafka
from headrace.cli.command_context import TerminalCommandContext
from headrace.errors import ConfigError
from headrace.records import EncodedBatch, TopicPartition
from headrace_streams.experiments.commands import app as experiment


@pytest.fixture
def kafka() -> InMemoryKafka:
    """Return a Kafka with two topics of two partitions each, and 40 records in each topic."""
    kafka = InMemoryKafka()
    for topic in ("outcomes-a", "outcomes-b"):
        kafka.create(topic, 2)
        values: list[bytes | None] = [b'{"n": %d, "converted": %d}' % (n, n % 4 == 0) for n in range(40)]
        kafka.producer({}).send(EncodedBatch(topic, values, [b"%d" % n for n in range(40)]))
    return kafka


def worker_file(folder: Path, extra: str = "") -> Path:
    path = folder / "worker.yaml"
    path.write_text(f"bootstrap.servers: kafka.example:9092\noffset.storage.file.filename: offsets\n{extra}")
    return path


def test_all_records_of_all_partitions_are_read(kafka: InMemoryKafka, tmp_path: Path) -> None:
    topics = ["outcomes-a", "outcomes-b"]
    values = TerminalCommandContext(kafka).read_topics(worker_file(tmp_path), topics)
    assert sorted(json.loads(value or b"")["n"] for value in values) == sorted([*range(40), *range(40)])


def test_records_of_an_open_transaction_are_not_read(kafka: InMemoryKafka, tmp_path: Path) -> None:
    producer = kafka.transactional_producer("t", {})
    producer.init()
    producer.begin()
    producer.send(EncodedBatch("outcomes-a", [b"{}"], [None]), 0)
    context = TerminalCommandContext(kafka)
    assert len(list(context.read_topics(worker_file(tmp_path), ["outcomes-a"]))) == 40
    uncommitted = worker_file(tmp_path, "consumer.isolation.level: read_uncommitted\n")
    assert len(list(context.read_topics(uncommitted, ["outcomes-a"]))) == 41


def test_records_that_retention_has_removed_are_skipped(kafka: InMemoryKafka, tmp_path: Path) -> None:
    kafka.delete_records({TopicPartition("outcomes-a", 0): 5})
    found = list(TerminalCommandContext(kafka).read_topics(worker_file(tmp_path), ["outcomes-a"]))
    assert len(found) == 35


def test_a_topic_that_does_not_exist_is_refused(kafka: InMemoryKafka, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no topic is named outcomes-c"):
        list(TerminalCommandContext(kafka).read_topics(worker_file(tmp_path), ["outcomes-a", "outcomes-c"]))


def test_a_file_that_is_not_a_workers_is_refused(kafka: InMemoryKafka, tmp_path: Path) -> None:
    path = tmp_path / "sink.yaml"
    path.write_text("name: a\nconnector.class: ConsoleSink\ntopics: outcomes-a\n")
    with pytest.raises(ConfigError, match=r"sink\.yaml is a connector's file"):
        list(TerminalCommandContext(kafka).read_topics(path, ["outcomes-a"]))


def test_experiment_commands_read_topics(kafka: InMemoryKafka, tmp_path: Path) -> None:
    app = typer.Typer()
    app.add_typer(experiment, name="experiment", context_settings={"obj": TerminalCommandContext(kafka)})
    path = worker_file(tmp_path)
    answer = CliRunner().invoke(
        app, ["experiment", "analyse", "outcomes-a", "outcomes-b", "--worker", str(path), "--json"]
    )
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert (found["impressions"], found["conversions"]) == (80, 20)
    assert found["reason"] == "the log has 20 conversions, and 100 are needed: analyse a longer log"


APPLICATION = """
name: app
connector.class: Stream
key.converter: StringConverter
value.converter: JsonConverter
value.converter.schemas.enable: false
inputs: {a: outcomes-a}
steps: {b: {filter: n > 0}}
outputs: {c: b}
"""


def application_file(folder: Path) -> Path:
    path = folder / "application.yaml"
    path.write_text(APPLICATION)
    return path


def test_topics_of_a_connector_are_decoded_as_its_tasks_do(kafka: InMemoryKafka, tmp_path: Path) -> None:
    access = TerminalCommandContext(kafka).connector(worker_file(tmp_path), application_file(tmp_path))
    assert access.name == "app"
    assert access.properties["outputs.c"] == "b"
    records = list(access.read(["outcomes-a"]))
    assert sorted(record.value["n"] for record in records) == list(range(40))
    assert {record.key for record in records} == {str(n) for n in range(40)}
    assert {(record.topic, record.partition) for record in records} == {("outcomes-a", 0), ("outcomes-a", 1)}


def test_records_that_cannot_be_decoded_are_left_out_and_counted(
    kafka: InMemoryKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka.producer({}).send(EncodedBatch("outcomes-a", [b"{", b"also not JSON"], [None, None]))
    access = TerminalCommandContext(kafka).connector(worker_file(tmp_path), application_file(tmp_path))
    assert len(list(access.read(["outcomes-a"]))) == 40
    assert "2 records could not be decoded and are left out: outcomes-a-" in capsys.readouterr().err


def test_a_record_is_written_to_a_shared_topic(kafka: InMemoryKafka, tmp_path: Path) -> None:
    kafka.create("log", 1)
    access = TerminalCommandContext(kafka).connector(worker_file(tmp_path), application_file(tmp_path))
    access.write_shared("log", "surveys", {"number": 1})
    ((key, value),) = [(record.key, record.value) for record in access.read_shared(["log"])]
    assert (key, value) == ("surveys", {"number": 1})


def test_a_file_of_a_worker_is_not_a_connectors(kafka: InMemoryKafka, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text("bootstrap.servers: kafka.example:9092\noffset.storage.file.filename: offsets\n")
    with pytest.raises(ConfigError):
        TerminalCommandContext(kafka).connector(worker_file(tmp_path), path)
