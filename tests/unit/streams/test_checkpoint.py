"""Checkpoints of state: a restart reads only what the changelog has since, and a bad file costs time only."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.pipeline.stream.checkpoint import Checkpoints
from headrace.records import TopicPartition
from tests.unit.examples import packed
from tests.unit.streams.conftest import Application, MakeApplication
from tests.unit.streams.faults import StopWhen, run_with_faults

COUNT = """
inputs:
  views: {topic: impressions, time: at, key: id}
steps:
  counted:
    window: {by: id, tumbling: 10ms, grace: 0, aggregate: {views: count(*)}}
outputs:
  counts: counted
"""
CHANGELOG = TopicPartition("app-counted-changelog", 0)


@dataclass
class Clock:
    """Time that a test sets."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class OpenFiles:
    """The checkpoints of one process after another, in one directory."""

    directory: Path
    clock: Clock = field(default_factory=Clock)

    def process(self) -> Checkpoints:
        return Checkpoints(self.directory, structlog.stdlib.get_logger("test"), self.clock)


@pytest.fixture
def files(tmp_path: Path) -> OpenFiles:
    return OpenFiles(tmp_path / "state" / "app")


def entries(checkpoints: Checkpoints) -> dict[bytes | None, bytes | None]:
    return {
        key: value
        for batch in checkpoints.entries(CHANGELOG)
        for key, value in zip(batch.keys, batch.values, strict=True)
    }


def written(files: OpenFiles, *, topic_id: str = "id") -> Checkpoints:
    """Return a process that has written two entries up to offset 5, and deleted one."""
    checkpoints = files.process()
    assert checkpoints.open(CHANGELOG, topic_id, 0) == 0
    checkpoints.write(CHANGELOG, [b"a", b"b", b"c"], [b"1", b"2", b"3"])
    checkpoints.write(CHANGELOG, [b"b", b"c"], [b"4", None])
    checkpoints.note_ends({CHANGELOG: 5})
    return checkpoints


def test_entries_and_offset_are_those_of_the_process_before(files: OpenFiles) -> None:
    written(files).close()
    again = files.process()
    assert again.open(CHANGELOG, "id", 9) == 5
    assert entries(again) == {b"a": b"1", b"b": b"4"}
    again.close()


@pytest.mark.parametrize(
    ("topic_id", "end", "later"),
    [("another", 9, 0.0), ("id", 4, 0.0), ("id", 9, 13 * 3600.0), ("id", 9, -60.0)],
    ids=["topic created again", "topic shorter than the offset", "too old", "clock set back"],
)
def test_a_checkpoint_that_does_not_belong_to_the_changelog_is_not_used(
    files: OpenFiles, topic_id: str, end: int, later: float
) -> None:
    written(files).close()
    files.clock.now += later
    again = files.process()
    assert again.open(CHANGELOG, topic_id, end) == 0
    assert entries(again) == {}
    again.close()


def test_a_file_that_another_process_has_is_left_alone(files: OpenFiles) -> None:
    first = written(files)
    second = files.process()
    assert second.open(CHANGELOG, "id", 9) == 0
    second.write(CHANGELOG, [b"x"], [b"y"])
    assert entries(second) == {}
    second.close()
    assert entries(first) == {b"a": b"1", b"b": b"4"}
    first.close()


def test_a_damaged_file_is_replaced(files: OpenFiles) -> None:
    written(files).close()
    (path,) = files.directory.glob("*.sqlite")
    path.write_bytes(b"this is no database" * 1_000)
    again = files.process()
    assert again.open(CHANGELOG, "id", 9) == 0
    assert again.open(CHANGELOG, "id", 9) == 0
    again.write(CHANGELOG, [b"a"], [b"1"])
    assert entries(again) == {b"a": b"1"}
    again.close()


