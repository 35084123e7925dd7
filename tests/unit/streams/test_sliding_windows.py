"""Sliding windows give what a computation over all records gives, however the records are divided into batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace_streams.configuration import ApplicationKeys
from headrace_streams.operators.operator import Operator
from headrace_streams.planning import make_plan
from headrace_streams.rows import Rows
from tests.unit.examples import packed
from tests.unit.streams.operator_runs import PARTITION, OperatorRun, restored, run_operator

View = tuple[int | None, int, int | None]
"""Group, event time, price."""
batches_of_views = st.lists(
    st.lists(packed([0, 1, None], [*range(61), *range(-15, 0)], [*range(6), *range(-5, 0), None]))
)
sizes = st.sampled_from([1, 3, 8])
graces = st.sampled_from([0, 2, 20])


@cache
def sliding(size: int, grace: int) -> Operator:
    aggregates = {"n": "count(*)", "prices": "count(price)", "total": "sum(price)", "low": "min(price)"}
    aggregates |= {"one": "first(price)", "end": "last(price)"}
    window = {"window.by": "user", "window.sliding": str(size), "window.grace": str(grace)}
    window |= {f"window.aggregate.{name}": text for name, text in aggregates.items()}
    steps = {f"steps.w.{name}": text for name, text in window.items()}
    plan, findings = make_plan("app", ApplicationKeys.parse({"inputs.views": "views", **steps, "outputs.out": "w"}))
    assert findings == []
    return plan.steps[0].operator


def as_rows(batch: Sequence[View], first: int) -> Rows:
    values = [{"user": user, "price": price} for user, _, price in batch]
    return Rows([None] * len(batch), values, [time for _, time, _ in batch], list(range(first, first + len(batch))))


def run(size: int, grace: int, batches: Iterable[Sequence[View]]) -> OperatorRun:
    return run_operator(sliding(size, grace), batches, as_rows)


def naive(records: Sequence[View], size: int, grace: int) -> tuple[list[dict[str, Any]], list[int]]:
    """Compute each window from all records; return the results by end and first record, and the late records."""
    seen = list(accumulate((time for _, time, _ in records), max))
    taken: list[int] = []
    late: list[int] = []
    for offset, (user, time, _) in enumerate(records):
        others = [records[other][1] for other in taken if records[other][0] == user]
        ends = {time, *others, *(other + 1 + size for other in others)}
        is_open = any(end - size <= time <= end and seen[offset] <= end + grace for end in ends)
        (taken if is_open else late).append(offset)
    found = []
    for user in {user for user, _, _ in records}:
        mine = [offset for offset in taken if records[offset][0] == user]
        ends = {records[offset][1] for offset in mine if seen[offset] <= records[offset][1] + grace}
        ends |= {records[offset][1] + 1 + size for offset in mine}
        for end in ends:
            within = [n for n in mine if end - size <= records[n][1] <= end and seen[n] <= end + grace]
            if within and seen[-1] > end + grace:
                found.append((end, within[0], result(user, end - size, end, [records[n][2] for n in within])))
    return [value for _, _, value in sorted(found, key=lambda item: item[:2])], late


def result(user: int | None, start: int, end: int, prices: Sequence[int | None]) -> dict[str, Any]:
    known = [price for price in prices if price is not None]
    value: dict[str, Any] = {"user": user, "window_start": start, "window_end": end, "n": len(prices)}
    value |= {"prices": len(known), "total": sum(known) if known else None, "low": min(known, default=None)}
    return value | {"one": known[0] if known else None, "end": known[-1] if known else None}


@given(batches_of_views, sizes, graces)
def test_results_and_late_records_are_those_of_one_computation_over_all_records(
    batches: list[list[View]], size: int, grace: int
) -> None:
    results, late, _ = run(size, grace, batches)

    assert (results, late) == naive([record for batch in batches for record in batch], size, grace)


@given(batches_of_views, sizes, graces)
def test_every_record_that_is_not_late_is_in_a_result(batches: list[list[View]], size: int, grace: int) -> None:
    numbered = [[(user, time, None) for user, time, _ in batch] for batch in batches]
    results, late, _ = run(size, grace, [*numbered, [(9, 10_000, None), (9, 20_000, None)]])

    # Every accepted record is in at least one window, so each time of a group is in one of its results.
    records = [record for batch in numbered for record in batch]
    for offset, (user, time, _) in enumerate(records):
        is_covered = any(row["user"] == user and row["window_start"] <= time <= row["window_end"] for row in results)
        assert is_covered or offset in late


@given(batches_of_views, sizes, graces)
def test_the_state_is_bounded_by_the_time_and_restored_from_its_changelog(
    batches: list[list[View]], size: int, grace: int
) -> None:
    state = run(size, grace, batches).state

    content = state.of(PARTITION)["w"]
    now = max((time for batch in batches for _, time, _ in batch), default=0)
    stored = [
        item
        for segment in content.values()
        for key, items in segment.items()
        if isinstance(items, list)
        for item in items
    ]
    assert all(now - grace - size - 1 <= item[0] <= now for item in stored)
    assert restored(state).of(PARTITION)["w"] == content


def test_a_time_far_ahead_closes_everything_before_it_at_once() -> None:
    results, late, _ = run(8, 2, [[(1, 0, 1), (1, 5, 2)], [(1, 10**15, 3)]])

    assert [(row["window_start"], row["window_end"], row["n"]) for row in results] == [
        (-8, 0, 1),
        (-3, 5, 2),
        (1, 9, 1),
    ]
    assert late == []


def test_the_shown_state_has_the_records_of_a_group_by_time() -> None:
    operator = sliding(8, 2)
    state = run_operator(operator, [[(1, 5, 4), (2, 6, 7), (1, 4, 3)]], as_rows).state.of(PARTITION)["w"]

    mine = {segment: entries for segment, entries in state.items() if 1 in entries}
    shown = operator.shown_state(1, mine)
    assert [(row["time"], row["total"]) for row in shown] == [(4, 3), (5, 4)]
