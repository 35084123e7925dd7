"""Selection by draws, and the probability of each selection."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_streams.exploration.choice import (
    best_probabilities,
    best_probability,
    propensities,
    propensity,
    seed_of,
    select,
)
from headrace_streams.exploration.model import Prediction


def prediction_of(mean: np.ndarray, variance: np.ndarray) -> Prediction:
    return Prediction(mean, variance, variance)


candidates = st.lists(st.tuples(st.floats(-8, 3), st.floats(1e-4, 4)), min_size=1, max_size=25).map(
    lambda pairs: prediction_of(np.array([m for m, _ in pairs]), np.array([v for _, v in pairs]))
)


def names(prediction: Prediction) -> list[str]:
    return [f"s{position}" for position in range(len(prediction.mean))]


@given(candidates)
@settings(max_examples=60)
def test_the_probabilities_of_all_candidates_add_up_to_one(prediction: Prediction) -> None:
    total = sum(best_probability(prediction, position) for position in range(len(prediction.mean)))
    assert total == pytest.approx(1, abs=1e-6)


@given(candidates)
@settings(max_examples=60)
def test_the_probabilities_of_all_candidates_equal_those_of_each(prediction: Prediction) -> None:
    together = best_probabilities(prediction)
    assert together.sum() == pytest.approx(1, abs=1e-12)
    for position, probability in enumerate(together):
        assert probability == pytest.approx(best_probability(prediction, position), abs=1e-6)


@pytest.mark.parametrize("explore", [0.0, 0.5, 1.0])
def test_the_propensities_of_all_candidates_equal_those_of_each(explore: float) -> None:
    prediction = prediction_of(np.array([-3.0, -2.8, -40.0, -3.2]), np.array([0.2, 0.05, 1.5, 0.4]))
    ids = names(prediction)
    found = propensities(prediction, ids, floor=0.2, explore=explore)
    for position in range(len(ids)):
        single = propensity(prediction, ids, position, floor=0.2, explore=explore)
        assert found[position] == pytest.approx(single, abs=1e-9)


@pytest.mark.parametrize("count", [2, 5, 40])
def test_propensities_match_200_000_draws_within_their_error(count: int) -> None:
    random = np.random.default_rng(count)
    prediction = prediction_of(random.normal(-3, 0.6, count), random.uniform(1e-4, 1, count))
    draws = prediction.mean + np.sqrt(prediction.spread) * random.normal(size=(200_000, count))
    observed = np.bincount(draws.argmax(axis=1), minlength=count) / 200_000
    for position in range(count):
        exact = best_probability(prediction, position)
        error = np.sqrt(max(exact * (1 - exact), 1e-6) / 200_000)
        assert abs(observed[position] - exact) < 4.5 * error


@pytest.mark.parametrize("explore", [0.5, 1.0])
def test_selections_over_many_requests_have_the_frequency_of_their_propensity(explore: float) -> None:
    prediction = prediction_of(np.array([-3.0, -2.8, -4.0, -3.2]), np.array([0.2, 0.05, 1.5, 0.4]))
    ids = names(prediction)
    count = 6_000
    chosen = [
        select(prediction, ids, seed_of("salt", str(n)), floor=0.2, explore=explore).position for n in range(count)
    ]
    for position in range(len(ids)):
        expected = propensity(prediction, ids, position, floor=0.2, explore=explore)
        assert abs(chosen.count(position) / count - expected) < 4.5 * np.sqrt(expected * (1 - expected) / count)


@given(candidates, st.integers(0, 2**64 - 1), st.sampled_from([0.0, 0.3, 1.0]))
def test_the_order_of_the_candidates_does_not_matter(prediction: Prediction, seed: int, floor: float) -> None:
    ids = names(prediction)
    order = list(range(len(ids)))
    Random(seed).shuffle(order)
    shuffled = prediction_of(prediction.mean[order], prediction.spread[order])
    first = select(prediction, ids, seed, floor=floor)
    second = select(shuffled, [ids[position] for position in order], seed, floor=floor)
    assert ids[first.position] == ids[order[second.position]]
    assert first.draw == second.draw


def test_without_exploration_the_largest_mean_is_selected() -> None:
    prediction = prediction_of(np.array([-3.0, -1.0, -2.0]), np.array([9.0, 9.0, 9.0]))
    ids = names(prediction)
    assert {select(prediction, ids, seed, floor=0, explore=0.0).position for seed in range(50)} == {1}
    assert propensity(prediction, ids, 1, floor=0.1, explore=0.0) == pytest.approx(0.1 / 3 + 0.9)
    assert propensity(prediction, ids, 0, floor=0.1, explore=0.0) == pytest.approx(0.1 / 3)


def test_the_seed_of_a_request_is_documented() -> None:
    """It may never change: selections are computed again from it. SHA-256 of "salt/request", its first 64 bits."""
    assert seed_of("exploration-2026-11", "r-1") == 0xBEA7B721149D2005


@pytest.mark.parametrize(
    ("ids", "floor", "message"),
    [([], 0.1, "no candidate"), (["a", "a"], 0.1, "repeat"), (["a", "b"], 1.5, "between 0 and 1")],
)
def test_impossible_requests_are_refused(ids: list[str], floor: float, message: str) -> None:
    prediction = prediction_of(np.zeros(len(ids)), np.ones(len(ids)))
    with pytest.raises(ValueError, match=message):
        select(prediction, ids, 1, floor=floor)


def test_a_candidate_without_log_odds_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        select(prediction_of(np.array([0.0, np.nan]), np.ones(2)), ["a", "b"], 1)
