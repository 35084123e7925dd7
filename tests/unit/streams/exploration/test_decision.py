"""Decisions about the versions of an experiment."""

from __future__ import annotations

import math

import numpy as np
import orjson
import pytest

from headrace_streams.exploration.decision import DecisionRules, VersionCounts, decide
from headrace_streams.exploration.sequential import Sample

RULES = DecisionRules()
SHARES = {"v1": 0.5, "v2": 0.5}


def counts(units: int, conversions: int, **more: object) -> VersionCounts:
    predicted = float(conversions)
    return VersionCounts(Sample.of_counts(units, conversions), units, **{"predicted": predicted, **more})  # type: ignore[arg-type]


def test_too_few_conversions_give_no_verdict_and_say_what_is_missing() -> None:
    found = decide(RULES, "v1", SHARES, {"v1": counts(1000, 60), "v2": counts(1000, 99)}).versions["v2"]
    assert found.action == "wait"
    assert "40 more conversions of the current version; 1 more conversions of the new version" in found.reason
    assert found.missing in found.reason


def test_nothing_counted_waits() -> None:
    found = decide(RULES, "v1", SHARES, {}).versions["v2"]
    assert (found.action, found.evidence()["low"]) == ("wait", None)


def test_a_proven_winner_is_promoted_and_a_proven_loser_rolled_back() -> None:
    better = {"v1": counts(20_000, 1000), "v2": counts(20_000, 1400)}
    assert decide(RULES, "v1", SHARES, better).versions["v2"].action == "promote"
    assert decide(RULES, "v2", SHARES, better).versions["v1"].action == "rollback"


@pytest.mark.parametrize(("share", "action", "to"), [(0.02, "raise", 0.05), (0.05, "raise", 0.2), (0.5, "wait", None)])
def test_an_undecided_version_climbs_the_ramp(share: float, action: str, to: float | None) -> None:
    units = round(20_000 * share)
    given = {"v1": counts(20_000 - units, 1000), "v2": counts(units, round(1000 * units / (20_000 - units)))}
    rules = DecisionRules(least_conversions=10)
    found = decide(rules, "v1", {"v1": 1 - share, "v2": share}, given).versions["v2"]
    assert (found.action, found.share) == (action, to)


def test_units_in_other_shares_than_configured_stop_the_test_even_with_a_winner() -> None:
    found = decide(RULES, "v1", SHARES, {"v1": counts(18_000, 900), "v2": counts(22_000, 1500)})
    assert found.sample_ratio_p_value < 0.001
    assert found.versions["v2"].action == "stop"
    assert "lost or counted twice" in found.versions["v2"].reason


def test_a_version_that_predicts_twice_too_much_is_rolled_back_when_there_is_enough_evidence() -> None:
    few = {"v1": counts(1000, 50), "v2": counts(1000, 50, predicted=100.0)}
    assert decide(RULES, "v1", SHARES, few).versions["v2"].action == "wait"
    many = {"v1": counts(10_000, 500), "v2": counts(10_000, 500, predicted=1000.0)}
    found = decide(RULES, "v1", SHARES, many).versions["v2"]
    assert (found.action, found.calibration) == ("rollback", 2.0)
    assert "2.00, outside of 0.8 to 1.25" in found.reason


def test_a_version_that_fails_is_rolled_back_with_its_error() -> None:
    given = {"v1": counts(100, 5), "v2": counts(100, 5, degraded="ValueError: no weights")}
    found = decide(RULES, "v1", SHARES, given).versions["v2"]
    assert (found.action, found.reason) == ("rollback", "version v2 fails: ValueError: no weights")


def test_a_test_without_a_verdict_stops_after_its_longest_time() -> None:
    given = {"v1": counts(100, 5), "v2": counts(100, 5)}
    rules = DecisionRules(longest=60)
    assert decide(rules, "v1", SHARES, given, age=59).versions["v2"].action == "wait"
    assert decide(rules, "v1", SHARES, given, age=60).versions["v2"].action == "stop"


def test_two_versions_share_the_probability_of_a_false_verdict() -> None:
    # A p-value between alpha / 2 and alpha decides when one version is compared, and not when there are two.
    given = {name: counts(5000, 250) for name in ("v1", "v2", "v3")}
    kept = {"v2": 0.04, "v3": 1.0}
    one = decide(RULES, "v1", {"v1": 0.5, "v2": 0.5}, {k: given[k] for k in ("v1", "v2")}, p_values=kept)
    both = decide(RULES, "v1", dict.fromkeys(given, 1 / 3), given, p_values=kept)
    assert one.versions["v2"].action == "rollback"
    assert both.versions["v2"].action == "raise"


