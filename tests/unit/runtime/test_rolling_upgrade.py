"""Workers of an older and of a newer version work in one group while it is upgraded, one worker after the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from headrace.broker.group_member import GroupCallbacks
from headrace.broker.in_memory import InMemoryKafka
from headrace.broker.in_memory.group_member import InMemoryCoordinator, InMemoryGroupMember
from headrace.groups.protocol import VERSIONS, decode_state, encode_state
from headrace.records import EncodedBatch
from headrace.testing.waiting import eventually
from tests.engines.http import HTTP
from tests.unit.runtime.group_configs import GROUP, SOURCE

Protocols = Sequence[tuple[str, bytes]]


def with_unknown_traits(offered: Protocols) -> Protocols:
    """As a version that reports more than this one knows."""
    more = json.dumps({"headrace": 2, "leaving": False, "zone": "a"}).encode()
    plain = [(name, encode_state(replace(decode_state(data), traits=None), VERSIONS[name])) for name, data in offered]
    return [(name, data + more) for name, data in plain]


def only_compatible(offered: Protocols) -> Protocols:
    """As a version before signed requests."""
    return [(name, data) for name, data in offered if name == "compatible"]


class MixedGroup:
    """Workers on one in-memory Kafka, some of which show the metadata of another version."""

    def __init__(self, start: Callable[..., Any]) -> None:
        self.kafka, self.coordinator = InMemoryKafka(), InMemoryCoordinator()
        self._start = start

    def worker(self, change: Callable[[Protocols], Protocols] = lambda offered: offered) -> Any:
        def open_member(callbacks: GroupCallbacks, timeouts: Any) -> InMemoryGroupMember:
            del timeouts
            return self.coordinator.member(replace(callbacks, protocols=lambda: change(callbacks.protocols())))

        process = self._start(kafka_clients=self.kafka, open_member=open_member, **GROUP)
        eventually(lambda: HTTP.get(f"{process.application.url}/health").status_code == 200)
        return process

    def running(self, shown_by: Any) -> list[str]:
        answer = HTTP.get(f"{shown_by.application.url}/connectors/numbers/status")
        if answer.status_code != 200:
            return []
        return sorted(task["worker_id"] for task in answer.json()["tasks"] if task["state"] == "RUNNING")


def worker_id(process: Any) -> str:
    return str(process.application.url).removeprefix("http://")


@pytest.fixture
def group(start: Callable[..., Any]) -> MixedGroup:
    return MixedGroup(start)


@pytest.mark.parametrize("other", [with_unknown_traits, only_compatible])
@pytest.mark.parametrize("leads", [False, True], ids=["follows", "leads"])
def test_two_versions_share_the_work_and_the_upgrade_loses_nothing(
    group: MixedGroup, other: Callable[[Protocols], Protocols], leads: bool
) -> None:
    first = group.worker(other if leads else lambda offered: offered)
    second = group.worker((lambda offered: offered) if leads else other)
    created = HTTP.put(f"{second.application.url}/connectors/numbers/config", json=SOURCE)
    assert created.status_code == 201, created.text
    both = sorted([worker_id(first), worker_id(second)] * 2)
    eventually(lambda: group.running(first) == group.running(second) == both)
    old = first if leads else second
    rest = second if leads else first
    old.application.stop()
    eventually(lambda: group.running(rest) == [worker_id(rest)] * 4)
    upgraded = group.worker()
    both = sorted([worker_id(rest), worker_id(upgraded)] * 2)
    eventually(lambda: group.running(upgraded) == group.running(rest) == both)
    rows = [json.loads(record.value or b"") for record in group.kafka.records("numbers")]
    assert {(row["task"], row["n"]) for row in rows} == {(str(task), n) for task in range(4) for n in range(100)}


def test_records_of_a_newer_version_do_not_disturb_an_older_one(group: MixedGroup) -> None:
    first = group.worker()
    assert HTTP.put(f"{first.application.url}/connectors/numbers/config", json=SOURCE).status_code == 201
    eventually(lambda: group.running(first) == [worker_id(first)] * 4)
    newer = {
        "g-configs": [
            (b"quota-numbers", {"bytes": 5}),
            (b"target-state-numbers", {"state": "STARTED", "state.v2": "STARTED", "state.v3": "LIVE"}),
        ],
        "g-statuses": [
            (b"status-task-numbers-9", {"state": "HIBERNATING", "worker_id": "new:1", "generation": 9}),
            (b"headrace-worker-g/new:1", {"version": "9.0", "zones": ["a"]}),
        ],
    }
    producer = group.kafka.producer({})
    for topic, records in newer.items():
        for key, value in records:
            producer.send(EncodedBatch(topic, [json.dumps(value).encode()], [key]))
    producer.flush(10)
    assert HTTP.put(f"{first.application.url}/connectors/numbers/pause").status_code == 202
    status = f"{first.application.url}/connectors/numbers/status"
    eventually(lambda: {task["state"] for task in HTTP.get(status).json()["tasks"]} == {"PAUSED"})
    assert [item["worker_id"] for item in HTTP.get(f"{first.application.url}/v1/workers").json()["workers"]] == [
        worker_id(first)
    ]
