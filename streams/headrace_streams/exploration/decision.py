"""What to do with the versions of an experiment, from counts: a pure function, so that all callers get one answer.

The counts are of one allocation of the traffic. When the traffic changes, counting starts again: shares that change
would look like lost units, and versions would be compared over different times of the day.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from headrace_streams.exploration.sequential import Sample, VersionComparison, compare, sample_ratio_p_value

HOLDOUT = "holdout"
"""The name of the part of the traffic that gets uniform selections: it counts for the sample ratio, and is no version
that could win."""
Action = Literal["wait", "raise", "promote", "rollback", "stop"]
"""``wait``: change nothing. ``raise``: more traffic, see ``share``. ``promote``: the version becomes the current one.
``rollback``: no traffic for the version. ``stop``: end the test without a winner, and find the cause."""


@dataclass(frozen=True)
class DecisionRules:
    """The rules of an experiment."""

    alpha: float = 0.05
    """Probability of a false verdict, over all looks together; divided among the versions that are compared."""
    expected_lift: float = 0.15
    """The relative difference for which the test is most powerful; it is valid for all."""
    least_conversions: int = 100
    """Of each version, before any verdict."""
    longest: float = math.inf
    """Seconds after which a test without a verdict stops."""
    sample_ratio: float = 0.001
    """The p-value below which units are taken to be lost or counted twice."""
    calibration: tuple[float, float] = (0.8, 1.25)
    """The range of predicted / observed conversions in which a version may stay."""
    latency: float = math.inf
    """Milliseconds that at most 1 % of a version's selections over HTTP may take."""
    metric: str = ""
    """The column of a label with the business metric that must not get worse; empty: there is none."""
    metric_margin: float = 0.0
    """By how much it may be worse than that of the current version, as a part of that."""
    metric_higher_is_better: bool = False
    ramp: tuple[float, ...] = (0.05, 0.2, 0.5)
    """Shares of the traffic that a version gets one after the other while nothing speaks against it."""


@dataclass(frozen=True)
class VersionCounts:
    """What is counted of a version since the traffic was allocated."""

    sample: Sample
    """Selections with a final label, by unit."""
    units: int
    """Units that had a selection, labelled or not."""
    predicted: float = 0.0
    """Sum of the calibrated probabilities of the selections in ``sample``."""
    degraded: str = ""
    """Why the version cannot predict or learn; empty if it can."""
    metric: Sample = field(default_factory=lambda: Sample.of_counts(0, 0))
    """As ``sample``, of the business metric in place of conversions."""
    metric_events: int = 0
    """Selections whose metric is not 0."""
    timed: int = 0
    """Selections whose latency is known."""
    slow: int = 0
    """Those of them that took longer than the rules allow."""

    @property
    def calibration(self) -> float | None:
        """Predicted / observed conversions; None without either."""
        return self.predicted / self.sample.conversions if self.sample.conversions and self.predicted else None


@dataclass(frozen=True)
class VersionDecision:
    """What to do with a version, and why."""

    version: str
    action: Action
    reason: str
    missing: str = ""
    """What is missing before there can be a verdict; empty if nothing is."""
    share: float | None = None
    """The share of the traffic after ``raise``."""
    comparison: VersionComparison | None = None
    calibration: float | None = None

    def evidence(self) -> dict[str, object]:
        """Return the decision as a record of ``experiment-log`` has it. JSON has no infinity: a bound may be null."""
        found: dict[str, object] = {
            "version": self.version,
            "action": self.action,
            "reason": self.reason,
            "missing": self.missing,
            "share": self.share,
            "calibration": self.calibration,
        }
        if self.comparison is not None:
            found |= {
                "difference": self.comparison.difference,
                "low": _finite(self.comparison.low),
                "high": _finite(self.comparison.high),
                "p_value": self.comparison.p_value,
            }
        return found


@dataclass(frozen=True)
class ExperimentDecision:
    """The decisions about all versions but the current one."""

    current: str
    sample_ratio_p_value: float
    versions: Mapping[str, VersionDecision]

    def evidence(self) -> dict[str, object]:
        """Return everything as a record of ``experiment-log`` has it."""
        return {
            "current": self.current,
            "sample_ratio_p_value": self.sample_ratio_p_value,
            "versions": {name: item.evidence() for name, item in self.versions.items()},
        }


