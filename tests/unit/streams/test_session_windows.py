"""Sessions are those that a computation over all records gives, however the records are divided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.pipeline.stream.state import StreamState
from headrace_streams.configuration import ApplicationKeys
from headrace_streams.operators.operator import Operator
from headrace_streams.planning import make_plan
from headrace_streams.rows import Rows
from tests.unit.examples import packed
from tests.unit.streams.operator_runs import PARTITION, OperatorRun, restored, run_operator

View = tuple[int | None, int, int | None]
"""User, event time, price."""
batches_of_views = st.lists(
    st.lists(packed([0, 1, None], [*range(61), *range(-15, 0)], [*range(6), *range(-5, 0), None]))
)
gaps = st.sampled_from([1, 3, 4, 9])
graces = st.sampled_from([0, 2, 20])


@cache
def sessions(gap: int, grace: int) -> Operator:
    aggregates = {"n": "count(*)", "prices": "count(price)", "total": "sum(price)", "low": "min(price)"}
    aggregates |= {"high": "max(price)", "mean": "avg(price)", "one": "first(price)", "end": "last(price)"}
    window = {"window.by": "user", "window.session": str(gap), "window.grace": str(grace)}
    window |= {f"window.aggregate.{name}": text for name, text in aggregates.items()}
    steps = {f"steps.w.{name}": text for name, text in window.items()}
    plan, findings = make_plan("app", ApplicationKeys.parse({"inputs.views": "views", **steps, "outputs.out": "w"}))
    assert findings == []
    return plan.steps[0].operator


def as_rows(batch: Sequence[View], first: int) -> Rows:
    values = [{"user": user, "price": price} for user, _, price in batch]
    return Rows([None] * len(batch), values, [time for _, time, _ in batch], list(range(first, first + len(batch))))


def run(gap: int, grace: int, batches: Iterable[Sequence[View]]) -> OperatorRun:
    return run_operator(sessions(gap, grace), batches, as_rows)


@dataclass
class NaiveSession:
    """A session as the list of its records: offset, time, price."""

    user: int | None
    records: list[tuple[int, int, int | None]] = field(default_factory=list)

    @property
    def start(self) -> int:
        return min(time for _, time, _ in self.records)

    @property
    def end(self) -> int:
        return max(time for _, time, _ in self.records)

    @property
    def first_offset(self) -> int:
        return min(self.records)[0]

    def result(self) -> dict[str, Any]:
        known = [price for _, _, price in sorted(self.records) if price is not None]
        value: dict[str, Any] = {"user": self.user, "window_start": self.start, "window_end": self.end}
        value |= {"n": len(self.records), "prices": len(known), "total": sum(known) if known else None}
        value |= {"low": min(known, default=None), "high": max(known, default=None)}
        value |= {"mean": sum(known) / len(known) if known else None}
        return value | {"one": known[0] if known else None, "end": known[-1] if known else None}


def naive(records: Sequence[View], gap: int, grace: int) -> tuple[list[dict[str, Any]], list[int]]:
    """Compute all sessions record by record, and search all of them for each."""
    now: int | None = None
    found: list[NaiveSession] = []
    closed: list[NaiveSession] = []
    late = []
    for offset, (user, time, price) in enumerate(records):
        now = time if now is None else max(now, time)
        ended = [session for session in found if session.end + gap + grace < now]
        closed += sorted(ended, key=attrgetter("end", "first_offset"))
        found = [session for session in found if session not in ended]
        near = [item for item in found if item.user == user and item.start - gap <= time <= item.end + gap]
        if not near and time + gap + grace < now:
            late.append(offset)
            continue
        merged = NaiveSession(user, [(offset, time, price), *(record for item in near for record in item.records)])
        found = [session for session in found if session not in near] + [merged]
    return [session.result() for session in closed], late


@given(batches_of_views, gaps, graces)
def test_results_and_late_records_are_those_of_one_computation_over_all_records(
    batches: list[list[View]], gap: int, grace: int
) -> None:
    results, late, _ = run(gap, grace, batches)

    assert (results, late) == naive([record for batch in batches for record in batch], gap, grace)


@given(batches_of_views, gaps)
def test_without_late_records_sessions_are_the_records_in_order_divided_at_gaps(
    batches: list[list[View]], gap: int
) -> None:
    end = [(9, 1_000, None)]  # closes everything
    results, late, _ = run(gap, 100, [*batches, end])

    expected = set()
    for user in (None, 0, 1):
        times = sorted(time for batch in batches for who, time, _ in batch if who == user)
        breaks = [0, *(n + 1 for n, (one, next_) in enumerate(pairwise(times)) if next_ - one > gap), len(times)]
        parts = [times[first:last] for first, last in pairwise(breaks) if times]
        expected |= {(user, part[0], part[-1], len(part)) for part in parts}
    assert late == []
    assert {(row["user"], row["window_start"], row["window_end"], row["n"]) for row in results} == expected


@given(batches_of_views, gaps, graces)
def test_every_record_is_in_a_result_in_an_open_session_or_late(
    batches: list[list[View]], gap: int, grace: int
) -> None:
    results, late, state = run(gap, grace, batches)

    in_results = sum(row["n"] for row in results)
    assert sum(map(len, batches)) == in_results + sum(item[3] for item in open_sessions(state)) + len(late)


@given(batches_of_views, gaps, graces)
def test_the_state_holds_only_sessions_that_are_open(batches: list[list[View]], gap: int, grace: int) -> None:
    state = run(gap, grace, batches).state

    now = max((time for batch in batches for _, time, _ in batch), default=0)
    assert all(now - gap - grace <= end for _, end, *_ in open_sessions(state))
    assert restored(state).of(PARTITION)["w"] == state.of(PARTITION)["w"]


def open_sessions(state: StreamState) -> list[Any]:
    segments = state.of(PARTITION)["w"].values()
    return [entry for segment in segments for entry in segment.values() if isinstance(entry, list)]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        pytest.param([0, 10], [(0, 10, 2)], id="a record a gap later is in the session"),
        pytest.param([0, 11], [(0, 0, 1), (11, 11, 1)], id="a record more than a gap later begins another"),
        pytest.param([0, 20, 10], [(0, 20, 3)], id="a record between two sessions merges them"),
        pytest.param([20, 10], [(10, 20, 2)], id="a record before a session extends it"),
        pytest.param([55, 45, 35, 25], [(25, 55, 4)], id="a record that alone would be late extends an open session"),
    ],
)
def test_what_a_session_is(times: list[int], expected: list[tuple[int, int, int]]) -> None:
    views = [(1, time, None) for time in times]
    results, late, _ = run(10, 10, [[*views, (2, 1_000, None)]])

    assert [(row["window_start"], row["window_end"], row["n"]) for row in results] == expected
    assert late == []


def test_a_record_next_to_a_session_that_has_closed_begins_another() -> None:
    # The session of 0 closes at stream time 11; the record of 1 could be in it, and is still open by itself.
    results, late, _ = run(10, 0, [[(1, 0, None), (2, 11, None), (1, 1, None), (2, 99, None)]])

    assert [(row["user"], row["window_start"], row["n"]) for row in results] == [(1, 0, 1), (1, 1, 1), (2, 11, 1)]
    assert late == []


def test_sessions_with_the_same_end_are_in_the_order_of_their_first_records() -> None:
    # The last record merges the third and the first.
    results, _, _ = run(10, 20, [[(1, 20, None), (2, 20, None), (1, 0, None), (1, 10, None), (3, 99, None)]])

    assert [(row["user"], row["n"]) for row in results] == [(1, 3), (2, 1)]


def test_first_and_last_of_merged_sessions_are_by_offset() -> None:
    results, _, _ = run(10, 10, [[(1, 20, 1), (1, 0, 2), (1, 10, 3), (2, 99, None)]])

    assert [(row["one"], row["end"]) for row in results] == [(1, 3)]


def test_a_value_of_a_wrong_type_refuses_its_record_only() -> None:
    rows = as_rows([(1, 0, 1), (1, 1, 2), ([], 2, 3)], 0)  # type: ignore[list-item]
    rows.values[1]["price"] = "x"

    made = sessions(10, 0).process(rows, {}, {})
    assert {(item.origin, item.error.code) for item in made.refusals} == {(1, "stream.wrong_type")}
    made = sessions(10, 0).process(rows.only([0, 2]), {}, {})
    assert [(item.origin, item.error.code) for item in made.refusals] == [(2, "stream.wrong_type")]
