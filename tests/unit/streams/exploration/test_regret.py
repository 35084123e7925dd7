"""The benchmark of the regret: an application learns in a simulated world, and rules that it is compared with."""

from __future__ import annotations

import pytest

from benchmarks.exploration import PairedReduction, SimulatedOutcome
from benchmarks.exploration_application import SHIPPED, simulate_application
from headrace_streams.exploration.policies import LinUcbPolicy, UniformPolicy
from headrace_streams.exploration.simulation import Size, World, simulate

WORLD = Size(impressions=2_000, live_surveys=8, base_rate=0.1)


def outcome(regret: float) -> SimulatedOutcome:
    return SimulatedOutcome(0.03, regret, 1.0, 0.01, 1.0)


def test_an_application_misses_fewer_conversions_than_chance() -> None:
    uniform = simulate(World(3, WORLD), UniformPolicy(3), staged=False)
    found = simulate_application(World(3, WORLD), SHIPPED, "3")
    assert found.impressions == uniform.impressions == 2_000
    assert found.best == pytest.approx(uniform.best)
    assert found.regret < 0.9 * uniform.regret


def test_the_same_world_and_salt_give_the_same_result() -> None:
    size = Size(impressions=400, live_surveys=5, base_rate=0.1)
    first, again = (simulate_application(World(1, size), SHIPPED, "1") for _ in range(2))
    assert first == again
    assert simulate_application(World(1, size), SHIPPED, "2") != first


def test_linucb_learns_which_surveys_convert() -> None:
    world = World(3, Size(impressions=4_000, live_surveys=8, base_rate=0.1))
    uniform = simulate(world, UniformPolicy(3))
    assert simulate(world, LinUcbPolicy(("country", "category"), alpha=0.1)).regret < 0.9 * uniform.regret


@pytest.mark.parametrize(
    ("shipped", "rule", "reached"),
    [
        ([70.0, 72.0, 68.0], [100.0, 100.0, 100.0], True),
        ([90.0, 92.0, 88.0], [100.0, 100.0, 100.0], False),  # less than 15 %
        ([20.0, 130.0, 95.0], [100.0, 100.0, 100.0], False),  # the interval has 0
    ],
)
def test_the_goal_needs_a_mean_of_15_percent_and_an_interval_above_0(
    shipped: list[float], rule: list[float], reached: bool
) -> None:
    found = PairedReduction.of([outcome(regret) for regret in shipped], [outcome(regret) for regret in rule])
    assert found.reaches_goal == reached