def decide(
    rules: DecisionRules,
    current: str,
    shares: Mapping[str, float],
    counts: Mapping[str, VersionCounts],
    *,
    age: float = 0.0,
    p_values: Mapping[str, float] | None = None,
) -> ExperimentDecision:
    """Return what to do at this look.

    ``shares`` are those of all versions with traffic, the current one and the holdout included. ``age`` is the time
    since the traffic was allocated, in seconds; ``p_values`` are those of the look before.

    Raises:
        ValueError: the current version has no share, or a version has units and no share.
    """
    if not shares.get(current):
        raise ValueError(f"the current version {current!r} has no share of the traffic to compare with")
    ratio = sample_ratio_p_value({name: item.units for name, item in counts.items()}, shares)
    compared = [name for name, share in shares.items() if name not in (current, HOLDOUT) and share > 0]
    made = {}
    for name in compared:
        item = counts.get(name, _NOTHING)
        comparison = compare(
            counts.get(current, _NOTHING).sample,
            item.sample,
            alpha=rules.alpha / len(compared),
            expected_lift=rules.expected_lift,
            least_conversions=rules.least_conversions,
            previous_p_value=(p_values or {}).get(name, 1.0),
        )
        worse = _worse_metric(rules, counts.get(current, _NOTHING), item, rules.alpha / len(compared))
        made[name] = _decide_one(
            rules, name, shares[name], item, comparison, ratio, rules.alpha / len(compared), age, worse
        )
    return ExperimentDecision(current, ratio, made)


def _decide_one(
    rules: DecisionRules,
    name: str,
    share: float,
    counts: VersionCounts,
    comparison: VersionComparison,
    ratio: float,
    alpha: float,
    age: float,
    worse_metric: str,
) -> VersionDecision:
    def made(action: Action, reason: str, to: float | None = None) -> VersionDecision:
        return VersionDecision(name, action, reason, comparison.missing, to, comparison, counts.calibration)

    if counts.degraded:
        return made("rollback", f"version {name} fails: {counts.degraded}")
    if ratio < rules.sample_ratio:
        return made(
            "stop",
            f"units do not arrive in the configured shares (p = {ratio:.2g}, below {rules.sample_ratio:g}): some are "
            "lost or counted twice, so no result of this test can be trusted",
        )
    low, high = rules.calibration
    if comparison.enough and counts.calibration is not None and not low <= counts.calibration <= high:
        return made(
            "rollback",
            f"predicted / observed conversions are {counts.calibration:.2f}, outside of {low:g} to {high:g}",
        )
    if counts.timed >= _LEAST_TIMED and _proportion_above(counts.slow, counts.timed) > _SLOW:
        return made(
            "rollback",
            f"{counts.slow:,} of {counts.timed:,} selections over HTTP took longer than {rules.latency:g} ms, and at "
            f"most {_SLOW:.0%} may",
        )
    if worse_metric:
        return made("rollback", worse_metric)
    verdict = comparison.verdict(alpha)
    interval = f"{comparison.difference:+.3%} ({comparison.low:+.3%} to {comparison.high:+.3%})"
    if verdict == "better":
        return made("promote", f"the rate of conversion is higher than that of the current version: {interval}")
    if verdict == "worse":
        return made("rollback", f"the rate of conversion is lower than that of the current version: {interval}")
    if age >= rules.longest:
        return made("stop", f"no verdict within the longest time of the test: {comparison.missing or interval}")
    if verdict == "too early":
        return made("wait", f"too early for a verdict: {comparison.missing}")
    if (to := next((step for step in rules.ramp if step > share + 1e-9), None)) is not None:
        return made("raise", f"nothing speaks against more traffic: {interval}", to)
    return made("wait", f"no difference is proven yet: {interval}")


def _worse_metric(rules: DecisionRules, current: VersionCounts, version: VersionCounts, alpha: float) -> str:
    """Return in which way the business metric of a version is worse, proven at all looks; empty if it is not."""
    if not rules.metric or current.metric_events + version.metric_events < rules.least_conversions:
        return ""
    found = compare(
        current.metric,
        version.metric,
        alpha=alpha,
        expected_lift=max(rules.metric_margin, rules.expected_lift),
        least_conversions=-math.inf,
    )
    margin = rules.metric_margin * abs(current.metric.rate)
    better = rules.metric_higher_is_better
    if (found.high >= -margin) if better else (found.low <= margin):
        return ""
    return (
        f"{rules.metric} is {'lower' if better else 'higher'} than that of the current version by more than "
        f"{rules.metric_margin:.0%}: {version.metric.rate:.4g} and {current.metric.rate:.4g} a selection"
    )


def _proportion_above(count: int, total: int) -> float:
    """Return the lower end of Wilson's interval at three standard errors, because there are many looks."""
    z = 3.0
    rate = count / total
    centre = rate + z * z / (2 * total)
    half = z * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    return (centre - half) / (1 + z * z / total)


_SLOW = 0.01
"""The part of the selections that may be slower: the limit is one of the 99th percentile."""
_LEAST_TIMED = 500
_NOTHING = VersionCounts(Sample.of_counts(0, 0), 0)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
