"""Bayesian logistic regression that learns from one outcome at a time.

The log-odds are a sum of weights, one for each term and level, with a normal prior. A new survey has no weight of its
own yet: its mean is what its features say, and its variance includes the prior of its own weight. Each outcome is one
Laplace step along the direction of its features (the extended Kalman filter of logistic regression; see Chapelle
and Li, An Empirical Evaluation of Thompson Sampling, 2011, for the model with a diagonal covariance).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import orjson

from headrace_streams.exploration.features import LevelTable, Term
from headrace_streams.exploration.model import Prediction, Row, check_outcome
from headrace_streams.exploration.special import Floats, logit

INTERCEPT = "intercept"
_KIND = "logistic/1"
_FIRST_CAPACITY = 64
_LEAST_VARIANCE = 1e-12
"""Rounding may leave a variance just below zero."""


class LogisticModel:
    """Logistic regression with full covariance.

    ``base_rate`` is the expected rate of conversion before any outcome, ``base_deviation`` how far off it may be in
    log-odds. At most ``max_levels`` weights are kept: the level that was updated longest ago gives up its weight,
    which leaves the distribution of the others as it is (a marginal of a normal distribution), and starts from the
    prior if it comes back. Memory is 8 * max_levels² bytes at most.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        *,
        base_rate: float = 0.02,
        base_deviation: float = 0.7,
        max_levels: int = 2000,
    ) -> None:
        if not 0 < base_rate < 1:
            raise ValueError(f"base_rate must lie between 0 and 1, got {base_rate}")
        if max_levels <= len(terms) + 1:
            raise ValueError(f"max_levels must be above the number of features ({len(terms) + 1}), got {max_levels}")
        if any(term.name == INTERCEPT for term in terms):
            raise ValueError(f"{INTERCEPT!r} is always part of the model and cannot be a feature")
        self._terms = (Term(INTERCEPT, (), deviation=base_deviation, shared=True), *terms)
        self._own = np.array([i for i, term in enumerate(self._terms) if not term.shared], dtype=np.int64)
        self._base = float(logit(base_rate))
        self._max_levels = max_levels
        self._levels = LevelTable(self._terms)
        self._mean: Floats = np.zeros(_FIRST_CAPACITY)
        self._covariance: Floats = np.zeros((_FIRST_CAPACITY, _FIRST_CAPACITY))
        self._touched: list[int] = [0]
        """Number of the last update of each slot; -1 for a slot that is free."""
        self._free: list[int] = []
        self._updates = 0

    @property
    def levels(self) -> int:
        """Number of weights in use, the intercept included."""
        return len(self._touched) - 1 - len(self._free)

    def predict(self, rows: Sequence[Row]) -> Prediction:
        encoded = self._levels.encode(rows)
        slots, factors = encoded.slots, encoded.factors
        mean = self._base + (self._mean[slots] * factors).sum(axis=1)
        pairs = self._covariance[slots[:, :, None], slots[:, None, :]]
        variance = encoded.prior_variance.sum(axis=1) + _quadratic_form(factors, pairs)
        own = self._own
        if len(own) == len(self._terms):
            variance = np.maximum(variance, _LEAST_VARIANCE)
            return Prediction(mean, variance, variance)
        own_pairs = pairs[:, own[:, None], own[None, :]]
        own_prior = np.ascontiguousarray(encoded.prior_variance[:, own])
        spread = own_prior.sum(axis=1) + _quadratic_form(factors[:, own], own_pairs)
        return Prediction(mean, np.maximum(variance, _LEAST_VARIANCE), np.maximum(spread, _LEAST_VARIANCE))

    def update(self, row: Row, positives: float, exposure: float) -> None:
        check_outcome(positives, exposure)
        if positives == 0 and exposure == 0:
            return
        weights = self._levels.locate(row, self._assign)
        size = len(self._touched)
        # Elementwise and in the order of the features: a matrix product may round differently after a restart.
        gain = np.zeros(size)
        for slot, factor in weights:
            gain += self._covariance[slot, :size] * factor
        variance = max(sum(float(gain[slot]) * factor for slot, factor in weights), _LEAST_VARIANCE)
        mean = self._base + sum(float(self._mean[slot]) * factor for slot, factor in weights)
        mode = posterior_mode(mean, variance, positives, exposure)
        probability = _sigmoid(mode)
        curvature = exposure * probability * (1.0 - probability)
        self._mean[:size] += gain * ((mode - mean) / variance)
        # The product of a vector with itself keeps the matrix symmetric to the last bit, which snapshots rely on.
        step = gain * math.sqrt(curvature / (1.0 + curvature * variance))
        self._covariance[:size, :size] -= np.multiply.outer(step, step)
        self._updates += 1
        for slot, _ in weights:
            self._touched[slot] = self._updates

    def contributions(self, row: Row) -> dict[str, float]:
        encoded = self._levels.encode([row])
        added = self._mean[encoded.slots[0]] * encoded.factors[0]
        parts = {term.name: float(part) for term, part in zip(self._terms, added, strict=True)}
        parts[INTERCEPT] += self._base
        return parts

    def to_bytes(self) -> bytes:
        size = len(self._touched)
        upper = np.triu_indices(size)
        header = {
            "kind": _KIND,
            "terms": [term.name for term in self._terms],
            "levels": self._levels.to_list(),
            "touched": self._touched,
            "free": self._free,
            "updates": self._updates,
        }
        text = orjson.dumps(header)
        packed = self._covariance[:size, :size][upper]
        return b"%d\n%b" % (len(text), text) + self._mean[:size].tobytes() + packed.tobytes()

    def restore(self, snapshot: bytes) -> None:
        length, _, rest = snapshot.partition(b"\n")
        header = orjson.loads(rest[: int(length)])
        if header.get("kind") != _KIND:
            raise ValueError(f"this is no snapshot of a logistic model: {header.get('kind')!r}")
        if header["terms"] != [term.name for term in self._terms]:
            raise ValueError(f"the snapshot has other features: {', '.join(header['terms'])}")
        numbers = np.frombuffer(rest[int(length) :], dtype=np.float64)
        size = len(header["touched"])
        capacity = max(_FIRST_CAPACITY, size)
        self._levels.restore(header["levels"])
        self._touched, self._free, self._updates = header["touched"], header["free"], header["updates"]
        self._mean = np.zeros(capacity)
        self._mean[:size] = numbers[:size]
        self._covariance = np.zeros((capacity, capacity))
        upper = np.triu_indices(size)
        self._covariance[upper] = numbers[size:]
        self._covariance.T[upper] = numbers[size:]

    def _assign(self, term: Term) -> int:
        slot = self._next_slot()
        self._covariance[slot, slot] = term.deviation**2
        # Newer than every update so far: two new levels of one row must not take each other's slot.
        self._touched[slot] = self._updates + 1
        return slot

    def _next_slot(self) -> int:
        if self.levels >= self._max_levels:
            self._forget(self._oldest())
        if self._free:
            return self._free.pop()
        slot = len(self._touched)
        self._touched.append(-1)
        if slot >= len(self._mean):
            capacity = 2 * len(self._mean)
            self._mean = np.concatenate([self._mean, np.zeros(capacity - slot)])
            grown = np.zeros((capacity, capacity))
            grown[:slot, :slot] = self._covariance[:slot, :slot]
            self._covariance = grown
        return slot

    def _oldest(self) -> int:
        # The intercept is part of every update, so it is never the oldest.
        return min(range(1, len(self._touched)), key=lambda slot: (self._touched[slot] < 0, self._touched[slot], slot))

    def _forget(self, slot: int) -> None:
        self._levels.remove(slot)
        self._mean[slot] = 0.0
        self._covariance[slot, :] = 0.0
        self._covariance[:, slot] = 0.0
        self._touched[slot] = -1
        self._free.append(slot)


