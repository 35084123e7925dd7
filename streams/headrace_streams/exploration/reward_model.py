"""The reward model of doubly robust evaluation: a rate for each survey, learned from other impressions (cross-fitting).

A rate is shrunk towards the rate of all impressions by 100 impressions of it. The doubly robust estimator is unbiased
with any reward model that has not seen the impression; a better one only narrows its interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace_streams.exploration.special import Floats

Codes = npt.NDArray[np.intp]
_STRENGTH = 100.0
_FOLDS = 2


@dataclass(frozen=True)
class TargetDistribution:
    """The probabilities with which a policy selects each candidate of each impression: entry i says that impression
    ``row[i]`` has candidate ``survey[i]`` with ``probability[i]``."""

    row: Codes
    survey: Codes
    probability: Floats


@dataclass(frozen=True)
class ExpectedRewards:
    """Of each impression: the expected reward of the logged selection, and of the target policy's selections."""

    logged: Floats
    target: Floats


def cross_fit(selected: Codes, reward: Floats, unit: Codes, target: TargetDistribution) -> ExpectedRewards:
    """Return the expected rewards of n impressions. ``selected``, ``reward`` and ``unit`` have shape (n,).

    Units are dealt to two folds at random, always in the same way. The rates of a fold come from the other one.
    """
    _, units = np.unique(unit, return_inverse=True)
    fold = np.random.default_rng(0).permutation(int(units.max()) + 1)[units] % _FOLDS
    surveys = int(max(selected.max(), target.survey.max(initial=0))) + 1
    rates = np.empty((_FOLDS, surveys))
    for number in range(_FOLDS):
        learned = fold != number
        mean = float(reward[learned].mean()) if learned.any() else 0.0
        conversions = np.bincount(selected[learned], reward[learned], surveys)
        rates[number] = (conversions + _STRENGTH * mean) / (
            np.bincount(selected[learned], minlength=surveys) + _STRENGTH
        )
    weighted: Floats = target.probability * rates[fold[target.row], target.survey]
    expected: Floats = np.zeros(len(reward))
    np.add.at(expected, target.row, weighted)
    return ExpectedRewards(rates[fold, selected], expected)
