"""Experiments with bad input: refused with a reason at their line, or visibly degraded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.files import parse_config_file
from headrace.validation import locate_findings
from headrace_streams.configuration import ApplicationKeys
from headrace_streams.connector import StreamApplicationConfig
from headrace_streams.exploration.experiment import UniformModel
from headrace_streams.exploration.model import Prediction, Row
from headrace_streams.planning import make_plan
from tests.unit.streams.exploration.applications import APPLICATION
from tests.unit.streams.exploration.test_experiment_steps import SECTIONS, Run

HERE = __name__


def findings(folder: Path, text: str) -> list[str]:
    """Return what is wrong with an application, each with line and column."""
    path = folder / "application.yaml"
    path.write_text(text, encoding="utf-8")
    file = parse_config_file(path)
    own = {key: value for key, value in file.properties.items() if key.split(".")[0] in SECTIONS}
    keys = ApplicationKeys.parse(own)
    _, found = make_plan("app", keys)
    located = locate_findings(found, file.positions, str(path))
    return [
        f"{item.location.line}:{item.location.column} {item.code} {item.message}"
        for item in located
        if item.location is not None and item.severity == "error"
    ]


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def test_the_application_of_these_tests_is_valid(tmp_path: Path) -> None:
    assert findings(tmp_path, APPLICATION) == []


@pytest.mark.parametrize(
    ("old", "new", "at", "message"),
    [
        ("    objective.within: 1h\n", "", "", 'Missing required configuration "experiments.surveys.objective.within"'),
        ("traffic: 30%", "traffic: 99%", "v2:", "the versions and the holdout have 104.00% of the traffic together"),
        ("traffic: 30%", "traffic: 130%", "v2:", "experiments.surveys.versions.v2.traffic"),
        ("traffic: 30%", "traffic: 95%", "v2:", "nothing of the traffic is left for the current version 'v1'"),
        ("current: v1", "current: v9", "current:", "the current version 'v9' is not declared"),
        ("v1: {model: beta,", "v1: {model: beta, traffic: 10%,", "v1:", "has the rest of the traffic"),
        ("v3: {", "holdout: {", "holdout: {", "'holdout' is the name of the holdout, and not of a version"),
        ("features: [country]", "features: [country:a:b]", "v3:", "feature 'country:a:b': could not convert"),
        ("features: [country]", "features: [country, country]", "v3:", "feature 'country': it is there twice"),
        ("features: [country]", "features: [offer]", "v3:", "the candidate itself is always a feature"),
        ("model: logistic, features: [country]", "model: forest", "v3:", "experiments.surveys.versions.v3.model"),
        ("model: logistic, features: [country]", "model: call", "v3:", "a model that is called has no class"),
        ("model: logistic, features: [country]", "model: call, call: none:X", "v3:", "cannot be imported"),
        ("type: left", "type: inner", "from: labelled", "which is no left join: a selection needs exactly one label"),
        ("within: 1h, grace", "within: 2h, grace", "objective", "waits 7200000 ms for conversions, and the objective"),
        ("learn: {experiment: surveys}", "learn: {experiment: survey}", "learn:", "unknown experiment 'survey'"),
        ("candidates: offers,", "candidates: offer,", "pick:", "unknown table 'offer'"),
        ("offer.active AND", "offer.active + 'x' AND", "pick:", "x"),
        ("holdout: 5%", "holdout: 5%\n    promote.ramp: [50%, 20%]", "ramp", "must be shares in increasing order"),
        ("holdout: 5%", "holdout: 5%\n    guards.calibration: 2", "guards", "is not a range around 1"),
    ],
)
def test_what_is_wrong_is_reported_at_its_line(tmp_path: Path, old: str, new: str, at: str, message: str) -> None:
    assert old in APPLICATION
    text = APPLICATION.replace(old, new)
    first, *_ = findings(tmp_path, text)
    assert message in first
    if at:
        assert first.startswith(f"{line_of(text, at)}:"), first


def test_a_pick_without_an_experiment_is_refused(tmp_path: Path) -> None:
    start, end = APPLICATION.index("experiments:"), APPLICATION.index("steps:")
    first, *_ = findings(tmp_path, APPLICATION[:start] + APPLICATION[end:])
    assert "step 'selections' needs an experiment, and the application declares none" in first


def test_a_column_that_no_declared_input_has_is_refused(tmp_path: Path) -> None:
    declared = "requests: {topic: requests, time: asked_at, columns: {request_id: string, user_id: integer, "
    declared += "patience: integer, asked_at: integer}}"
    text = APPLICATION.replace("requests: {topic: requests, time: asked_at}", declared)
    first, *_ = findings(tmp_path, text)
    assert "experiment 'surveys' needs column 'country', which does not exist" in first


def test_the_class_of_a_model_is_a_function_that_rest_must_allow() -> None:
    uses = list(StreamApplicationConfig.local_uses({"experiments.surveys.versions.v3.call": "models:Deep"}))
    assert [(use.kind, use.name) for use in uses] == [("function", "models:Deep")]


# Records


def request(number: int, **more: Any) -> dict[str, Any]:
    return {"request_id": f"r{number}", "user_id": number, "country": "de", "patience": 30, "asked_at": number, **more}


def test_a_request_without_id_or_unit_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for value in (request(1, request_id=None), request(2, user_id=None), request(3, user_id=1.5), request(4)):
        run.driver.send("requests", value)
    assert [item.error.code for item in run.driver.refused] == ["experiment.request"] * 3
    assert [value["request"] for value in run.values("selections")] == ["r4"]


def test_missing_values_nan_and_texts_in_numbers_are_missing_features_and_shown(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.driver.send("offers", {"category": None, "loi": 5, "active": True}, 20)
    run.driver.send("offers", {"category": "travel", "active": True, "loi": float("nan")}, 21)
    run.driver.send("requests", request(1, country=None))
    (value,) = run.values("selections")
    assert value["missing"] == ["country", "offer.category"]
    assert "21" not in [row[0] for row in value["candidates"]["rows"]]  # NaN <= patience is not true

    text = APPLICATION.replace(" AND offer.loi <= patience", "")
    other = Run(tmp_path, text)
    for number, loi in enumerate((float("nan"), float("inf"), "seven", None), 20):
        other.driver.send("offers", {"category": "travel", "active": True, "loi": loi}, number)
    other.driver.send("requests", request(1))
    (value,) = other.values("selections")
    assert value["missing"] == ["offer.loi"]
    place = value["candidates"]["columns"].index("offer.loi")
    assert {row[place] for row in value["candidates"]["rows"] if len(row[0]) == 2} == {None}


def test_a_record_that_is_no_selection_is_refused_by_learning(tmp_path: Path) -> None:
    start = APPLICATION.index("  selections:\n")
    end = APPLICATION.index("  labelled:\n")
    text = APPLICATION[:start] + APPLICATION[end:]
    text = text.replace("requests: {topic: requests, time: asked_at}", "selections: {topic: shown, time: selected_at}")
    text = text.replace("  selections: selections\n", "").replace(
        "  requests-without-candidates: selections.none\n", ""
    )
    run = Run(tmp_path, text)
    run.driver.send("shown", {"request": "r1", "selected_at": 5, "experiment": "surveys"})
    run.driver.send("shown", {"request": "r1", "selected_at": 5, "experiment": "other"})
    assert [item.error.code for item in run.driver.refused] == ["experiment.selection"] * 2
    assert "column 'unit' is missing" in str(run.driver.refused[0].error)


# Models of the user


class FailsToBeMade(UniformModel):
    """Its weights are missing."""

    def __init__(self) -> None:
        raise RuntimeError("no weights")


class FailsToPredict(UniformModel):
    """Raises when it predicts."""

    def predict(self, rows: Sequence[Row]) -> Prediction:
        raise RuntimeError("no weights")


class PredictsNan(UniformModel):
    """Predicts what no one can compare."""

    def predict(self, rows: Sequence[Row]) -> Prediction:
        return Prediction(np.full(len(rows), np.nan), np.ones(len(rows)), np.ones(len(rows)))


class FailsToLearn(UniformModel):
    """Raises when it learns."""

    def update(self, row: Row, positives: float, exposure: float) -> None:
        raise RuntimeError("no weights")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("FailsToBeMade", "making the model raised RuntimeError: no weights"),
        ("FailsToPredict", "predicting raised RuntimeError: no weights"),
        ("PredictsNan", "predicting raised ValueError: the prediction has a NaN"),
        ("FailsToLearn", "learning raised RuntimeError: no weights"),
    ],
)
def test_a_model_that_raises_degrades_its_version_and_others_go_on(tmp_path: Path, model: str, reason: str) -> None:
    start, end = APPLICATION.index("v2: {"), APPLICATION.index("v3: {")
    text = f"{APPLICATION[:start]}v2: {{model: call, call: '{HERE}:{model}', traffic: 30%}}\n      {APPLICATION[end:]}"
    run = Run(tmp_path, text)
    run.live(200)

    mine = [value for value in run.values("selections") if value["assigned"] == "v2"]
    replaced = [value for value in mine if value["version"] == "v1"]
    assert replaced
    assert all(reason in value["degraded"]["reason"] for value in replaced)
    if model != "FailsToLearn":
        assert len(replaced) == len(mine)
    assert run.driver.refused == []
    assert len(run.values("labels")) == len(run.values("selections"))
    last = run.values("experiment-log")[-1]
    assert (last["transition"], last["version"]) == ("proposed rollback", "v2")
    assert reason in last["reason"]


def test_automatic_decisions_take_the_traffic_of_a_version_that_fails(tmp_path: Path) -> None:
    start, end = APPLICATION.index("v2: {"), APPLICATION.index("v3: {")
    failing = f"v2: {{model: call, call: '{HERE}:FailsToPredict', traffic: 30%}}"
    text = f"{APPLICATION[:start]}{failing}\n      {APPLICATION[end:]}"
    run = Run(tmp_path, text.replace("holdout: 5%", "holdout: 5%\n    promote.mode: automatic"))
    run.live(600)

    started, rolled_back = run.values("experiment-log")
    assert (started["transition"], rolled_back["transition"], rolled_back["version"]) == ("started", "rollback", "v2")
    assert rolled_back["number"] == 2
    assert rolled_back["shares"] == {"holdout": 0.05, "v1": 0.95}
    assert "no weights" in rolled_back["evidence"]["reason"]
    first, second = run.driver.events
    assert (first.action, second.action) == ("experiment started", "experiment rollback")
    assert second.fields["experiment"] == {
        "name": "surveys",
        "transition": "rollback",
        "number": 2,
        "current": "v1",
        "by": "headrace",
        "at": rolled_back["at"],
        "version": "v2",
    }
    assert second.text.startswith("experiment surveys: rollback v2, by headrace: ")
    assert second.text.endswith("traffic: holdout 5.00%, v1 95.00%")
    after = [value for value in run.values("selections") if value["traffic"] == 2]
    assert after
    assert {value["assigned"] for value in after} == {"v1", "holdout"}
    assert not any("degraded" in value for value in after)
