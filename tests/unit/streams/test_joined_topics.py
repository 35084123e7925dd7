"""Joins from YAML to committed outputs: co-partitioned and repartitioned inputs, whatever fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.errors import TaskError
from headrace.files import parse_config_file
from headrace.records import TopicPartition
from headrace.testing.waiting import eventually
from tests.unit.examples import examples, packed
from tests.unit.streams.conftest import Application, MakeApplication
from tests.unit.streams.faults import run_with_faults
from tests.unit.streams.test_interval_join import Event, naive

JOIN = """
steps:
  labelled:
    join:
      type: left
      left: views
      right: clicks
      by: id
      before: 3ms
      within: 10ms
      grace: 4ms
      as: click
outputs:
  labels: labelled
  late-views: labelled.late
  late-clicks: labelled.late_right
"""
KEYED = """
inputs:
  views: {topic: impressions, time: at, key: id}
  clicks: {topic: conversions, time: at, key: id}
"""
REPARTITIONED = KEYED.replace(", key: id", "")
TOPICS = {"impressions": "left", "conversions": "right"}
SOURCES = {
    "keyed": {"left": "impressions", "right": "conversions"},
    "repartitioned": {"left": "app-labelled.left-repartition", "right": "app-labelled.right-repartition"},
}

events = st.lists(
    packed(["left", "right"], [0, 1, 2, 3, None], range(41)).map(Event._make),
    min_size=1,
    max_size=25,
)
faults = st.lists(st.tuples(st.integers(1, 90), st.booleans(), st.booleans()), max_size=4)


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    folder: Path = tmp_path_factory.mktemp("joins")
    found = {}
    for name, inputs in {"keyed": KEYED, "repartitioned": REPARTITIONED}.items():
        path = folder / f"{name}.yaml"
        text = f"name: app\nconnector.class: Stream\ncommit.interval.ms: 1\n{inputs}{JOIN}"
        path.write_text(text, encoding="utf-8")
        found[name] = parse_config_file(path).properties
    return found


def send(application: Application, events: Sequence[Event]) -> None:
    for topic, side in TOPICS.items():
        sent = [event for event in events if event.side == side]
        values = [{"id": event.key, "at": event.time} for event in sent]
        application.send(topic, values, [event.key for event in sent])


def received(application: Application, topic: str, side: str, partition: int) -> list[Event]:
    records, _ = application.broker.logs[TopicPartition(topic, partition)].read(0, 100_000, committed=True)
    values = [orjson.loads(record.value or b"") for record in records]
    rows = [value[1] if isinstance(value, list) else value for value in values]
    return [Event(side, row["id"], row["at"]) for row in rows]


def event_of(side: str, value: dict[str, Any]) -> Event:
    return Event(side, value["id"], value["at"])


@settings(max_examples=examples(0.5))
@given(st.lists(events, min_size=1, max_size=3), faults, st.sampled_from(["keyed", "repartitioned"]))
@example([[Event("left", 1, 0)]], [(9, False, False)], "keyed")  # the subscription fails once
def test_every_left_record_has_one_result_whatever_fails(
    configs: dict[str, dict[str, str]], batches: list[list[Event]], plans: list[tuple[int, bool, bool]], kind: str
) -> None:
    application = Application(dict(configs[kind]))
    for topic in TOPICS:
        application.broker.create(topic, 2)
    run_with_faults(application, [partial(send, application, batch) for batch in batches], plans)

    results: Counter[tuple[Event, bool]] = Counter()
    late: Counter[Event] = Counter()
    received_events: Counter[Event] = Counter()
    for partition in range(2):
        parts = [received(application, topic, side, partition) for side, topic in SOURCES[kind].items()]
        every = [event for part in parts for event in part]
        received_events.update(every)
        expected = naive(every)
        with_match = {left for left, _ in expected.pairs}
        for offset, event in expected.left.items():
            closed = event.key is None or (expected.end is not None and event.time < expected.end)
            if offset in with_match or closed:
                results[event, offset in with_match] += 1
        late.update(every[offset] for offset in (*expected.late_left, *expected.late_right))
    labels = application.committed("labels")
    assert Counter((event_of("left", value), value["click"] is not None) for value in labels) == results
    for value in labels:
        if value["click"] is not None:
            assert value["click"]["id"] == value["id"]
            assert -3 <= value["click"]["at"] - value["at"] <= 10
    found = Counter(event_of("left", value) for value in application.committed("late-views"))
    found += Counter(event_of("right", value) for value in application.committed("late-clicks"))
    assert found == late
    assert received_events == Counter(event for batch in batches for event in batch)


def test_partitions_of_both_topics_move_together_and_take_their_state_along(
    make_application: MakeApplication,
) -> None:
    application = make_application(KEYED + JOIN, {"impressions": 4, "conversions": 4})
    application.broker.groups["connect-app"].by_number = True
    first = application.start(0)
    send(application, [Event("left", key, 0) for key in range(40)])
    application.wait_until_processed()
    second = application.start(1)
    send(application, [Event("right", key, 5) for key in range(0, 40, 2)])
    application.wait_until_processed()
    first.stop()
    send(application, [Event("left", key, 100) for key in range(40)])
    send(application, [Event("right", key, 100) for key in range(40)])
    application.wait_until_processed()
    second.stop()

    labels = application.committed("labels")
    found = sorted((value["at"], value["id"], value["click"] and value["click"]["at"]) for value in labels)
    early = [(0, key, 5 if key % 2 == 0 else None) for key in range(40)]
    assert found == early + [(100, key, 100) for key in range(40)]


def test_two_branches_of_one_topic_can_be_joined(make_application: MakeApplication) -> None:
    text = """
