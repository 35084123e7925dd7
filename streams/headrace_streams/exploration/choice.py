"""Selection of a survey: draws, floor of uniform exploration, and the exact probability of each selection.

The draws come from a hash of the salt and the request, so that a selection can be computed again from its record. The
bit stream of PCG64 is stable between versions of numpy (NEP 19); the normal numbers are made from it by the quantile
function. Candidates are drawn in the order of their ids: the order in which they arrive does not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace_streams.exploration.model import Prediction
from headrace_streams.exploration.special import Floats, normal_cdf, normal_quantile

_UNIT = 2.0**-53


@dataclass(frozen=True)
class Selection:
    """The selected candidate, and the seed and the draw that are needed to compute the selection again."""

    position: int
    seed: int
    draw: float
    uniform: bool
    """The floor selected the candidate, not the model."""


def seed_of(salt: str, request: str) -> int:
    """Return the seed of a request: 64 bits of SHA-256 of salt and request id."""
    return int.from_bytes(hashlib.sha256(f"{salt}/{request}".encode()).digest()[:8], "big")


def select(
    prediction: Prediction, ids: Sequence[str], seed: int, *, floor: float = 0.05, explore: float = 1.0
) -> Selection:
    """Return the selection among k candidates by Thompson sampling, mixed with a floor of uniform exploration.

    With probability ``floor`` every candidate has the same chance. Otherwise the largest draw from the normal
    distributions of the log-odds is selected. ``explore`` is a factor of their standard deviations: less than 1
    explores less than Thompson sampling (posterior reshaping; Chapelle and Li, 2011), 0 selects the largest mean.
    Of equal draws the candidate with the smaller id is selected.

    Raises:
        ValueError: there is no candidate, ids repeat, or ``floor`` or ``explore`` is out of its range.
    """
    count = len(ids)
    if count == 0:
        raise ValueError("there is no candidate to select from")
    if len(set(ids)) != count:
        raise ValueError("the ids of the candidates repeat")
    if not 0 <= floor <= 1:
        raise ValueError(f"floor must lie between 0 and 1, got {floor}")
    if not 0 <= explore < np.inf:
        raise ValueError(f"explore must be a finite factor of at least 0, got {explore}")
    order = sorted(range(count), key=ids.__getitem__)
    uniforms = _uniforms(seed, count + 2)
    draws = np.array(prediction.mean, dtype=np.float64)
    if explore:
        draws[order] += explore * np.sqrt(prediction.spread[order]) * normal_quantile(uniforms[2:])
    best = max(order, key=lambda position: draws[position]) if not np.isnan(draws).any() else -1
    if best < 0:
        raise ValueError("a candidate has no log-odds (NaN)")
    by_floor = bool(uniforms[0] < floor)
    chosen = order[min(int(uniforms[1] * count), count - 1)] if by_floor else best
    return Selection(chosen, seed, float(draws[chosen]), by_floor)


def propensity(
    prediction: Prediction, ids: Sequence[str], position: int, *, floor: float = 0.05, explore: float = 1.0
) -> float:
    """Return the probability that `select` selects the candidate at ``position``, over all seeds.

    Off-policy evaluation weights the logged outcomes by it.
    """
    count = len(ids)
    if explore:
        spread = prediction.spread * explore**2
        share = best_probability(Prediction(prediction.mean, prediction.variance, spread), position)
    else:
        order = sorted(range(count), key=ids.__getitem__)
        share = float(position == max(order, key=lambda candidate: prediction.mean[candidate]))
    return floor / count + (1 - floor) * share


def propensities(prediction: Prediction, ids: Sequence[str], *, floor: float = 0.05, explore: float = 1.0) -> Floats:
    """Return :func:`propensity` of each candidate, shape (k,). They add up to 1."""
    count = len(ids)
    if explore:
        spread = prediction.spread * explore**2
        shares = best_probabilities(Prediction(prediction.mean, prediction.variance, spread))
    else:
        order = sorted(range(count), key=ids.__getitem__)
        shares = np.zeros(count)
        shares[max(order, key=lambda candidate: prediction.mean[candidate])] = 1.0
    return floor / count + (1 - floor) * shares


def best_probability(prediction: Prediction, position: int) -> float:
    """Return the probability that the draw of one candidate is the largest of all.

    The integral over the draw x of the candidate of the probability that every other draw is below x, by the
    trapezoid rule, which converges exponentially for such integrands. The step is a fifth of the narrowest
    distribution that matters, so that no change of another candidate's distribution lies between two points.
    """
    means, deviations = prediction.mean, np.sqrt(prediction.spread)
    mean, deviation = float(means[position]), float(deviations[position])
    others = np.arange(len(means)) != position
    if not others.any():
        return 1.0
    # Candidates that are certain to lose cost time and change nothing.
    gap = (mean - 8 * deviation) - (means + 8 * deviations)
    others &= gap < 0
    if not others.any():
        return 1.0
    narrowest = float(min(deviation, deviations[others].min()))
    points = int(np.clip(np.ceil(16 * deviation / (narrowest / 5)), 160, 8000)) + 1
    z = np.linspace(-8.0, 8.0, points)
    x = mean + deviation * z
    below = normal_cdf((x[:, None] - means[others][None, :]) / deviations[others][None, :]).prod(axis=1)
    density = below * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return float(min(density.sum() * (z[1] - z[0]), 1.0))


def best_probabilities(prediction: Prediction) -> Floats:
    """Return :func:`best_probability` of each candidate, shape (k,).

    One grid serves all candidates, so that the distribution of each is evaluated once: for 200 candidates this takes as
    long as three single probabilities.
    """
    means, deviations = prediction.mean, np.sqrt(prediction.spread)
    found = np.zeros(len(means))
    # Below this number, the largest draw is not found.
    lowest = float((means - 8 * deviations).max())
    possible = np.flatnonzero(means + 8 * deviations >= lowest)
    if len(possible) == 1:
        found[possible] = 1.0
        return found
    means, deviations = means[possible], deviations[possible]
    highest = float((means + 8 * deviations).max())
    points = int(np.clip(np.ceil((highest - lowest) / (deviations.min() / 5)), 160, 8000)) + 1
    x = np.linspace(lowest, highest, points)
    z = (x[:, None] - means) / deviations
    below = np.log(np.maximum(normal_cdf(z), 1e-300))
    others = below.sum(axis=1, keepdims=True) - below
    density = np.exp(others - z * z / 2) / (deviations * np.sqrt(2 * np.pi))
    found[possible] = density.sum(axis=0) * (x[1] - x[0])
    found /= found.sum()
    return found


def _uniforms(seed: int, count: int) -> Floats:
    raw = np.random.PCG64(seed).random_raw(count)
    # Never 0 or 1: the quantiles there are infinite.
    return np.asarray((raw >> np.uint64(11)) * _UNIT + _UNIT / 2, dtype=np.float64)
