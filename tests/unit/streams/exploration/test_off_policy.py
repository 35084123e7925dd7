"""Off-policy evaluation: the reward of a version, estimated from the log of another one."""

from __future__ import annotations

import numpy as np
import pytest

from headrace_streams.exploration.off_policy import LEAST_SAMPLE_SIZE, Evaluation, evaluate

SURVEYS, GROUPS = 40, 24


class LoggedWorld:
    """Groups of users and surveys with known rates; a policy is a table of probabilities."""

    def __init__(self, seed: int) -> None:
        self.random = random = np.random.default_rng(seed)
        self.rates = 1 / (1 + np.exp(3.6 - random.normal(0, 0.6, SURVEYS) - random.normal(0, 0.35, (GROUPS, 1))))
        belief = np.log(self.rates) + random.normal(0, 0.35, self.rates.shape)
        sharp = np.exp(belief / 0.15 - (belief / 0.15).max(axis=1, keepdims=True))
        self.logging = 0.9 * sharp / sharp.sum(axis=1, keepdims=True) + 0.1 / SURVEYS
        best = (np.log(self.rates) + random.normal(0, 0.2, self.rates.shape)).argmax(axis=1)
        self.target = np.eye(SURVEYS)[best]

    def log(self, impressions: int) -> Evaluation:
        group = self.random.integers(0, GROUPS, impressions)
        # Group g's distribution function runs from g to g + 1 in one sorted array.
        steps = (self.logging.cumsum(axis=1) + np.arange(GROUPS)[:, None]).ravel()
        shown = np.searchsorted(steps, group + self.random.random(impressions)) - group * SURVEYS
        shown = shown.clip(0, SURVEYS - 1)
        reward = (self.random.random(impressions) < self.rates[group, shown]).astype(float)
        expected = np.broadcast_to(self.rates.mean(axis=0), self.rates.shape)
        return evaluate(
            reward,
            self.logging[group, shown],
            self.target[group, shown],
            expected[group, shown],
            (self.target * expected).sum(axis=1)[group],
        )

    @property
    def value(self) -> float:
        return float((self.target * self.rates).sum(axis=1).mean())


def test_intervals_with_a_verdict_contain_the_true_value_in_90_percent_of_the_logs() -> None:
    world = LoggedWorld(1)
    found = [world.log(90_000) for _ in range(40)]
    assert all(result.reliable for result in found)
    for name in ("ips", "snips", "dr"):
        inside = sum(getattr(r, name).low <= world.value <= getattr(r, name).high for r in found)
        assert inside >= 36, name


def test_a_small_effective_sample_gives_no_verdict_and_a_reason() -> None:
    result = LoggedWorld(1).log(10_000)
    assert not result.reliable
    assert result.effective_sample_size < LEAST_SAMPLE_SIZE
    assert "effective sample size" in result.reason
    assert "raise the floor" in result.reason


def test_few_conversions_give_no_verdict_and_a_reason() -> None:
    reward = np.zeros(10_000)
    reward[:20] = 1
    result = evaluate(reward, np.full(10_000, 0.5), np.full(10_000, 0.5))
    assert result.effective_sample_size == pytest.approx(10_000)
    assert result.effective_conversions == pytest.approx(20)
    assert result.verdict == "too early"
    assert result.reason == ("the 20 conversions weigh as much as 20 equal ones, below 30: log more impressions")


def test_verdicts_compare_with_the_logged_rate_on_the_same_impressions() -> None:
    """Selections with twice the rate get twice the probability: better; the opposite: worse; the same: undecided."""
    random = np.random.default_rng(6)
    good = random.random(20_000) < 0.5
    reward = (random.random(20_000) < np.where(good, 0.2, 0.1)).astype(float)
    logged = np.full(20_000, 0.5)
    assert evaluate(reward, logged, np.where(good, 0.7, 0.3)).verdict == "better"
    assert evaluate(reward, logged, np.where(good, 0.3, 0.7)).verdict == "worse"
    assert evaluate(reward, logged, logged).verdict == "undecided"


def test_impressions_of_one_user_widen_the_intervals() -> None:
    """Ten equal impressions of each user: the errors are those of a tenth of the log."""
    random = np.random.default_rng(7)
    reward = np.repeat((random.random(500) < 0.3).astype(float), 10)
    probability, user = np.full(5_000, 0.5), np.repeat(np.arange(500), 10)
    alone = evaluate(reward[::10], probability[::10], probability[::10])
    repeated = evaluate(reward, probability, probability, unit=user)
    for name in ("logged", "ips", "snips", "dr"):
        assert getattr(repeated, name).standard_error == pytest.approx(getattr(alone, name).standard_error)


def test_a_policy_evaluated_on_its_own_log_has_the_observed_rate() -> None:
    reward = np.array([0.0, 1, 0, 1, 1, 0, 0, 0])
    logged = np.linspace(0.1, 0.8, 8)
    result = evaluate(reward, logged, logged)
    assert result.ips.value == result.snips.value == result.dr.value == pytest.approx(reward.mean())
    assert result.effective_sample_size == pytest.approx(8)
    assert result.weighted_conversions == 3


def test_the_estimates_of_four_impressions_by_hand() -> None:
    """Weights 2, 0, 1, 4; the values are worked out from the formulas of the papers."""
    result = evaluate(
        np.array([1.0, 1, 0, 0]),
        np.array([0.5, 0.5, 0.5, 0.25]),
        np.array([1.0, 0, 0.5, 1.0]),
        np.array([0.5, 0.5, 0.25, 0.25]),
        np.array([0.5, 0.25, 0.25, 0.25]),
    )
    assert result.ips.value == pytest.approx(2 / 4)
    assert result.snips.value == pytest.approx(2 / 7)
    assert result.dr.value == pytest.approx((0.5 + 2 * 0.5 + 0.25 + 0.25 - 0.25 + 0.25 - 4 * 0.25) / 4)
    assert result.effective_sample_size == pytest.approx(49 / 21)


@pytest.mark.parametrize(
    ("logged", "message"), [([0.5, 0.0], "above 0"), ([0.5], "one length"), ([0.5, float("nan")], "above 0")]
)
def test_impossible_logs_are_refused(logged: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(np.array([0.0, 1.0]), np.array(logged), np.array([0.5, 0.5]))
