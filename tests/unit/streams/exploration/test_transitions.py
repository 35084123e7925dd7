"""The traffic of an experiment: the last record of its log, the configuration, and decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from headrace_streams.exploration.decision import VersionDecision
from headrace_streams.exploration.experiment import Experiment, UniformModel, Version
from headrace_streams.exploration.traffic import moved
from headrace_streams.exploration.transitions import (
    Traffic,
    TransitionError,
    decided,
    record_of,
    redeclared,
    traffic_of,
)


def experiment(v2: float = 0.05, current: str = "v1", **more: Any) -> Experiment:
    versions = {
        "v1": Version("v1", UniformModel),
        "v2": Version("v2", UniformModel, share=v2),
        "v3": Version("v3", UniformModel),
    }
    declared = replace(
        Experiment("surveys", "salt", "user", "request", "survey", current, versions, 1000, (1000,), holdout=0.02),
        **more,
    )
    assert isinstance(declared, Experiment)
    return declared


def logged(of: Experiment, traffic: Traffic) -> dict[str, Any]:
    record = record_of(of, traffic, "test", by="me", reason="why")
    return orjson.loads(orjson.dumps(record))  # type: ignore[no-any-return]


def decision(action: Any, share: float | None = None) -> VersionDecision:
    return VersionDecision("v2", action, "why", share=share)


def test_without_a_record_the_traffic_is_as_declared() -> None:
    assert traffic_of(experiment(), None).shares == {"holdout": 0.02, "v1": 0.93, "v2": 0.05}


def test_a_record_gives_its_traffic_back() -> None:
    traffic = Traffic(3, 17, experiment().first_allocation)
    found = traffic_of(experiment(), logged(experiment(), traffic))
    assert (found.number, found.since, found.shares) == (3, 17, traffic.shares)
    assert moved(found.allocation, traffic.allocation) == 0


@pytest.mark.parametrize(
    ("found", "shares"),
    [
        (decision("raise", 0.2), {"holdout": 0.02, "v1": 0.78, "v2": 0.2}),
        (decision("raise", 1.0), {"holdout": 0.02, "v2": 0.98}),
        (decision("rollback"), {"holdout": 0.02, "v1": 0.98}),
        (decision("stop"), {"holdout": 0.02, "v1": 0.98}),
        (decision("promote"), {"holdout": 0.02, "v2": 0.98}),
    ],
)
def test_a_decision_changes_the_traffic_and_keeps_the_holdout(found: VersionDecision, shares: dict[str, float]) -> None:
    before = traffic_of(experiment(), None)
    after = decided(before, found, 5)
    assert (after.number, after.since) == (1, 5)
    assert after.shares == pytest.approx(shares)


def test_more_traffic_moves_only_the_buckets_that_it_needs() -> None:
    before = traffic_of(experiment(), None)
    after = decided(before, decision("raise", 0.2), 5)
    assert moved(before.allocation, after.allocation) == 1500


def test_a_change_of_the_configuration_is_followed_and_nothing_else() -> None:
    record = logged(experiment(), decided(traffic_of(experiment(), None), decision("raise", 0.2), 5))
    assert redeclared(experiment(), record, 9) is None
    changed = redeclared(experiment(v2=0.5), record, 9)
    assert changed is not None
    assert (changed.number, changed.since, changed.shares) == (2, 9, {"holdout": 0.02, "v1": 0.48, "v2": 0.5})


def test_another_salt_and_a_removed_version_with_traffic_are_refused() -> None:
    record = logged(experiment(), Traffic(1, 0, experiment().first_allocation))
    with pytest.raises(TransitionError, match="the salt was 'salt' and is 'pepper' now"):
        traffic_of(experiment(salt="pepper"), record)
    without = {name: version for name, version in experiment().declared.items() if name != "v2"}
    with pytest.raises(TransitionError, match=r"version v2 is not declared any more and has 5\.00% of the traffic"):
        traffic_of(experiment(declared=without), record)
    without_v3 = {name: version for name, version in experiment().declared.items() if name != "v3"}
    assert traffic_of(experiment(declared=without_v3), record).number == 1  # it has no traffic
