"""Tables in the partitions of a stream, from YAML to committed outputs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import TaskError
from headrace.files import parse_config_file
from headrace.testing.waiting import eventually
from tests.unit.examples import packed
from tests.unit.streams.conftest import Application, MakeApplication
from tests.unit.streams.faults import StopWhen, run_with_faults

IN_PLACE = """
inputs:
  views: {topic: impressions, time: at, key: user_id}
"""
REPARTITIONED = """
inputs:
  views: {topic: impressions, time: at}
"""
LOOKUP = """
tables:
  users: {topic: profiles, key: id, scope: partitioned, time: changed}
steps:
  enriched:
    lookup: {user: "users[user_id]"}
outputs:
  out: enriched
"""
TOPICS = {"impressions": 2, "profiles": 2}
Change = tuple[int, int, int | None]
"""User, time, country; None deletes the row."""
View = tuple[int, int]
"""User, time."""

changes = st.lists(packed(range(4), range(51), [*range(10), None]), max_size=15)
views = st.lists(packed(range(4), range(51)), min_size=1, max_size=20)


def send_changes(application: Application, records: Sequence[Change]) -> None:
    for user, time, country in records:
        value = None if country is None else {"id": user, "country": country, "changed": time}
        application.send("profiles", [value], [user], [time])


def send_views(application: Application, records: Sequence[View]) -> None:
    application.send(
        "impressions", [{"user_id": user, "at": time} for user, time in records], [user for user, _ in records]
    )


def enriched(application: Application) -> Counter[tuple[int, int, int | None]]:
    return Counter(
        (value["user_id"], value["at"], value["user"] and value["user"]["country"])
        for value in application.committed("out")
    )


def as_of(records: Sequence[Change], seen: Sequence[View]) -> Counter[tuple[int, int, int | None]]:
    """Return each view with the country that its user had at its time, for records in the order of time."""
    found: Counter[tuple[int, int, int | None]] = Counter()
    for user, time in seen:
        countries = [country for other, changed, country in records if other == user and changed <= time]
        found[user, time, countries[-1] if countries else None] += 1
    return found


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    found = {}
    for kind, inputs in (("in place", IN_PLACE), ("repartitioned", REPARTITIONED)):
        path: Path = tmp_path_factory.mktemp("streams") / "app.yaml"
        path.write_text(
            f"name: app\nconnector.class: Stream\ncommit.interval.ms: 1\n{inputs}{LOOKUP}", encoding="utf-8"
        )
        found[kind] = parse_config_file(path).properties
    return found


@pytest.mark.parametrize("kind", ["in place", "repartitioned"])
@given(changes, views)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_a_record_gets_the_row_of_its_event_time(
    configs: dict[str, dict[str, str]], kind: str, records: list[Change], seen: list[View]
) -> None:
    application = Application(dict(configs[kind]))
    for topic, partitions in TOPICS.items():
        application.broker.create(topic, partitions)
    records, seen = sorted(records, key=lambda item: item[1]), sorted(seen, key=lambda item: item[1])
    send_views(application, seen)  # the stream is read before its table, and processed after it
    send_changes(application, records)
    application.run(StopWhen(application.is_processed))

    assert enriched(application) == as_of(records, seen)


@given(changes, views, st.lists(st.tuples(st.integers(1, 60), st.booleans(), st.booleans()), max_size=3))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_rows_and_results_are_exact_whatever_fails(
    configs: dict[str, dict[str, str]], records: list[Change], seen: list[View], plans: list[tuple[int, bool, bool]]
) -> None:
    application = Application(dict(configs["in place"]))
    for topic, partitions in TOPICS.items():
        application.broker.create(topic, partitions)
    run_with_faults(
        application, [lambda: send_changes(application, records), lambda: send_views(application, seen)], plans
    )

    last: dict[int, int | None] = defaultdict(lambda: None, {user: country for user, _, country in records})
    assert enriched(application) == Counter((user, time, last[user]) for user, time in seen)


def test_rows_are_restored_after_a_restart(make_application: MakeApplication) -> None:
    application = make_application(IN_PLACE + LOOKUP, TOPICS)
    send_changes(application, [(1, 0, 7), (2, 0, 8), (2, 1, None)])
    first = application.start()
    application.wait_until_processed()
    first.stop()
    send_views(application, [(1, 5), (2, 5), (3, 5)])
    second = application.start()
    application.wait_until_processed()
    second.stop()

    assert enriched(application) == Counter([(1, 5, 7), (2, 5, None), (3, 5, None)])


def test_partitions_of_stream_and_table_move_together(make_application: MakeApplication) -> None:
    application = make_application(IN_PLACE + LOOKUP, {"impressions": 4, "profiles": 4})
    application.broker.groups["connect-app"].by_number = True
    first = application.start(0)
    send_changes(application, [(user, 0, user) for user in range(20)])
    application.wait_until_processed()
    second = application.start(1)
    send_views(application, [(user, 5) for user in range(20)])
    application.wait_until_processed()
    first.stop()
    send_views(application, [(user, 6) for user in range(20)])
    application.wait_until_processed()
    second.stop()

    assert enriched(application) == Counter((user, time, user) for user in range(20) for time in (5, 6))


def test_topics_with_different_numbers_of_partitions_are_an_error(make_application: MakeApplication) -> None:
    application = make_application(IN_PLACE + LOOKUP, {"impressions": 2, "profiles": 3})
    task = application.start()

    def failed() -> bool:
        """the task has failed"""
        return task.error is not None

    eventually(failed, 10)
    assert isinstance(task.error, TaskError)
    assert task.error.code == "stream.co_partitions"
    assert "profiles has 3 and impressions has 2" in task.error.message


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        (1, 5, "stream.not_an_object"),
        (None, {"id": 1}, "stream.table_key"),
        (1, {"id": 2}, "stream.key_column"),
    ],
)
def test_a_record_that_is_no_row_goes_to_the_dead_letter_queue(
    make_application: MakeApplication, key: Any, value: Any, code: str
) -> None:
    application = make_application(
        IN_PLACE + LOOKUP, TOPICS, errors_tolerance="all", errors_deadletterqueue_topic_name="dead"
    )
    application.send("profiles", [value, {"id": 3, "country": 4, "changed": 0}], [key, 3], [0, 0])
    send_views(application, [(3, 9)])
    task = application.start()
    application.wait_until_processed()
    task.stop()

    assert enriched(application) == Counter([(3, 9, 4)])
    assert application.committed("dead") == [value]
    assert [cause.code for cause in task.metrics.causes.snapshot()] == [code]


def test_a_lookup_can_drop_records_without_a_row(make_application: MakeApplication) -> None:
    application = make_application(IN_PLACE + LOOKUP.replace("\noutputs", "\n    missing: drop\noutputs"), TOPICS)
    send_changes(application, [(1, 0, 7)])
    send_views(application, [(1, 5), (2, 5)])
    task = application.start()
    application.wait_until_processed()
    task.stop()

    assert enriched(application) == Counter([(1, 5, 7)])
    assert task.metrics.parts()["enriched"]["stream_step_dropped"] == 1


def test_a_partition_that_is_ahead_makes_no_record_of_another_one_late(make_application: MakeApplication) -> None:
    text = """
inputs:
  views: {topic: impressions, time: at}
steps:
  counted:
    window: {by: offer, tumbling: 1s, grace: 3s, aggregate: {views: count(*)}}
outputs:
  counts: counted
  late-views: counted.late
"""
    application = make_application(text, {"impressions": 2})
    moments = list(range(24_000))
    application.send("impressions", [{"offer": 1, "at": moment} for moment in moments], [n % 16 for n in moments])
    # A poll returns the records of one partition: eight seconds of it before the first record of the other.
    counts = [len(application.broker.logs[item].records()) for item in application.broker.partitions_of("impressions")]
    assert min(counts) > 8_000
    task = application.start()
    application.wait_until_processed()
    task.stop()

    assert application.committed("late-views") == []
    assert [value["views"] for value in application.committed("counts")] == [1_000] * 20
