"""Workers of Kafka Connect and of headrace in one group: not by accident, and by ``group.mixed`` only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import pytest

from headrace.broker.group_member import GroupCallbacks
from headrace.broker.in_memory import InMemoryKafka
from headrace.broker.in_memory.group_member import InMemoryCoordinator, InMemoryGroupMember
from headrace.groups.protocol import (
    GroupAssignment,
    Unit,
    WorkerState,
    decode_assignment,
    encode_assignment,
    encode_state,
    holding,
)
from headrace.records import EncodedBatch
from headrace.testing.waiting import eventually
from tests.engines.http import HTTP
from tests.unit.runtime.group_configs import GROUP, SOURCE

JVM = "http://jvm:8083/"


class JvmMember:
    """A member that reports and assigns as a worker of Kafka Connect: without the traits of headrace."""

    def __init__(self, coordinator: InMemoryCoordinator) -> None:
        self.held: set[Unit] = set()
        self._last: GroupAssignment | None = None
        self._stop = threading.Event()
        callbacks = GroupCallbacks(self._protocols, self._assign, lambda sent: None, lambda: None, lambda: 0.0)
        self._member: InMemoryGroupMember = coordinator.member(callbacks)
        self._thread = threading.Thread(target=self._run, name="jvm-member")
        self._thread.start()

    def leave(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            joined = self._member.join()
            if joined is None:
                continue
            change = decode_assignment(joined.assignment)
            self.held = (self.held - {*change.revoked}) | {*change.assigned}
            self._last = change
            if change.revoked or change.error:
                self._member.request_rejoin()
        self._member.leave()

    def _protocols(self) -> list[tuple[str, bytes]]:
        held = holding(self._last, self.held) if self._last is not None else None
        return [("sessioned", encode_state(WorkerState(JVM, 0, held), 2))]

    def _assign(self, generation: int, leader: str, protocol: str, metadata: Mapping[str, bytes]) -> dict[str, bytes]:
        return dict.fromkeys(metadata, encode_assignment(GroupAssignment(2, 0, leader, JVM, 0), 2))


@pytest.fixture
def coordinator() -> InMemoryCoordinator:
    return InMemoryCoordinator()


@pytest.fixture
def join(coordinator: InMemoryCoordinator) -> Iterator[Callable[[], JvmMember]]:
    members: list[JvmMember] = []

    def make() -> JvmMember:
        members.append(JvmMember(coordinator))
        return members[-1]

    yield make
    for member in members:
        member.leave()


@pytest.fixture
def worker(start: Callable[..., Any], coordinator: InMemoryCoordinator) -> Callable[..., Any]:
    """Return a function that starts a worker of headrace in the group."""
    kafka = InMemoryKafka()

    def make(**settings: str) -> Any:
        def open_member(callbacks: GroupCallbacks, timeouts: object) -> InMemoryGroupMember:
            del timeouts
            return coordinator.member(callbacks)

        return start(kafka_clients=kafka, open_member=open_member, **{**GROUP, **settings})

    return make


def is_member(process: Any) -> bool:
    return HTTP.get(f"{process.application.url}/health").status_code == 200


def test_a_worker_does_not_join_a_group_of_kafka_connect(
    worker: Callable[..., Any], join: Callable[[], JvmMember], coordinator: InMemoryCoordinator
) -> None:
    join()
    eventually(lambda: coordinator.generation == 1)
    refused = worker()
    eventually(lambda: len(refused.refusals) == 1)
    assert "has workers of Kafka Connect (http://jvm:8083/)" in str(refused.refusals[0])
    eventually(lambda: len(coordinator.members) == 1)
    assert not is_member(refused)


def test_a_worker_of_kafka_connect_in_a_group_of_headrace_gets_no_work(
    worker: Callable[..., Any], join: Callable[[], JvmMember], coordinator: InMemoryCoordinator
) -> None:
    first = worker()
    eventually(lambda: is_member(first))
    assert HTTP.put(f"{first.application.url}/connectors/numbers/config", json=SOURCE).status_code == 201
    eventually(lambda: [first.state("numbers", task) for task in range(4)] == ["RUNNING"] * 4)
    intruder = join()
    eventually(lambda: len(coordinator.members) == 2 and not coordinator.rebalancing)
    second = worker()
    eventually(lambda: is_member(second))
    eventually(lambda: len(second.worker.metrics()) == 2)
    assert intruder.held == set()
    assert [first.state("numbers", task) for task in range(4)] == ["RUNNING"] * 4


def test_with_group_mixed_both_kinds_share_the_work(worker: Callable[..., Any], join: Callable[[], JvmMember]) -> None:
    first = worker(**{"group.mixed": "true"})
    eventually(lambda: is_member(first))
    assert HTTP.put(f"{first.application.url}/connectors/numbers/config", json=SOURCE).status_code == 201
    member = join()
    eventually(lambda: len([unit for unit in member.held if not unit.is_connector]) == 2)
    eventually(lambda: len(first.worker.metrics()) == 2)


def test_tasks_of_a_cluster_that_was_taken_over_run_without_being_stored_again(
    start: Callable[..., Any], coordinator: InMemoryCoordinator
) -> None:
    """Their class is one of Java; what a task does is decided by connector.class."""
    kafka = InMemoryKafka()
    kafka.create("g-configs", 1, {"cleanup.policy": "compact"})
    config = {"name": "numbers", **SOURCE, "tasks.max": "1"}
    task = {**config, "task": "0", "task.class": "com.example.NumbersSourceTask"}
    records = {
        "connector-numbers": {"properties": config},
        "task-numbers-0": {"properties": task},
        "commit-numbers": {"tasks": 1},
    }
    producer = kafka.producer({})
    producer.send(
        EncodedBatch("g-configs", [orjson.dumps(value) for value in records.values()], [*map(str.encode, records)])
    )
    assert producer.flush(1)

    def open_member(callbacks: GroupCallbacks, timeouts: object) -> InMemoryGroupMember:
        del timeouts
        return coordinator.member(callbacks)

    process = start(kafka_clients=kafka, open_member=open_member, **GROUP)
    eventually(lambda: process.state("numbers", 0) == process.state("numbers") == "RUNNING")
    keys = [record.key for record in kafka.records("g-configs")]
    assert keys.count(b"commit-numbers") == 1
