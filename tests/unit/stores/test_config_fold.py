"""The state of the config topic depends on the order of its records, and not on whether it was compacted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from headrace.states import TargetState
from headrace.stores import ConfigStore, DesiredState, MemoryLog
from headrace.stores.config_fold import Command, ConfigFold, LoggerLevel, RestartRequest, SessionKey

KeyValue = tuple[str, Any]


def fold(records: Iterable[KeyValue], *, trusts: bool = True) -> DesiredState:
    folded = ConfigFold(trusts=trusts)
    for key, value in records:
        folded.apply(key, value)
    return replace(folded.desired(), revisions={}, publications={})


def compacted(records: list[KeyValue], *, tombstones: bool) -> list[KeyValue]:
    """Keep the last record of each key at its place, as a broker does, which removes tombstones after a while."""
    last = {key: place for place, (key, _) in enumerate(records)}
    return [
        (key, value)
        for place, (key, value) in enumerate(records)
        if last[key] == place and (tombstones or value is not None)
    ]


def connector(name: str, **config: str) -> KeyValue:
    return f"connector-{name}", {"properties": {"name": name, **config}}


def tasks(name: str, *texts: str) -> list[KeyValue]:
    return [(f"task-{name}-{number}", {"properties": {"text": text}}) for number, text in enumerate(texts)]


def commit(name: str, count: int) -> KeyValue:
    return f"commit-{name}", {"tasks": count}


def fencing(name: str, count: int) -> KeyValue:
    return f"tasks-fencing-{name}", {"task-count": count}


def target(name: str, state: str) -> KeyValue:
    return f"target-state-{name}", {"state": "PAUSED" if state == "STOPPED" else state, "state.v2": state}


NAMES = st.sampled_from(["a", "b", "a-0", "a-1"])
TEXTS = st.lists(st.sampled_from(["x", "y"]), max_size=3)


@st.composite
def operations(draw: st.DrawFn) -> list[KeyValue]:
    name = draw(NAMES)
    kind = draw(st.sampled_from(["put", "stop", "pause", "resume", "delete", "restart", "fence"]))
    if kind == "put":
        texts = draw(TEXTS)
        return [connector(name, version=draw(st.sampled_from("12"))), *tasks(name, *texts), commit(name, len(texts))]
    if kind == "delete":
        return [(f"connector-{name}", None), (f"target-state-{name}", None)]
    if kind == "stop":
        return [commit(name, 0), target(name, "STOPPED")]
    if kind == "restart":
        return [(f"restart-connector-{name}", {"include-tasks": True, "only-failed": False})]
    if kind == "fence":
        return [fencing(name, draw(st.integers(0, 3)))]
    return [target(name, "PAUSED" if kind == "pause" else "STARTED")]


HISTORIES = st.lists(operations(), max_size=12)


@given(HISTORIES, st.integers(0, 12), st.booleans())
def test_compaction_at_any_time_does_not_change_the_state(
    history: list[list[KeyValue]], before: int, tombstones: bool
) -> None:
    first = [record for operation in history[:before] for record in operation]
    rest = [record for operation in history[before:] for record in operation]
    folded, again = fold(first + rest), fold(compacted(first, tombstones=tombstones) + rest)
    assert again == replace(folded, targets=again.targets)
    for name in folded.configs:
        assert again.target(name) is folded.target(name)


@given(HISTORIES)
def test_connectors_and_tasks_are_those_of_the_last_operations(history: list[list[KeyValue]]) -> None:
    configs: dict[str, dict[str, str]] = {}
    expected: dict[str, list[dict[str, str]]] = {}
    for operation in history:
        for key, value in operation:
            name = key.removeprefix("connector-")
            if key.startswith("connector-") and value is None:
                configs.pop(name, None)
                expected.pop(name, None)
            elif key.startswith("connector-"):
                configs[name] = value["properties"]
            elif key.startswith("commit-") and (name := key.removeprefix("commit-")) in configs:
                own = [item["properties"] for part, item in operation if part.startswith(f"task-{name}-")]
                expected[name] = own[: value["tasks"]]
    state = fold([record for operation in history for record in operation])
    assert state.configs == configs
    assert {name: found for name, found in state.tasks.items() if found} == {
        name: found for name, found in expected.items() if found
    }


def test_task_configurations_count_when_their_commit_follows() -> None:
    started = [connector("a"), *tasks("a", "old"), commit("a", 1)]
    half = [*started, *tasks("a", "new", "new")]
    assert fold(half).tasks == {"a": [{"text": "old"}]}
    assert fold([*half, commit("a", 2)]).tasks == {"a": [{"text": "new"}, {"text": "new"}]}


def test_half_a_publication_after_compaction_means_no_tasks_until_the_next_commit() -> None:
    half = compacted([connector("a"), *tasks("a", "old"), commit("a", 1), *tasks("a", "new")], tombstones=True)
    assert fold(half).tasks == {"a": []}
    assert fold([*half, *tasks("a", "next"), commit("a", 1)]).tasks == {"a": [{"text": "next"}]}


def test_a_smaller_set_leaves_the_records_of_larger_numbers_out() -> None:
    records = [connector("a"), *tasks("a", "x", "y"), commit("a", 2), *tasks("a", "z"), commit("a", 1)]
    assert fold(records).tasks == {"a": [{"text": "z"}]}
    assert fold(compacted(records, tombstones=True)).tasks == {"a": [{"text": "z"}]}


def test_a_connector_that_is_created_again_has_none_of_its_former_tasks() -> None:
    records = [connector("a"), *tasks("a", "x"), commit("a", 1), ("connector-a", None), connector("a")]
    assert fold(records).tasks == {}
    assert fold(records).uncommitted == {"a"}


@pytest.mark.parametrize(
    "record",
    [
        ("connector-b", {"properties": {"name": 7}}),
        ("connector-b", {}),
        ("connector-b", "text"),
        ("target-state-b", {"state": "RUNNING?"}),
        ("task-b-x", {"properties": {}}),
        ("commit-a", {"tasks": "two"}),
        ("session-key", {"key": "?", "algorithm": "HmacSHA256", "creation-timestamp": 1}),
        ("restart-connector-a", {}),
        ("something-else", 1),
    ],
)
def test_records_that_cannot_be_read_are_left_out(record: KeyValue) -> None:
    good = [connector("a"), *tasks("a", "x"), commit("a", 1)]
    assert fold([*good, record]) == fold(good)


def test_records_of_a_shared_topic_are_not_trusted() -> None:
    records = [("connector-a", {"properties": {}, "trusted": True})]
    assert fold(records).trusted == {"a"}
    assert fold(records, trusts=False).trusted == frozenset()


def test_commands_are_carried_out_once_and_not_again_after_a_restart() -> None:
    log = MemoryLog()
    store = ConfigStore(log)
    seen: list[Command] = []
    store.on_change(seen.extend)
    store.put_restart("a", include_tasks=True, only_failed=False)
    store.put_logger_level("headrace", "DEBUG")
    assert seen == [RestartRequest("a", include_tasks=True, only_failed=False), LoggerLevel("headrace", "DEBUG")]
    again: list[Command] = []
    ConfigStore(log).on_change(again.extend)
    assert again == []


def test_a_session_key_is_read_back() -> None:
    log = MemoryLog()
    key = SessionKey(b"0123456789", "HmacSHA256", 1_700_000_000_000)
    ConfigStore(log).put_session_key(key)
    assert log.read()["session-key"] == {
        "key": "MDEyMzQ1Njc4OQ==",
        "algorithm": "HmacSHA256",
        "creation-timestamp": 1_700_000_000_000,
    }
    assert ConfigStore(log).session_key() == key


def test_each_change_of_a_connector_has_a_revision() -> None:
    store = ConfigStore(MemoryLog())
    store.put_connector("a", {"x": "1"}, TargetState.PAUSED)
    first = store.desired().revisions["a"]
    store.put_connector("a", {"x": "1"})
    second = store.desired().revisions["a"]
    store.put_target("a", TargetState.PAUSED)
    third = store.desired().revisions["a"]
    assert first[0] != second[0]
    assert first[1] == second[1]
    assert second[0] == third[0]
    assert second[1] != third[1]


def test_a_shared_log_keeps_the_tasks_of_deleted_connectors_as_connect_does() -> None:
    log = MemoryLog()
    store = ConfigStore(log, shared=True)
    store.put_connector("a", {})
    store.put_tasks("a", [{}])
    store.delete("a")
    assert set(log.read()) == {"task-a-0", "commit-a"}
    assert store.desired().tasks == {}


def test_records_of_unknown_kinds_are_ignored_counted_and_logged_once() -> None:
    fold = ConfigFold()
    with capture_logs() as logs:
        fold.apply("quota-connector-a", {"bytes": 5})
        fold.apply("quota-connector-b", {"bytes": 5})
        for known in ("session-key", "restart-connector-a", "logger-cluster-x", "tasks-fencing-a", "connector-a"):
            fold.apply(known, None)
    assert fold.unknown == 2
    assert [(entry["code"], entry["key"]) for entry in logs] == [("group.unknown_record", "quota-connector-a")]
    assert fold.desired().configs == {}


def test_a_set_of_tasks_is_fenced_by_the_record_after_its_commit() -> None:
    published = [connector("a"), *tasks("a", "x", "y"), commit("a", 2)]
    assert fold(published).unfenced == {"a"}
    fenced = fold([*published, fencing("a", 2)])
    assert (fenced.unfenced, fenced.fenced_counts) == (frozenset(), {"a": 2})
    again = fold([*published, fencing("a", 2), *tasks("a", "x"), commit("a", 1)])
    assert again.unfenced == {"a"}
    assert again.fenced_counts == {"a": 2}


def test_a_new_connector_of_an_old_name_knows_how_many_tasks_the_old_one_had() -> None:
    old = [connector("a"), *tasks("a", "x", "y"), commit("a", 2), fencing("a", 2), ("connector-a", None)]
    new = fold([*old, connector("a"), *tasks("a", "x"), commit("a", 1)])
    assert new.unfenced == {"a"}
    assert new.fenced_counts == {"a": 2}
