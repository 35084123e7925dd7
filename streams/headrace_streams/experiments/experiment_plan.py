"""The plan of an experiment: what ``headrace experiment plan`` computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from headrace import ConfigError
from headrace_streams.experiments.impression_log import ImpressionLog, with_outcome
from headrace_streams.exploration.power import ExperimentDesign, Power, simulate
from headrace_streams.exploration.sequential import Sample
from headrace_streams.exploration.special import Floats

_DAY = 86_400.0
_FLOAT_SECONDS = 1e11
"""Numbers from this on are milliseconds: as seconds they would be after the year 5138."""


@dataclass(frozen=True)
class MeasuredTraffic:
    """What a log says about the traffic of an experiment."""

    rate: float
    impressions_per_day: float
    design_effect: float


@dataclass(frozen=True)
class SharePlan:
    """The simulated experiments in which the version has one share of the traffic."""

    design: ExperimentDesign
    powers: tuple[Power, ...]
    false_verdicts: float
    """Share of the simulated experiments without a difference that found one."""


def make_plan(design: ExperimentDesign, shares: Sequence[float], lifts: Sequence[float]) -> list[SharePlan]:
    """Simulate each share with each lift. The current version has the rest. Raise ConfigError."""
    plans = []
    for share in shares:
        try:
            one = replace(design, version_share=share, current_share=1 - share)
            powers = tuple(simulate(one, lift) for lift in lifts)
        except ValueError as error:
            raise ConfigError(
                f"the experiment cannot be planned: {error}",
                code="experiment.bad_plan",
                hint="see `headrace experiment plan --help`",
            ) from error
        plans.append(SharePlan(one, powers, simulate(one, 0.0, seed=1).found))
    return plans


def measure(whole: ImpressionLog, outcome: str, unit: str, time: str) -> MeasuredTraffic:
    """Return rate, traffic and design effect of a log. Raise ConfigError."""
    log, outcomes, _ = with_outcome(whole, outcome)
    moments = times(log, time)
    seconds = float(moments.max() - moments.min())
    if seconds <= 0:
        raise ConfigError(
            f"all impressions of {log.source} have the same {time}",
            code="experiment.empty_log",
            hint="name a log of at least some hours",
        )
    effect = 1.0
    if unit:
        sample = sample_of(log.units(unit), outcomes)
        independent = Sample.of_counts(len(log), int(outcomes.sum()))
        rate = independent.rate
        if 0 < rate < 1:
            effect = max(1.0, sample.variance(rate) / independent.variance(rate))
    return MeasuredTraffic(float(outcomes.mean()), len(log) / seconds * _DAY, effect)


def sample_of(units: np.ndarray[tuple[int], np.dtype[np.intp]], outcomes: Floats) -> Sample:
    """Return the sums over units of impressions with these outcomes."""
    _, codes = np.unique(units, return_inverse=True)
    shown, converted = np.bincount(codes).astype(np.float64), np.bincount(codes, outcomes)
    return Sample(
        units=len(shown),
        conversions=float(converted.sum()),
        impressions=float(shown.sum()),
        conversions_squared=float((converted**2).sum()),
        impressions_squared=float((shown**2).sum()),
        product=float((shown * converted).sum()),
    )


def times(log: ImpressionLog, name: str) -> Floats:
    """Return a column of times in epoch seconds: ISO 8601, epoch seconds or epoch milliseconds. Raise ConfigError."""
    found = []
    for position, value in enumerate(log.values(name)):
        moment = _seconds(value)
        if moment is None:
            raise log.refused(position, name, value, "a time (ISO 8601, or epoch seconds or milliseconds)")
        found.append(moment)
    return np.array(found)


def _seconds(value: object) -> float | None:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value / 1000 if value >= _FLOAT_SECONDS else float(value)
