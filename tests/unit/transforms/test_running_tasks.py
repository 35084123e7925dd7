"""Tasks with transforms, run as a worker runs them, with the in-memory Kafka."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.errors import TaskError
from headrace.records import EncodedBatch
from headrace.testing.waiting import eventually
from tests.unit.transforms.task_run import TaskRun

JVM = "org.apache.kafka.connect.transforms."


@pytest.fixture
def task() -> Iterator[TaskRun]:
    run = TaskRun()
    yield run
    run.stop()


@pytest.fixture
def source(tmp_path: Path) -> dict[str, str]:
    """A source of a table whose third row has no number."""
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, card TEXT, amount TEXT)")
        connection.executemany(
            "INSERT INTO rows VALUES (?, ?, ?)",
            [(1, "4111", "10"), (2, "4222", "20"), (3, "4333", "many"), (4, "4444", "40")],
        )
    connection.close()
    return {
        "name": "rows",
        "connector.class": "io.confluent.connect.jdbc.JdbcSourceConnector",
        "connection.url": f"jdbc:sqlite:{tmp_path / 'rows.db'}",
        "table.whitelist": "rows",
        "topic.prefix": "t.",
        "mode": "incrementing",
        "incrementing.column.name": "id",
        "transforms": "key,mask,cast,route",
        "transforms.key.type": f"{JVM}ValueToKey",
        "transforms.key.fields": "id",
        "transforms.mask.type": f"{JVM}MaskField$Value",
        "transforms.mask.fields": "card",
        "transforms.cast.type": f"{JVM}Cast$Value",
        "transforms.cast.spec": "amount:int32",
        "transforms.route.type": f"{JVM}RegexRouter",
        "transforms.route.regex": "t\\.(.*)",
        "transforms.route.replacement": "shop.$1",
    }


def test_a_source_sends_transformed_rows_and_a_dead_letter_for_the_refused_one(
    task: TaskRun, source: dict[str, str]
) -> None:
    task.start({**source, "errors.tolerance": "all", "errors.deadletterqueue.topic.name": "dead"})
    eventually(lambda: len(task.kafka.records("shop.rows")) == 3 and task.kafka.records("dead"))

    assert task.values("shop.rows") == [
        {"id": 1, "card": "", "amount": 10},
        {"id": 2, "card": "", "amount": 20},
        {"id": 4, "card": "", "amount": 40},
    ]
    assert [json.loads(record.key or b"") for record in task.kafka.records("shop.rows")] == [
        {"id": 1}, {"id": 2}, {"id": 4}
    ]  # fmt: skip
    (letter,) = task.kafka.records("dead")
    headers = {name: value.decode() for name, value in letter.headers if value is not None}
    assert headers["__connect.errors.stage"] == "TRANSFORMATION"
    assert headers["__connect.errors.class.name"] == "headrace_transforms.cast.CastValue"


def test_a_refused_row_fails_the_task_and_names_the_transform(task: TaskRun, source: dict[str, str]) -> None:
    task.start(source)
    eventually(lambda: task.error is not None)

    assert isinstance(task.error, TaskError)
    assert "TRANSFORMATION" in str(task.error)
    assert "Cast: amount: the text is not a whole number" in str(task.error)
    assert "many" not in str(task.error)


def test_a_sink_commits_dropped_and_transformed_records(task: TaskRun, capsys: pytest.CaptureFixture[str]) -> None:
    task.kafka.create("orders", 1)
    values = [b'{"n":1}', None, b'{"n":2}', None]
    task.kafka.producer({}).send(EncodedBatch("orders", values, [b'"k"'] * 4))
    task.start(
        {
            "name": "show",
            "connector.class": "ConsoleSink",
            "topics": "orders",
            "transforms": "drop,hoist",
            "transforms.drop.type": f"{JVM}Filter",
            "transforms.drop.predicate": "dead",
            "transforms.hoist.type": f"{JVM}HoistField$Value",
            "transforms.hoist.field": "order",
            "predicates": "dead",
            "predicates.dead.type": f"{JVM}predicates.RecordIsTombstone",
        }
    )
    eventually(lambda: sum(task.kafka.committed("connect-show").values()) == 4)
    task.stop()

    assert task.error is None
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [json.loads(line)["value"] for line in printed] == [
        {"order": {"n": 1}},
        {"order": {"n": 2}},
    ]
    assert task.metrics.snapshot()["sink_record_filtered_total"] == 2
