"""Verification with an in-memory system finds exactly the differences, and repair removes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace import TopicPartition
from headrace.errors import ConflictError, NotFoundError
from headrace.records import EncodedBatch
from headrace.verification import verify
from headrace.verification.disk_buckets import ROWS_IN_MEMORY
from tests.unit.examples import examples

TOPIC, GROUP = "orders", "connect-search"


def test_equal_contents_are_reported_as_equal(scenario: Any) -> None:
    scenario.produce(("a", "1"), ("b", "1"), ("a", "2"), ("b", None), ("c", "3"))
    scenario.sink()
    report = verify(scenario.system, scenario.history)

    assert report.equal
    assert (report.records, report.names, report.found, report.behind) == (5, 3, 2, 0)


def test_each_difference_is_reported_with_its_kind_and_record(scenario: Any) -> None:
    scenario.produce(("a", "1"), ("b", "1"), ("c", "1"), ("c", None), ("d", "1"))
    scenario.sink()
    scenario.system.documents[b"b"] = (1, b"tampered")
    del scenario.system.documents[b"a"]
    scenario.system.documents[b"c"] = (9, b"restored")
    scenario.system.documents[b"z"] = (0, b"orphan")
    report = verify(scenario.system, scenario.history)

    assert {(item.kind, item.name) for item in report.samples} == {
        ("missing", b"a"), ("stale", b"b"), ("extra", b"c"), ("extra", b"z"),
    }  # fmt: skip
    assert report.counts == {"missing": 1, "stale": 1, "extra": 2}
    assert not report.equal
    missing = next(item for item in report.samples if item.kind == "missing")
    place, offset = missing.record or (None, 0)
    assert place is not None
    stored = scenario.kafka.records(TOPIC)
    assert next(r for r in stored if (r.partition, r.offset) == (place.partition, offset)).key == b"a"


def test_repair_writes_only_differences(scenario: Any) -> None:
    scenario.produce(*((f"k{number}", str(number)) for number in range(50)))
    scenario.sink()
    del scenario.system.documents[b"k7"]
    scenario.system.documents[b"k8"] = (0, b"tampered")
    scenario.system.documents[b"z"] = (0, b"orphan")
    report = verify(scenario.system, scenario.history, repair=True)

    assert (report.differences, report.repaired, report.unrepaired) == (3, 3, 0)
    assert report.equal
    assert scenario.system.writes == 2
    assert verify(scenario.system, scenario.history).differences == 0


def test_records_that_the_sink_has_not_written_yet_are_not_missing(scenario: Any) -> None:
    scenario.produce(("a", "1"))
    scenario.sink()
    scenario.produce(("a", "2"), ("b", "1"))
    report = verify(scenario.system, scenario.history)

    assert (report.differences, report.behind) == (0, 2)
    assert verify(scenario.system, scenario.history, to_end=True).counts == {"missing": 1, "stale": 1, "extra": 0}


def test_records_that_arrive_during_the_verification_are_no_differences(scenario: Any) -> None:
    scenario.produce(("a", "1"), ("b", "1"), ("c", "1"))
    scenario.sink()
    history = scenario.history
    scenario.produce(("a", "2"), ("b", None), ("d", "1"))
    until = scenario.kafka.groups[GROUP].committed.copy()
    scenario.sink()
    scenario.kafka.groups[GROUP].committed.update(until)  # written, not committed
    report = verify(scenario.system, history)

    assert report.differences == 0


def test_a_write_during_the_second_check_is_no_difference(scenario: Any) -> None:
    scenario.produce(("a", "1"))
    scenario.sink()
    del scenario.system.documents[b"a"]
    committed = scenario.kafka.groups[GROUP].committed.copy()

    def write_on() -> None:
        scenario.produce(("a", "2"))
        scenario.sink()
        scenario.kafka.groups[GROUP].committed.update(committed)

    scenario.system.before_lookup = write_on
    assert verify(scenario.system, scenario.history).differences == 0


def test_equal_content_with_a_version_above_the_record_is_counted_as_ahead(scenario: Any) -> None:
    scenario.produce(("a", "1"))
    scenario.sink()
    scenario.system.documents[b"a"] = (99, b"1")
    report = verify(scenario.system, scenario.history)

    assert (report.equal, report.ahead) == (True, 1)


def test_an_entry_without_a_record_is_kept_when_retention_has_removed_records(
    scenario: Any,
) -> None:
    scenario.produce(("z", "old"))
    scenario.sink()
    scenario.kafka.delete_records(scenario.history.ends())
    scenario.produce(("a", "1"), ("b", None))
    scenario.sink()
    scenario.system.documents[b"b"] = (0, b"restored")
    history = scenario.history
    report = verify(scenario.system, history, repair=True)

    assert (report.expired, report.repaired, report.unrepaired) == (True, 1, 1)
    assert b"z" in scenario.system.documents
    assert b"b" not in scenario.system.documents  # deleted by a tombstone
    assert "retention" in report.unrepaired_reason


def test_records_that_cannot_be_written_are_counted(scenario: Any) -> None:
    scenario.produce((None, "1"), ("a", "1"))
    scenario.system.documents[b"a"] = (0, b"1")
    report = verify(scenario.system, scenario.history, to_end=True)

    assert (report.equal, report.unusable, report.unusable_reason) == (True, 1, "no key")


def test_a_connector_without_committed_offsets_is_refused(scenario: Any) -> None:
    scenario.produce(("a", "1"))
    scenario.system.documents[b"a"] = (0, b"1")
    with pytest.raises(ConflictError, match="has not committed any position"):
        verify(scenario.system, scenario.history, repair=True)
    assert scenario.system.documents


def test_a_missing_topic_is_reported(make_scenario: Callable[..., Any]) -> None:
    scenario = make_scenario(topics="nothing")
    with pytest.raises(NotFoundError, match="no topic is named nothing"):
        verify(scenario.system, scenario.history)


def test_topics_are_found_by_pattern(make_scenario: Callable[..., Any]) -> None:
    scenario = make_scenario(**{"topics.regex": "ord.*"})
    scenario.produce(("a", "1"))
    scenario.sink()

    assert verify(scenario.system, scenario.history).equal


KEYS = st.sampled_from([f"k{number}" for number in range(8)])
VALUES = st.one_of(st.none(), st.sampled_from("123"))


# The fixture is a class: every example creates its own scenario.
@settings(max_examples=examples(0.6), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(KEYS, VALUES), max_size=40),
    st.lists(st.tuples(KEYS, VALUES), max_size=10),
    st.booleans(),
)
def test_every_manipulation_is_found_and_repaired(
    make_scenario: Callable[..., Any],
    records: list[tuple[str, str | None]],
    tampered: list[tuple[str, str | None]],
    to_disk: bool,
) -> None:
    limit = 3 if to_disk else ROWS_IN_MEMORY
    scenario = make_scenario()
    scenario.produce(*records)
    scenario.sink()
    right = {name: value for name, (_, value) in scenario.system.documents.items()}
    for key, value in tampered:
        if value is None:
            scenario.system.documents.pop(key.encode(), None)
        else:
            scenario.system.documents[key.encode()] = (0, value.encode())
    wrong = {name: value for name, (_, value) in scenario.system.documents.items()}
    different = {name for name in {*right, *wrong} if right.get(name) != wrong.get(name)}
    report = verify(scenario.system, scenario.history, to_end=True, repair=True, samples=100, rows_in_memory=limit)

    assert {item.name for item in report.samples} == different
    assert {name: value for name, (_, value) in scenario.system.documents.items()} == right
    assert report.equal


def test_committed_offsets_are_not_changed(scenario: Any) -> None:
    scenario.produce(("a", "1"), ("b", "2"))
    scenario.sink()
    before = dict(scenario.kafka.groups[GROUP].committed)
    verify(scenario.system, scenario.history)

    assert scenario.kafka.groups[GROUP].committed == before
    assert set(scenario.kafka.groups) == {GROUP}
    assert TopicPartition(TOPIC, 0) in before


def send(scenario: Any, partition: int, timestamp: int, *records: tuple[str, str]) -> None:
    producer = scenario.kafka.transactional_producer("t", {})
    keys: list[bytes | None] = [key.encode() for key, _ in records]
    values: list[bytes | None] = [value.encode() for _, value in records]
    producer.init()
    producer.begin()
    producer.send(EncodedBatch(TOPIC, values, keys, [timestamp] * len(records)), partition=partition)
    producer.commit()


@pytest.mark.parametrize(("timestamp", "contested"), [(2_000, 5), (500, 0)])
def test_f4_a_newer_record_in_another_partition_with_a_lower_offset_is_contested(
    scenario: Any, timestamp: int, contested: int
) -> None:
    """As for two topics of one index: the index keeps the record with the higher offset."""
    keys = [f"k{number}" for number in range(5)]
    send(scenario, 0, 1_000, *((f"other{number}", "0") for number in range(45)), *((key, "old") for key in keys))
    scenario.sink()
    send(scenario, 1, timestamp, *((key, "new") for key in keys))
    scenario.kafka.groups[GROUP].committed.update(scenario.history.ends())  # read, and ignored as outdated
    report = verify(scenario.system, scenario.history)

    assert (report.differences, report.contested, report.equal) == (0, contested, not contested)
    assert ("newest record in orders-1 at offset" in report.contested_example) == bool(contested)


def test_f4_a_record_with_equal_content_in_another_partition_is_not_contested(scenario: Any) -> None:
    send(scenario, 0, 1_000, ("other", "0"), ("k", "same"))
    scenario.sink()
    send(scenario, 1, 2_000, ("k", "same"))
    scenario.kafka.groups[GROUP].committed.update(scenario.history.ends())

    assert verify(scenario.system, scenario.history).equal


def test_c2_a_transaction_marker_at_the_end_is_no_record_that_was_not_written(scenario: Any) -> None:
    send(scenario, 0, 1_000, ("a", "1"))
    scenario.sink()
    place = TopicPartition(TOPIC, 0)
    scenario.kafka.groups[GROUP].committed[place] = 1  # after the record, before the marker
    assert scenario.history.ends()[place] == 2
    assert verify(scenario.system, scenario.history).behind == 0