def _quadratic_form(factors: Floats, pairs: Floats) -> Floats:
    """Return f·P·f for each row. A row has the same bits in every batch, which einsum does not promise."""
    weighted = pairs if (factors == 1.0).all() else pairs * factors[:, :, None] * factors[:, None, :]
    weighted = np.ascontiguousarray(weighted)
    return np.asarray(weighted.reshape(len(weighted), -1).sum(axis=1))


def posterior_mode(mean: float, variance: float, positives: float, exposure: float) -> float:
    """Return the log-odds x that solve x = mean + variance * (positives - exposure * sigmoid(x)).

    The left side minus the right side grows with a slope of at least 1, so there is one solution, between
    mean - variance * exposure and mean + variance * positives. Newton's method, with bisection where a step leaves
    that interval or is not half as long as the one before.
    """
    low, high = mean - variance * exposure, mean + variance * positives
    x = min(max(mean, low), high)
    last = math.inf
    while True:
        p = _sigmoid(x)
        difference = x - mean - variance * (positives - exposure * p)
        if difference > 0:
            high = x
        else:
            low = x
        following = x - difference / (1.0 + variance * exposure * p * (1.0 - p))
        if not low <= following <= high or abs(following - x) > last / 2:
            following = (low + high) / 2
        step = abs(following - x)
        if step <= 1e-12 * max(1.0, abs(x)) or high - low <= 1e-12 * max(1.0, abs(x)):
            return following
        last = step
        x = following


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x > -700 else 0.0
