"""``idle.after``: a partition without records does not keep its windows and joins open."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.pipeline.stream.silence import SilentPartitions
from headrace.records import TopicPartition
from headrace.testing.waiting import eventually
from tests.unit.examples import packed
from tests.unit.streams.conftest import Application, MakeApplication
from tests.unit.streams.drivers import make_driver

VIEWS, CLICKS = TopicPartition("views", 0), TopicPartition("clicks", 0)
INPUT = """
inputs:
  views: {topic: impressions, time: at, key: id}
"""
WINDOWS = {
    "tumbling": "window: {by: id, tumbling: 10ms, grace: 5ms, aggregate: {views: count(*)}}",
    "hopping": "window: {by: id, hopping: 10ms, advance: 10ms, grace: 5ms, aggregate: {views: count(*)}}",
    "session": "window: {by: id, session: 10ms, grace: 5ms, aggregate: {views: count(*)}}",
    "top": "top: {by: id, tumbling: 10ms, grace: 5ms, order: at, limit: 1000}",
}
JOIN = """
inputs:
  views: {topic: impressions, time: at, key: id}
  clicks: {topic: conversions, time: at, key: id}
steps:
  labelled:
    join: {type: left, left: views, right: clicks, by: id, within: 10ms, grace: 5ms, as: click}
outputs:
  out: labelled
"""


def window(kind: str) -> str:
    return f"{INPUT}steps:\n  w:\n    {WINDOWS[kind]}\noutputs:\n  out: w\n  late: w.late\n"


@dataclass
class Clock:
    """Time that a test sets."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("kind", WINDOWS)
@given(records=st.lists(packed(range(3), range(101)), min_size=1, max_size=30))
def test_after_a_silence_every_record_is_in_a_result_or_late(kind: str, records: list[tuple[int, int]]) -> None:
    driver = make_driver(window(kind), idle_after=1)
    for key, time in records:
        driver.send("impressions", {"id": key, "at": time}, key)
    driver.wait(20)

    values = [record.value for record in driver.outputs["out"]]
    counted = sum(value.get("views", 1) for value in values)
    assert counted + len(driver.outputs["late"]) == len(records)


@pytest.mark.parametrize("kind", WINDOWS)
def test_a_window_closes_when_its_partition_is_silent_for_its_end_and_grace(kind: str) -> None:
    driver = make_driver(window(kind), idle_after=2)
    driver.send("impressions", {"id": 1, "at": 0}, 1)
    driver.wait(1)
    driver.wait(13)
    assert driver.outputs["out"] == []
    driver.wait(2)
    assert len(driver.outputs["out"]) == 1
    driver.send("impressions", {"id": 1, "at": 0}, 1)
    assert len(driver.outputs["late"]) == 1


def test_a_window_stays_open_without_idle_after() -> None:
    driver = make_driver(window("tumbling"))
    driver.send("impressions", {"id": 1, "at": 0}, 1)
    driver.wait(1_000_000)
    assert driver.outputs["out"] == []


def test_a_silent_partition_without_open_windows_does_not_advance() -> None:
    driver = make_driver(window("tumbling"), idle_after=1)
    driver.send("impressions", {"id": 1, "at": 0}, 1)
    driver.wait(20)
    driver.wait(1_000)
    driver.send("impressions", {"id": 1, "at": 25}, 1)
    assert driver.outputs["late"] == []


def test_a_record_after_a_silence_advances_the_time_from_where_the_silence_brought_it() -> None:
    driver = make_driver(window("tumbling"), idle_after=1)
    driver.send("impressions", {"id": 1, "at": 0}, 1)
    driver.wait(16)
    driver.send("impressions", {"id": 1, "at": 12}, 1)
    assert len(driver.outputs["late"]) == 0
    driver.wait(9)
    assert [record.value["window_start"] for record in driver.outputs["out"]] == [0, 10]


def test_a_left_record_closes_when_the_right_topic_is_silent() -> None:
    driver = make_driver(JOIN, idle_after=5)
    driver.send("conversions", {"id": 9, "at": 0}, 9)
    driver.send("impressions", {"id": 1, "at": 0}, 1)
    driver.wait(15)
    assert driver.outputs["out"] == []
    driver.wait(1)
    assert [record.value for record in driver.outputs["out"]] == [{"id": 1, "at": 0, "click": None}]


