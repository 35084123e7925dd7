"""Always-valid tests: the evidence may be examined any number of times, and each examination may decide.

A classical test that is looked at every 500 users finds a false winner in a third of all A/A experiments. The mixture
sequential probability ratio test (Johari, Pekelis and Walsh, Always Valid Inference, 2015) and its confidence sequence
(Howard and others, Time-uniform, Nonparametric, Nonasymptotic Confidence Sequences, 2021) keep their error rate over
all looks together. Conversions are counted for each unit (user), because the impressions of one user are not
independent: the rate is a ratio of sums over units, and its variance comes from the delta method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headrace_streams.exploration.special import Floats, x_log_y


@dataclass(frozen=True)
class Sample:
    """Sums over the n units of a version: conversions y, impressions x, and their squares and product."""

    units: int
    conversions: float
    impressions: float
    conversions_squared: float
    impressions_squared: float
    product: float

    @classmethod
    def of_counts(cls, units: int, conversions: int) -> Sample:
        """Return the sample of units with one impression each."""
        return cls(units, conversions, units, conversions, units, conversions)

    @property
    def rate(self) -> float:
        """Conversions for each impression; 0 without impressions."""
        return self.conversions / self.impressions if self.impressions else 0.0

    def variance(self, rate: float) -> float:
        """Return the variance of the rate by the delta method, if ``rate`` is the true rate; infinite without units."""
        if self.units < 2 or self.impressions <= 0:
            return math.inf
        squares = (self.conversions_squared - 2 * rate * self.product + rate * rate * self.impressions_squared) - (
            self.conversions - rate * self.impressions
        ) ** 2 / self.units
        mean_impressions = self.impressions / self.units
        return max(squares / self.units, 0.0) / (mean_impressions**2 * self.units)


@dataclass(frozen=True)
class VersionComparison:
    """Evidence about a version against the current one at one look.

    ``p_value`` is always valid: the smallest over all looks so far. ``low`` and ``high`` bound the difference of the
    rates with probability 1 - alpha at all looks together.
    """

    difference: float
    low: float
    high: float
    p_value: float
    enough: bool
    missing: str
    """What is missing before a verdict may be given; empty if nothing is."""

    def verdict(self, alpha: float) -> str:
        """Return ``better``, ``worse``, ``undecided``, or ``too early``."""
        if not self.enough:
            return "too early"
        if self.p_value > alpha:
            return "undecided"
        return "better" if self.difference > 0 else "worse"


def compare(
    current: Sample,
    version: Sample,
    *,
    alpha: float = 0.05,
    expected_lift: float = 0.15,
    least_conversions: float = 100,
    previous_p_value: float = 1.0,
) -> VersionComparison:
    """Return the comparison of two versions at this look.

    The mixture is normal with standard deviation ``expected_lift`` times the current rate: the test is most powerful
    for lifts of about that size, and valid for every size. ``least_conversions`` are needed in each version, because
    the test relies on rates that are close to normal.
    """
    pooled = (current.conversions + version.conversions) / max(current.impressions + version.impressions, 1e-300)
    difference = version.rate - current.rate
    variance = current.variance(pooled) + version.variance(pooled)
    prior = (expected_lift * pooled) ** 2
    missing = "; ".join(
        f"{least_conversions - sample.conversions:.0f} more conversions of {name}"
        for name, sample in (("the current version", current), ("the new version", version))
        if sample.conversions < least_conversions
    )
    if not (math.isfinite(variance) and variance > 0 and prior > 0):
        return VersionComparison(
            difference, -math.inf, math.inf, previous_p_value, False, missing or "outcomes of more units"
        )
    log_ratio = float(mixture_log_ratio(difference, variance, prior))
    p_value = previous_p_value if missing else min(previous_p_value, math.exp(-max(log_ratio, 0.0)))
    half = confidence_half_width(variance, prior, alpha)
    return VersionComparison(difference, difference - half, difference + half, p_value, not missing, missing)


def mixture_log_ratio(difference: Floats | float, variance: Floats | float, prior: Floats | float) -> Floats:
    """Return the log of the likelihood ratio of the normal mixture against no difference; evidence when it is large."""
    ratio: Floats = np.asarray(
        0.5 * np.log(variance / (variance + prior)) + difference**2 * prior / (2 * variance * (variance + prior))
    )
    return ratio


def confidence_half_width(variance: float, prior: float, alpha: float) -> float:
    """Return half the width of the confidence sequence of a normal mean with a normal mixture of variance ``prior``."""
    return math.sqrt(
        variance * (variance + prior) / prior * (2 * math.log(1 / alpha) + math.log((variance + prior) / variance))
    )


def sample_ratio_p_value(counts: Mapping[str, int], shares: Mapping[str, float], *, strength: float = 1000.0) -> float:
    """Return the p-value of "units arrive in the configured shares" at this look; valid over all looks.

    The Bayes factor of a Dirichlet mixture around the configured shares (Lindon and Malek, Anytime-Valid Inference for
    Multinomial Count Data, 2022). A small value means that units are lost or counted twice in one version: no result
    of such an experiment can be trusted.

    Raises:
        ValueError: a version has units and no share.
    """
    if stray := next((name for name, count in counts.items() if count and not shares.get(name)), None):
        raise ValueError(f"version {stray!r} has units and no share of the traffic")
    log_factor = 0.0
    total_prior = total_count = 0.0
    for name, share in shares.items():
        if share <= 0:
            continue
        count = counts.get(name, 0)
        prior = strength * share
        log_factor += math.lgamma(prior + count) - math.lgamma(prior) - float(x_log_y(count, share))
        total_prior += prior
        total_count += count
    log_factor -= math.lgamma(total_prior + total_count) - math.lgamma(total_prior)
    return min(1.0, math.exp(-max(min(log_factor, 700.0), 0.0)))
