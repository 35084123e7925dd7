"""Conversion rates with an empirical Bayes prior."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_streams.exploration.beta import BetaModel, Prior, estimate_prior

DEFAULT = Prior(0.6, 29.4)


def test_the_log_odds_have_the_moments_of_the_beta_distribution() -> None:
    learned = BetaModel("survey", base_rate=0.1, strength=20)
    learned.update({"survey": "s"}, 7, 100)
    found = learned.predict([{"survey": "s"}])
    draws = np.random.default_rng(1).beta(2 + 7, 18 + 93, 1_000_000)
    log_odds = np.log(draws / (1 - draws))
    assert found.mean[0] == pytest.approx(log_odds.mean(), abs=5 * log_odds.std() / 1000)
    assert found.variance[0] == pytest.approx(log_odds.var(), rel=0.01)
    assert found.probability[0] == pytest.approx(draws.mean(), rel=0.02)


def test_the_estimated_prior_of_many_surveys_is_that_of_their_rates() -> None:
    random = np.random.default_rng(2)
    rates = random.beta(4, 96, 800)
    counts = [(float(random.binomial(400, rate)), 400.0) for rate in rates]
    prior = estimate_prior(counts, DEFAULT)
    assert prior.a / (prior.a + prior.b) == pytest.approx(0.04, rel=0.05)
    assert prior.a + prior.b == pytest.approx(100, rel=0.25)


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 1000)), max_size=30))
def test_every_prior_is_a_distribution(counts: list[tuple[float, float]]) -> None:
    prior = estimate_prior(counts, DEFAULT)
    assert prior.a > 0
    assert prior.b > 0


def test_a_new_survey_has_the_rate_of_its_group() -> None:
    learned = BetaModel("survey", group="client")
    for number in range(10):
        learned.update({"client": "good", "survey": f"g{number}"}, 20, 200)
        learned.update({"client": "bad", "survey": f"b{number}"}, 1, 200)
    good, bad = learned.predict([{"client": c, "survey": "new"} for c in ("good", "bad")]).probability
    assert good == pytest.approx(0.1, rel=0.15)
    assert bad == pytest.approx(0.005, rel=0.6)


def test_many_outcomes_outweigh_the_group() -> None:
    learned = BetaModel("survey", group="client")
    for number in range(10):
        learned.update({"client": "c", "survey": number}, 2, 200)
    learned.update({"client": "c", "survey": "hit"}, 900, 3000)
    assert learned.predict([{"client": "c", "survey": "hit"}]).probability[0] == pytest.approx(0.3, rel=0.02)


def test_a_snapshot_restores_the_state() -> None:
    learned, restored = BetaModel("survey", group="client"), BetaModel("survey", group="client")
    for number in range(7):
        learned.update({"client": "c", "survey": number}, 1, 40 + number)
    restored.restore(learned.to_bytes())
    row = {"client": "c", "survey": 3}
    assert restored.to_bytes() == learned.to_bytes()
    assert restored.predict([row]).mean == learned.predict([row]).mean
    assert sum(restored.contributions(row).values()) == pytest.approx(float(learned.predict([row]).mean[0]))


def test_a_snapshot_of_another_grouping_is_refused() -> None:
    with pytest.raises(ValueError, match="group None"):
        BetaModel("survey", group="client").restore(BetaModel("survey").to_bytes())