inputs:
  events: {topic: events, time: at, key: id}
steps:
  kinds:
    branch: {views: "kind = 'view'", clicks: "kind = 'click'"}
  joined:
    join: {left: kinds.views, right: kinds.clicks, by: id, within: 10ms, grace: 0, as: click}
outputs:
  out: joined
"""
    application = make_application(text, {"events": 2})
    kinds = ["view", "click", "click", "view", "click"]
    values = [{"id": n, "kind": kind, "at": time} for time, kind in enumerate(kinds) for n in range(4)]
    application.send("events", values, [value["id"] for value in values])
    task = application.start()
    application.wait_until_processed()
    task.stop()

    pairs = sorted((row["id"], row["at"], row["click"]["at"]) for row in application.committed("out"))
    assert pairs == [(n, view, click) for n in range(4) for view, click in ((0, 1), (0, 2), (0, 4), (3, 4))]


def test_results_of_a_join_can_be_counted_in_windows(make_application: MakeApplication) -> None:
    window = """  counted:
    window: {by: id, tumbling: 20ms, grace: 0, aggregate: {views: count(*), clicks: count(click.at)}}
outputs:
  counts: counted
"""
    application = make_application(KEYED + JOIN.partition("outputs:")[0] + window, {"impressions": 1, "conversions": 1})
    send(application, [Event("left", 1, time) for time in (0, 2, 4, 60)])
    send(application, [Event("right", 1, time) for time in (3, 60, 80)])
    task = application.start()
    application.wait_until_processed()
    send(application, [Event("left", 1, 90), Event("right", 1, 90)])
    application.wait_until_processed()
    task.stop()

    found = [(row["window_start"], row["views"], row["clicks"]) for row in application.committed("counts")]
    assert found == [(0, 3, 3), (60, 1, 1)]


def test_a_record_whose_key_cannot_be_joined_is_refused_alone(make_application: MakeApplication) -> None:
    application = make_application(
        REPARTITIONED + JOIN,
        {"impressions": 1, "conversions": 1},
        errors_tolerance="all",
    )
    values = [{"id": 1, "at": 0}, {"id": [1], "at": 0}, {"id": 2, "at": 0}, {"id": 3}]
    application.send("impressions", values, [1, 2, 3, 4])
    send(application, [Event("right", key, 1) for key in (1, 2)])
    task = application.start()
    application.wait_until_processed()
    task.stop()

    assert sorted(value["id"] for value in application.committed("labels")) == [1, 2]
    assert task.metrics.snapshot()["stream_record_skipped_total"] == 2


def test_counts_of_a_join_are_in_the_metrics(make_application: MakeApplication) -> None:
    application = make_application(KEYED + JOIN, {"impressions": 1, "conversions": 1})
    send(application, [Event("left", 1, 20), Event("left", 2, 20), Event("left", 3, 15), Event("left", 4, 30)])
    send(application, [Event("right", 1, 25), Event("right", 9, 35)])
    task = application.start()
    application.wait_until_processed()
    task.stop()

    counts = task.metrics.parts()["labelled"]
    names = ("left", "matched", "unmatched", "left_late", "late")
    assert [counts[f"stream_step_{name}"] for name in names] == [4, 1, 1, 1, 1]
    assert task.metrics.snapshot()["stream_late_total"] == 1


def test_topics_with_different_numbers_of_partitions_are_an_error(make_application: MakeApplication) -> None:
    application = make_application(KEYED + JOIN, {"impressions": 4, "conversions": 6})
    task = application.start()

    def failed() -> bool:
        """the task has failed"""
        return task.error is not None

    eventually(failed, 10)
    assert isinstance(task.error, TaskError)
    assert task.error.code == "stream.co_partitions"
    assert "impressions has 4 and conversions has 6" in task.error.message


def test_inputs_with_different_numbers_of_partitions_are_repartitioned_to_equal_ones(
    make_application: MakeApplication,
) -> None:
    application = make_application(REPARTITIONED + JOIN, {"impressions": 2, "conversions": 3})
    send(application, [Event("left", key, 0) for key in range(20)])
    send(application, [Event("right", key, 1) for key in range(20)])
    task = application.start()
    application.wait_until_processed()
    task.stop()

    assert [len(application.broker.partitions_of(topic)) for topic in SOURCES["repartitioned"].values()] == [3, 3]
    assert sorted(value["id"] for value in application.committed("labels")) == list(range(20))


def test_a_task_with_the_partition_of_one_topic_only_processes_nothing(make_application: MakeApplication) -> None:
    application = make_application(KEYED + JOIN, {"impressions": 1, "conversions": 1})
    # Two members, and the partitions are distributed in turn: each gets the partition of one topic.
    tasks = [application.start(0), application.start(1)]

    def refused() -> bool:
        """a task says which partition it lacks"""
        return any("was not assigned that of" in (reason or "") for task in tasks for reason in task.reasons)

    eventually(refused, 10)
    send(application, [Event("left", 1, 0), Event("right", 1, 0)])
    tasks[0].stop()
    application.wait_until_processed()
    assert [value["id"] for value in application.committed("labels")] == [1]
