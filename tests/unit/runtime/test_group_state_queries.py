"""Any worker of a group answers queries of the state of a stream application."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from starlette.datastructures import Headers, QueryParams

from headrace.errors import RetriableError
from headrace.groups.worker_requests import WorkerAnswer
from headrace.records import EncodedBatch
from headrace.rest.access import UNRESTRICTED
from headrace.rest.audit import AuditChange
from headrace.rest.handlers import RestRequest, error_response
from headrace.rest.state_gathering import answered
from headrace.testing.waiting import eventually
from tests.unit.runtime.test_groups import Group, request, worker_id

APPLICATION = {
    "connector.class": "Stream",
    "tasks.max": "2",
    "commit.interval.ms": "1",
    "inputs.views.topic": "views",
    "inputs.views.time": "at",
    "inputs.views.key": "id",
    "steps.counted.window.by": "id",
    "steps.counted.window.tumbling": "1h",
    "steps.counted.window.grace": "0",
    "steps.counted.window.aggregate.views": "count(*)",
    "outputs.counts": "counted",
}
CONVERTERS = {
    f"{side}.{name}": value
    for side in ("key", "value")
    for name, value in (("converter", "JsonConverter"), ("converter.schemas.enable", "false"))
}
KEYS = [f"a/{n}" for n in range(8)]


@pytest.fixture
def group(start: Callable[..., Any]) -> Group:
    return Group(start)


def test_any_worker_of_a_group_answers_from_the_one_that_has_the_key(group: Group) -> None:
    group.kafka.create("views", 2)
    group.kafka.create("counts", 1)
    first, second = group.worker(**CONVERTERS), group.worker(**CONVERTERS)
    assert request(first, "PUT", "/connectors/app/config", json=APPLICATION).status_code == 201

    def shared() -> bool:
        """each worker has a task"""
        answer = request(first, "GET", "/connectors/app/status").json()
        tasks = answer.get("tasks", [])
        return {task["worker_id"] for task in tasks if task["state"] == "RUNNING"} == {
            worker_id(first),
            worker_id(second),
        }

    eventually(shared, 20)
    producer = group.kafka.producer({})
    values: list[bytes | None] = [json.dumps({"id": key, "at": 1}).encode() for key in KEYS]
    producer.send(EncodedBatch("views", values, [json.dumps(key).encode() for key in KEYS]))
    producer.close(1)
    assert len({item for item in group.kafka.partitions_of("views") if group.kafka.logs[item].records()}) == 2

    def entry(process: Any, key: str) -> tuple[int, Any]:
        answer = request(process, "GET", f"/v1/streams/app/state/counted/{key.replace('/', '%2F')}")
        return answer.status_code, answer.json()

    for process in (first, second):
        for key in KEYS:
            eventually(lambda key=key, process=process: entry(process, key)[0] == 200, 20)  # type: ignore[misc]
            _, body = entry(process, key)
            assert (body["key"], body["entries"][0]["views"]) == (key, 1)
        status, body = entry(process, "none")
        assert (status, body["code"]) == (404, "stream.no_entry")
    local = request(first, "GET", "/v1/streams/app/state/counted/none?forward=false")
    assert (local.status_code, local.json()["code"], local.json()["of"]) == (409, "stream.other_owner", 2)
    assert len(local.json()["partitions"]) == 1


def looked(partitions: list[int], total: int = 3) -> Any:
    return error_response(409, "not here", code="stream.other_owner", partitions=partitions, of=total)


def answer_with(own: Any, others: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the answer of a group whose ``others`` respond so; an exception: they cannot be reached."""
    path = "/v1/streams/app/state/counted/7"
    place = {"name": "app", "store": "counted", "key": "7"}
    asked = RestRequest("GET", "http://me", path, place, QueryParams(), "", UNRESTRICTED, AuditChange(), Headers(), b"")

    def ask(worker: str, where: str) -> WorkerAnswer:
        assert where == f"{path}?forward=false", "a worker that is asked must not ask others"
        found = others[worker]
        if isinstance(found, Exception):
            raise found
        return WorkerAnswer(found.status_code, {}, bytes(found.body))

    response = answered(asked, own, others, ask)
    return response.status_code, json.loads(bytes(response.body))


def test_a_key_is_missing_when_all_partitions_were_looked_into() -> None:
    status, body = answer_with(looked([0]), {"http://b": looked([1]), "http://c": looked([2])})
    assert (status, body["code"]) == (404, "stream.no_entry")


def test_partitions_without_a_task_are_named_with_what_to_do() -> None:
    status, body = answer_with(looked([0]), {"http://b": looked([2])})
    assert (status, body["code"]) == (503, "stream.no_answer")
    assert "partitions 1 have no task, because the group is being rebalanced → try again" in body["message"]


@pytest.mark.parametrize("found", [RetriableError("cannot reach http://b"), error_response(503, "it restores")])
def test_a_worker_that_does_not_answer_is_named_and_the_key_is_not_missing(found: Any) -> None:
    status, body = answer_with(looked([0]), {"http://b": found, "http://c": looked([1])})
    assert status == 503
    assert "http://b" in body["message"]


def test_a_worker_whose_own_task_restores_returns_the_answer_of_another() -> None:
    found = error_response(200, "the entry")
    assert answer_with(error_response(503, "it restores"), {"http://b": found}) == (200, json.loads(bytes(found.body)))


def test_without_other_workers_the_own_answer_counts() -> None:
    assert answer_with(looked([0]), {}) == (409, json.loads(bytes(looked([0]).body)))
