"""Verification against a system in memory: it finds exactly what differs, and repair makes it equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace import TopicPartition
from headrace.errors import ConflictError, NotFoundError
from headrace.verification import spill, verify

TOPIC, GROUP = "orders", "connect-search"


def test_equal(world: Any) -> None:
    world.produce(("a", "1"), ("b", "1"), ("a", "2"), ("b", None), ("c", "3"))
    world.sink()
    report = verify(world.system, world.history)

    assert report.equal
    assert (report.records, report.names, report.found, report.behind) == (5, 3, 2, 0)


def test_each_kind_with_its_place(world: Any) -> None:
    world.produce(("a", "1"), ("b", "1"), ("c", "1"), ("c", None), ("d", "1"))
    world.sink()
    world.system.documents[b"b"] = (1, b"tampered")
    del world.system.documents[b"a"]
    world.system.documents[b"c"] = (9, b"risen")
    world.system.documents[b"z"] = (0, b"nobody's")
    report = verify(world.system, world.history)

    assert {(item.kind, item.name) for item in report.samples} == {
        ("missing", b"a"), ("stale", b"b"), ("extra", b"c"), ("extra", b"z"),
    }  # fmt: skip
    assert report.counts == {"missing": 1, "stale": 1, "extra": 2}
    assert not report.equal
    missing = next(item for item in report.samples if item.kind == "missing")
    place, offset = missing.record or (None, 0)
    assert place is not None
    stored = world.broker.records(TOPIC)
    assert next(r for r in stored if (r.partition, r.offset) == (place.partition, offset)).key == b"a"


def test_repair_writes_only_what_differs(world: Any) -> None:
    world.produce(*((f"k{number}", str(number)) for number in range(50)))
    world.sink()
    del world.system.documents[b"k7"]
    world.system.documents[b"k8"] = (0, b"tampered")
    world.system.documents[b"z"] = (0, b"nobody's")
    report = verify(world.system, world.history, repair=True)

    assert (report.differences, report.repaired, report.unrepaired) == (3, 3, 0)
    assert report.equal
    assert world.system.writes == 2
    assert verify(world.system, world.history).differences == 0


def test_what_the_sink_has_not_written_yet_is_not_missing(world: Any) -> None:
    world.produce(("a", "1"))
    world.sink()
    world.produce(("a", "2"), ("b", "1"))
    report = verify(world.system, world.history)

    assert (report.differences, report.behind) == (0, 2)
    assert verify(world.system, world.history, to_end=True).counts == {"missing": 1, "stale": 1, "extra": 0}


def test_records_that_come_meanwhile_are_no_differences(world: Any) -> None:
    world.produce(("a", "1"), ("b", "1"), ("c", "1"))
    world.sink()
    history = world.history
    world.produce(("a", "2"), ("b", None), ("d", "1"))
    until = world.broker.groups[GROUP].committed.copy()
    world.sink()
    world.broker.groups[GROUP].committed.update(until)  # written, not committed
    report = verify(world.system, history)

    assert report.differences == 0


def test_a_write_during_the_second_look(world: Any) -> None:
    world.produce(("a", "1"))
    world.sink()
    del world.system.documents[b"a"]
    committed = world.broker.groups[GROUP].committed.copy()

    def write_on() -> None:
        world.produce(("a", "2"))
        world.sink()
        world.broker.groups[GROUP].committed.update(committed)

    world.system.before_look = write_on
    assert verify(world.system, world.history).differences == 0


def test_equal_content_under_a_version_above_the_record(world: Any) -> None:
    world.produce(("a", "1"))
    world.sink()
    world.system.documents[b"a"] = (99, b"1")
    report = verify(world.system, world.history)

    assert (report.equal, report.ahead) == (True, 1)


def test_what_no_record_speaks_of_is_kept_when_retention_may_have_taken_the_record(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.produce(("a", "1"), ("b", None))
    world.sink()
    world.system.documents |= {b"z": (0, b"old"), b"b": (0, b"risen")}
    history = world.history
    monkeypatch.setattr(history.reader, "beginnings", lambda partitions: dict.fromkeys(partitions, 3))
    report = verify(world.system, history, repair=True)

    assert (report.expired, report.repaired, report.unrepaired) == (True, 1, 1)
    assert b"z" in world.system.documents
    assert b"b" not in world.system.documents  # a tombstone says so
    assert "retention" in report.unrepaired_reason


def test_records_that_cannot_be_written_are_counted(world: Any) -> None:
    world.produce((None, "1"), ("a", "1"))
    world.system.documents[b"a"] = (0, b"1")
    report = verify(world.system, world.history, to_end=True)

    assert (report.equal, report.unusable, report.unusable_reason) == (True, 1, "no key")


def test_a_connector_that_never_wrote_proves_nothing(world: Any) -> None:
    world.produce(("a", "1"))
    world.system.documents[b"a"] = (0, b"1")
    with pytest.raises(ConflictError, match="has not committed any position"):
        verify(world.system, world.history, repair=True)
    assert world.system.documents


def test_a_topic_that_is_not_there(make_world: Callable[..., Any]) -> None:
    world = make_world(topics="nothing")
    with pytest.raises(NotFoundError, match="no topic is called nothing"):
        verify(world.system, world.history)


def test_topics_by_pattern(make_world: Callable[..., Any]) -> None:
    world = make_world(**{"topics.regex": "ord.*"})
    world.produce(("a", "1"))
    world.sink()

    assert verify(world.system, world.history).equal


KEYS = st.sampled_from([f"k{number}" for number in range(8)])
VALUES = st.one_of(st.none(), st.sampled_from("123"))


# The fixture is a class: every example makes a world of its own.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(KEYS, VALUES), max_size=40),
    st.lists(st.tuples(KEYS, VALUES), max_size=10),
    st.booleans(),
)
def test_it_finds_what_was_tampered_with_and_mends_it(
    make_world: Callable[..., Any],
    records: list[tuple[str, str | None]],
    tampered: list[tuple[str, str | None]],
    to_disk: bool,
) -> None:
    most, spill._MOST_IN_MEMORY = spill._MOST_IN_MEMORY, 3 if to_disk else 250_000
    try:
        world = make_world()
        world.produce(*records)
        world.sink()
        right = {name: value for name, (_, value) in world.system.documents.items()}
        for key, value in tampered:
            if value is None:
                world.system.documents.pop(key.encode(), None)
            else:
                world.system.documents[key.encode()] = (0, value.encode())
        wrong = {name: value for name, (_, value) in world.system.documents.items()}
        different = {name for name in {*right, *wrong} if right.get(name) != wrong.get(name)}
        report = verify(world.system, world.history, to_end=True, repair=True, samples=100)

        assert {item.name for item in report.samples} == different
        assert {name: value for name, (_, value) in world.system.documents.items()} == right
        assert report.equal
    finally:
        spill._MOST_IN_MEMORY = most


def test_positions_are_left_alone(world: Any) -> None:
    world.produce(("a", "1"), ("b", "2"))
    world.sink()
    before = dict(world.broker.groups[GROUP].committed)
    verify(world.system, world.history)

    assert world.broker.groups[GROUP].committed == before
    assert set(world.broker.groups) == {GROUP}
    assert TopicPartition(TOPIC, 0) in before
