"""Failures in stages: what an unconverted impression is worth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_streams.exploration.delay import DelayDistribution, converted, unconverted

STAGES = (60.0, 300.0, 3600.0)


@given(st.lists(st.floats(0, 4000), max_size=50), st.lists(st.floats(0, 4000), max_size=50))
def test_the_weights_of_an_impression_add_up_to_one(before: list[float], between: list[float]) -> None:
    """Also while the distribution changes between its stages."""
    delays = DelayDistribution(STAGES)
    for delay in before:
        delays.learn(delay)
    booked, exposure = 0.0, 0.0
    for stage in range(len(STAGES)):
        booking = unconverted(delays, stage, booked)
        assert booking.exposure >= 0
        exposure += booking.exposure
        booked = booking.booked
        for delay in between:
            delays.learn(delay)
    assert exposure == pytest.approx(1)


@pytest.mark.parametrize("stages", [0, 1, 2])
def test_a_conversion_adds_the_rest_of_one_impression(stages: int) -> None:
    delays = DelayDistribution(STAGES)
    booked = 0.0
    for stage in range(stages):
        booked = unconverted(delays, stage, booked).booked
    booking = converted(booked)
    assert booked + booking.exposure == pytest.approx(1)
    assert (booking.positives, booking.booked) == (1, 1)


def test_the_shares_approach_the_distribution_of_the_delays() -> None:
    delays = DelayDistribution(STAGES)
    for delay in np.random.default_rng(3).exponential(600, 20_000):
        delays.learn(float(delay))
    for stage, age in enumerate(STAGES):
        inside = 1 - np.exp(-STAGES[-1] / 600)
        assert delays.share(stage) == pytest.approx((1 - np.exp(-age / 600)) / inside, abs=0.02)


def test_conversions_after_the_window_do_not_count() -> None:
    delays = DelayDistribution(STAGES)
    delays.learn(3600.1)
    assert delays.conversions == 0


def test_a_snapshot_restores_the_state() -> None:
    delays, restored = DelayDistribution(STAGES), DelayDistribution(STAGES)
    for delay in (3, 400, 4000):
        delays.learn(delay)
    restored.restore(delays.to_bytes())
    assert [restored.share(stage) for stage in range(3)] == [delays.share(stage) for stage in range(3)]
    with pytest.raises(ValueError, match="has stages"):
        DelayDistribution((60.0,)).restore(delays.to_bytes())


@pytest.mark.parametrize("stages", [(), (60.0, 60.0), (-1.0, 5.0)])
def test_stages_that_do_not_grow_are_refused(stages: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="increasing order"):
        DelayDistribution(stages)


def test_a_conversion_before_its_impression_is_refused() -> None:
    with pytest.raises(ValueError, match="before its impression"):
        DelayDistribution(STAGES).learn(-1)
