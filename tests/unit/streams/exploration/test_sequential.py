"""Sequential tests, valid for any number of looks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_streams.exploration.sequential import Sample, compare, sample_ratio_p_value

LOOK = 500
UNITS = 40_000
RATE = 0.05


def verdicts(runs: int, rate: float, lift: float, seed: int) -> list[str]:
    """Return the first verdict of each experiment with 50/50 traffic and a look every 500 users."""
    random = np.random.default_rng(seed)
    looks = UNITS // LOOK
    current = random.binomial(LOOK // 2, rate, (runs, looks)).cumsum(axis=1)
    version = random.binomial(LOOK // 2, rate * (1 + lift), (runs, looks)).cumsum(axis=1)
    found = []
    for a, b in zip(current.tolist(), version.tolist(), strict=True):
        p_value, verdict = 1.0, "undecided"
        for look, (conversions_a, conversions_b) in enumerate(zip(a, b, strict=True), 1):
            units = look * LOOK // 2
            result = compare(
                Sample.of_counts(units, conversions_a), Sample.of_counts(units, conversions_b), previous_p_value=p_value
            )
            p_value = result.p_value
            if (verdict := result.verdict(0.05)) in {"better", "worse"}:
                break
        found.append(verdict)
    return found


def test_an_a_a_experiment_has_a_false_winner_in_at_most_5_percent_of_2_000_runs() -> None:
    found = verdicts(2000, RATE, 0.0, seed=1)
    assert len(found) - found.count("undecided") <= 100


def test_a_lift_of_20_percent_is_found_in_at_least_90_percent() -> None:
    found = verdicts(500, RATE, 0.2, seed=2)
    assert found.count("better") >= 450
    assert found.count("worse") <= 2


def test_the_confidence_sequence_contains_the_difference_at_all_looks() -> None:
    random = np.random.default_rng(3)
    missed = 0
    for _ in range(400):
        a = random.binomial(LOOK, RATE, 60).cumsum()
        b = random.binomial(LOOK, RATE * 1.2, 60).cumsum()
        for look in range(1, 61):
            result = compare(
                Sample.of_counts(look * LOOK, int(a[look - 1])), Sample.of_counts(look * LOOK, int(b[look - 1]))
            )
            if result.enough and not result.low <= RATE * 0.2 <= result.high:
                missed += 1
                break
    assert missed <= 20


def test_without_enough_conversions_there_is_no_verdict_and_the_missing_number_is_given() -> None:
    result = compare(Sample.of_counts(5000, 250), Sample.of_counts(5000, 60))
    assert result.verdict(0.05) == "too early"
    assert result.missing == "40 more conversions of the new version"
    assert result.p_value == 1.0


def test_without_any_outcome_there_is_no_verdict() -> None:
    empty = Sample.of_counts(0, 0)
    result = compare(empty, empty, least_conversions=0)
    assert (result.verdict(0.05), result.missing) == ("too early", "outcomes of more units")


def test_users_with_many_impressions_widen_the_interval() -> None:
    """The delta method: ten impressions of one user that all convert are not ten independent conversions."""
    single = Sample.of_counts(10_000, 500)
    clustered = Sample(1000, 500, 10_000, 50 * 100, 1000 * 100, 50 * 100)
    assert clustered.rate == single.rate
    assert clustered.variance(0.05) == pytest.approx(10 * single.variance(0.05), rel=0.02)


@given(st.integers(2, 10_000), st.data())
def test_the_variance_of_independent_impressions_is_that_of_a_proportion(units: int, data: st.DataObject) -> None:
    conversions = data.draw(st.integers(0, units))
    rate = conversions / units
    assert Sample.of_counts(units, conversions).variance(rate) == pytest.approx(rate * (1 - rate) / units, abs=1e-12)


@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 1))
def test_the_p_value_never_rises(a: int, b: int, previous: float) -> None:
    result = compare(Sample.of_counts(1000, a), Sample.of_counts(1000, b), previous_p_value=previous)
    assert result.p_value <= previous


def sample_ratio_flags(share: float, runs: int, seed: int) -> int:
    random = np.random.default_rng(seed)
    flagged = 0
    for _ in range(runs):
        counts = random.binomial(LOOK, share, UNITS // LOOK).cumsum().tolist()
        flagged += any(
            sample_ratio_p_value({"v1": look * LOOK - n, "v2": n}, {"v1": 0.9, "v2": 0.1}) <= 0.01
            for look, n in enumerate(counts, 1)
        )
    return flagged


def test_the_sample_ratio_check_has_at_most_1_percent_false_alarms() -> None:
    assert sample_ratio_flags(0.10, 1000, seed=4) <= 10


def test_the_sample_ratio_check_finds_11_percent_instead_of_10() -> None:
    assert sample_ratio_flags(0.11, 100, seed=5) >= 95


def test_units_of_a_version_without_traffic_are_refused() -> None:
    with pytest.raises(ValueError, match="'v3' has units and no share"):
        sample_ratio_p_value({"v1": 10, "v3": 1}, {"v1": 1.0})


def test_huge_counts_do_not_overflow() -> None:
    assert sample_ratio_p_value({"a": 10**9, "b": 0}, {"a": 0.5, "b": 0.5}) < 1e-100
    assert math.isclose(sample_ratio_p_value({"a": 0, "b": 0}, {"a": 0.5, "b": 0.5}), 1.0)
