"""An application that is changed keeps the state that fits; two applications of one name are noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.errors import TaskError
from headrace.pipeline.stream.registration import Registration, StateChanges
from headrace.testing.waiting import eventually
from tests.unit.streams.conftest import Application, MakeApplication, RunningTask

COUNT = """
inputs:
  views: {topic: impressions, time: at, key: id}
steps:
  counted:
    window: {by: id, tumbling: 10ms, grace: 0, aggregate: {views: count(*)}}
outputs:
  counts: counted
"""
FILTERED = COUNT.replace("steps:\n", "steps:\n  even: {filter: id % 2 = 0}\n")
LONGER = COUNT.replace("10ms", "20ms")
STATEMENT = """
inputs:
  views: {topic: impressions, time: at, key: id}
steps:
  counted:
    sql: |
      SELECT v.id, window_start, window_end, count(*) AS views
      FROM views AS v GROUP BY v.id, TUMBLE('10ms', GRACE => '0')
outputs:
  counts: counted
"""


def changed(make: MakeApplication, before: Application, text: str) -> Application:
    """Return the application with another file, over the same Kafka."""
    return replace(make(text), broker=before.broker, tasks=[])


def run(application: Application, *times: int) -> None:
    application.send("impressions", [{"id": 2, "at": at} for at in times], [2] * len(times))
    task = application.start()
    application.wait_until_processed()
    task.stop()


def failure_of(task: RunningTask) -> TaskError:
    assert task.thread is not None
    task.thread.join(20)
    assert isinstance(task.error, TaskError)
    return task.error


@pytest.mark.parametrize("text", [COUNT, FILTERED, STATEMENT, COUNT.replace("grace: 0", "grace: 5ms")])
def test_state_of_a_step_that_is_equal_is_used_on(make_application: MakeApplication, text: str) -> None:
    before = make_application(COUNT, {"impressions": 1, "counts": 1})
    run(before, 1, 2)
    run(changed(make_application, before, text), 3, 99)
    assert [row["views"] for row in before.committed("counts")] == [3]


def test_state_that_does_not_fit_is_refused_before_a_record_is_processed(make_application: MakeApplication) -> None:
    before = make_application(COUNT, {"impressions": 1, "counts": 1})
    run(before, 1, 2)
    committed = before.broker.committed("connect-app")
    before.send("impressions", [{"id": 2, "at": 99}], [2])

    error = failure_of(changed(make_application, before, LONGER).start())

    assert error.code == "stream.changed"
    assert "step 'counted': its state was made by 'windows of 10 ms" in error.message
    assert "and the step is now 'windows of 20 ms" in error.message
    assert "`headrace stream reset app`" in error.hint
    assert before.broker.committed("connect-app") == committed
    run(before, 100)  # the former file still fits
    assert [row["views"] for row in before.committed("counts")] == [2, 1]


def test_two_applications_of_one_name_are_noticed_and_named(make_application: MakeApplication) -> None:
    before = make_application(COUNT, {"impressions": 2, "counts": 1})
    older = before.start(instance="one:8083")
    eventually(older.started.is_set)

    other = changed(make_application, before, FILTERED)
    newer = other.start(1, instance="two:8083")

    error = failure_of(older)
    assert error.code == "stream.other_application"
    assert "another process runs a stream application named app with other steps (started by two:8083 at" in str(error)
    assert newer.error is None
    other.send("impressions", [{"id": 2, "at": at} for at in (1, 99)], [2, 2])
    other.wait_until_processed()
    newer.stop()
    assert [row["views"] for row in other.committed("counts")] == [1]


def test_equal_applications_in_two_processes_share_the_partitions(make_application: MakeApplication) -> None:
    application = make_application(COUNT, {"impressions": 2, "counts": 1})
    tasks = [application.start(number, instance=f"{number}:8083") for number in range(2)]
    application.send("impressions", [{"id": n, "at": 1} for n in range(8)], list(range(8)))
    application.wait_until_processed()
    for task in tasks:
        task.stop()
        assert task.error is None
    assert len(application.broker.records("app-topology")) == 1


def test_changes_name_what_is_kept_new_removed_and_reset() -> None:
    before = Registration("a", {"x": ("d", ("t",)), "y": ("d", ("t",)), "z": ("d", ("t",)), "w": ("d", ("t",))})
    after = Registration("b", {"x": ("d", ("t",)), "y": ("e", ("t",)), "z": ("d", ("u",)), "v": ("d", ("t",))})

    changes = StateChanges.between(before, after)

    assert changes.lines() == [
        "kept     x: its state is used on",
        "new      v: begins without state",
        "removed  w: its changelog stays in Kafka and is not used",
        "RESET    y: its state was made by 'd', and the step is now 'e'",
        "RESET    z: its state follows the partitions of t, and would follow u",
    ]
    assert Registration.decoded(before.encoded()) == before
