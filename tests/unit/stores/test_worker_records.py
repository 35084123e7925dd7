"""Records of workers in the status topic show who uses the topics, what is installed where, and whose clock differs."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.stores import MemoryLog
from headrace.stores.log import CompactedLog
from headrace.stores.worker_records import FORGOTTEN, INTERVAL, SILENCE, WorkerRecords

START = 1_700_000_000_000


class Clock:
    """Time that passes for all workers of a test; ``ahead``: seconds of one worker's own clock."""

    def __init__(self) -> None:
        self.passed = 0.0

    def records(self, log: CompactedLog, group: str, worker: str, ahead: float = 0, **options: Any) -> WorkerRecords:
        def now() -> int:
            return START + round((self.passed + ahead) * 1000)

        return WorkerRecords(log, group, worker, now=now, monotonic=lambda: self.passed, **options)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def write(*all_records: WorkerRecords, plugins: frozenset[str] = frozenset()) -> None:
    for records in all_records:
        records.write("1.0", plugins)


def codes(records: WorkerRecords) -> list[str]:
    return [problem.code for problem in records.problems()]


def test_workers_of_a_group_know_each_other(clock: Clock) -> None:
    log = MemoryLog()
    first, second = clock.records(log, "g", "a:1"), clock.records(log, "g", "b:1")
    first.write("1.0", frozenset({"Sql"}))
    second.write("1.1", frozenset({"Sql", "Acme"}))
    assert [(item.worker, item.version) for item in first.present()] == [("a:1", "1.0"), ("b:1", "1.1")]
    assert first.with_plugin("Acme") == ["b:1"]
    assert second.with_plugin("Acme") == [], "a worker is not one of the others"
    assert codes(first) == codes(second) == []
    second.delete()
    assert [item.worker for item in first.present()] == ["a:1"]


def test_a_worker_that_is_silent_is_not_present(clock: Clock) -> None:
    log = MemoryLog()
    first, second = clock.records(log, "g", "a:1"), clock.records(log, "g", "b:1")
    write(first, second)
    clock.passed += SILENCE
    write(first)
    assert [item.worker for item in first.present()] == ["a:1"]


def test_the_record_of_a_worker_that_has_been_away_for_a_day_is_deleted(clock: Clock) -> None:
    log = MemoryLog()
    first, second = clock.records(log, "g", "a:1"), clock.records(log, "g", "b:1")
    write(first, second)
    clock.passed += FORGOTTEN - 1
    first.delete_forgotten()
    assert len(log.read()) == 2
    write(first)
    clock.passed += 1
    first.delete_forgotten()
    assert list(log.read()) == ["headrace-worker-g/a:1"]


def test_another_group_on_the_same_topics_is_found_while_it_writes(clock: Clock) -> None:
    log = MemoryLog()
    other = clock.records(log, "sales", "b:1")
    write(other)
    mine = clock.records(log, "shop", "a:1")  # starts after the other one
    found = mine.other_group()
    assert found is not None
    assert found.code == "group.topics_in_use"
    assert "the worker group sales (workers b:1) uses the same topics as the group shop" in found.message
    assert "config.storage.topic" in found.hint
    assert mine.present() == []
    clock.passed += SILENCE
    assert mine.other_group() is None, "the other group has ended, or was renamed"
    write(other)
    assert codes(mine) == ["group.topics_in_use"]
    other.delete()
    assert mine.other_group() is None


def test_another_group_whose_clock_is_wrong_is_found_with_its_next_record(clock: Clock) -> None:
    log = MemoryLog()
    other = clock.records(log, "sales", "b:1", ahead=-3600)
    write(other)
    mine = clock.records(log, "shop", "a:1")
    assert mine.other_group() is None
    write(other)
    assert mine.other_group() is not None


def test_two_workers_with_one_address_are_found(clock: Clock) -> None:
    log = MemoryLog()
    first, second = clock.records(log, "g", "127.0.0.1:8083"), clock.records(log, "g", "127.0.0.1:8083")
    write(first)
    assert codes(first) == []
    write(second)
    assert codes(first) == ["group.same_address"]
    assert "rest.advertised.host.name" in next(first.problems()).hint
    clock.passed += SILENCE
    assert codes(first) == []


def test_a_worker_that_was_killed_and_starts_again_is_not_a_second_one(clock: Clock) -> None:
    log = MemoryLog()
    write(clock.records(log, "g", "a:1"))
    again = clock.records(log, "g", "a:1")
    write(again)
    assert codes(again) == []
    assert len(again.present()) == 1


@pytest.mark.parametrize(("ahead", "text"), [(30.0, "30 s ahead of"), (-30.0, "30 s behind")])
def test_a_clock_that_differs_is_reported_with_its_offset(clock: Clock, ahead: float, text: str) -> None:
    log = MemoryLog()
    mine, other = clock.records(log, "g", "a:1"), clock.records(log, "g", "b:1", ahead=ahead)
    for _ in range(3):
        write(other)
        clock.passed += INTERVAL
    (problem,) = mine.problems()
    assert problem.code == "group.clock"
    assert f"the clock of worker b:1 is {text} that of worker a:1" in problem.message
    assert mine.clock_offsets()["b:1"] == pytest.approx(ahead)


def test_a_record_that_arrives_late_does_not_make_a_clock_wrong(clock: Clock) -> None:
    class SlowLog(MemoryLog):
        def append(self, entries: Any) -> None:
            clock.passed += delays.pop(0)  # Kafka was away
            super().append(entries)

    delays = [20.0, 0.1, 15.0]
    log = SlowLog()
    mine, other = clock.records(log, "g", "a:1"), clock.records(log, "g", "b:1")
    for _ in range(3):
        write(other)
        assert codes(mine) == []


def test_records_of_other_versions_are_left_out(clock: Clock) -> None:
    log = MemoryLog()
    mine = clock.records(log, "g", "a:1")
    log.append({"headrace-worker-g/b:1": {"version": "9"}, "headrace-worker-x": 5, "status-task-a-0": {"state": "X"}})
    assert mine.present() == []
    assert codes(mine) == []
