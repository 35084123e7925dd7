"""Of the records of a key within a time the first is kept, however the records are divided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_streams.configuration import ApplicationKeys
from headrace_streams.operators.operator import Operator
from headrace_streams.planning import make_plan
from headrace_streams.rows import Rows
from tests.unit.examples import packed
from tests.unit.streams.operator_runs import PARTITION, OperatorRun, restored, run_operator

Click = tuple[int | None, int]
"""User, event time."""
batches_of_clicks = st.lists(st.lists(packed([0, 1, None], [*range(61), *range(-15, 0)])))
spans = st.sampled_from([1, 3, 10])
graces = st.sampled_from([0, 2, 20])


@cache
def deduplicate(within: int, grace: int, by: str = "user") -> Operator:
    step = {"by": by, "within": str(within), "grace": str(grace)}
    steps = {f"steps.w.deduplicate.{name}": text for name, text in step.items()}
    plan, findings = make_plan("app", ApplicationKeys.parse({"inputs.clicks": "views", **steps, "outputs.out": "w"}))
    assert findings == []
    return plan.steps[0].operator


def as_rows(batch: Sequence[Click], first: int) -> Rows:
    offsets = list(range(first, first + len(batch)))
    values = [{"user": user, "n": offset} for (user, _), offset in zip(batch, offsets, strict=True)]
    return Rows([None] * len(batch), values, [time for _, time in batch], offsets)


def run(within: int, grace: int, batches: Iterable[Sequence[Click]]) -> OperatorRun:
    return run_operator(deduplicate(within, grace), batches, as_rows)


def naive(records: Sequence[Click], within: int, grace: int) -> tuple[list[int], list[int]]:
    """Compare each record with all that were kept before; return the offsets of kept and late records."""
    kept: list[int] = []
    late: list[int] = []
    for offset, (user, time) in enumerate(records):
        if time < max(moment for _, moment in records[: offset + 1]) - grace:
            late.append(offset)
        elif not any(records[n][0] == user and abs(records[n][1] - time) <= within for n in kept):
            kept.append(offset)
    return kept, late


@given(batches_of_clicks, spans, graces)
def test_kept_and_late_records_are_those_of_one_computation_over_all_records(
    batches: list[list[Click]], within: int, grace: int
) -> None:
    results, late, _ = run(within, grace, batches)

    expected = naive([record for batch in batches for record in batch], within, grace)
    assert ([row["n"] for row in results], late) == expected


@given(batches_of_clicks, spans, graces)
def test_the_state_is_bounded_by_the_time_and_restored_from_its_changelog(
    batches: list[list[Click]], within: int, grace: int
) -> None:
    state = run(within, grace, batches).state

    content = state.of(PARTITION)["w"]
    now = max((time for batch in batches for _, time in batch), default=0)
    times = [moment for segment in content.values() for moment in segment.values() if isinstance(moment, int)]
    assert all(now - grace - 2 * within < moment <= now for moment in times)
    assert restored(state).of(PARTITION)["w"] == content


@pytest.mark.parametrize(
    ("times", "kept"),
    [
        pytest.param([0, 0], [0], id="the same time"),
        pytest.param([0, 10], [0], id="exactly the time later"),
        pytest.param([0, 11], [0, 1], id="more than the time later"),
        pytest.param([10, 0], [0], id="exactly the time earlier"),
        pytest.param([0, 8, 16], [0, 2], id="a duplicate does not extend the time"),
    ],
)
def test_what_a_duplicate_is(times: list[int], kept: list[int]) -> None:
    results, late, _ = run(10, 100, [[(1, time) for time in times]])

    assert [row["n"] for row in results] == kept
    assert late == []


def test_a_key_is_known_until_no_record_in_time_can_repeat_it() -> None:
    results, late, state = run(10, 0, [[(1, 8)], [(2, 12)], [(1, 18)], [(1, 31)], [(2, 60)]])

    assert [row["n"] for row in results] == [0, 1, 3, 4]
    assert late == []
    assert state.entries() == 3  # the last record, the stream time, and the account


def test_duplicates_are_counted_as_dropped_and_kept_records_keep_their_headers() -> None:
    rows = as_rows([(1, 0), (1, 5), (2, 5)], 0)
    rows.headers = [(("a", b"1"),), (), (("c", b"3"),)]

    made = deduplicate(10, 0).process(rows, {}, {})

    assert (made.dropped, made.late) == (1, 0)
    assert made.streams[""].headers == [(("a", b"1"),), (("c", b"3"),)]


def test_a_key_that_cannot_be_compared_refuses_its_record_only() -> None:
    rows = as_rows([(1, 0), ([], 1)], 0)  # type: ignore[list-item]

    made = deduplicate(10, 0).process(rows, {}, {})

    assert [(item.origin, item.error.code) for item in made.refusals] == [(1, "stream.wrong_type")]
    assert "step 'w': user: the key is an array or an object" in str(made.refusals[0].error)
