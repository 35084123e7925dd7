"""The evaluation of a policy on a log of selections: what ``headrace experiment evaluate`` computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from headrace_streams.experiments.impression_log import ImpressionLog, with_outcome
from headrace_streams.exploration.off_policy import Evaluation, evaluate
from headrace_streams.exploration.reward_model import Codes, TargetDistribution, cross_fit
from headrace_streams.exploration.special import Floats

UNIFORM = "uniform"
_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class LogColumns:
    """Names of the columns. ``target`` is ``uniform``, or a column with the evaluated policy's probabilities: a number
    (of the logged selection), or an object with one for each candidate. ``unit`` may be empty."""

    outcome: str
    propensity: str
    survey: str
    target: str
    candidates: str
    unit: str


@dataclass(frozen=True)
class PolicyEvaluation:
    """The evaluation and what it was computed from. ``has_distribution``: whether DR has a reward model; without one
    it equals IPS."""

    evaluation: Evaluation
    open_impressions: int
    has_distribution: bool
    weights: Floats


def evaluate_log(whole: ImpressionLog, columns: LogColumns) -> PolicyEvaluation:
    """Return the value of the target policy on a log. Raise ConfigError that names the record that cannot be used."""
    log, reward, unknown = with_outcome(whole, columns.outcome)
    logged = _probabilities(log, columns.propensity)
    for position, probability in enumerate(logged):
        if probability == 0:
            raise log.refused(position, columns.propensity, 0, "above 0, because the selection was logged")
    units = log.units(columns.unit) if columns.unit else np.arange(len(log))
    distributions = _distributions(log, columns)
    if distributions is None:
        target = _probabilities(log, columns.target)
        found = evaluate(reward, logged, target, unit=units)
        return PolicyEvaluation(found, unknown, False, target / logged)
    selected = [str(value) for value in log.values(columns.survey)]
    target = np.array([row.get(survey, 0.0) for row, survey in zip(distributions, selected, strict=True)])
    codes, entries = _coded(selected, distributions)
    expected = cross_fit(codes, reward, units, entries)
    found = evaluate(reward, logged, target, expected.logged, expected.target, units)
    return PolicyEvaluation(found, unknown, True, target / logged)


def _distributions(log: ImpressionLog, columns: LogColumns) -> list[Mapping[str, float]] | None:
    """Return the target's probability of each candidate of each row; None if the log has numbers only."""
    if columns.target == UNIFORM:
        found: list[Mapping[str, float]] = []
        for position, candidates in enumerate(log.values(columns.candidates)):
            ids = _ids(candidates)
            if not ids:
                raise log.refused(position, columns.candidates, candidates, "the list of candidates")
            found.append(dict.fromkeys(ids, 1 / len(ids)))
        return found
    values = log.values(columns.target)
    if not any(isinstance(value, Mapping) for value in values):
        return None
    return [_distribution(log, position, columns.target, value) for position, value in enumerate(values)]


def _ids(candidates: Any) -> list[str]:
    """Return the ids of candidates: a list of them, an object by id, or the rows that ``pick`` writes."""
    if isinstance(candidates, Mapping) and candidates.keys() == {"columns", "rows"}:
        return [str(row[0]) for row in candidates["rows"]]
    return list(map(str, candidates)) if isinstance(candidates, (list, Mapping)) else []


def _distribution(log: ImpressionLog, position: int, name: str, value: Any) -> Mapping[str, float]:
    if isinstance(value, Mapping) and all(
        isinstance(share, (int, float)) and not isinstance(share, bool) and share >= 0 for share in value.values()
    ):
        found = {str(survey): float(share) for survey, share in value.items()}
        if abs(sum(found.values()) - 1) <= _SUM_TOLERANCE:
            return found
    raise log.refused(position, name, value, "an object of probabilities that add up to 1")


def _coded(selected: list[str], distributions: list[Mapping[str, float]]) -> tuple[Codes, TargetDistribution]:
    names = [*selected, *chain.from_iterable(distributions)]
    number = {survey: code for code, survey in enumerate(dict.fromkeys(names))}
    codes = np.fromiter(map(number.__getitem__, names), np.intp, len(names))
    rows = np.repeat(np.arange(len(selected)), [len(shares) for shares in distributions])
    shares = np.fromiter(chain.from_iterable(shares.values() for shares in distributions), np.float64, len(rows))
    return codes[: len(selected)], TargetDistribution(rows, codes[len(selected) :], shares)


def _probabilities(log: ImpressionLog, name: str) -> Floats:
    found = log.numbers(name)
    for position, probability in enumerate(found.tolist()):
        if not 0 <= probability <= 1:
            raise log.refused(position, name, probability, "a probability between 0 and 1")
    return found
