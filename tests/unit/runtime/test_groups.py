"""Workers of one group share connectors, take over from each other, and answer every request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from headrace.broker.in_memory import InMemoryKafka
from headrace.broker.in_memory.group_member import InMemoryCoordinator, InMemoryGroupMember
from headrace.records import EncodedBatch
from headrace.registry import Registry
from headrace.testing.waiting import eventually
from tests.engines.http import HTTP
from tests.unit.data_streams import FakeElasticsearch
from tests.unit.runtime.group_configs import GROUP, SOURCE


class Group:
    """The workers of one group, on one in-memory Kafka."""

    def __init__(self, start: Callable[..., Any]) -> None:
        self.kafka, self.coordinator = InMemoryKafka(), InMemoryCoordinator()
        self.members: list[InMemoryGroupMember] = []
        self._start = start

    def worker(self, **settings: str) -> Any:
        def open_member(callbacks: Any, timeouts: Any) -> InMemoryGroupMember:
            del timeouts
            self.members.append(self.coordinator.member(callbacks))
            return self.members[-1]

        process = self._start(kafka_clients=self.kafka, open_member=open_member, **{**GROUP, **settings})
        eventually(lambda: HTTP.get(f"{process.application.url}/health").status_code == 200)
        return process


@pytest.fixture
def elastic() -> Iterator[FakeElasticsearch]:
    fake = FakeElasticsearch()
    yield fake
    fake.close()


@pytest.fixture
def group(start: Callable[..., Any]) -> Group:
    return Group(start)


def request(process: Any, method: str, path: str, **options: Any) -> httpx.Response:
    return HTTP.request(method, process.application.url + path, **options)


def states(process: Any, name: str = "numbers") -> dict[int, tuple[str, str]]:
    """Return state and worker of each task, as this worker shows them."""
    answer = request(process, "GET", f"/connectors/{name}/status")
    if answer.status_code != 200:
        return {}
    return {task["id"]: (task["state"], task["worker_id"]) for task in answer.json()["tasks"]}


def worker_id(process: Any) -> str:
    return str(process.application.url).partition("://")[2]


def running_on(process: Any) -> dict[str, int]:
    """Return the number of RUNNING tasks by worker."""
    found: dict[str, int] = {}
    for state, worker in states(process).values():
        if state == "RUNNING":
            found[worker] = found.get(worker, 0) + 1
    return found


def rows(group: Group) -> set[tuple[str, int]]:
    values = [json.loads(record.value) for record in group.kafka.records("numbers") if record.value]
    return {(value["task"], value["n"]) for value in values}


def test_workers_share_the_tasks_of_a_connector_that_any_of_them_has_created(group: Group) -> None:
    first, second = group.worker(), group.worker()
    answer = request(second, "PUT", "/connectors/numbers/config", json=SOURCE)
    assert answer.status_code == 201
    assert answer.headers["location"].startswith(second.application.url)
    shared = {worker_id(first): 2, worker_id(second): 2}
    eventually(lambda: running_on(first) == running_on(second) == shared)
    eventually(lambda: rows(group) == {(str(task), n) for task in range(4) for n in range(100)})


def test_a_worker_that_leaves_hands_its_tasks_over_and_they_continue(group: Group) -> None:
    first, second = group.worker(), group.worker()
    assert request(first, "PUT", "/connectors/numbers/config", json=SOURCE).status_code == 201
    eventually(lambda: len(rows(group)) == 400 and running_on(first).get(worker_id(second)) == 2)
    second.application.stop()
    eventually(lambda: running_on(first) == {worker_id(first): 4})
    assert len(group.kafka.records("numbers")) == 400, "a task that moved has read rows again"


def test_rebalances_of_the_group_are_reported(group: Group, elastic: FakeElasticsearch) -> None:
    reported = {"metrics.elasticsearch.url": elastic.url, "metrics.elasticsearch.interval": "100ms"}
    first = group.worker(**reported)
    assert request(first, "PUT", "/connectors/numbers/config", json=SOURCE).status_code == 201
    eventually(lambda: running_on(first) == {worker_id(first): 4})
    second = group.worker()
    eventually(lambda: running_on(first) == {worker_id(first): 2, worker_id(second): 2})

    def messages() -> list[str]:
        return [each["message"] for _, each in elastic.documents if each["kind"] == "rebalance"]

    eventually(lambda: any("this worker runs 3 connectors and tasks" in message for message in messages()))
    generations = [each["group"] for _, each in elastic.documents if each["kind"] == "rebalance"]
    assert {each["leader"] for each in generations} == {f"{first.application.url}/"}
    numbers = [each["generation"] for each in generations]
    assert numbers == sorted(set(numbers)), "each generation once"


def test_the_leader_can_leave(group: Group) -> None:
    first, second = group.worker(), group.worker()
    assert request(first, "PUT", "/connectors/numbers/config", json=SOURCE).status_code == 201
    eventually(lambda: sum(running_on(second).values()) == 4)
    first.application.stop()
    eventually(lambda: running_on(second) == {worker_id(second): 4})
    # Until the second worker has joined again as the leader, it forwards to a worker that is gone.
    eventually(lambda: request(second, "PUT", "/connectors/numbers/pause").status_code == 202)
    eventually(lambda: all(state == "PAUSED" for state, _ in states(second).values()))


def test_a_worker_that_is_cut_off_stops_its_tasks_before_others_take_them_over(group: Group) -> None:
    settings = {"session.timeout.ms": "1500", "heartbeat.interval.ms": "500"}
    first, second = group.worker(**settings), group.worker(**settings)
    assert request(first, "PUT", "/connectors/numbers/config", json=SOURCE).status_code == 201
    eventually(lambda: running_on(first) == {worker_id(first): 2, worker_id(second): 2})
    group.members[1].cut_off = True
    eventually(lambda: not second.worker.metrics())
    group.coordinator.expel(group.members[1])
    eventually(lambda: running_on(first) == {worker_id(first): 4})
    group.members[1].cut_off = False
    eventually(lambda: running_on(first) == {worker_id(first): 2, worker_id(second): 2})


def test_the_work_of_a_lost_worker_waits_for_its_return_with_a_reason_in_the_status(group: Group) -> None:
    settings = {"scheduled.rebalance.max.delay.ms": "3s"}
    first, second = group.worker(**settings), group.worker(**settings)
    assert request(first, "PUT", "/connectors/numbers/config", json=SOURCE).status_code == 201
    eventually(lambda: running_on(first) == {worker_id(first): 2, worker_id(second): 2})
    group.members[1].cut_off = True
    group.coordinator.expel(group.members[1])

    def waiting() -> list[str]:
        tasks = request(first, "GET", "/connectors/numbers/status").json()["tasks"]
        return [task["reason"] for task in tasks if task["state"] == "UNASSIGNED" and "reason" in task]

    eventually(lambda: len(waiting()) == 2)
    assert all(f"worker {worker_id(second)} has left the group" in reason for reason in waiting())
    eventually(lambda: running_on(first) == {worker_id(first): 4})
    assert waiting() == []


def test_a_worker_without_kafka_starts_and_says_what_it_waits_for(group: Group, start: Callable[..., Any]) -> None:
    group.kafka.down = True
    waiting = start(kafka_clients=group.kafka, open_member=group.coordinator.member, **GROUP)
    health = request(waiting, "GET", "/health")
    assert (health.status_code, health.json()["status"]) == (503, "starting")
    refused = request(waiting, "GET", "/connectors")
    assert refused.status_code == 503
    assert "the worker is starting" in refused.json()["message"]


def test_operations_on_any_worker_have_the_answers_of_the_leader(group: Group) -> None:
    _, second = group.worker(), group.worker()
    assert request(second, "POST", "/connectors", json={"name": "numbers", "config": SOURCE}).status_code == 201
    assert request(second, "POST", "/connectors", json={"name": "numbers", "config": SOURCE}).status_code == 409
    assert request(second, "PUT", "/connectors/none/pause").status_code == 404
    bad = request(second, "PUT", "/connectors/numbers/config", json={**SOURCE, "speed": "fast"})
    assert (bad.status_code, bad.json()["error_code"]) == (400, 400)
    eventually(lambda: sum(running_on(second).values()) == 4)
    for task in range(4):
        assert request(second, "POST", f"/connectors/numbers/tasks/{task}/restart").status_code == 204
    assert request(second, "POST", "/connectors/numbers/tasks/9/restart").status_code == 404
    restarted = request(second, "POST", "/connectors/numbers/restart?includeTasks=true")
    assert restarted.status_code == 202
    assert {task["state"] for task in restarted.json()["tasks"]} == {"RESTARTING"}
    eventually(lambda: sum(running_on(second).values()) == 4)
    assert request(second, "PUT", "/connectors/numbers/stop").status_code == 204
    eventually(lambda: states(second) == {})
    offsets = {"offsets": [{"partition": {"task": "0"}, "offset": {"n": 90}}]}
    eventually(lambda: request(second, "PATCH", "/connectors/numbers/offsets", json=offsets).status_code == 200)
    assert {"partition": {"task": "0"}, "offset": {"n": 90}} in request(
        second, "GET", "/connectors/numbers/offsets"
    ).json()["offsets"]
    assert request(second, "DELETE", "/connectors/numbers").status_code == 204
    eventually(lambda: request(second, "GET", "/connectors").json() == [])


@pytest.mark.parametrize("name", ["g", "sink"])
def test_a_sink_cannot_join_the_group_of_the_workers(group: Group, name: str) -> None:
    worker = group.worker(**{"group.id": "connect-g"})
    other = {} if name == "g" else {"consumer.override.group.id": "connect-g"}
    config = {"connector.class": "MemorySink", "topics": "numbers", **other}
    refused = request(worker, "PUT", f"/connectors/{name}/config", json=config)
    assert refused.status_code == 400
    assert "Consumer group connect-g conflicts with Connect worker group connect-g" in refused.json()["message"]


def test_progress_and_records_of_all_tasks_are_shown_by_any_worker(group: Group) -> None:
    first, second = group.worker(), group.worker()
    assert request(first, "PUT", "/connectors/numbers/config", json=SOURCE).status_code == 201
    eventually(lambda: running_on(first) == {worker_id(first): 2, worker_id(second): 2})
    for process in (first, second):
        for path in ("records", "progress", "freshness"):
            answer = request(process, "GET", f"/v1/connectors/numbers/{path}").json()
            assert [task["id"] for task in answer["tasks"]] == [0, 1, 2, 3]
        listed = request(process, "GET", "/connectors?expand=progress&expand=status").json()["numbers"]
        assert [task["id"] for task in listed["progress"]["tasks"]] == [0, 1, 2, 3]
    answer = request(first, "GET", "/v1/connectors/numbers/records?forward=false").json()
    assert len(answer["tasks"]) == 2


def test_requests_for_a_task_are_answered_by_a_worker_that_has_one(group: Group) -> None:
    first, second = group.worker(), group.worker()
    assert request(first, "PUT", "/connectors/numbers/config", json={**SOURCE, "tasks.max": "1"}).status_code == 201
    eventually(lambda: sum(running_on(first).values()) == 1)
    ((owner, _),) = running_on(first).items()
    other = second if owner == worker_id(first) else first
    asked = request(other, "POST", "/v1/streams/numbers/decide?forward=false", json={})
    assert "conflicting operation" in asked.json()["message"], "this worker has no task, and may not ask another one"
    answer = request(other, "POST", "/v1/streams/numbers/decide", json={})
    assert "no task of numbers decides over HTTP" in answer.json()["message"]


def test_a_tap_is_answered_by_the_worker_that_runs_the_task(group: Group) -> None:
    first, second = group.worker(), group.worker()
    sink = {"connector.class": "MemorySink", "topics": "numbers"}
    assert request(first, "PUT", "/connectors/memory/config", json=sink).status_code == 201
    eventually(lambda: states(first, "memory").get(0, ("", ""))[0] == "RUNNING")
    other = second if states(first, "memory")[0][1] == worker_id(first) else first
    path, query = "/v1/connectors/memory/tasks/0/tap", {"stage": "written", "records": 3, "seconds": 60}
    producer = group.kafka.producer({})

    def produced_until_shown(answer: Future[httpx.Response]) -> bool:
        producer.send(EncodedBatch("numbers", [b'{"n": 1}']))
        return answer.done()

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(request, other, "POST", path, json=query, timeout=90)
        eventually(lambda: produced_until_shown(answer))
        found = answer.result().json()

    assert [(record["topic"], record["value"]) for record in found["records"]] == [("numbers", '{"n": 1}')] * 3
    unknown = request(other, "POST", path, json={**query, "stage": "polled"})
    assert (unknown.status_code, "read, converted, written" in unknown.json()["message"]) == (400, True)
    assert request(other, "POST", "/v1/connectors/memory/tasks/9/tap", json=query).status_code == 404


def test_the_level_of_a_logger_is_set_on_every_worker_with_scope_cluster(group: Group) -> None:
    first, second = group.worker(), group.worker()
    logger = "headrace.testing.groups"
    level = {"level": "ERROR"}
    assert request(second, "PUT", f"/admin/loggers/{logger}?scope=cluster", json=level).status_code == 204

    def modified(process: Any) -> object:
        # The workers of this test are in one process, with one set of loggers; each remembers what it has set itself.
        return request(process, "GET", f"/admin/loggers/{logger}").json().get("last_modified")

    eventually(lambda: modified(first) is not None and modified(second) is not None)


def test_every_worker_lists_the_workers_of_the_group_and_its_leader(group: Group) -> None:
    first, second = group.worker(), group.worker()
    both = sorted([worker_id(first), worker_id(second)])

    def listed(process: Any) -> list[str]:
        return [item["worker_id"] for item in request(process, "GET", "/v1/workers").json()["workers"]]

    eventually(lambda: listed(first) == listed(second) == both)
    answer = request(second, "GET", "/v1/workers").json()
    assert (answer["group"], answer["leader"], answer["problems"]) == ("g", worker_id(first), [])
    assert [item["leader"] for item in answer["workers"]] == [item == worker_id(first) for item in both]
    assert all("NumbersSource" in item["plugins"] for item in answer["workers"])
    second.application.stop()
    eventually(lambda: listed(first) == [worker_id(first)])


def test_a_second_group_on_the_same_topics_does_not_start_and_says_who_has_them(
    group: Group, start: Callable[..., Any]
) -> None:
    first = group.worker()
    eventually(lambda: request(first, "GET", "/v1/workers").json()["workers"])
    other = InMemoryCoordinator()
    second = start(kafka_clients=group.kafka, open_member=_joining(other), **{**GROUP, "group.id": "other"})
    eventually(lambda: "uses the same topics" in request(second, "GET", "/health").json()["message"])
    health = request(second, "GET", "/health")
    assert health.status_code == 503
    assert f"the worker group g (workers {worker_id(first)})" in health.json()["message"]
    assert request(second, "GET", "/health/live").status_code == 200
    assert other.members == {}
    first.application.stop()  # deletes its record: the topics are free
    eventually(lambda: request(second, "GET", "/health").status_code == 200)


def _joining(coordinator: InMemoryCoordinator) -> Callable[[Any, Any], InMemoryGroupMember]:
    return lambda callbacks, timeouts: coordinator.member(callbacks)


def test_a_task_on_a_worker_without_the_plugin_says_which_workers_have_it(
    group: Group, plugins: Registry, start: Callable[..., Any]
) -> None:
    first = group.worker()
    assert request(first, "PUT", "/connectors/numbers/config", json=SOURCE).status_code == 201
    eventually(lambda: running_on(first) == {worker_id(first): 4})
    fewer = Registry([plugin for plugin in plugins.plugins() if plugin.name != "NumbersSource"])
    poor = start(kafka_clients=group.kafka, open_member=_joining(group.coordinator), plugins_of=fewer, **GROUP)

    def traces() -> list[str]:
        tasks = request(first, "GET", "/connectors/numbers/status").json()["tasks"]
        return [task["trace"] for task in tasks if task["state"] == "FAILED"]

    eventually(lambda: len(traces()) == 2)
    lacks = f"plugin that is named 'NumbersSource' on worker {worker_id(poor)}; {worker_id(first)} of its group has it"
    assert all(lacks in trace for trace in traces())
    assert f"install the plugin's package on {worker_id(poor)}" in traces()[0]
    assert running_on(first) == {worker_id(first): 2}, "the other worker's tasks are not touched"


def test_a_request_is_forwarded_at_most_twice(group: Group) -> None:
    _, second = group.worker(), group.worker()
    answer = request(second, "PUT", "/connectors/numbers/config?forward=false", json=SOURCE)
    assert answer.status_code == 409
    assert "conflicting operation" in answer.json()["message"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"X-Connect-Authorization": "AAAA", "X-Connect-Request-Signature-Algorithm": "HmacSHA1"}, 400),
        ({"X-Connect-Authorization": "AAAA", "X-Connect-Request-Signature-Algorithm": "HmacSHA256"}, 403),
    ],
)
def test_tasks_are_accepted_from_workers_of_the_group_only(group: Group, headers: dict[str, str], status: int) -> None:
    first = group.worker()
    assert request(first, "PUT", "/connectors/numbers/config", json=SOURCE).status_code == 201
    eventually(lambda: first.application.worker.info("numbers").tasks != ())
    assert request(first, "POST", "/connectors/numbers/tasks", json=[{}], headers=headers).status_code == status


def test_a_worker_that_starts_continues_what_the_group_had(group: Group) -> None:
    first = group.worker()
    assert request(first, "PUT", "/connectors/numbers/config", json=SOURCE).status_code == 201
    eventually(lambda: len(rows(group)) == 400)
    first.application.stop()
    again = group.worker()
    eventually(lambda: running_on(again) == {worker_id(again): 4})
    assert len(group.kafka.records("numbers")) == 400
