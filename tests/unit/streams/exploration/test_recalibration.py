"""Predicted and observed rates of selections."""

from __future__ import annotations

import numpy as np
import pytest

from headrace_streams.exploration.recalibration import Recalibration


def test_nothing_changes_without_evidence() -> None:
    probabilities = np.array([0.001, 0.02, 0.5])
    assert Recalibration().apply(probabilities) == pytest.approx(probabilities)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.3])
def test_predictions_that_are_too_high_or_low_by_a_factor_are_corrected(factor: float) -> None:
    random = np.random.default_rng(5)
    calibration = Recalibration()
    predicted, observed = [], []
    for probability in random.uniform(0.02, 0.15, 16_000):
        outcome = float(random.random() < probability * factor)
        predicted.append(float(calibration.apply(np.array(probability))))
        observed.append(outcome)
        calibration.update(float(probability), outcome, 1.0)
    half = len(predicted) // 2
    assert sum(predicted[half:]) / sum(observed[half:]) == pytest.approx(1, abs=0.1)


def test_a_change_is_followed() -> None:
    """Variances do not shrink without bound: old impressions are forgotten."""
    random = np.random.default_rng(6)
    calibration = Recalibration(memory=2000)
    for factor in (1.0, 0.5):
        for probability in random.uniform(0.05, 0.3, 8_000):
            calibration.update(float(probability), float(random.random() < probability * factor), 1.0)
    assert float(calibration.apply(np.array(0.1))) == pytest.approx(0.05, rel=0.2)


def test_a_snapshot_restores_the_state() -> None:
    calibration, restored = Recalibration(), Recalibration()
    calibration.update(0.1, 1, 1)
    restored.restore(calibration.to_bytes())
    for each in (calibration, restored):
        each.update(0.3, 0, 0.5)
    assert restored.to_bytes() == calibration.to_bytes()
