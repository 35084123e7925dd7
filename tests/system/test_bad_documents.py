"""A row that cannot be indexed becomes a dead letter with reason and original bytes, or fails the task."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from kafka import KafkaConsumer

from headrace.testing.waiting import eventually
from tests.engines.http import HTTP


@pytest.fixture
def conflict(
    kafka: Any, elasticsearch: Any, database: str, make_worker: Callable[..., Any], unique_name: str, box: Any
) -> Any:
    """A worker whose sink meets a mapping conflict in row 3 of 5; ``run(**keys)`` starts it with keys of the sink."""
    name = unique_name
    HTTP.put(
        f"{elasticsearch.url}/{name}_items",
        json={"mappings": {"properties": {"amount": {"type": "integer"}}}},
        timeout=60,
    ).raise_for_status()
    with box.connect(database) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, amount text)")
        connection.execute(
            "INSERT INTO items VALUES (1, '1'), (2, '2'), (3, 'three, not a number'), (4, '4'), (5, '5')"
        )
    worker = make_worker(kafka.bootstrap_servers)
    worker.write(
        f"{name}-source",
        {
            "connector.class": "SqlSource",
            "connection.url": database,
            "mode": "incrementing",
            "incrementing.column.name": "id",
            "table.whitelist": "items",
            "pk.mode": "primary_key",
            "topic.prefix": f"{name}_",
            "poll.interval.ms": "100",
        },
    )

    def run(**keys: str) -> Any:
        worker.sink = worker.write(
            f"{name}-sink",
            {
                "connector.class": "ElasticsearchSink",
                "connection.url": elasticsearch.url,
                "topics": f"{name}_items",
                **{key.replace("_", "."): value for key, value in keys.items()},
            },
        )
        worker.start()
        return worker

    worker.run, worker.unique, worker.elasticsearch = run, name, elasticsearch.url
    return worker


def test_the_dead_letter_has_the_original_bytes_and_connects_headers(conflict: Any, kafka: Any, box: Any) -> None:
    name, dead = conflict.unique, f"{conflict.unique}-dead"
    worker = conflict.run(errors_tolerance="all", errors_deadletterqueue_topic_name=dead)
    eventually(lambda: set(box.documents(worker.elasticsearch, f"{name}_items")) == {"1", "2", "4", "5"}, box.timeout)

    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=120_000,
        metadata_max_age_ms=500,  # the topic may be created after the first check
    )
    consumer.subscribe([dead])
    try:
        letter = next(consumer)
    finally:
        consumer.close()
    assert json.loads(letter.value) == {"id": 3, "amount": "three, not a number"}
    assert letter.key == b"3"
    headers = {key.removeprefix("__connect.errors."): value.decode() for key, value in letter.headers}
    assert headers["topic"] == f"{name}_items"
    assert (headers["partition"], headers["offset"]) == ("0", "2")
    assert headers["connector.name"] == f"{name}-sink"
    assert headers["task.id"] == "0"
    assert headers["stage"] == "TASK_PUT"
    assert "amount" in headers["exception.message"]
    assert {"class.name", "exception.class.name", "exception.stacktrace"} <= set(headers)
    assert worker.running(f"{name}-sink")
    assert worker.stop() == 0


def test_without_tolerance_the_task_fails_and_names_the_key_to_change(conflict: Any, box: Any) -> None:
    name = conflict.unique
    worker = conflict.run(errors_tolerance="none")
    eventually(lambda: worker.task_states(f"{name}-sink") == ["FAILED"], box.timeout)
    trace = worker.get(f"/connectors/{name}-sink/status")["tasks"][0]["trace"]
    line = worker.sink.read_text().splitlines().index("errors.tolerance: none") + 1
    assert f"{worker.sink}:{line}:1" in trace
    assert "amount" in trace
    assert "Traceback" not in trace
    assert worker.running(f"{name}-source")

    shown = box.command("connectors", "status", f"{name}-sink", "--url", worker.url)
    assert "FAILED" in shown.stdout
    assert f"restart {name}-sink --task 0" in shown.stdout + shown.stderr
    assert worker.stop() == 0


def test_dead_letters_contain_no_secret(conflict: Any, kafka: Any, box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason of each letter quotes a secret. Outputs without engines are searched in test_canaries.py."""
    canary = "c4nary-index-9f3"
    monkeypatch.setenv("CANARY_INDEX", canary)
    name, dead = conflict.unique, f"{conflict.unique}-dead"
    worker = conflict.run(
        errors_tolerance="all",
        errors_deadletterqueue_topic_name=dead,
        index_name="${env:CANARY_INDEX}-{value:id}",
        index_name_allowed="none-*",
    )
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=120_000,
        metadata_max_age_ms=500,  # the topic may be created after the first check
    )
    consumer.subscribe([dead])
    try:
        letters = [next(consumer) for _ in range(5)]
    finally:
        consumer.close()
    texts = {str(letter.offset): repr((letter.headers, letter.key, letter.value)) for letter in letters}
    sink = f"{name}-sink"
    for command in (["dlq", "list", sink], ["dlq", "show", sink], ["connectors", "status", sink, "--records"]):
        run = box.command(*command, "--url", worker.url)
        texts[" ".join(command)] = run.stdout + run.stderr
    texts["log"] = worker.log

    assert [place for place, text in texts.items() if canary in text] == []
    assert all("${env:CANARY_INDEX}" in texts[str(letter.offset)] for letter in letters), "the reason quotes it"
    assert "${env:CANARY_INDEX}" in texts[f"dlq show {sink}"]
    assert worker.stop() == 0
