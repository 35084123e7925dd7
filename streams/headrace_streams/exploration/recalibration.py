"""Recalibration of the probabilities that a version predicts for what it selects.

A policy selects what it overestimates: the predicted rate of the selected surveys is above the observed one (winner's
curse). Each version has one slope and one offset on the log-odds scale, learned from its own selections (Platt,
Probabilistic Outputs for Support Vector Machines, 1999). The order of the candidates does not change while the slope
is positive.
"""

from __future__ import annotations

import math

import numpy as np
import orjson

from headrace_streams.exploration.logistic import posterior_mode
from headrace_streams.exploration.model import check_outcome
from headrace_streams.exploration.special import Floats, logit, sigmoid

_BOUND = 1e-9


class Recalibration:
    """Map from predicted to calibrated probability, learned from the outcomes of selections.

    With p the prediction: logit(calibrated) = logit(p) + offset + slope * (logit(p) - logit(base_rate)). Offset and
    slope have normal priors around 0 with standard deviation ``deviation``, so nothing changes before there is
    evidence. About the last ``memory`` impressions count: how much a model overestimates changes while it learns.
    """

    def __init__(self, *, base_rate: float = 0.02, deviation: float = 0.3, memory: float = 20_000) -> None:
        self._base = float(logit(base_rate))
        self._prior = deviation**2
        self._memory = memory
        self._mean = np.zeros(2)
        self._covariance = np.eye(2) * self._prior

    def apply(self, probability: Floats) -> Floats:
        """Return the calibrated probabilities of predictions."""
        log_odds = self._log_odds(probability)
        return sigmoid(log_odds + self._mean[0] + self._mean[1] * (log_odds - self._base))

    def update(self, probability: float, positives: float, exposure: float) -> None:
        """Learn from the outcome of a selection whose uncalibrated prediction was ``probability``.

        Raises:
            ValueError: a number is negative or not finite.
        """
        check_outcome(positives, exposure)
        log_odds = float(self._log_odds(np.array(probability)))
        direction = np.array([1.0, log_odds - self._base])
        inflation = 1.0 + exposure / self._memory
        self._covariance *= min(inflation, 2 * self._prior / max(float(np.trace(self._covariance)), 1e-300))
        gain = self._covariance @ direction
        variance = float(direction @ gain)
        mean = log_odds + float(self._mean @ direction)
        mode = posterior_mode(mean, variance, positives, exposure)
        p = float(sigmoid(mode))
        curvature = exposure * p * (1 - p)
        self._mean += gain * ((mode - mean) / variance)
        step = gain * math.sqrt(curvature / (1 + curvature * variance))
        self._covariance -= np.multiply.outer(step, step)

    def to_bytes(self) -> bytes:
        """Return a snapshot of the state."""
        return orjson.dumps({"mean": self._mean.tolist(), "covariance": self._covariance.tolist()})

    def restore(self, snapshot: bytes) -> None:
        """Replace the state."""
        found = orjson.loads(snapshot)
        self._mean = np.array(found["mean"])
        self._covariance = np.array(found["covariance"])

    @staticmethod
    def _log_odds(probability: Floats) -> Floats:
        return logit(np.clip(probability, _BOUND, 1 - _BOUND))
