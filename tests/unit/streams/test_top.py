"""The first records of a group and window are those that sorting all records gives, however they are divided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_streams.configuration import ApplicationKeys
from headrace_streams.operators.operator import Operator
from headrace_streams.planning import make_plan
from headrace_streams.rows import Rows
from tests.unit.examples import packed
from tests.unit.streams.operator_runs import PARTITION, OperatorRun, restored, run_operator

SIZE, GRACE = 10, 4
Offer = tuple[str | None, int, int | None]
"""Country, event time, score."""
batches_of_offers = st.lists(st.lists(packed(["DE", "FR", None], [*range(61), *range(-15, 0)], [*range(6), None])))


@cache
def top(order: str, limit: int) -> Operator:
    step = {"by": "country", "tumbling": str(SIZE), "grace": str(GRACE), "order": order, "limit": str(limit)}
    steps = {f"steps.w.top.{name}": text for name, text in step.items()}
    plan, findings = make_plan("app", ApplicationKeys.parse({"inputs.offers": "views", **steps, "outputs.out": "w"}))
    assert findings == []
    return plan.steps[0].operator


def as_rows(batch: Sequence[Offer], first: int) -> Rows:
    offsets = list(range(first, first + len(batch)))
    values = [{"country": item[0], "score": item[2], "n": n} for item, n in zip(batch, offsets, strict=True)]
    return Rows([None] * len(batch), values, [time for _, time, _ in batch], offsets)


def run(order: str, limit: int, batches: Iterable[Sequence[Offer]]) -> OperatorRun:
    return run_operator(top(order, limit), batches, as_rows)


def naive(
    records: Sequence[Offer], limit: int, *, descending: bool
) -> tuple[list[tuple[int, str | None, int, int]], list[int]]:
    """Sort the records of each window; return window start, country, rank and offset of the first, and late offsets."""
    streamed = list(accumulate((time for _, time, _ in records), max))
    windows: dict[int, dict[str | None, list[int]]] = {}
    late = []
    for offset, (country, time, _) in enumerate(records):
        start = time // SIZE * SIZE
        if start + SIZE + GRACE <= streamed[offset]:
            late.append(offset)
        else:
            windows.setdefault(start, {}).setdefault(country, []).append(offset)
    found = []
    for start in sorted(windows):
        if start + SIZE + GRACE > streamed[-1]:
            continue
        for country, offsets in windows[start].items():

            def position(offset: int) -> tuple[bool, int, int]:
                score = records[offset][2]
                return score is None, (-score if descending else score) if score is not None else 0, offset

            best = sorted(offsets, key=position)[:limit]
            found += [(start, country, rank, offset) for rank, offset in enumerate(best, 1)]
    return found, late


def ranked(rows: Iterable[dict[str, Any]]) -> list[tuple[int, str | None, int, int]]:
    return [(row["window_start"], row["country"], row["rank"], row["n"]) for row in rows]


@given(batches_of_offers, st.sampled_from(["score", "score ASC", "score desc"]), st.integers(1, 3))
def test_ranks_and_late_records_are_those_of_one_computation_over_all_records(
    batches: list[list[Offer]], order: str, limit: int
) -> None:
    results, late, _ = run(order, limit, batches)

    records = [record for batch in batches for record in batch]
    assert (ranked(results), late) == naive(records, limit, descending=order.endswith("desc"))


@given(batches_of_offers, st.integers(1, 3))
def test_the_state_holds_at_most_the_limit_and_is_restored_from_its_changelog(
    batches: list[list[Offer]], limit: int
) -> None:
    state = run("score DESC", limit, batches).state

    content = state.of(PARTITION)["w"]
    entries = [entry for segment in content.values() for entry in segment.values() if isinstance(entry, list)]
    assert all(1 <= len(entry) <= limit for entry in entries)
    assert restored(state).of(PARTITION)["w"] == content


@pytest.mark.parametrize(("order", "offsets"), [("score DESC", [2, 0]), ("score", [0, 1])])
def test_of_equal_values_the_record_with_the_lower_offset_is_first(order: str, offsets: list[int]) -> None:
    results, _, _ = run(order, 2, [[("DE", 0, 1), ("DE", 1, 1)], [("DE", 2, 2), ("FR", 99, 0)]])

    assert [row["n"] for row in results] == offsets


def test_a_result_is_the_record_with_its_window_and_rank() -> None:
    rows = as_rows([("DE", 3, 7), ("DE", 99, 1)], 0)

    made = top("score DESC", 2).process(rows, {}, {}).streams[""]

    window = {"window_start": 0, "window_end": 10, "rank": 1}
    assert made.values == [{"country": "DE", "score": 7, "n": 0, **window}]
    assert (made.keys, made.times) == (["DE"], [9])


@pytest.mark.parametrize("score", ["x", [], {}])
def test_a_value_that_cannot_be_ordered_refuses_its_record_only(score: Any) -> None:
    rows = as_rows([("DE", 0, 1), ("DE", 1, score)], 0)

    made = top("score DESC", 1).process(rows, {}, {})

    assert [(item.origin, item.error.code) for item in made.refusals] == [(1, "stream.wrong_type")]
    assert "step 'w': country, score DESC: the group key or the value" in str(made.refusals[0].error)