def test_a_left_record_closes_when_the_right_topic_never_had_a_record() -> None:
    driver = make_driver(JOIN, idle_after=5)
    driver.send("impressions", {"id": 1, "at": 0}, 1)
    driver.wait(6)
    driver.send("conversions", {"id": 1, "at": 8}, 1)
    driver.send("impressions", {"id": 2, "at": 10}, 2)
    driver.wait(5)
    driver.wait(40)
    assert [record.value["click"] and record.value["click"]["at"] for record in driver.outputs["out"]] == [8, None]


def test_silence_is_the_time_in_which_a_partition_was_read_without_a_record() -> None:
    clock = Clock()
    silence = SilentPartitions(2.0, clock)
    silence.polled(reading=True)
    silence.assigned([VIEWS, CLICKS])
    for _ in range(4):
        clock.now += 0.5
        silence.polled(reading=True)
        silence.received(CLICKS)
    assert list(silence.due()) == [(VIEWS, 2_000)]
    silence.advanced(VIEWS)
    clock.now += 0.5
    assert list(silence.due()) == [(VIEWS, 500)]
    silence.polled(reading=False)  # such as an outage, or a pause
    assert list(silence.due()) == []


def test_time_without_a_poll_is_no_silence() -> None:
    clock = Clock()
    silence = SilentPartitions(2.0, clock)
    silence.polled(reading=True)
    silence.assigned([VIEWS])
    clock.now += 60
    silence.polled(reading=True)
    assert list(silence.due()) == []


def test_a_silent_partition_closes_its_windows_exactly_once(make_application: MakeApplication) -> None:
    application = make_application(window("tumbling"), {"impressions": 2}, idle_after="20ms")
    application.send("impressions", [{"id": n, "at": 0} for n in range(8)], list(range(8)))
    task = application.start()
    _wait_for_results(application, 8)
    task.stop()
    again = application.start()
    application.send("impressions", [{"id": 99, "at": 1_000}], [99])
    _wait_for_results(application, 9)
    again.stop()

    assert sorted((value["id"], value["views"]) for value in application.committed("out")) == [
        *((n, 1) for n in range(8)),
        (99, 1),
    ]


def _wait_for_results(application: Application, count: int) -> None:
    def written() -> bool:
        """the results are committed"""
        return len(application.committed("out")) >= count

    eventually(written, 20)


def test_a_silent_right_side_lets_left_records_reach_their_stages() -> None:
    staged = JOIN.replace("as: click", "as: click, stages: '3ms, 8ms'").replace(
        "  out: labelled", "  out: labelled\n  waiting: labelled.pending"
    )
    driver = make_driver(staged, idle_after=1)
    driver.send("impressions", {"id": 1, "at": 10}, 1)
    driver.send("impressions", {"id": 2, "at": 11}, 2)
    driver.send("conversions", {"id": 2, "at": 12}, 2)
    driver.wait(8)
    assert [(record.value, record.timestamp) for record in driver.outputs["waiting"]] == [
        ({"id": 1, "at": 10, "click": None, "stage": 3}, 13)
    ]
    driver.wait(8)
    assert [record.value["stage"] for record in driver.outputs["waiting"]] == [3, 8]
    assert [record.value["id"] for record in driver.outputs["out"]] == [2, 1]


def test_sliding_windows_close_in_a_silence_although_their_records_may_still_be_needed() -> None:
    text = f"{INPUT}steps:\n  w:\n    window: {{by: id, sliding: 9ms, grace: 4ms, aggregate: {{views: count(*)}}}}\n"
    driver = make_driver(f"{text}outputs:\n  out: w\n", idle_after=2)
    driver.send("impressions", {"id": 1, "at": 0}, 1)
    driver.wait(4)
    assert driver.outputs["out"] == []
    driver.wait(1)
    assert [(record.value["window_end"], record.value["views"]) for record in driver.outputs["out"]] == [(0, 1)]
    driver.wait(100)
    assert len(driver.outputs["out"]) == 1
