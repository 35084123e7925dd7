"""Which variables relate to the outcome: found where there is a relation, not found where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_streams.exploration.screening import Codes, Variable, association, level_rates, screen, wilson
from headrace_streams.exploration.special import Floats


def variable(name: str, codes: Codes, levels: int, kind: str = "category") -> Variable:
    return Variable(name, kind, codes, tuple(f"l{level}" for level in range(levels)), 0, levels)


def converts(predictor: Floats, random: np.random.Generator) -> Floats:
    return (random.random(len(predictor)) < 1 / (1 + np.exp(-predictor))).astype(np.float64)


def test_variables_without_a_relation_are_reported_as_related_in_at_most_5_percent_of_the_logs() -> None:
    false = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        outcome = (random.random(3_000) < 0.08).astype(np.float64)
        variables = [variable(f"v{k}", random.integers(0, k, 3_000), k) for k in (2, 4, 10, 30, 100)]
        false += any(found.related for found in screen(variables, outcome).findings)
    assert false <= 5


def test_related_variables_are_selected_and_copies_of_them_are_not() -> None:
    random = np.random.default_rng(1)
    country, survey, noise = (random.integers(0, levels, 20_000) for levels in (4, 20, 50))
    language = np.where(random.random(20_000) < 0.9, country, random.integers(0, 4, 20_000))
    effect = np.array([-0.5, 0.0, 0.3, 0.6])[country] + random.normal(0, 0.5, 20)[survey]
    found = screen(
        [
            variable("country", country, 4),
            variable("language", language, 4),
            variable("survey", survey, 20),
            variable("noise", noise, 50),
        ],
        converts(effect - 3, random),
    )
    assert {step.name for step in found.selected} == {"country", "survey"}
    assert {item.variable.name for item in found.findings if item.related} == {"survey", "country", "language"}
    assert found.explained > max(item.gain.share for item in found.findings)
    assert found.associations["country", "language"] > 0.8
    assert found.associations["country", "noise"] < 0.05


def test_a_clear_relation_is_found_with_240_conversions() -> None:
    found = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        group, noise = random.integers(0, 4, 3_000), random.integers(0, 30, 3_000)
        outcome = (random.random(3_000) < 0.08 * np.array([0.5, 0.8, 1.2, 1.5])[group]).astype(np.float64)
        (first, _) = screen([variable("group", group, 4), variable("noise", noise, 30)], outcome).findings
        found += first.related
    assert found >= 18


def test_an_identifier_explains_nothing_although_it_fits_its_own_impressions() -> None:
    random = np.random.default_rng(2)
    outcome = (random.random(4_000) < 0.1).astype(np.float64)
    (found,) = screen([variable("id", np.arange(4_000), 4_000)], outcome).findings
    assert not found.related
    assert found.gain.share < 0.001


def test_impressions_of_one_user_are_not_counted_as_independent() -> None:
    """Each of 100 users has 100 impressions with one outcome: no more is known than from 100 impressions."""
    random = np.random.default_rng(3)
    user = np.repeat(np.arange(100), 100)
    outcome = np.repeat((random.random(100) < 0.5).astype(np.float64), 100)
    group = variable("group", np.repeat(random.integers(0, 5, 100), 100), 5)
    (naive,) = screen([group], outcome).findings
    (found,) = screen([group], outcome, user).findings
    assert naive.related
    assert not found.related


def test_a_log_with_few_conversions_gives_no_features_and_the_missing_number() -> None:
    outcome = np.zeros(5_000)
    outcome[:38] = 1
    found = screen([variable("v", (np.arange(5_000) < 38).astype(np.intp), 2)], outcome)
    assert found.selected == ()
    assert found.reason == "the log has 38 conversions, and 100 are needed: analyse a longer log"


def test_a_log_without_impressions_is_refused() -> None:
    with pytest.raises(ValueError, match="no impression"):
        screen([], np.array([]))


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_interval_of_a_rate_contains_it_and_lies_between_0_and_1(conversions: int, others: int) -> None:
    count = conversions + others
    low, high = wilson(conversions, count)
    assert 0 <= low <= conversions / count <= high <= 1


def test_the_interval_of_a_rate_is_that_of_wilson() -> None:
    """10 of 100: computed by hand from Wilson (1927)."""
    assert wilson(10, 100) == pytest.approx((0.0552291, 0.1743657), abs=1e-6)


@given(st.data(), st.integers(2, 6))
@settings(max_examples=40)
def test_the_association_of_a_variable_with_its_permuted_levels_is_1(data: st.DataObject, levels: int) -> None:
    codes = np.array(data.draw(st.lists(st.integers(0, levels - 1), min_size=60, max_size=120)) + list(range(levels)))
    order = np.array(data.draw(st.permutations(range(levels))))
    first, second = variable("a", codes, levels), variable("b", order[codes], levels)
    assert association(first, second) == pytest.approx(1)


def test_independent_variables_have_almost_no_association() -> None:
    random = np.random.default_rng(4)
    first, second = (variable(name, random.integers(0, 30, 5_000), 30) for name in "ab")
    assert association(first, second) < 0.05


def test_the_rates_of_numbers_keep_their_order_and_of_categories_begin_with_the_most_frequent() -> None:
    codes, outcome = np.array([0, 1, 1, 1, 2, 2]), np.array([1.0, 0, 0, 1, 1, 1])
    assert [level.label for level in level_rates(variable("v", codes, 4), outcome)] == ["l1", "l2", "l0"]
    assert [level.label for level in level_rates(variable("v", codes, 4, "number"), outcome)] == ["l0", "l1", "l2"]
