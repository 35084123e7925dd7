"""Off-policy evaluation: what a version would have earned on the log of another one.

Inverse propensity scoring (IPS), its self-normalised form (SNIPS; Swaminathan and Joachims, 2015) and the doubly
robust estimator (DR; Dudík, Langford and Li, 2011). Normal intervals are wrong when a few impressions carry all
weight: below an effective sample size of 2,000 there is no verdict (with 1,765 the
interval of IPS held the true value in 86 of 100 simulated logs, with 2,597 in 94).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from headrace_streams.exploration.special import Floats

LEAST_SAMPLE_SIZE = 2000.0


@dataclass(frozen=True)
class Estimate:
    """Value of a policy (expected conversions for each impression) with a normal 95 % interval."""

    value: float
    standard_error: float

    @property
    def low(self) -> float:
        return self.value - 1.959963984540054 * self.standard_error

    @property
    def high(self) -> float:
        return self.value + 1.959963984540054 * self.standard_error


@dataclass(frozen=True)
class Evaluation:
    """Estimates of one policy on a log, and whether they may be relied on."""

    logged: Estimate
    ips: Estimate
    snips: Estimate
    dr: Estimate
    impressions: int
    effective_sample_size: float
    weighted_conversions: int
    """Conversions of impressions that the policy could have selected."""

    @property
    def reliable(self) -> bool:
        return self.effective_sample_size >= LEAST_SAMPLE_SIZE

    @property
    def reason(self) -> str:
        """Why there is no verdict; empty if there is one."""
        if self.reliable:
            return ""
        return (
            f"the effective sample size is {self.effective_sample_size:.0f} of {self.impressions} impressions, below "
            f"{LEAST_SAMPLE_SIZE:.0f}: log more impressions, or raise the floor of uniform exploration"
        )


def evaluate(
    reward: Floats,
    logged_propensity: Floats,
    target_propensity: Floats,
    expected_logged: Floats | None = None,
    expected_target: Floats | None = None,
) -> Evaluation:
    """Return the value of a target policy on n logged impressions. All arrays have shape (n,).

    ``reward`` of the logged selection; the probabilities that the logging and the target policy select it;
    ``expected_logged``: a reward model's prediction for the logged selection; ``expected_target``: its mean over the
    target policy's selections. The reward model must not have learned from these impressions. Without them DR is IPS.

    Raises:
        ValueError: the shapes differ, there is no impression, or a logged propensity is not positive.
    """
    arrays = [np.asarray(a, dtype=np.float64) for a in (reward, logged_propensity, target_propensity)]
    count = len(arrays[0])
    if count == 0 or any(array.shape != (count,) for array in arrays):
        raise ValueError(f"expected arrays of one length above 0, got shapes {[a.shape for a in arrays]}")
    if not (arrays[1] > 0).all():
        raise ValueError("every logged propensity must be above 0: an impression that could not happen was logged")
    rewards, logged, target = arrays
    q_logged = np.zeros(count) if expected_logged is None else np.asarray(expected_logged, dtype=np.float64)
    q_target = np.zeros(count) if expected_target is None else np.asarray(expected_target, dtype=np.float64)
    weights = target / logged
    total = float(weights.sum())
    size = total**2 / float((weights**2).sum()) if total else 0.0
    return Evaluation(
        logged=_mean(rewards),
        ips=_mean(weights * rewards),
        snips=_self_normalised(weights, rewards),
        dr=_mean(q_target + weights * (rewards - q_logged)),
        impressions=count,
        effective_sample_size=size,
        weighted_conversions=int(((weights > 0) & (rewards > 0)).sum()),
    )


def _mean(values: Floats) -> Estimate:
    count = len(values)
    error = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    return Estimate(float(values.mean()), error)


def _self_normalised(weights: Floats, rewards: Floats) -> Estimate:
    total = float(weights.sum())
    if total == 0:
        return Estimate(0.0, math.inf)
    value = float((weights * rewards).sum()) / total
    return Estimate(value, math.sqrt(float((weights**2 * (rewards - value) ** 2).sum())) / total)
