"""The reward model of the doubly robust estimator learns from other impressions only."""

from __future__ import annotations

import numpy as np
import pytest

from headrace_streams.exploration.off_policy import evaluate
from headrace_streams.exploration.reward_model import TargetDistribution, cross_fit


def distribution(shares: list[float], impressions: int) -> TargetDistribution:
    count = len(shares)
    return TargetDistribution(
        np.repeat(np.arange(impressions), count), np.tile(np.arange(count), impressions), np.tile(shares, impressions)
    )


def test_the_outcome_of_an_impression_does_not_change_its_own_expected_reward() -> None:
    random = np.random.default_rng(1)
    selected, user = random.integers(0, 3, 200), random.integers(0, 50, 200)
    reward = (random.random(200) < 0.3).astype(float)
    target = distribution([0.2, 0.3, 0.5], 200)
    before = cross_fit(selected, reward, user, target)
    changed = reward.copy()
    changed[user == user[0]] = 1 - changed[user == user[0]]
    after = cross_fit(selected, changed, user, target)
    assert after.logged[0] == before.logged[0]
    assert after.target[0] == before.target[0]
    assert (after.logged != before.logged).any()


def test_expected_rewards_approach_the_rates_of_the_surveys() -> None:
    random = np.random.default_rng(2)
    rates = np.array([0.1, 0.3])
    selected = random.integers(0, 2, 40_000)
    reward = (random.random(40_000) < rates[selected]).astype(float)
    found = cross_fit(selected, reward, np.arange(40_000), distribution([0.25, 0.75], 40_000))
    assert found.logged[selected == 0].mean() == pytest.approx(0.1, abs=0.01)
    assert found.target.mean() == pytest.approx(0.25, abs=0.01)


def test_the_doubly_robust_interval_is_narrower_with_the_reward_model() -> None:
    random = np.random.default_rng(3)
    rates = np.linspace(0.05, 0.6, 8)
    selected = random.integers(0, 8, 8_000)
    reward = (random.random(8_000) < rates[selected]).astype(float)
    shares = np.full(8, 0.02)
    shares[6:] = 0.44
    expected = cross_fit(selected, reward, np.arange(8_000), distribution(shares.tolist(), 8_000))
    found = evaluate(reward, np.full(8_000, 1 / 8), shares[selected], expected.logged, expected.target)
    assert found.dr.standard_error < 0.8 * found.ips.standard_error
    assert found.dr.low <= float(shares @ rates) <= found.dr.high
