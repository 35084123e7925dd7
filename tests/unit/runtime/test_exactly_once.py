"""Exactly-once sources of a group: replaced tasks and leaders cannot write, and the topics agree with the positions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.broker.in_memory import InMemoryKafka
from headrace.broker.in_memory.transactions import InMemoryTransactionalProducer
from headrace.errors import TaskError
from headrace.records import EncodedBatch
from headrace.testing.waiting import eventually
from tests.unit.runtime.group_configs import SOURCE
from tests.unit.runtime.test_groups import Group, group, request, running_on, worker_id

__all__ = ["group"]

ENABLED = {"exactly.once.source.support": "enabled"}


def visible(kafka: InMemoryKafka, topic: str) -> list[Any]:
    """Return what a reader with read_committed sees."""
    reader, admin = kafka.reader({}), kafka.admin({})
    ends = admin.end_offsets([topic])
    reader.assign(dict.fromkeys(ends, 0))
    found = []
    while any(reader.positions()[place] < end for place, end in ends.items()):
        for batch in reader.poll(0.1, 1000):
            found += [(key, json.loads(value)) for key, value in zip(batch.keys, batch.values, strict=True) if value]
    return found


def rows(kafka: InMemoryKafka) -> list[tuple[str, int]]:
    return sorted((value["task"], value["n"]) for _, value in visible(kafka, "numbers"))


def configs(kafka: InMemoryKafka) -> list[tuple[str, Any]]:
    return [(key.decode(), value) for key, value in visible(kafka, "g-configs")]


def create(process: Any, **config: str) -> None:
    answer = request(process, "PUT", "/connectors/numbers/config", json={**SOURCE, **config})
    assert answer.status_code in (200, 201), answer.text


EXPECTED = sorted((str(task), n) for task in range(4) for n in range(100))


@pytest.mark.parametrize("boundary", ["poll", "interval"])
def test_records_and_positions_are_in_one_transaction(group: Group, boundary: str) -> None:
    worker = group.worker(**ENABLED)
    create(worker, **{"transaction.boundary": boundary, "transaction.boundary.interval.ms": "50"})
    eventually(lambda: len(rows(group.kafka)) == 400)
    assert rows(group.kafka) == EXPECTED
    positions = {key.decode(): value for key, value in visible(group.kafka, "g-offsets")}
    assert positions == {f'["numbers",{{"task":"{task}"}}]': {"n": 100} for task in range(4)}
    ids = {f"g-numbers-{task}" for task in range(4)} | {"connect-cluster-g"}
    assert set(group.kafka.transactional) == ids
    status = request(worker, "GET", "/connectors/numbers/status").json()
    assert status["delivery"] == "at-least-once", "the connector does not say that it supports more"


def test_rows_are_sent_once_while_tasks_move_between_workers(group: Group) -> None:
    first, second = group.worker(**ENABLED), group.worker(**ENABLED)
    create(first)
    eventually(lambda: running_on(first) == {worker_id(first): 2, worker_id(second): 2})
    second.application.stop()
    eventually(lambda: running_on(first) == {worker_id(first): 4})
    eventually(lambda: len(rows(group.kafka)) == 400)
    assert rows(group.kafka) == EXPECTED


def test_producers_of_a_larger_set_of_tasks_are_fenced_before_a_smaller_one_starts(group: Group) -> None:
    first = group.worker(**ENABLED)
    create(first)
    eventually(lambda: len(rows(group.kafka)) == 400)
    zombie = group.kafka.transactional["g-numbers-3"]
    create(first, **{"tasks.max": "2", "speed": "2"})
    eventually(lambda: sum(running_on(first).values()) == 2)
    assert group.kafka.transactional["g-numbers-3"] is not zombie
    counts = [value["task-count"] for key, value in configs(group.kafka) if key == "tasks-fencing-numbers"]
    assert counts[0] == 4
    assert counts[-1] == 2


def test_fencing_is_requested_by_workers_of_the_group_only(group: Group) -> None:
    _, second = group.worker(**ENABLED), group.worker(**ENABLED)
    create(second)
    eventually(lambda: len(rows(group.kafka)) == 400)
    fenced = request(second, "PUT", "/connectors/numbers/fence")
    assert fenced.status_code == 400
    assert "missing required signature" in fenced.json()["message"]


def test_a_task_whose_producer_was_fenced_continues_at_the_stored_position(group: Group) -> None:
    worker = group.worker(**ENABLED)
    create(worker, **{"tasks.max": "1"})
    eventually(lambda: sum(running_on(worker).values()) == 1)
    rival = group.kafka.transactional_producer("g-numbers-0", {})
    rival.init()
    eventually(lambda: len(rows(group.kafka)) == 100)
    assert rows(group.kafka) == EXPECTED[:100]


def test_a_leader_that_was_replaced_cannot_write_configurations(group: Group) -> None:
    settings = {**ENABLED, "session.timeout.ms": "1500", "heartbeat.interval.ms": "500"}
    first, second = group.worker(**settings), group.worker(**settings)
    create(first, **{"tasks.max": "1"})
    old = group.kafka.transactional["connect-cluster-g"]
    group.members[0].cut_off = True
    eventually(lambda: not first.worker.metrics())
    group.coordinator.expel(group.members[0])
    eventually(lambda: group.kafka.transactional["connect-cluster-g"] is not old)
    written = len(configs(group.kafka))
    assert isinstance(old, InMemoryTransactionalProducer)
    old.begin()  # as the old leader would, had it passed its own checks
    with pytest.raises(TaskError, match="accepts this producer no longer"):
        old.send(EncodedBatch("g-configs", [b"{}"], [b"connector-zombie"]))
    assert "connector-zombie" not in [key for key, _ in configs(group.kafka)[written - 1 :]]
    create(second, **{"tasks.max": "1", "speed": "3"})
    eventually(lambda: ("connector-numbers", "3") in _speeds(group.kafka))


def _speeds(kafka: InMemoryKafka) -> list[tuple[str, str]]:
    return [(key, value["properties"].get("speed", "")) for key, value in configs(kafka) if key == "connector-numbers"]


def test_changed_positions_of_a_stopped_source_are_kept(group: Group) -> None:
    worker = group.worker(**ENABLED)
    create(worker, **{"tasks.max": "1"})
    eventually(lambda: len(rows(group.kafka)) == 100)
    zombie = group.kafka.transactional["g-numbers-0"]
    assert request(worker, "PUT", "/connectors/numbers/stop").status_code == 204
    offsets = {"offsets": [{"partition": {"task": "0"}, "offset": {"n": 90}}]}
    eventually(lambda: request(worker, "PATCH", "/connectors/numbers/offsets", json=offsets).status_code == 200)
    assert group.kafka.transactional["g-numbers-0"] is not zombie, "a task that hangs could still store its position"
    assert request(worker, "PUT", "/connectors/numbers/resume").status_code == 202
    eventually(lambda: len(rows(group.kafka)) == 110)


def test_a_group_is_upgraded_in_two_steps(group: Group) -> None:
    disabled = group.worker()
    preparing = group.worker(**{"exactly.once.source.support": "preparing"})
    create(disabled, **{"tasks.max": "1"})
    eventually(lambda: len(rows(group.kafka)) == 100)
    assert "connect-cluster-g" not in group.kafka.transactional, "the leader is not prepared"
    enabled = group.worker(**ENABLED)
    disabled.application.stop()
    eventually(lambda: "connect-cluster-g" in group.kafka.transactional)
    preparing.application.stop()
    eventually(lambda: running_on(enabled) == {worker_id(enabled): 1})
    assert rows(group.kafka) == EXPECTED[:100]


def test_a_source_waits_while_the_leader_does_not_take_part(group: Group) -> None:
    group.worker()
    enabled = group.worker(**ENABLED)
    create(enabled)
    eventually(lambda: any("exactly-once source support" in reason for reason in _reasons(enabled)))
    hint = next(reason for reason in _reasons(enabled) if "exactly-once source support" in reason)
    assert "exactly.once.source.support=preparing" in hint


def _reasons(process: Any) -> list[str]:
    tasks = request(process, "GET", "/connectors/numbers/status").json()["tasks"]
    return [task.get("reason", "") for task in tasks]
