"""Joins give what a computation over all records at once gives, however the records of both sides are interleaved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from copy import deepcopy
from functools import cache
from itertools import pairwise, product
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.pipeline.stream.state import StreamState
from headrace.plugin import StepCounts
from headrace.records import ConsumedBatch, TopicPartition
from headrace_streams.configuration import ApplicationKeys
from headrace_streams.operators.operator import Operator, Tables
from headrace_streams.planning import make_plan
from headrace_streams.rows import Rows, merge
from tests.unit.examples import packed
from tests.unit.streams.operator_runs import assert_balanced

BEFORE, AFTER, GRACE = 3, 10, 4
TABLES: Tables = {}
PLACE = TopicPartition("views", 0)


class Event(NamedTuple):
    """A record of one side."""

    side: str
    key: int | None
    time: int


events = st.lists(packed(["left", "right"], [0, 1, 2, None], [*range(61), *range(-15, 0)]).map(Event._make))


STAGES = (2, 6)


class Joined(NamedTuple):
    """What batches give: pairs of offsets (None: without a right record), offsets of late records, counts, state."""

    pairs: list[tuple[int, int | None]]
    late_left: list[int]
    late_right: list[int]
    counts: StepCounts
    state: StreamState
    pending: list[tuple[int, int]]
    """Offsets of left records, and the stages that they have reached."""


@cache
def join(kind: str, stages: str = "") -> dict[str, Operator]:
    """Return the operators of a join: the two sides, and the join itself."""
    keys = {"type": kind, "left": "views", "right": "clicks", "by": "id", "before": BEFORE, "within": AFTER}
    steps = {f"steps.j.join.{name}": str(value) for name, value in {**keys, "grace": GRACE, "as": "click"}.items()}
    if stages:
        steps["steps.j.join.stages"] = stages
    inputs = {"inputs.views": "views", "inputs.clicks": "clicks"}
    plan, findings = make_plan("app", ApplicationKeys.parse({**inputs, **steps, "outputs.out": "j"}))
    assert findings == []
    return {step.name: step.operator for step in plan.steps}


def run(kind: str, batches: Iterable[Sequence[Event]], stages: str = "") -> Joined:
    operators = join(kind, stages)
    state = StreamState({"j": "changelog"}, {"j": ("views", "clicks")})
    found = Joined([], [], [], StepCounts(), state, [])
    offset = 0
    for batch in batches:
        sides = []
        for side in ("left", "right"):
            numbered = [(offset + n, event) for n, event in enumerate(batch) if event.side == side]
            values = [{"id": event.key, "offset": n} for n, event in numbered]
            rows = Rows([None] * len(values), values, [e.time for _, e in numbered], [n for n, _ in numbered])
            sides.append(operators[f"j.{side}"].process(rows, TABLES, {}).streams[""])
        before = deepcopy(state.of(PLACE)["j"])
        made = operators["j"].process(merge(sides), TABLES, state.of(PLACE)["j"])
        assert state.of(PLACE)["j"] == before, "the operator changed the state that it was given"
        state.apply(0, {"j": made.changes})
        assert_balanced(operators["j"], state.of(PLACE)["j"])
        for value in made.streams[""].values:
            found.pairs.append((value["offset"], value["click"] and value["click"]["offset"]))
        found.pending.extend((value["offset"], value["stage"]) for value in made.streams["pending"].values)
        assert all(value["click"] is None for value in made.streams["pending"].values)
        found.late_left.extend(value["offset"] for value in made.streams["late"].values)
        found.late_right.extend(value["offset"] for value in made.streams["late_right"].values)
        found.counts.add(StepCounts(len(batch), made.dropped, made.late, made.counts))
        offset += len(batch)
    return found


class Naive(NamedTuple):
    """The same from all records at once."""

    pairs: set[tuple[int, int]]
    left: dict[int, Event]
    late_left: list[int]
    late_right: list[int]
    end: int | None
    """Left records before this moment are closed."""


def naive(records: Sequence[Event]) -> Naive:
    taken: dict[str, dict[int, Event]] = {"left": {}, "right": {}}
    late: dict[str, list[int]] = {"left": [], "right": []}
    newest: dict[str, int] = {}
    for offset, event in enumerate(records):
        if event.time < newest.get(event.side, event.time) - GRACE:
            late[event.side].append(offset)
        else:
            taken[event.side][offset] = event
            newest[event.side] = max(newest.get(event.side, event.time), event.time)
    pairs = {
        (n, m)
        for (n, one), (m, other) in product(taken["left"].items(), taken["right"].items())
        if one.key is not None and one.key == other.key and -BEFORE <= other.time - one.time <= AFTER
    }
    end = newest["right"] - GRACE - AFTER if "right" in newest else None
    return Naive(pairs, taken["left"], late["left"], late["right"], end)


def divided(records: Sequence[Event], places: Iterable[int]) -> list[Sequence[Event]]:
    cuts = [0, *sorted({place % (len(records) + 1) for place in places}), len(records)]
    return [records[first:last] for first, last in pairwise(cuts)]


@given(st.lists(events))
def test_an_inner_join_gives_each_pair_once(batches: list[list[Event]]) -> None:
    found = run("inner", batches)
    expected = naive([event for batch in batches for event in batch])

    assert Counter(found.pairs) == Counter(dict.fromkeys(expected.pairs, 1))
    assert (found.late_left, found.late_right) == (expected.late_left, expected.late_right)


@given(st.lists(events))
def test_a_left_join_gives_one_result_for_each_left_record_that_is_not_late(batches: list[list[Event]]) -> None:
    found = run("left", batches)
    expected = naive([event for batch in batches for event in batch])

    with_match = {left for left, _ in expected.pairs}
    closed = {
        offset
        for offset, event in expected.left.items()
        if offset not in with_match and (event.key is None or (expected.end is not None and event.time < expected.end))
    }
    assert Counter(left for left, _ in found.pairs) == Counter(dict.fromkeys(with_match | closed, 1))
    assert {left for left, right in found.pairs if right is None} == closed
    assert {pair for pair in found.pairs if pair[1] is not None} <= expected.pairs
    assert (found.late_left, found.late_right) == (expected.late_left, expected.late_right)


@given(events, st.lists(st.integers(0, 100)), st.sampled_from(["inner", "left"]))
def test_results_do_not_depend_on_the_division_into_batches(records: list[Event], places: list[int], kind: str) -> None:
    whole, parts = run(kind, [records]), run(kind, divided(records, places))

    assert sorted(map(str, whole.pairs)) == sorted(map(str, parts.pairs))
    assert whole.state.of(PLACE) == parts.state.of(PLACE)
    assert whole.counts == parts.counts


def naive_stages(records: Sequence[Event]) -> list[tuple[int, int]]:
    """Process record by record, and search all open left records after each."""
    taken: dict[str, dict[int, Event]] = {"left": {}, "right": {}}
    newest: dict[str, int] = {}
    reached: list[tuple[int, int]] = []
    for offset, event in enumerate(records):
        if event.time < newest.get(event.side, event.time) - GRACE:
            continue
        newest[event.side] = max(newest.get(event.side, event.time), event.time)
        if event.side == "left" and event.key is not None:
            taken["left"][offset] = event
        now = newest.get("right")
        for left, one in taken["left"].items():
            is_matched = any(
                other.key == one.key and -BEFORE <= other.time - one.time <= AFTER for other in taken["right"].values()
            )
            if is_matched or now is None:
                continue
            reached += [
                (left, stage) for stage in STAGES if one.time + stage + GRACE < now and (left, stage) not in reached
            ]
        if event.side == "right":
            taken["right"][offset] = event
    return reached


@given(st.lists(events))
def test_a_left_record_has_each_stage_once_that_it_reaches_without_a_match(batches: list[list[Event]]) -> None:
    found = run("left", batches, "2ms, 6ms")

    expected = naive_stages([event for batch in batches for event in batch])
    assert Counter(found.pending) == Counter(expected)
    assert set(Counter(expected).values()) <= {1}


@given(st.lists(events))
def test_stages_change_neither_the_final_results_nor_the_state(batches: list[list[Event]]) -> None:
    plain, staged = run("left", batches), run("left", batches, "2ms, 6ms")

    assert staged.pairs == plain.pairs
    assert staged.state.of(PLACE) == plain.state.of(PLACE)
    assert join("left")["j"].state_definition() == join("left", "2ms, 6ms")["j"].state_definition()


@given(events)
def test_matches_do_not_depend_on_which_topic_is_read_first(records: list[Event]) -> None:
    closing = [Event("left", 9, 1_000), Event("right", 9, 2_000)]
    results = []
    for first in ("left", "right"):
        ordered = [*sorted(records, key=lambda event: event.side != first), *closing]
        found = run("left", [[event] for event in ordered])
        results.append(Counter((ordered[left], right is not None) for left, right in found.pairs))

    assert results[0] == results[1]


@given(st.lists(events), st.sampled_from(["inner", "left"]))
def test_every_left_record_is_matched_unmatched_open_or_late(batches: list[list[Event]], kind: str) -> None:
    found = run(kind, batches)

    entries = [
        entry
        for number, segment in found.state.of(PLACE)["j"].items()
        if number % 2 == 0 and number > -1_000_000
        for stored in segment.values()
        for entry in stored
    ]
    still_open = sum(not matched for _, _, matched in entries)
    counts = found.counts.outcomes
    left = sum(event.side == "left" for batch in batches for event in batch)
    if batches:
        assert counts["left"] == left
        assert left == counts["matched"] + counts["unmatched"] + still_open + counts["left_late"]
        assert counts["left_late"] == len(found.late_left)


@given(st.lists(events, min_size=1), st.sampled_from(["inner", "left"]))
def test_the_changelog_restores_the_state_of_a_join(batches: list[list[Event]], kind: str) -> None:
    state = run(kind, batches).state
    restored = StreamState({"j": "changelog"}, {"j": ("views", "clicks")})
    for batch, partition in state.changelog_batches():
        rows = len(batch)
        place = TopicPartition("changelog", partition)
        assert batch.keys is not None
        restored.restore(ConsumedBatch(place, list(range(rows)), batch.keys, batch.values, [0] * rows, [()] * rows))

    assert restored.of(PLACE)["j"] == state.of(PLACE)["j"]


def test_records_that_can_have_no_further_match_are_not_kept() -> None:
    found = run("inner", [[Event(side, 1, time) for side in ("left", "right")] for time in range(0, 1_000, 5)])

    segments = found.state.of(PLACE)["j"].values()
    kept = [
        entry for segment in segments for stored in segment.values() if isinstance(stored, list) for entry in stored
    ]
    assert 0 < len(kept) < 16


@pytest.mark.parametrize("key", [[1], {"a": 1}])
def test_a_key_that_is_not_a_scalar_refuses_its_record(key: Any) -> None:
    rows = Rows([None] * 2, [{"id": 1}, {"id": key}], [0, 0], [7, 8])

    made = join("inner")["j.left"].process(rows, TABLES, {})

    assert [(item.origin, item.error.code) for item in made.refusals] == [(8, "stream.wrong_type")]
    assert made.streams[""].keys == [1]
