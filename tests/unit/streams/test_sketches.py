"""Approximate aggregates stay within their error and their memory, however values are divided into batches."""

from __future__ import annotations

import math
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.pipeline.stream import state_codec
from headrace_streams.configuration import ApplicationKeys
from headrace_streams.operators import distinct_count as distinct
from headrace_streams.operators import quantile_sketch as quantiles
from headrace_streams.operators.operator import Operator
from headrace_streams.planning import make_plan
from headrace_streams.rows import Rows
from tests.unit.examples import examples, packed
from tests.unit.streams.operator_runs import PARTITION, OperatorRun, restored, run_operator

numbers = st.integers(-(10**9), 10**9) | st.floats(-1e6, 1e6) | st.decimals(-1000, 1000, places=3)


def distinct_of(values: Any) -> distinct.Sketch:
    sketch: distinct.Sketch = None
    for value in values:
        sketch = distinct.add_distinct(sketch, value)
    return sketch


@given(st.lists(st.text(max_size=3) | numbers | st.none() | st.booleans(), max_size=distinct.EXACT))
def test_few_distinct_values_are_counted_exactly(values: list[Any]) -> None:
    assert distinct.distinct_count(distinct_of(values)) == len({_identity(value) for value in values})


def _identity(value: Any) -> tuple[bool, Any]:
    return isinstance(value, (bool, int, float, Decimal)), value


@given(st.integers(0, 1 << 60), st.integers(0, 8_000))
def test_many_distinct_values_are_counted_within_the_error(first: int, count: int) -> None:
    found = distinct.distinct_count(distinct_of(range(first, first + count)))

    assert abs(found - count) <= 5.5 * 0.01625 * count  # 5.5 standard errors: one in 25 million is outside


def test_the_standard_error_is_that_of_4096_registers() -> None:
    errors = []
    for number in range(60):
        values = range(number * 10**6, number * 10**6 + 3_000)
        errors.append(distinct.distinct_count(distinct_of(values)) / len(values) - 1)

    assert math.sqrt(sum(error * error for error in errors) / len(errors)) < 0.021
    assert abs(sum(errors) / len(errors)) < 0.008, "the estimate is biased"


@given(st.integers(0, 10**6), st.integers(0, 400), st.integers(0, 400), st.integers(0, 400))
def test_the_union_of_counts_is_the_count_of_the_union(first: int, one: int, both: int, other: int) -> None:
    left = range(first, first + one + both)
    right = range(first + one, first + one + both + other)
    merged = distinct.merge_distinct(distinct_of(left), distinct_of(right))

    whole = distinct_of(range(first, first + one + both + other))
    assert _content(merged) == _content(whole)


def _content(sketch: distinct.Sketch) -> Any:
    return sorted(sketch) if isinstance(sketch, list) else sketch


def test_counts_have_a_bounded_size() -> None:
    assert max(len(state_codec.encode([distinct_of(range(count))])[0]) for count in (128, 129, 30_000)) < 5_600


def rank_value(values: list[Any], share: float) -> float:
    return float(sorted(values, key=float)[math.floor(share * (len(values) - 1))])


def sketch_of(values: Any) -> quantiles.Sketch:
    sketch: quantiles.Sketch = {}
    for value in values:
        quantiles.add_value(sketch, value)
    return sketch


@given(st.lists(numbers, min_size=1), st.floats(0, 1))
def test_a_quantile_is_within_one_percent_of_the_value_of_its_rank(values: list[Any], share: float) -> None:
    expected = rank_value(values, share)
    found = quantiles.quantile(sketch_of(values), share)

    assert found is not None
    assert abs(found - expected) <= abs(expected) * quantiles.ACCURACY * (1 + 1e-9)


@given(st.lists(st.lists(numbers), min_size=1, max_size=4))
def test_merged_quantiles_are_those_of_all_values(parts: list[list[Any]]) -> None:
    merged: quantiles.Sketch = {}
    for part in parts:
        quantiles.add_sketch(merged, sketch_of(part))

    assert merged == sketch_of(value for part in parts for value in part)


def test_quantiles_have_a_bounded_size_and_high_ones_stay_exact() -> None:
    chance = random.Random(7)
    values = [chance.choice((1, -1)) * 10 ** chance.uniform(-100, 100) for _ in range(6_000)]
    sketch = sketch_of(values)

    assert len(sketch) <= quantiles.MOST_BUCKETS
    assert sum(sketch.values()) == len(values)
    expected = rank_value(values, 0.99)
    found = quantiles.quantile(sketch, 0.99)
    assert found is not None
    assert abs(found - expected) <= expected * quantiles.ACCURACY * (1 + 1e-9)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, Decimal("Infinity")])
def test_a_number_that_is_not_finite_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="not a finite number"):
        quantiles.add_value({}, value)


WINDOWS = {
    "tumbling": {"window.tumbling": "10"},
    "hopping": {"window.hopping": "10", "window.advance": "5"},
    "sliding": {"window.sliding": "9"},
    "session": {"window.session": "5"},
}
View = tuple[int, int]
"""Event time and price."""


def window(kind: str) -> Operator:
    keys = {"window.by": "user", "window.grace": "100", **WINDOWS[kind]}
    keys |= {"window.aggregate.users": "approx_count_distinct(price)"}
    keys |= {"window.aggregate.p90": "approx_quantile(price, 0.9)"}
    steps = {f"steps.w.{name}": text for name, text in keys.items()}
    plan, findings = make_plan("app", ApplicationKeys.parse({"inputs.views": "views", **steps, "outputs.out": "w"}))
    assert findings == []
    return plan.steps[0].operator


def as_rows(batch: Any, first: int) -> Rows:
    values = [{"user": 1, "price": price} for _, price in batch]
    return Rows([None] * len(batch), values, [time for time, _ in batch], list(range(first, first + len(batch))))


def run(kind: str, batches: Any) -> OperatorRun:
    return run_operator(window(kind), batches, as_rows)


@pytest.mark.parametrize("kind", WINDOWS)
@settings(max_examples=examples(0.5))  # each runs the windows three times
@given(batches=st.lists(st.lists(packed(range(41), [*range(1, 51), None]), min_size=1)))
def test_windows_have_equal_results_in_one_batch_and_after_a_restore(kind: str, batches: list[list[View]]) -> None:
    end = [(10_000, 7), (20_000, 7)]
    whole = run(kind, [[row for batch in batches for row in batch] + end])
    parts = run(kind, [*batches, end])

    assert parts.results == whole.results
    for row in whole.results:
        records = [record for batch in [*batches, end] for record in batch]
        inside = {price for time, price in records if row["window_start"] <= time <= row["window_end"]}
        assert row["users"] <= len(inside - {None})
    state = run(kind, batches).state
    assert restored(state).of(PARTITION)["w"] == state.of(PARTITION)["w"]


@pytest.mark.parametrize(
    "text", ["approx_quantile(price)", "approx_quantile(price, 2)", "approx_quantile(price, share)"]
)
def test_a_quantile_without_a_share_is_an_error(text: str) -> None:
    steps = {"steps.w.window.by": "user", "steps.w.window.tumbling": "10", "steps.w.window.grace": "0"}
    steps["steps.w.window.aggregate.p"] = text
    keys = ApplicationKeys.parse({"inputs.views": "views", **steps, "outputs.out": "w"})
    findings = [item for item in make_plan("app", keys)[1] if item.severity == "error"]
    assert [item.code for item in findings] in (["stream.unsupported"], ["stream.syntax"])
    assert findings[0].key == "steps.w.window.aggregate.p"
