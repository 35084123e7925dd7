"""Bayesian logistic regression, one outcome at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_streams.exploration.features import Term, parse_terms
from headrace_streams.exploration.logistic import LogisticModel, posterior_mode
from headrace_streams.exploration.special import sigmoid

TERMS = (*parse_terms(["country", "country*category"]), Term("length", ("length",), scale=5.0, centre=10.0))

rows = st.fixed_dictionaries(
    {
        "country": st.sampled_from(["de", "fr", None]),
        "category": st.integers(0, 3),
        "length": st.one_of(st.none(), st.floats(-100, 100), st.just(float("nan"))),
    }
)
outcomes = st.lists(st.tuples(rows, st.sampled_from([0.0, 1.0]), st.floats(0, 1)), max_size=30)


def model(**options: float) -> LogisticModel:
    return LogisticModel(TERMS, base_rate=0.05, max_levels=int(options.pop("max_levels", 50)), **options)


def test_before_any_outcome_the_prediction_is_the_base_rate_with_the_variance_of_the_prior() -> None:
    found = model(base_deviation=0.7).predict([{"country": "de", "category": 1, "length": 15}])
    assert float(sigmoid(found.mean)[0]) == pytest.approx(0.05)
    assert found.variance[0] == pytest.approx(0.7**2 + 0.4**2 + 0.4**2 + 0.4**2)


@given(mean=st.floats(-8, 8), variance=st.floats(1e-6, 50), positives=st.floats(0, 100), exposure=st.floats(0, 100))
def test_the_posterior_mode_solves_its_equation(
    mean: float, variance: float, positives: float, exposure: float
) -> None:
    x = posterior_mode(mean, variance, positives, exposure)
    right = mean + variance * (positives - exposure * float(sigmoid(x)))
    assert x == pytest.approx(right, abs=1e-6 * max(1.0, variance * exposure))


def test_one_outcome_gives_the_laplace_approximation_of_the_exact_posterior() -> None:
    """The mode on a fine grid of the exact log posterior, and its curvature."""
    only = LogisticModel([], base_rate=0.2, base_deviation=1.0)
    only.update({}, 1, 3)
    grid = np.linspace(-6, 6, 240_001)
    start = np.log(0.2 / 0.8)
    log_posterior = -((grid - start) ** 2) / 2 + grid - 3 * np.log1p(np.exp(grid))
    top = int(log_posterior.argmax())
    p = 1 / (1 + np.exp(-grid[top]))
    found = only.predict([{}])
    assert found.mean[0] == pytest.approx(grid[top], abs=1e-4)
    assert found.variance[0] == pytest.approx(1 / (1 + 3 * p * (1 - p)), rel=1e-4)


@given(outcomes, outcomes)
def test_a_snapshot_and_the_outcomes_after_it_give_the_same_state_bit_by_bit(
    before: list[tuple[dict[str, object], float, float]], after: list[tuple[dict[str, object], float, float]]
) -> None:
    whole, restored = model(max_levels=12), model(max_levels=12)
    for row, positives, exposure in before:
        whole.update(row, positives, exposure)
    restored.restore(whole.to_bytes())
    for row, positives, exposure in after:
        whole.update(row, positives, exposure)
        restored.update(row, positives, exposure)
    assert restored.to_bytes() == whole.to_bytes()
    found = [row for row, _, _ in before + after]
    assert found == [] or np.array_equal(whole.predict(found).mean, restored.predict(found).mean)


@given(outcomes)
def test_variances_stay_positive_and_never_grow(seen: list[tuple[dict[str, object], float, float]]) -> None:
    learned = model()
    questions = [row for row, _, _ in seen]
    for row, positives, exposure in seen:
        before = learned.predict(questions).variance
        learned.update(row, positives, exposure)
        after = learned.predict(questions).variance
        assert (after > 0).all()
        assert (after <= before * (1 + 1e-9) + 1e-9).all()


@given(outcomes)
def test_contributions_add_up_to_the_mean(seen: list[tuple[dict[str, object], float, float]]) -> None:
    learned = model()
    for row, positives, exposure in seen:
        learned.update(row, positives, exposure)
    for row, _, _ in seen:
        assert sum(learned.contributions(row).values()) == pytest.approx(float(learned.predict([row]).mean[0]))


def test_a_new_survey_starts_with_the_prediction_of_its_features() -> None:
    learned = LogisticModel([Term("client", ("client",)), Term("survey", ("survey",), deviation=0.5)], base_rate=0.05)
    for number in range(400):
        learned.update({"client": "good", "survey": f"g{number % 4}"}, float(number % 3 == 0), 1)
        learned.update({"client": "bad", "survey": f"b{number % 4}"}, 0, 1)
    good, bad, other = learned.predict([{"client": c, "survey": "new"} for c in ("good", "bad", "unknown")]).probability
    assert bad < other < good
    known = learned.predict([{"client": "good", "survey": "g1"}]).variance[0]
    assert learned.predict([{"client": "good", "survey": "new"}]).variance[0] > known + 0.5**2 / 2


def test_weights_approach_the_truth() -> None:
    random = np.random.default_rng(7)
    truth = {"a": -2.0, "b": -1.0, "c": 0.5}
    learned = LogisticModel([Term("kind", ("kind",), deviation=1.0)], base_rate=0.2, base_deviation=1.0)
    for kind in random.choice(list(truth), 6000):
        learned.update({"kind": kind}, float(random.random() < 1 / (1 + np.exp(-truth[kind]))), 1)
    found = learned.predict([{"kind": kind} for kind in truth])
    for mean, variance, expected in zip(found.mean, found.variance, truth.values(), strict=True):
        assert abs(mean - expected) < 4 * np.sqrt(variance)
        assert variance < 0.01


def test_the_oldest_level_makes_room_and_leaves_the_others_as_they_are() -> None:
    learned = LogisticModel([Term("survey", ("survey",))], base_rate=0.05, max_levels=4)
    for survey in ("s1", "s2", "s3"):
        learned.update({"survey": survey}, 1, 1)
    others = [{"survey": "s2"}, {"survey": "s3"}]
    before = learned.predict(others)
    variance_of_new = learned.predict([{"survey": "new"}]).variance[0]
    learned.update({"survey": "s4"}, 0, 1e-12)  # almost no evidence: only the slot is reassigned
    after = learned.predict(others)
    assert learned.levels == 4
    assert after.mean == pytest.approx(before.mean)
    assert after.variance == pytest.approx(before.variance)
    assert learned.predict([{"survey": "s1"}]).variance[0] == pytest.approx(variance_of_new)


def test_uncertainty_about_the_user_is_no_part_of_the_spread_between_candidates() -> None:
    shared = LogisticModel(parse_terms(["country", "survey", "country*survey"], request_columns=["country"]))
    rows = [{"country": "de", "survey": "a"}, {"country": "de", "survey": "b"}]
    found = shared.predict(rows)
    assert found.spread == pytest.approx([2 * 0.4**2] * 2)
    assert found.variance == pytest.approx(found.spread + 0.7**2 + 0.4**2)
    for _ in range(50):
        shared.update(rows[0], 0, 1)
    later = shared.predict(rows)
    assert later.spread[0] < later.spread[1]
    assert (later.spread <= later.variance).all()


@pytest.mark.parametrize(("positives", "exposure"), [(-1, 1), (1, -1), (float("nan"), 1), (1, float("inf"))])
def test_outcomes_that_are_no_counts_are_refused(positives: float, exposure: float) -> None:
    with pytest.raises(ValueError, match="finite number of at least 0"):
        model().update({"country": "de"}, positives, exposure)


def test_a_number_that_is_text_is_refused_with_the_feature_and_the_column() -> None:
    with pytest.raises(TypeError, match="feature 'length' needs a number in column 'length', got 'long'"):
        model().predict([{"length": "long"}])


def test_snapshots_of_other_features_are_refused() -> None:
    with pytest.raises(ValueError, match="other features: intercept, kind"):
        model().restore(LogisticModel([Term("kind", ("kind",))]).to_bytes())


@given(outcomes, st.lists(rows, min_size=2, max_size=8))
def test_a_row_has_the_same_prediction_in_every_batch_bit_by_bit(
    history: list[tuple[dict[str, object], float, float]], asked: list[dict[str, object]]
) -> None:
    for terms in (TERMS, TERMS[:1], ()):
        learned = LogisticModel(terms, base_rate=0.05, max_levels=50)
        for row, positives, exposure in history:
            learned.update(row, positives, exposure)
        together = learned.predict(asked)
        for place, row in enumerate(asked):
            alone = learned.predict([row])
            assert alone.mean[0] == together.mean[place]
            assert alone.variance[0] == together.variance[place]
            assert alone.spread[0] == together.spread[place]
