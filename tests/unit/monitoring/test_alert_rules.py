"""The alert rules, by Prometheus' own tool: each fires for its cause, and does not fire without it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from headrace.monitoring.alert_rules import AlertOptions, alert_rules, rules_file
from headrace.monitoring.grafana_dashboard import PANELS, dashboard
from tests.engines.prometheus import promtool


class Fires(NamedTuple):
    """The values of a series, one a minute, with which an alert fires first at the minute ``at``, with these labels."""

    series: str
    values: str
    at: int
    labels: Mapping[str, str]


CAUSES: Mapping[str, Fires] = {
    "HeadraceWorkerDown": Fires(
        'up{job="headrace",instance="worker:8083"}',
        "1 1 0x20",
        3,
        {"job": "headrace", "instance": "worker:8083"},
    ),
    "HeadraceConnectorFailed": Fires(
        'headrace_connector_state{connector="orders",state="FAILED"}', "0 0 1x20", 3, {"connector": "orders"}
    ),
    "HeadraceTaskFailed": Fires(
        'headrace_task_state{connector="orders",task="1",state="FAILED"}',
        "0 0 1x20",
        3,
        {"connector": "orders", "task": "1"},
    ),
    "HeadraceTaskRetrying": Fires(
        'headrace_task_retrying{connector="search",task="0"}', "0 0 1x20", 12, {"connector": "search", "task": "0"}
    ),
    "HeadraceCondition": Fires(
        'headrace_connector_condition{connector="search",code="records.skipped"}',
        "_ _ 1x20",
        2,
        {"connector": "search", "code": "records.skipped"},
    ),
    "HeadraceDeadLetters": Fires(
        'headrace_deadletterqueue_produce_requests_total{connector="search",task="0"}',
        "0 0 4x20",
        2,
        {"connector": "search"},
    ),
    "HeadraceSinkBehind": Fires(
        'headrace_sink_record_lag{connector="search",task="0"}', "9000 9000 11000x20", 12, {"connector": "search"}
    ),
    "HeadraceDataTooOld": Fires(
        'headrace_freshness_slo_exceeded{connector="search",task="0"}', "0 0 1x20", 3, {"connector": "search"}
    ),
    "HeadracePositionHeld": Fires(
        'headrace_source_position_lag_seconds{connector="orders",task="0",part="public.orders"}',
        "500 560 620x20",
        3,
        {"connector": "orders", "part": "public.orders"},
    ),
    "HeadraceCommitsFail": Fires(
        'headrace_offset_commit_failure_total{connector="search",task="0"}', "0 3 9x20", 2, {"connector": "search"}
    ),
}


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yml"
    path.write_text(rules_file(), encoding="utf-8")
    return path


def alert_test(name: str, minute: int, labels: Mapping[str, str] | None) -> dict[str, Any]:
    """Expect the alert with these labels, None: that it does not fire. promtool compares annotations only if given."""
    severity = next(rule.severity for rule in alert_rules() if rule.name == name)
    expected = [] if labels is None else [{"exp_labels": {"severity": severity, **labels}}]
    return {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": expected}


def test_every_rule_fires_for_its_cause_and_not_before(rules: Path) -> None:
    assert CAUSES.keys() == {rule.name for rule in alert_rules()}
    tests: list[dict[str, Any]] = []
    for name, cause in CAUSES.items():
        expected = [alert_test(name, cause.at - 1, None), alert_test(name, cause.at, cause.labels)]
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": cause.series, "values": cause.values}],
                "alert_rule_test": expected,
            }
        )
    # Annotations are compared, too: they are those of the rules, with the labels filled in.
    for test in tests:
        for expected in test["alert_rule_test"]:
            for alert in expected["exp_alerts"]:
                alert["exp_annotations"] = filled_in(expected["alertname"], alert["exp_labels"])
    path = rules.parent / "tests.yml"
    path.write_text(yaml.safe_dump({"rule_files": [rules.name], "evaluation_interval": "1m", "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", path)


VALUES = {"HeadraceSinkBehind": "11k", "HeadracePositionHeld": "10m 20s"}
"""The values in summaries, as Prometheus writes them."""


def filled_in(name: str, labels: Mapping[str, str]) -> dict[str, str]:
    rule = next(rule for rule in alert_rules() if rule.name == name)
    texts = {"summary": rule.summary, "description": rule.action}
    for label, value in labels.items():
        texts = {kind: text.replace(f"{{{{ $labels.{label} }}}}", value) for kind, text in texts.items()}
    for function in ("humanize", "humanizeDuration"):
        texts = {
            kind: text.replace(f"{{{{ $value | {function} }}}}", VALUES.get(name, "")) for kind, text in texts.items()
        }
    return texts


def test_thresholds_and_times_are_options(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(rules_file(AlertOptions("connect", "5s", "7s", "11s", 13, 1.5)), encoding="utf-8")
    promtool("check", "rules", path)
    rules = {rule["alert"]: rule for rule in yaml.safe_load(path.read_text())["groups"][0]["rules"]}
    assert rules["HeadraceWorkerDown"]["expr"] == 'up{job="connect"} == 0'
    assert rules["HeadraceTaskFailed"]["for"] == "5s"
    assert rules["HeadraceTaskRetrying"]["for"] == "7s"
    assert "[11s]" in rules["HeadraceDeadLetters"]["expr"]
    assert rules["HeadraceSinkBehind"]["expr"].endswith("> 13")
    assert rules["HeadracePositionHeld"]["expr"].endswith("> 1.5")


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert [panel["title"] for panel in panels] == [panel.title for panel in PANELS]
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
