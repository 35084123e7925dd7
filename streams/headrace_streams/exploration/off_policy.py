"""Off-policy evaluation: estimates the conversions of a version from the log of another version.

Inverse propensity scoring (IPS), its self-normalised form (SNIPS; Swaminathan and Joachims, 2015) and the doubly
robust estimator (DR; Dudík, Langford and Li, 2011). Normal intervals are wrong when a few impressions carry all
weight: below an effective sample size of 2,000 there is no verdict (with 1,765 the interval of IPS held the true value
in 86 of 100 simulated logs, with 2,597 in 94). They are wrong, too, when a few conversions carry all weight: there is
no verdict below 30 effective conversions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace_streams.exploration.special import Floats

LEAST_SAMPLE_SIZE = 2000.0
LEAST_CONVERSIONS = 30.0


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
    effective_conversions: float
    """Number of equally weighted conversions that would carry as much information."""
    difference: Estimate
    """DR minus the logged value; the impressions are the same, so its interval is narrower than both suggest."""

    @property
    def reliable(self) -> bool:
        return self.effective_sample_size >= LEAST_SAMPLE_SIZE and self.effective_conversions >= LEAST_CONVERSIONS

    @property
    def reason(self) -> str:
        """The reason why there is no verdict; empty if there is one."""
        if self.effective_sample_size < LEAST_SAMPLE_SIZE:
            return (
                f"the effective sample size is {self.effective_sample_size:.0f} of {self.impressions} impressions, "
                f"below {LEAST_SAMPLE_SIZE:.0f}: log more impressions, or raise the floor of uniform exploration"
            )
        if self.effective_conversions < LEAST_CONVERSIONS:
            return (
                f"the {self.weighted_conversions} conversions weigh as much as {self.effective_conversions:.0f} equal "
                f"ones, below {LEAST_CONVERSIONS:.0f}: log more impressions"
            )
        return ""

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` than the logging policy, ``undecided``, or ``too early``."""
        if not self.reliable:
            return "too early"
        if self.difference.low <= 0 <= self.difference.high:
            return "undecided"
        return "better" if self.difference.value > 0 else "worse"


def evaluate(
    reward: Floats,
    logged_propensity: Floats,
    target_propensity: Floats,
    expected_logged: Floats | None = None,
    expected_target: Floats | None = None,
    unit: npt.NDArray[np.intp] | None = None,
) -> Evaluation:
    """Return the value of a target policy on n logged impressions. All arrays have shape (n,).

    ``reward`` of the logged selection; the probabilities that the logging and the target policy select it;
    ``expected_logged``: a reward model's prediction for the logged selection; ``expected_target``: its mean over the
    target policy's selections. The reward model must not have learned from these impressions. Without them DR is IPS.
    ``unit``: the number of each impression's user; standard errors are then those of independent users.

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
    doubly_robust = q_target + weights * (rewards - q_logged)
    units = np.arange(count) if unit is None else np.unique(unit, return_inverse=True)[1]
    return Evaluation(
        logged=_mean(rewards, units),
        ips=_mean(weights * rewards, units),
        snips=_self_normalised(weights, rewards, units),
        dr=_mean(doubly_robust, units),
        impressions=count,
        effective_sample_size=_effective_count(weights),
        weighted_conversions=int(((weights > 0) & (rewards > 0)).sum()),
        effective_conversions=_effective_count(weights * rewards),
        difference=_mean(doubly_robust - rewards, units),
    )


def _effective_count(weights: Floats) -> float:
    """Return the number of equal weights that have the same variance (Kish 1965); 0 without weight."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def _mean(values: Floats, units: npt.NDArray[np.intp]) -> Estimate:
    mean = float(values.mean())
    return Estimate(mean, _error_of_sum(values - mean, units) / len(values))


def _self_normalised(weights: Floats, rewards: Floats, units: npt.NDArray[np.intp]) -> Estimate:
    total = float(weights.sum())
    if total == 0:
        return Estimate(0.0, math.inf)
    value = float((weights * rewards).sum()) / total
    return Estimate(value, _error_of_sum(weights * (rewards - value), units) / total)


def _error_of_sum(centred: Floats, units: npt.NDArray[np.intp]) -> float:
    """Return the standard error of a sum whose terms are independent between units; infinite with one unit."""
    by_unit = np.bincount(units, centred)
    count = len(by_unit)
    return math.sqrt(float((by_unit**2).sum()) * count / (count - 1)) if count > 1 else math.inf
