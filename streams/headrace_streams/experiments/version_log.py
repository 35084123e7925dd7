"""What a log says about the versions of an experiment: what ``headrace experiment report`` computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace import ConfigError
from headrace_streams.experiments.experiment_plan import sample_of, times
from headrace_streams.experiments.impression_log import ImpressionLog, with_outcome
from headrace_streams.exploration.reward_model import Codes
from headrace_streams.exploration.screening import wilson
from headrace_streams.exploration.sequential import Sample, VersionComparison, compare, sample_ratio_p_value
from headrace_streams.exploration.simulation import expected_calibration_error
from headrace_streams.exploration.special import Floats

SAMPLE_RATIO_ALARM = 0.001
_LOOKS = 60
_BINS = 10


@dataclass(frozen=True)
class ReportColumns:
    """Names of the columns. ``predicted`` and ``contributions`` may be empty."""

    outcome: str
    unit: str
    version: str
    time: str
    predicted: str
    contributions: str


@dataclass(frozen=True)
class ReliabilityBin:
    """Impressions with similar predictions."""

    predicted: float
    observed: float
    low: float
    high: float
    impressions: int


@dataclass(frozen=True)
class VersionSummary:
    """One version over the whole log."""

    name: str
    sample: Sample
    calibration: float | None
    """Predicted / observed conversions; None without predictions or conversions."""
    calibration_error: float | None
    reliability: tuple[ReliabilityBin, ...]

    @property
    def half_width(self) -> float:
        """Half the width of the normal 95 % interval of the rate, for users that are independent."""
        return 1.959963984540054 * float(np.sqrt(self.sample.variance(self.sample.rate)))


@dataclass(frozen=True)
class VersionReport:
    """The versions of a log. ``looks`` are points in time; curves have one value for each."""

    source: str
    current: str
    looks: Floats
    """Epoch seconds."""
    versions: tuple[VersionSummary, ...]
    """The current version first."""
    comparisons: Mapping[str, Sequence[VersionComparison]]
    """Of each other version with the current one, at each look."""
    alpha: float
    """Of each comparison."""
    unit_shares: Mapping[str, Floats]
    """Share of the new units that each version got, between two looks."""
    sample_ratio: float | None
    """The always-valid p-value of the configured shares; None if they are not given."""
    missed: Floats
    """Conversions missed against the best version, estimated with the rates of the whole log."""
    contributions: Mapping[str, float]
    """Mean absolute contribution of each feature in log-odds."""
    open_impressions: int

    @property
    def loses_units(self) -> bool:
        """Whether units are lost or counted twice, so that nothing about the versions can be trusted."""
        return self.sample_ratio is not None and self.sample_ratio < SAMPLE_RATIO_ALARM

    def verdict(self, version: str) -> str:
        """Return ``better``, ``worse``, ``undecided``, ``too early``, or ``none`` if units are lost."""
        return "none" if self.loses_units else self.comparisons[version][-1].verdict(self.alpha)


def report_log(
    whole: ImpressionLog,
    columns: ReportColumns,
    current: str,
    *,
    shares: Mapping[str, float],
    alpha: float,
    least_conversions: float,
) -> VersionReport:
    """Return the report of a log of impressions with their versions. Raise ConfigError."""
    log, outcomes, unknown = with_outcome(whole, columns.outcome)
    moments = times(log, columns.time)
    order = np.argsort(moments, kind="stable")
    log, outcomes, moments = log.only(order.tolist()), outcomes[order], moments[order]
    assigned = np.array([str(value) for value in log.values(columns.version)])
    names = sorted(set(assigned.tolist()), key=lambda name: (name != current, name))
    if names[0] != current or len(names) < 2:
        raise ConfigError(
            f"{log.source} has {'only version' if len(names) < 2 else 'the versions'} {', '.join(names)}",
            code="experiment.no_versions",
            hint="name the current one with --current, and the column of the version with --version",
        )
    units = log.units(columns.unit)
    ends = np.unique(np.linspace(0, len(log), _LOOKS + 1).round().astype(int)[1:])
    samples = {name: [_sample(assigned[:end] == name, units[:end], outcomes[:end]) for end in ends] for name in names}
    predictions = _optional_numbers(log, columns.predicted)
    each = alpha / (len(names) - 1)
    return VersionReport(
        source=log.source,
        current=current,
        looks=moments[ends - 1],
        versions=tuple(_summary(name, samples[name][-1], assigned == name, outcomes, predictions) for name in names),
        comparisons={
            name: _comparisons(samples[current], samples[name], each, least_conversions) for name in names[1:]
        },
        alpha=each,
        unit_shares=_unit_shares(names, assigned, units, ends),
        sample_ratio=_sample_ratio({name: found[-1].units for name, found in samples.items()}, shares),
        missed=_missed(samples),
        contributions=_contributions(log, columns.contributions),
        open_impressions=unknown,
    )


def _sample(mine: np.ndarray[tuple[int], np.dtype[np.bool_]], units: Codes, outcomes: Floats) -> Sample:
    return sample_of(units[mine], outcomes[mine]) if mine.any() else Sample.of_counts(0, 0)


def _comparisons(
    current: Sequence[Sample], version: Sequence[Sample], alpha: float, least: float
) -> list[VersionComparison]:
    found: list[VersionComparison] = []
    for before, after in zip(current, version, strict=True):
        previous = found[-1].p_value if found else 1.0
        found.append(compare(before, after, alpha=alpha, least_conversions=least, previous_p_value=previous))
    return found


def _summary(
    name: str,
    sample: Sample,
    mine: np.ndarray[tuple[int], np.dtype[np.bool_]],
    outcomes: Floats,
    predictions: Floats | None,
) -> VersionSummary:
    if predictions is None:
        return VersionSummary(name, sample, None, None, ())
    known = mine & ~np.isnan(predictions)
    predicted, observed = predictions[known], outcomes[known]
    if not len(predicted):
        return VersionSummary(name, sample, None, None, ())
    parts = [part for part in np.array_split(np.argsort(predicted, kind="stable"), _BINS) if len(part)]
    bins = tuple(
        ReliabilityBin(
            float(predicted[part].mean()),
            float(observed[part].mean()),
            *wilson(float(observed[part].sum()), len(part)),
            len(part),
        )
        for part in parts
    )
    ratio = float(predicted.sum() / observed.sum()) if observed.any() else None
    return VersionSummary(name, sample, ratio, expected_calibration_error(predicted, observed), bins)


def _unit_shares(names: Sequence[str], assigned: np.ndarray, units: Codes, ends: Codes) -> dict[str, Floats]:
    """Return which share of the units that appear for the first time belongs to each version."""
    _, first = np.unique(units, return_index=True)
    look = np.searchsorted(ends, first, side="right")
    counts = {name: np.bincount(look[assigned[first] == name], minlength=len(ends)) for name in names}
    total = np.maximum(sum(counts.values()), 1)
    return {name: np.asarray(np.cumsum(found) / np.cumsum(total)) for name, found in counts.items()}


def _sample_ratio(units: Mapping[str, int], shares: Mapping[str, float]) -> float | None:
    if not shares:
        return None
    try:
        return sample_ratio_p_value(units, shares)
    except ValueError as error:
        raise ConfigError(
            f"the shares do not fit the log: {error}",
            code="experiment.bad_shares",
            hint="give the share of each version with --share VERSION=SHARE",
        ) from error


def _missed(samples: Mapping[str, Sequence[Sample]]) -> Floats:
    rates = {name: found[-1].rate for name, found in samples.items()}
    best = max(rates.values())
    return np.asarray(
        sum((best - rates[name]) * np.array([look.impressions for look in found]) for name, found in samples.items())
    )


def _optional_numbers(log: ImpressionLog, name: str) -> Floats | None:
    """Return a column of numbers, NaN where there is none; None without such a column."""
    if not name or not log.has(name):
        return None
    values = log.values(name)
    return np.array(
        [
            float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else np.nan
            for value in values
        ]
    )


def _contributions(log: ImpressionLog, name: str) -> dict[str, float]:
    """Return the mean absolute contribution of each feature, the largest first."""
    if not name or not log.has(name):
        return {}
    sums: dict[str, float] = {}
    rows = [value for value in log.values(name) if isinstance(value, Mapping)]
    for row in rows:
        for feature, value in row.items():
            if isinstance(value, (int, float)):
                sums[feature] = sums.get(feature, 0.0) + abs(float(value))
    return {feature: total / len(rows) for feature, total in sorted(sums.items(), key=lambda item: -item[1])}
