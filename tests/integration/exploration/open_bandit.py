"""The Open Bandit sample as input of estimators: logs of the policies ``random`` and ``bts``, and policies to evaluate.

A policy that is evaluated is a table of probabilities for each position: uniform, or the shares of ``bts``. The
expected rewards are the rates of each item and position, shrunken, from the other half of the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from demo import dataset
from demo.dataset import Impression

ITEMS, POSITIONS = 80, 3
PAIRS = {
    "random log, bts": ("random", "bts"),
    "random log, random": ("random", "random"),
    "bts log, random": ("bts", "random"),
}
"""Name of the recorded figures → policy of the log, policy that is evaluated."""


def load_sample() -> Sequence[Impression]:
    """Return the impressions of both policies; downloaded once."""
    return dataset.load().impressions


def policy_table(sample: Sequence[Impression], policy: str) -> npt.NDArray[np.float64]:
    """Return the probability of each item at each position, of shape (positions, items)."""
    if policy == "random":
        return np.full((POSITIONS, ITEMS), 1 / ITEMS)
    counts = np.full((POSITIONS, ITEMS), 0.5)
    for impression in sample:
        if impression.policy == policy:
            counts[impression.position - 1, impression.offer_id] += 1
    shares: npt.NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return shares


def arrays(sample: Sequence[Impression], log: str, target: str) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays that obp takes; ``action_dist`` and ``expected`` have the shape (n, items)."""
    rows = [impression for impression in sample if impression.policy == log]
    action = np.array([row.offer_id for row in rows])
    position = np.array([row.position - 1 for row in rows])
    reward = np.array([float(row.clicked) for row in rows])
    fold = np.arange(len(rows)) % 2
    expected = np.empty((len(rows), ITEMS))
    for part in (0, 1):
        learned = fold != part
        cell = (position * ITEMS + action)[learned]
        clicks = np.bincount(cell, reward[learned], POSITIONS * ITEMS)
        shown = np.bincount(cell, minlength=POSITIONS * ITEMS)
        rates = ((clicks + 100 * reward[learned].mean()) / (shown + 100)).reshape(POSITIONS, ITEMS)
        expected[~learned] = rates[position[~learned]]
    return {
        "reward": reward,
        "action": action,
        "pscore": np.array([float(row.propensity) for row in rows]),
        "action_dist": policy_table(sample, target)[position],
        "expected": expected,
    }
