"""How long an experiment needs to find a difference, by simulation of the always-valid test that decides it.

Each simulated experiment draws conversions of both versions between two looks and evaluates the test of ``sequential``
at each look: no normal approximation, and the conversions that both versions need before a verdict are counted. Units
with several impressions are not independent: ``design_effect`` (Kish 1965) divides their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace_streams.exploration.sequential import mixture_log_ratio

RUNS = 1_000


@dataclass(frozen=True)
class ExperimentDesign:
    """An experiment before it starts. Shares are parts of all impressions."""

    rate: float
    """Conversions for each impression of the current version."""
    impressions_per_day: float
    days: float
    """The longest duration."""
    current_share: float
    version_share: float
    alpha: float = 0.05
    expected_lift: float = 0.15
    least_conversions: float = 100
    design_effect: float = 1.0
    looks_per_day: int = 24

    def __post_init__(self) -> None:
        for name in ("rate", "current_share", "version_share", "alpha"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name):g}")
        if self.current_share + self.version_share > 1 + 1e-9:
            raise ValueError("the shares of both versions are above 100 % together")
        if not (self.impressions_per_day > 0 and self.days > 0 and self.design_effect >= 1):
            raise ValueError("impressions and days must be above 0, and the design effect at least 1")


@dataclass(frozen=True)
class Power:
    """What simulated experiments with one lift found. Days are NaN if less than that part found it."""

    lift: float
    found: float
    """Share of the experiments that found the version better (with a lift of 0: better or worse) in time."""
    wrong: float
    """Share that found the opposite."""
    median_days: float
    days_80: float
    """Days after which 80 % of all experiments have found it."""
    by_day: npt.NDArray[np.float64]
    """Share of the experiments that have found it by the end of each day."""


def simulate(design: ExperimentDesign, lift: float, *, runs: int = RUNS, seed: int = 0) -> Power:
    """Return what ``runs`` experiments find if the version's rate is (1 + lift) times the current one.

    Raises:
        ValueError: the rate of the version would be above 1.
    """
    if not 0 < design.rate * (1 + lift) < 1:
        raise ValueError(f"a lift of {lift:.0%} gives no rate between 0 and 1")
    random = np.random.default_rng(seed)
    looks = math.ceil(design.days * design.looks_per_day)
    each = design.impressions_per_day / design.looks_per_day / design.design_effect
    sizes, conversions = [], []
    for share, rate in ((design.current_share, design.rate), (design.version_share, design.rate * (1 + lift))):
        size = np.floor(np.arange(1, looks + 1) * each * share)
        sizes.append(size)
        conversions.append(
            random.binomial(np.diff(size, prepend=0).astype(np.int64), rate, (runs, looks)).cumsum(axis=1)
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (conversions[0] + conversions[1]) / (sizes[0] + sizes[1])
        rates = [counted / size for counted, size in zip(conversions, sizes, strict=True)]
        difference = rates[1] - rates[0]
        variance = sum(observed * (1 - observed) / size for observed, size in zip(rates, sizes, strict=True))
        ratio = mixture_log_ratio(difference, variance, (design.expected_lift * pooled) ** 2)
    enough = np.minimum(conversions[0], conversions[1]) * design.design_effect >= design.least_conversions
    decided = enough & (ratio >= math.log(1 / design.alpha))
    first = np.where(decided.any(axis=1), decided.argmax(axis=1), -1)
    sign = np.take_along_axis(difference, np.maximum(first, 0)[:, None], axis=1)[:, 0]
    right = (first >= 0) & ((sign > 0) if lift > 0 else (sign < 0) if lift < 0 else True)
    days = np.where(right, (first + 1) / design.looks_per_day, np.inf)
    ends = np.arange(1, math.ceil(design.days) + 1)
    return Power(
        lift=lift,
        found=float(right.mean()),
        wrong=float(((first >= 0) & ~right).mean()),
        median_days=_quantile(days, 0.5),
        days_80=_quantile(days, 0.8),
        by_day=(days[:, None] <= ends).mean(axis=0),
    )


def _quantile(days: npt.NDArray[np.float64], part: float) -> float:
    found = float(np.sort(days)[math.ceil(part * len(days)) - 1])
    return found if math.isfinite(found) else math.nan
