"""The steps ``pick`` and ``learn``: from requests to selections, labels, scores, counts and transitions."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from headrace.errors import TaskError
from headrace.files import parse_config_file
from headrace.pipeline.stream.driver import StreamDriver
from headrace.plugin import StreamContext
from headrace.states import TaskId
from headrace_streams.connector import StreamApplicationConfig
from headrace_streams.exploration.choice import propensity, seed_of, select
from headrace_streams.exploration.model_log import follow
from headrace_streams.planning import make_plan
from headrace_streams.task import StreamApplicationTask
from tests.unit.streams.exploration.applications import APPLICATION, OFFERS, World, live

REQUESTS = 600
SECTIONS = ("inputs", "tables", "experiments", "steps", "outputs")


class Run:
    """An application in the driver of ``headrace stream test``, with its offers."""

    def __init__(self, folder: Path, text: str = APPLICATION) -> None:
        path = folder / "application.yaml"
        path.write_text(text, encoding="utf-8")
        properties = parse_config_file(path).properties
        self.properties = {key: text for key, text in properties.items() if key.split(".")[0] in SECTIONS}
        context = StreamContext(
            TaskId("app", 0),
            self.properties,
            threading.Event(),
            structlog.stdlib.get_logger("test"),
            str,
            lambda reason: None,
        )
        self.driver = StreamDriver(StreamApplicationTask(), context)
        for number, offer in enumerate(OFFERS):
            self.driver.send("offers", offer, number)

    def values(self, topic: str) -> list[Any]:
        return [record.value for record in self.driver.outputs[topic]]

    def live(self, requests: int = REQUESTS, seed: int = 7) -> None:
        def send(topic: str, value: dict[str, Any], key: Any) -> None:
            self.driver.send(topic, value, key)

        live(World(seed, requests), send, self.driver.outputs["selections"])

    def experiment(self) -> Any:
        plan, findings = make_plan("app", StreamApplicationConfig.parse(self.properties))
        assert not [item for item in findings if item.severity == "error"], findings
        return next(step.operator.experiment for step in plan.steps if step.name == "learned")  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    found = Run(tmp_path_factory.mktemp("experiment"))
    found.live()
    return found


def test_each_request_has_one_selection_or_no_candidate(run: Run) -> None:
    assert run.driver.refused == []
    made = Counter(value["request"] for value in run.values("selections"))
    without = [value["request_id"] for value in run.values("requests-without-candidates")]
    assert sorted([*made, *without]) == sorted(f"r{number}" for number in range(REQUESTS))
    assert set(made.values()) == {1}


def test_each_selection_has_one_label(run: Run) -> None:
    selected = sorted(value["request"] for value in run.values("selections"))
    assert sorted(value["request"] for value in run.values("labels")) == selected
    assert sum(value["conversion"] is not None for value in run.values("labels")) > 20


def test_only_candidates_that_fulfil_the_condition_are_selected(run: Run) -> None:
    for value in run.values("selections"):
        assert OFFERS[int(value["selected"])]["active"]
        ids = [row[0] for row in value["candidates"]["rows"]]
        assert "3" not in ids
        assert value["selected"] in ids
        assert len(ids) == value["candidate_count"]


def test_users_keep_their_version_and_versions_have_their_shares(run: Run) -> None:
    versions: dict[str, set[str]] = {}
    for value in run.values("selections"):
        versions.setdefault(value["unit"], set()).add(value["version"])
    assert {len(found) for found in versions.values()} == {1}
    counts = Counter(next(iter(found)) for found in versions.values())
    assert set(counts) == {"v1", "v2", "holdout"}
    assert counts["v2"] / counts.total() == pytest.approx(0.3, abs=0.06)
    assert all("v3" in value["shadows"] for value in run.values("selections"))


def test_a_selection_can_be_computed_again_from_its_record_and_the_log_of_the_models(run: Run) -> None:
    experiment = run.experiment()
    log: dict[str, Any] = {}
    wanted: dict[tuple[int, str], list[Any]] = {}
    for value in run.values("selections"):
        wanted.setdefault((value["seq"], value["state"]), []).append(value)
    models = None
    checked = 0
    for record in run.driver.outputs["app-surveys-models"]:
        log[record.key] = record.value
        if record.key != "head":
            continue
        models = follow(experiment, models, log)
        for value in wanted.get((models.seq, models.digest), []):
            if value["version"] != "v2":
                continue
            columns = value["candidates"]["columns"]
            rows = [
                {**value["features"], **dict(zip(columns, row, strict=True))} for row in value["candidates"]["rows"]
            ]
            prediction = models.predict("v2", rows)
            ids = [row[0] for row in value["candidates"]["rows"]]
            seed = seed_of(experiment.salt, value["request"])
            selection = select(prediction, ids, seed, floor=value["floor"], explore=value["explore"])
            place = selection.position
            assert f"{seed:016x}" == value["seed"]
            assert ids[place] == value["selected"]
            assert selection.draw == value["draw"]
            assert float(prediction.mean[place]) == value["mean"]
            assert float(prediction.variance[place]) == value["variance"]
            exact = propensity(prediction, ids, place, floor=value["floor"], explore=value["explore"])
            assert exact == value["propensity"]
            checked += 1
    assert checked > 100
    assert models is not None
    assert models.seq > 2000  # so that a restart begins at a snapshot
    assert follow(experiment, None, log).to_bytes() == models.to_bytes()


def test_the_same_records_give_the_same_outputs_byte_by_byte(run: Run, tmp_path: Path) -> None:
    again = Run(tmp_path)
    again.live()
    for topic, records in run.driver.outputs.items():
        assert _bytes(records) == _bytes(again.driver.outputs[topic]), topic


def _bytes(records: Sequence[Any]) -> bytes:
    return orjson.dumps([list(record) for record in records])


def test_every_selection_counts_as_one_impression_in_the_end(run: Run) -> None:
    events = {}
    for record in run.driver.outputs["app-surveys-models"]:
        if record.key.startswith("event/"):
            events[record.value["seq"]] = record.value["event"]
    bookings = [event for event in events.values() if event[0] == "booking"]
    selections, labels = run.values("selections"), run.values("labels")
    assert sum(event[4] for event in bookings) == pytest.approx(len(selections))
    assert sum(event[3] for event in bookings) == sum(value["conversion"] is not None for value in labels)
    assert any(0 < event[4] < 1 for event in bookings)


def test_scores_say_which_candidates_are_promising(run: Run) -> None:
    last: dict[str, Any] = {record.key: record.value for record in run.driver.outputs["scores"]}
    assert {value["version"] for value in last.values()} == {"v1", "v2", "v3"}
    best = [value for value in last.values() if value["version"] == "v1" and value["impressions"] > 50]
    assert len(best) >= 2
    for value in best:
        assert value["low"] < value["probability"] < value["high"]
        true = OFFERS[int(value["candidate"])]["rate"]
        assert value["low"] < true < value["high"]
        assert value["contributions"].keys() == {"offer.category", "offer.id"}
    for value in last.values():
        for part in ("contributions", "features"):
            names = list(value[part])
            # Elasticsearch makes objects of names with dots: no name may be a value and an object.
            assert not [(one, other) for one in names for other in names if other.startswith(f"{one}.")]
    assert len(run.values("scores")) < len(run.values("labels"))


def test_counts_agree_with_the_labels_and_the_start_is_logged(run: Run) -> None:
    started, *_ = run.values("experiment-log")
    assert (started["transition"], started["number"], started["by"]) == ("started", 1, "configuration")
    assert started["shares"] == {"holdout": 0.05, "v1": 0.65, "v2": 0.3}
    last = run.values("experiment-counts")[-1]
    before = [value for value in run.values("labels") if value["traffic"] == 1]
    for version in ("v1", "v2", "holdout"):
        found = last["counts"][version]
        mine = [value for value in before if value["version"] == version]
        # The last look is before the labels that the last record closes.
        assert 0 < found["impressions"] <= len(mine)
        assert found["units"] == len({value["unit"] for value in mine})
    assert last["decision"]["versions"]["v2"]["action"] in ("wait", "raise", "promote", "rollback")


def test_a_changed_salt_is_refused(run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path, APPLICATION.replace("surveys-2026-11", "other"))
    record = run.driver.outputs["experiment-log"][-1]
    other.driver.send("experiment-log", record.value, record.key)
    with pytest.raises(TaskError, match="users would be assigned to versions again") as raised:
        other.driver.send("requests", {"request_id": "r", "user_id": 1, "patience": 30, "asked_at": 0})
    assert raised.value.code == "experiment.salt_changed"


def test_a_version_that_has_traffic_cannot_be_removed(run: Run, tmp_path: Path) -> None:
    text = "\n".join(line for line in APPLICATION.splitlines() if not line.strip().startswith("v2:"))
    other = Run(tmp_path, text)
    record = run.driver.outputs["experiment-log"][-1]
    other.driver.send("experiment-log", record.value, record.key)
    with pytest.raises(TaskError, match=r"version v2 is not declared any more and has 30.00% of the traffic") as raised:
        other.driver.send("requests", {"request_id": "r", "user_id": 1, "patience": 30, "asked_at": 0})
    assert raised.value.code == "experiment.version_removed"


def test_a_changed_version_is_refused(run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path, APPLICATION.replace("features: [country]", "features: [offer.category]"))
    for record in run.driver.outputs["app-surveys-models"]:
        other.driver.send("app-surveys-models", record.value, record.key)
    with pytest.raises(TaskError, match="add the changed one under a new name") as raised:
        other.driver.send("requests", {"request_id": "r", "user_id": 1, "patience": 30, "asked_at": 0})
    assert raised.value.code == "experiment.version_changed"


GUARDED = APPLICATION.replace(
    "    test.every: 10m\n",
    "    test.every: 1m\n    guards.metric.column: conversion.complaints\n    guards.latency: 50ms\n",
)


def test_the_metric_and_the_latency_of_each_version_are_counted(tmp_path: Path) -> None:
    run = Run(tmp_path, GUARDED)
    for number in range(80):
        request = {"request_id": f"r{number}", "user_id": number % 31, "country": "de", "patience": 30}
        run.driver.send("requests", {**request, "asked_at": number * 1000}, f"r{number}")
    complaints = [0, 1, True, 2.5, None, "many"]
    for number in range(0, 80, 2):
        value = {"request": f"r{number}", "converted_at": 100_000 + number, "complaints": complaints[number // 2 % 6]}
        run.driver.send("conversions", value, f"r{number}")
    for moment in (10_000_000, 10_100_000, 10_200_000):
        run.driver.send("conversions", {"request": "none", "converted_at": moment}, "none")
    labels = run.values("labels")
    last = run.values("experiment-counts")[-1]["counts"]
    for version, counts in last.items():
        mine = [value["conversion"] for value in labels if value["version"] == version]
        metrics = [(item or {}).get("complaints") for item in mine]
        known = [float(item) for item in metrics if isinstance(item, (bool, int, float))]
        assert counts["impressions"] <= len(mine)  # the last look is before the labels that the last record closes
        assert counts["metric"] * counts["impressions"] == pytest.approx(sum(known))
        assert counts["metric_events"] == sum(item != 0 for item in known)
        assert counts["timed"] == counts["slow"] == 0  # no selection was made over HTTP
    assert sum(item["metric_events"] for item in last.values()) > 0
