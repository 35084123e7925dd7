"""Stores over a log: Kafka Connect's keys and values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.states import State, Status, TargetState, TaskId
from headrace.stores import ConfigStore, MemoryLog, OffsetStore, StatusStore

PRIMITIVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5)
PARTITIONS = st.dictionaries(st.text(min_size=1, max_size=4), PRIMITIVES, min_size=1, max_size=3)


def test_an_offset_is_stored_under_connects_key() -> None:
    log = MemoryLog()
    OffsetStore(log).set("orders", [({"protocol": "1", "table": "public.orders"}, {"incrementing": 7})])
    assert log.read() == {'["orders",{"protocol":"1","table":"public.orders"}]': {"incrementing": 7}}


@given(st.dictionaries(st.sampled_from(["a", "b-0", "b"]), st.lists(PARTITIONS, unique_by=str, max_size=4)))
def test_offsets_of_a_connector_are_its_own(partitions: dict[str, list[dict[str, object]]]) -> None:
    store = OffsetStore(MemoryLog())
    for connector, mine in partitions.items():
        store.set(connector, [(partition, {"n": connector}) for partition in mine])
    for connector, mine in partitions.items():
        assert [offset for _, offset in store.all(connector)] == [{"n": connector}] * len(mine)
        assert store.offsets(connector, mine) == [{"n": connector}] * len(mine)
    assert store.offsets("none", [{"x": 1}]) == [None]


def test_an_offset_set_to_none_is_deleted() -> None:
    store = OffsetStore(MemoryLog())
    store.set("orders", [({"t": 1}, {"n": 1}), ({"t": 2}, {"n": 2})])
    store.set("orders", [({"t": 1}, None)])
    assert store.all("orders") == [({"t": 2}, {"n": 2})]


def test_task_configurations_are_used_only_after_their_commit_record() -> None:
    log = MemoryLog()
    configs = ConfigStore(log)
    configs.put_connector("a", {"name": "a"}, TargetState.STOPPED)
    configs.put_tasks("a", [{"n": "0"}, {"n": "1"}])
    assert configs.desired().tasks["a"] == [{"n": "0"}, {"n": "1"}]
    assert configs.desired().target("a") is TargetState.STOPPED
    log.append({"task-a-1": None})
    assert configs.desired().tasks["a"] == []


def test_deleting_a_connector_deletes_only_its_own_tasks() -> None:
    log = MemoryLog()
    configs = ConfigStore(log)
    for name in ("a", "a-1"):
        configs.put_connector(name, {"name": name})
        configs.put_tasks(name, [{"of": name}])
    configs.delete("a")
    assert dict(configs.desired().configs) == {"a-1": {"name": "a-1"}}
    assert configs.desired().tasks == {"a-1": [{"of": "a-1"}]}
    assert all("a-1" in key for key in log.read())


def test_a_stopped_connector_looks_paused_to_older_workers() -> None:
    log = MemoryLog()
    ConfigStore(log).put_target("a", TargetState.STOPPED)
    assert log.read() == {"target-state-a": {"state": "PAUSED", "state.v2": "STOPPED"}}


def test_a_status_is_read_back_unchanged() -> None:
    store = StatusStore(MemoryLog())
    status = Status(State.FAILED, "127.0.0.1:8083", "trace", None, 5, 2, "0.1.0")
    store.put_task(TaskId("a", 0), status)
    store.put_task(TaskId("a-0", 0), status)
    store.put_connector("a", status)
    assert store.task(TaskId("a", 0)) == store.connector("a") == status
    store.delete_connector("a")
    assert store.task(TaskId("a", 0)) is None
    assert store.connector("a") is None
    assert store.task(TaskId("a-0", 0)) == status


BY_THE_JVM = {"state": "RUNNING", "trace": None, "worker_id": "a:1", "generation": 3}


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (BY_THE_JVM, Status(State.RUNNING, "a:1", generation=3)),
        ({**BY_THE_JVM, "version": "4.4.0", "new": 1}, Status(State.RUNNING, "a:1", generation=3, version="4.4.0")),
        ({"state": "DESTROYED", "worker_id": "a:1"}, None),
        ("text", None),
    ],
)
def test_statuses_of_other_versions_and_of_kafka_connect_are_read(value: object, status: Status | None) -> None:
    log = MemoryLog()
    log.append({"status-task-a-0": value})
    assert StatusStore(log).task(TaskId("a", 0)) == status


@pytest.mark.parametrize("key", ["text", "[]", '["a"]', '{"a": 1}', '[1,{"x":1}]'])
def test_keys_of_the_offset_log_that_are_not_of_its_form_are_left_out(key: str) -> None:
    log = MemoryLog()
    store = OffsetStore(log)
    store.set("a", [({"t": 1}, {"n": 1})])
    log.append({key: {"n": 2}})
    assert store.all("a") == [({"t": 1}, {"n": 1})]
