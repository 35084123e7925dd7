"""``headrace experiment report``: verdicts, sample ratio and calibration of versions with known rates."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from headrace.cli.main import app
from headrace.errors import ConfigError
from tests.unit.streams.experiments.example_logs import write_labels

SHARES = "--share v1=80% --share v2=20%"
IMPRESSIONS = 10_000
"""Enough for a verdict."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    write_labels(folder / "better.jsonl", impressions=IMPRESSIONS, lift=0.4)
    write_labels(folder / "equal.jsonl", impressions=IMPRESSIONS, lift=0.0)
    write_labels(folder / "lost.jsonl", impressions=IMPRESSIONS, lift=0.4, lost=0.5)
    write_labels(folder / "short.jsonl", impressions=3_000)
    return folder


@pytest.fixture(autouse=True)
def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run(options: str) -> Result:
    return CliRunner().invoke(app, ["experiment", "report", *shlex.split(options), "--outcome", "conversion"])


def report(options: str) -> Any:
    answer = run(f"{options} --current v1 --json")
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def test_a_better_version_is_found_and_its_bad_calibration_is_shown() -> None:
    found = report(f"better.jsonl {SHARES}")
    current, version = found["versions"]
    assert (current["version"], version["version"]) == ("v1", "v2")
    assert version["verdict"] == "better"
    assert version["low"] > 0
    assert 0.9 < current["predicted_observed"] < 1.1 < version["predicted_observed"]
    assert current["impressions"] + version["impressions"] == IMPRESSIONS
    assert found["sample_ratio_p_value"] > 0.01
    assert found["missed_conversions"] > 0
    assert list(found["contributions"]) == ["country", "offer.category"]


def test_equal_versions_have_no_winner() -> None:
    (_, version) = report("equal.jsonl")["versions"]
    assert version["verdict"] == "undecided"
    assert version["low"] < 0 < version["high"]


def test_lost_users_leave_no_verdict() -> None:
    found = report(f"lost.jsonl {SHARES}")
    assert found["sample_ratio_p_value"] < 0.001
    assert found["versions"][1]["verdict"] == "none"
    assert "lost or counted twice" in run(f"lost.jsonl --current v1 {SHARES}").stdout


def test_a_short_log_is_too_early_and_says_what_is_missing() -> None:
    (_, version) = report("short.jsonl")["versions"]
    assert version["verdict"] == "too early"
    assert "more conversions of the new version" in version["missing"]


def test_documents_are_the_versions_and_their_looks(folder: Path) -> None:
    found = report("better.jsonl --documents looks.jsonl")
    documents = [json.loads(line) for line in (folder / "looks.jsonl").read_text().splitlines()]
    looks = [item for item in documents if item["document"] == "look"]
    assert len(looks) == 60
    assert [item["@timestamp"] for item in looks] == sorted(item["@timestamp"] for item in looks)
    last, version = looks[-1], found["versions"][1]
    assert (last["difference"], last["low"], last["verdict"]) == (version["difference"], version["low"], "better")
    assert [item["version"] for item in documents if item["document"] == "version"] == ["v1", "v2"]


def test_p_values_of_looks_never_rise(folder: Path) -> None:
    report("equal.jsonl --documents looks.jsonl")
    documents = [json.loads(line) for line in (folder / "looks.jsonl").read_text().splitlines()]
    values = [item["p_value"] for item in documents if item["document"] == "look"]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("log", ["better.jsonl", "short.jsonl", "lost.jsonl"])
def test_a_report_has_its_plots_and_loads_nothing(log: str, folder: Path) -> None:
    answer = run(f"{log} --current v1 {SHARES} --html report.html")
    assert answer.exit_code == 0, answer.output
    page = (folder / "report.html").read_text("utf-8")
    for title in ("Conversion rates", "v2 against v1", "Traffic", "Missed conversions", "Reliability of v2"):
        assert f"<h2>{title}</h2>" in page
    assert page.count("<svg") >= 5
    assert "<script" not in page
    assert "<image" not in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("short.jsonl --current v3", "the versions v1, v2"),
        ("short.jsonl --current v1 --version nothing", "no column 'nothing'"),
        ("short.jsonl --current v1 --time conversion", "conversion must be a time"),
        ("short.jsonl --current v1 --share v1=100%", "version 'v2' has units and no share"),
    ],
)
def test_logs_that_cannot_be_compared_are_refused(options: str, message: str) -> None:
    answer = run(options)
    assert isinstance(answer.exception, ConfigError)
    assert message in str(answer.exception)


def test_a_share_without_a_version_is_refused() -> None:
    answer = run("short.jsonl --current v1 --share 20%")
    assert answer.exit_code == 2
    assert "is not VERSION=SHARE" in answer.output