def test_a_file_that_cannot_be_written_is_given_up(files: OpenFiles) -> None:
    checkpoints = written(files)
    checkpoints.close()
    (path,) = files.directory.glob("*.sqlite")
    with sqlite3.connect(path) as file:
        file.execute("CREATE TRIGGER full BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    file.close()
    again = files.process()
    assert again.open(CHANGELOG, "id", 9) == 5
    again.write(CHANGELOG, [b"d"], [b"1"])
    assert list(again.changelogs()) == []
    assert list(files.directory.glob("*.sqlite")) == []


def send(application: Application, time: int, keys: Sequence[int] = range(20)) -> None:
    application.send("impressions", [{"id": n, "at": time} for n in keys], list(keys))


def run(application: Application) -> int:
    """Run until everything is processed; return the number of changelog records that were read."""
    task = application.run(StopWhen(application.is_processed))
    return task.metrics.snapshot()["stream_restored_total"]


def test_a_restart_reads_only_what_the_changelog_has_since(make_application: MakeApplication, tmp_path: Path) -> None:
    application = make_application(COUNT, {"impressions": 1})
    application.worker["state.dir"] = str(tmp_path / "state")
    for time in range(5):
        send(application, time)
        run(application)
    send(application, 5)
    assert run(application) <= 1

    application.worker["state.dir"] = str(tmp_path / "empty")
    send(application, 20, [1])
    assert run(application) > 20
    assert sorted((value["id"], value["views"]) for value in application.committed("counts")) == [
        (n, 6) for n in range(20)
    ]


@given(
    st.lists(st.lists(packed(range(4), range(41)), min_size=1, max_size=15), max_size=4),
    st.lists(st.tuples(st.integers(1, 70), st.booleans(), st.booleans()), max_size=4),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_results_with_checkpoints_are_exact_whatever_fails(
    make_application: MakeApplication,
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[int, int]]],
    plans: list[tuple[int, bool, bool]],
) -> None:
    application = make_application(COUNT, {"impressions": 2})
    application.worker["state.dir"] = str(tmp_path_factory.mktemp("state"))
    batches = [*batches, [(key, 1_000) for key in range(8)]]  # closes all windows

    def send_batch(batch: list[tuple[int, int]]) -> None:
        application.send("impressions", [{"id": key, "at": time} for key, time in batch], [key for key, _ in batch])

    run_with_faults(application, [partial(send_batch, batch) for batch in batches], plans)

    expected: dict[tuple[int, int], int] = {}
    for item in application.broker.partitions_of("impressions"):
        now = -1
        for key, time in application.decoded(item):
            now = max(now, time)
            start = time - time % 10
            if start + 10 > now:
                expected[key, start] = expected.get((key, start), 0) + 1
    found = {(value["id"], value["window_start"]): value["views"] for value in application.committed("counts")}
    assert found == {window: views for window, views in expected.items() if window[1] < 1_000}
    assert len(application.committed("counts")) == len(found)


def test_the_status_warns_before_the_limit_and_the_task_stops_at_it(make_application: MakeApplication) -> None:
    application = make_application(COUNT, {"impressions": 1}, state_max_entries="12")
    task = application.start()
    send(application, 0, range(8))
    application.wait_until_processed()
    assert [item.code for item in application.conditions.of("app")] == ["stream.state_size"]
    assert task.notes == ["state: 10 of at most 12 entries"]
    send(application, 0, range(20))
    application.wait_until_failed()
    assert getattr(task.error, "code", "") == "stream.state_full"
    assert "state.max.entries allows 12" in str(task.error)


def test_a_state_above_the_limit_does_not_start(make_application: MakeApplication) -> None:
    application = make_application(COUNT, {"impressions": 1})
    send(application, 0)
    run(application)
    application.config["state.max.entries"] = "20"
    send(application, 1, [1])
    application.start()
    application.wait_until_failed()
    assert getattr(application.tasks[-1].error, "code", "") == "stream.state_full"


def test_processed_records_of_repartition_topics_are_deleted(make_application: MakeApplication) -> None:
    repartitioned = COUNT.replace(", key: id", "")
    application = make_application(repartitioned, {"impressions": 2}, repartition_purge_interval_ms="1")
    task = application.start()
    for time in (0, 5, 20, 40):
        send(application, time)
        application.wait_until_processed()
    task.stop()

    topic = "app-counted-repartition"
    left = application.broker.records(topic)
    assert len(left) < 4 * 20
    assert sum(value["views"] for value in application.committed("counts")) == 3 * 20
