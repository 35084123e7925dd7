"""Beta-Bernoulli model with an empirical Bayes prior: a conversion rate for each survey.

A survey with few impressions has the rate of its group (for example its client), a survey with many has its own. The
prior of a group is estimated from the surveys of the group by the method of moments (Efron and Morris, Data Analysis
Using Stein's Estimator, 1975; the same as in Robinson, Introduction to Empirical Bayes, 2017). The log-odds of a
Beta(a, b) variable have mean digamma(a) - digamma(b) and variance trigamma(a) + trigamma(b): selection draws from the
normal distribution with these moments, as it does for every model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from headrace_streams.exploration.features import level_of
from headrace_streams.exploration.model import Prediction, Row, check_outcome
from headrace_streams.exploration.special import beta_logit_mean, beta_logit_variance

_KIND = "beta/1"
_LEAST_EXPOSURE = 30.0
"""Surveys with fewer impressions say too little about how rates vary."""
_LEAST_SURVEYS = 5
_LEAST_STRENGTH = 5.0


@dataclass(frozen=True)
class Prior:
    """Beta(a, b) before any outcome of a survey: mean a / (a + b), worth a + b impressions."""

    a: float
    b: float


class BetaModel:
    """Rate of conversion for each value of column ``survey``, with a prior for each value of column ``group``.

    Until five surveys of a group have 30 impressions each, its prior is ``base_rate`` worth ``strength`` impressions.
    """

    def __init__(self, survey: str, *, group: str | None = None, base_rate: float = 0.02, strength: float = 30) -> None:
        if not 0 < base_rate < 1:
            raise ValueError(f"base_rate must lie between 0 and 1, got {base_rate}")
        if not strength > 0:
            raise ValueError(f"strength must be a positive number of impressions, got {strength}")
        self._survey = survey
        self._group = group
        self._default = Prior(base_rate * strength, (1 - base_rate) * strength)
        self._counts: dict[str, dict[str, list[float]]] = {}
        """Group → survey → [positives, exposure]."""
        self._priors: dict[str, Prior] = {}
        """Priors of groups without outcomes since they were estimated."""

    def predict(self, rows: Sequence[Row]) -> Prediction:
        a = np.empty(len(rows))
        b = np.empty(len(rows))
        for position, row in enumerate(rows):
            group, survey = self._key(row)
            prior = self._prior(group)
            positives, exposure = self._counts.get(group, {}).get(survey, (0.0, 0.0))
            a[position] = prior.a + positives
            # A conversion that arrives early was booked with less than one impression.
            b[position] = prior.b + max(exposure - positives, 0.0)
        variance = beta_logit_variance(a, b)
        return Prediction(beta_logit_mean(a, b), variance, variance)

    def update(self, row: Row, positives: float, exposure: float) -> None:
        check_outcome(positives, exposure)
        if positives == 0 and exposure == 0:
            return
        group, survey = self._key(row)
        counts = self._counts.setdefault(group, {}).setdefault(survey, [0.0, 0.0])
        counts[0] += positives
        counts[1] += exposure
        self._priors.pop(group, None)

    def contributions(self, row: Row) -> dict[str, float]:
        prior = self._prior(self._key(row)[0])
        base = float(beta_logit_mean(np.array(prior.a), np.array(prior.b)))
        mean = float(self.predict([row]).mean[0])
        return {self._group or "all surveys": base, self._survey: mean - base}

    def to_bytes(self) -> bytes:
        header = {"kind": _KIND, "survey": self._survey, "group": self._group, "counts": self._counts}
        return orjson.dumps(header, option=orjson.OPT_SORT_KEYS)

    def restore(self, snapshot: bytes) -> None:
        header = orjson.loads(snapshot)
        if header.get("kind") != _KIND:
            raise ValueError(f"this is no snapshot of a beta model: {header.get('kind')!r}")
        if (header["survey"], header["group"]) != (self._survey, self._group):
            raise ValueError(f"the snapshot has survey {header['survey']!r} and group {header['group']!r}")
        self._counts = header["counts"]
        self._priors = {}

    def _key(self, row: Row) -> tuple[str, str]:
        group = level_of(row.get(self._group)) if self._group else ""
        return group, level_of(row.get(self._survey))

    def _prior(self, group: str) -> Prior:
        if (known := self._priors.get(group)) is not None:
            return known
        counts = self._counts.get(group)
        prior = self._default if counts is None else estimate_prior(sorted(counts.values()), self._default)
        self._priors[group] = prior
        return prior


def estimate_prior(counts: Sequence[Sequence[float]], default: Prior) -> Prior:
    """Return the Beta prior of rates with the given (positives, exposure) counts, by the method of moments.

    The variance between surveys is the variance of the observed rates less that of sampling. It is at least 5 % of the
    squared mean, so that a few equal surveys do not make the prior stronger than any evidence.
    """
    table = np.array([pair for pair in counts if pair[1] >= _LEAST_EXPOSURE], dtype=np.float64)
    if len(table) < _LEAST_SURVEYS:
        return default
    positives, exposure = table[:, 0], np.maximum(table[:, 1], table[:, 0])
    total = exposure.sum()
    # One conversion more at the default's rate: a group without conversions does not have the rate 0.
    mean = float((positives.sum() + default.a) / (total + default.a + default.b))
    between = float((exposure * (positives / exposure - mean) ** 2).sum() / total)
    sampling = mean * (1 - mean) * len(table) / float(total)
    variance = max(between - sampling, 0.05 * mean * mean)
    strength = max(mean * (1 - mean) / variance - 1, _LEAST_STRENGTH)
    return Prior(mean * strength, (1 - mean) * strength)
