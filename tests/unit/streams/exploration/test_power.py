"""Plans: what simulated experiments find, and that they are decided by the test that decides real ones."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from headrace_streams.exploration.power import ExperimentDesign, simulate
from headrace_streams.exploration.sequential import Sample, compare, mixture_log_ratio

DESIGN = ExperimentDesign(
    rate=0.05, impressions_per_day=4_000, days=10, current_share=0.5, version_share=0.5, looks_per_day=8
)


def test_without_a_difference_at_most_5_percent_of_2_000_experiments_find_one() -> None:
    assert simulate(DESIGN, 0.0, runs=2_000).found <= 0.05


def test_a_lift_of_20_percent_is_found_in_at_least_90_percent_with_40_000_impressions() -> None:
    found = simulate(DESIGN, 0.2)
    assert found.found >= 0.9
    assert found.wrong <= 0.005
    assert 2 < found.median_days < found.days_80 < 10
    assert found.by_day[-1] == found.found


def test_simulated_experiments_are_decided_as_real_ones() -> None:
    """The same conversions, evaluated look by look by ``compare``, give the same decisions."""
    looks, size = 80, 250
    random = np.random.default_rng(4)
    runs = 60
    current = random.binomial(size, 0.05, (runs, looks)).cumsum(axis=1)
    version = random.binomial(size, 0.06, (runs, looks)).cumsum(axis=1)
    sizes = np.arange(1, looks + 1) * size
    pooled = (current + version) / (2 * sizes)
    variance = sum(counted / sizes * (1 - counted / sizes) / sizes for counted in (current, version))
    ratio = mixture_log_ratio((version - current) / sizes, variance, (0.15 * pooled) ** 2)
    decided = (np.minimum(current, version) >= 100) & (ratio >= math.log(20))
    for run in range(runs):
        p_value, found = 1.0, []
        for look in range(looks):
            result = compare(
                Sample.of_counts(int(sizes[look]), int(current[run, look])),
                Sample.of_counts(int(sizes[look]), int(version[run, look])),
                previous_p_value=p_value,
            )
            p_value = result.p_value
            found.append(result.verdict(0.05) in ("better", "worse"))
        assert found == np.logical_or.accumulate(decided[run]).tolist()


def test_less_traffic_a_smaller_lift_and_users_with_many_impressions_take_longer() -> None:
    base = simulate(DESIGN, 0.3).median_days
    assert simulate(replace(DESIGN, version_share=0.1, current_share=0.9), 0.3).median_days > base
    assert simulate(DESIGN, 0.15).median_days > base
    assert simulate(replace(DESIGN, design_effect=2.0), 0.3).median_days > 1.5 * base


def test_a_difference_that_is_not_found_in_time_has_no_days() -> None:
    found = simulate(replace(DESIGN, days=1), 0.05)
    assert found.found < 0.5
    assert math.isnan(found.median_days)
    assert math.isnan(found.days_80)


def test_plans_can_be_computed_again() -> None:
    assert simulate(DESIGN, 0.1, runs=50).by_day.tolist() == simulate(DESIGN, 0.1, runs=50).by_day.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.0}, "rate must be between 0 and 1"),
        ({"version_share": 0.6}, "above 100 %"),
        ({"impressions_per_day": 0.0}, "above 0"),
        ({"design_effect": 0.5}, "at least 1"),
    ],
)
def test_impossible_designs_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DESIGN, **change)  # type: ignore[arg-type]


def test_a_lift_above_every_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="no rate between 0 and 1"):
        simulate(replace(DESIGN, rate=0.6), 1.0)
