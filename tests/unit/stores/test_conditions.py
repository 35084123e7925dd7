"""Conditions are kept across restarts until they are acknowledged."""

from __future__ import annotations

from pathlib import Path

from headrace.stores import ConditionStore, FileLog
from headrace.stores.conditions import condition_of


def opened(path: Path) -> ConditionStore:
    return ConditionStore(FileLog(path), clock=lambda: 0.0)


def test_a_condition_survives_a_restart_until_it_is_acknowledged(tmp_path: Path) -> None:
    store = opened(tmp_path / "conditions")
    store.add("a", condition_of("topic.recreated", "t-0 began again", "reindex", 3, "t-0: offset 5"))
    store.add("b", condition_of("records.skipped", "skipped", "", 1, ""))
    store.close()

    store = opened(tmp_path / "conditions")
    (condition,) = store.of("a")
    assert (condition.code, condition.count, condition.hint) == ("topic.recreated", 3, "reindex")
    assert store.remove("a") == [condition]
    store.close()

    store = opened(tmp_path / "conditions")
    assert store.of("a") == []
    assert len(store.of("b")) == 1
    store.close()


def test_a_condition_raised_again_adds_its_count_and_keeps_its_first_time(tmp_path: Path) -> None:
    store = opened(tmp_path / "conditions")
    first = condition_of("records.skipped", "skipped", "", 2, "t-0 at offset 1")
    store.add("a", first)
    store.add("a", condition_of("records.skipped", "skipped", "", 3, "t-0 at offset 9"))
    store.close()

    store = opened(tmp_path / "conditions")
    (condition,) = store.of("a")
    assert (condition.count, condition.since, condition.example) == (5, first.since, "t-0 at offset 9")
    store.close()


def test_the_same_event_reported_twice_is_counted_once(tmp_path: Path) -> None:
    store = opened(tmp_path / "conditions")
    for _ in range(2):
        store.add("a", condition_of("records.removed_unread", "gone", "", 10, "t-0: offsets 10 to 19"))

    assert [condition.count for condition in store.of("a")] == [10]
    store.close()


def test_one_code_can_be_acknowledged_separately(tmp_path: Path) -> None:
    store = opened(tmp_path / "conditions")
    store.add("a", condition_of("x", "x", "", 0, ""))
    store.add("a", condition_of("y", "y", "", 0, ""))
    store.remove("a", "x")

    assert [condition.code for condition in store.of("a")] == ["y"]
    store.close()
