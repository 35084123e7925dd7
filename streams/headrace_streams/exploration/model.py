"""Interface of an exploration model: the probability that a user converts on a survey, and its uncertainty.

A model works on the log-odds scale: for each row it returns a mean and a variance of the log-odds. Selection
(`choice`) draws from that normal distribution, so that the probability of each selection (the propensity) can be
computed and not only sampled. Outcomes arrive one by one, in the order of the log; the state after the same
outcomes in the same order is the same bit by bit, so a replay reproduces every score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from headrace_streams.exploration.special import Floats, sigmoid

Row = Mapping[str, object]
"""Columns of one request joined with one survey. Features are computed from them."""


@dataclass(frozen=True)
class Prediction:
    """Log-odds of conversion for n rows: ``mean`` and ``variance`` of shape (n,).

    ``spread`` is the part of the variance in which candidates of one request differ: what selection draws with.
    Uncertainty about the user is the same for all candidates, and drawing it for each of them would be noise.
    """

    mean: Floats
    variance: Floats
    spread: Floats

    @property
    def probability(self) -> Floats:
        """Return the expected probability of each row, of shape (n,).

        The logistic function averaged over the normal distribution, with MacKay's approximation
        (The Evidence Framework Applied to Classification Networks, 1992).
        """
        return sigmoid(self.mean / np.sqrt(1.0 + np.pi * self.variance / 8.0))

    def interval(self, z: float = 1.96) -> tuple[Floats, Floats]:
        """Return the lower and upper probability at ``z`` standard deviations of the log-odds."""
        spread = z * np.sqrt(self.variance)
        return sigmoid(self.mean - spread), sigmoid(self.mean + spread)


class Model(Protocol):
    """Model of the probability to convert. One thread uses it at a time."""

    def predict(self, rows: Sequence[Row]) -> Prediction:
        """Return the log-odds of each row. Levels without outcomes have the mean and variance of the prior."""
        ...

    def update(self, row: Row, positives: float, exposure: float) -> None:
        """Learn from ``positives`` conversions in ``exposure`` impressions of ``row``.

        An impression whose outcome is not final counts as a fraction of an exposure (`delay`).

        Raises:
            ValueError: a number is negative or not finite.
        """
        ...

    def contributions(self, row: Row) -> dict[str, float]:
        """Return what each feature adds to the log-odds of ``row``; their sum is the mean of the prediction."""
        ...

    def to_bytes(self) -> bytes:
        """Return a snapshot of the state. Equal states have equal snapshots."""
        ...

    def restore(self, snapshot: bytes) -> None:
        """Replace the state by a snapshot of a model with the same configuration.

        Raises:
            ValueError: the snapshot belongs to another kind of model or another configuration.
        """
        ...


def check_outcome(positives: float, exposure: float) -> None:
    """Raise ValueError for an outcome that no model can learn from."""
    for name, number in (("positives", positives), ("exposure", exposure)):
        if not np.isfinite(number) or number < 0:
            raise ValueError(f"{name} must be a finite number of at least 0, got {number}")