def test_the_holdout_counts_for_the_sample_ratio_and_is_not_compared() -> None:
    shares = {"v1": 0.49, "v2": 0.49, "holdout": 0.02}
    given = {"v1": counts(9800, 490), "v2": counts(9800, 490), "holdout": counts(4000, 20)}
    found = decide(RULES, "v1", shares, given)
    assert list(found.versions) == ["v2"]
    assert found.versions["v2"].action == "stop"


def test_evidence_is_json() -> None:
    found = decide(RULES, "v1", SHARES, {"v1": counts(5000, 250), "v2": counts(5000, 260)})
    text = orjson.loads(orjson.dumps(found.evidence()))
    assert text["versions"]["v2"]["difference"] == pytest.approx(0.002)
    assert all(not isinstance(item, float) or math.isfinite(item) for item in text["versions"]["v2"].values())


def test_a_current_version_without_traffic_cannot_be_compared_with() -> None:
    with pytest.raises(ValueError, match="current version 'v1' has no share"):
        decide(RULES, "v1", {"v2": 1.0}, {})


def with_complaints(units: int, complaints: int) -> VersionCounts:
    return counts(units, units // 10, metric=Sample.of_counts(units, complaints), metric_events=complaints)


@pytest.mark.parametrize(
    ("complaints", "margin", "action"),
    [(400, 0.0, "rollback"), (400, 0.2, "rollback"), (400, 1.5, "raise"), (210, 0.0, "raise"), (100, 0.0, "raise")],
)
def test_a_version_with_more_complaints_than_its_margin_is_rolled_back(
    complaints: int, margin: float, action: str
) -> None:
    rules = DecisionRules(metric="complaint", metric_margin=margin, ramp=(0.9,))
    given = {"v1": with_complaints(10_000, 200), "v2": with_complaints(10_000, complaints)}
    found = decide(rules, "v1", SHARES, given).versions["v2"]
    assert found.action == action
    assert ("complaint is higher than that of the current version" in found.reason) == (action == "rollback")


def test_a_version_that_earns_less_is_rolled_back_though_it_converts_as_often() -> None:
    rules = DecisionRules(metric="revenue", metric_higher_is_better=True)
    given = {"v1": with_complaints(10_000, 400), "v2": with_complaints(10_000, 200)}
    found = decide(rules, "v1", SHARES, given).versions["v2"]
    assert found.action == "rollback"
    assert "revenue is lower than that of the current version" in found.reason


def test_few_complaints_say_nothing() -> None:
    rules = DecisionRules(metric="complaint")
    given = {"v1": with_complaints(10_000, 5), "v2": with_complaints(10_000, 60)}
    assert decide(rules, "v1", SHARES, given).versions["v2"].action != "rollback"


def test_the_guard_of_the_metric_has_few_false_alarms_over_all_looks() -> None:
    """A version without a difference, looked at 20 times in each of 200 experiments."""
    random = np.random.default_rng(1)
    rules = DecisionRules(metric="complaint", alpha=0.05)
    alarms = 0
    for _ in range(200):
        found = random.binomial(2000, 0.04, (2, 20)).cumsum(axis=1)
        given = [
            {name: with_complaints(2000 * look, int(found[row, look - 1])) for row, name in enumerate(("v1", "v2"))}
            for look in range(1, 21)
        ]
        alarms += any("complaint" in decide(rules, "v1", SHARES, item).versions["v2"].reason for item in given)
    assert alarms / 200 <= 0.05


@pytest.mark.parametrize(("slow", "timed", "action"), [(60, 1000, "rollback"), (10, 1000, "raise"), (2, 20, "raise")])
def test_a_version_that_is_slow_over_http_is_rolled_back(slow: int, timed: int, action: str) -> None:
    rules = DecisionRules(latency=50, ramp=(0.9,))
    given = {"v1": counts(10_000, 1000), "v2": counts(10_000, 1000, timed=timed, slow=slow)}
    found = decide(rules, "v1", SHARES, given).versions["v2"]
    assert found.action == action
    assert ("took longer than 50 ms" in found.reason) == (action == "rollback")
