"""``headrace experiment``: output, files and exit codes; the examples of docs/exploration.md are what it prints."""

from __future__ import annotations

import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from headrace.cli.main import app
from headrace.errors import ConfigError
from tests.unit.streams.experiments.example_logs import write_example_logs, write_labels

PAGE = Path(__file__).parents[4] / "docs" / "exploration.md"
EXAMPLES = re.findall(r"^```console\n\$ (headrace experiment [^\n]*)\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The logs of the page's examples, and ``small/`` for what does not depend on the size of a log."""
    folder = tmp_path_factory.mktemp("logs")
    write_example_logs(folder)
    write_labels(folder / "labels.jsonl")
    (folder / "small").mkdir()
    write_example_logs(folder / "small", impressions=2_000)
    return folder


@pytest.fixture(autouse=True)
def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run(command: str) -> Result:
    return CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=True)


def data_of(command: str) -> Any:
    answer = run(f"{command} --json")
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


class References(HTMLParser):
    """Collects what a page would load, and its ids."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                self.links.append(value or "")


def references(path: Path) -> References:
    found = References()
    found.feed(path.read_text("utf-8"))
    return found


@pytest.mark.parametrize(("command", "output"), EXAMPLES, ids=[command.split()[2] for command, _ in EXAMPLES])
def test_the_examples_of_the_page_are_what_the_commands_print(command: str, output: str) -> None:
    answer = run(command)
    assert answer.exit_code == 0, answer.output
    assert [line for line in answer.stdout.splitlines() if line] == [line for line in output.splitlines() if line]


def test_the_page_has_an_example_of_each_command() -> None:
    assert {command.split()[2] for command, _ in EXAMPLES} == {"analyse", "plan", "evaluate", "report"}


def test_an_analysis_finds_the_known_relations_of_the_example() -> None:
    found = data_of("headrace experiment analyse impressions.jsonl --unit user_id --without shown_at")
    related = {item["name"] for item in found["variables"] if item["related"]}
    assert {"country", "survey"} <= related
    assert "shoe_size" not in related
    assert ("country", "language") in {(pair["first"], pair["second"]) for pair in found["redundant"]}
    assert [step["name"] for step in found["features"]][:2] in (["survey", "country"], ["country", "survey"])


def test_documents_and_json_have_the_same_numbers(folder: Path) -> None:
    command = "headrace experiment analyse small/impressions.jsonl --variable country --variable device"
    found = data_of(f"{command} --documents documents.jsonl")
    documents = [json.loads(line) for line in (folder / "documents.jsonl").read_text().splitlines()]
    variables = [item for item in documents if item["document"] == "variable"]
    assert [item["explains"] for item in variables] == [item["explains"] for item in found["variables"]]
    levels = [item for item in documents if item["document"] == "level" and item["variable"] == "country"]
    assert sum(item["impressions"] for item in levels) == found["impressions"]


@pytest.mark.parametrize(
    "command",
    [
        "analyse small/impressions.jsonl --variable country --variable device --variable language",
        "evaluate small/selections.jsonl --target shadow.v3",
        "evaluate small/selections.jsonl --target uniform",
        "plan --rate 5% --impressions 20000 --share 20% --share 50% --lift 20% --lift 40% --days 5",
    ],
)
def test_a_report_is_one_file_that_loads_nothing(command: str, folder: Path) -> None:
    answer = run(f"headrace experiment {command} --html report.html")
    assert answer.exit_code == 0, answer.output
    page = references(folder / "report.html")
    assert "svg" in page.tags
    assert not page.tags & {"script", "img", "link", "iframe", "object"}
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_same_numbers_give_the_same_report(folder: Path) -> None:
    reports = []
    for name in ("a.html", "b.html"):
        run(f"headrace experiment evaluate small/selections.jsonl --target shadow.v3 --html {name}")
        reports.append((folder / name).read_bytes())
    assert reports[0] == reports[1]


def test_texts_of_a_log_are_escaped_in_a_report(folder: Path) -> None:
    rows = [{"converted": n % 2, "v": "<script>x</script>"[: 8 + n % 3]} for n in range(400)]
    (folder / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("headrace experiment analyse bad.jsonl --html bad.html").exit_code == 0
    assert "script" not in references(folder / "bad.html").tags


def test_an_evaluation_of_the_logging_policy_has_its_rate() -> None:
    found = data_of("headrace experiment evaluate small/selections.jsonl --target uniform")
    logged = found["estimates"]["logged"]["value"]
    assert found["estimates"]["ips"]["value"] == pytest.approx(logged)
    assert found["estimates"]["snips"]["value"] == pytest.approx(logged)
    assert found["verdict"] == "undecided"


def test_without_probabilities_of_all_candidates_there_is_no_doubly_robust_estimate(folder: Path) -> None:
    rows = [{"converted": n % 20 == 0, "propensity": 0.5, "p": 0.5} for n in range(4_000)]
    (folder / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer = run("headrace experiment evaluate numbers.jsonl --target p")
    assert "no doubly robust estimate" in answer.stdout
    assert "SNIPS" in answer.stdout


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"propensity": 0}, "--target p", "propensity must be above 0, because the selection was logged"),
        ({"propensity": 1.5}, "--target p", "propensity must be a probability between 0 and 1"),
        ({"propensity": None}, "--target p", "propensity must be a number"),
        ({"p": -0.1}, "--target p", "p must be a probability between 0 and 1"),
        ({"d": {"s1": 0.7}}, "--target d", "d must be an object of probabilities that add up to 1"),
        ({"d": 0.5}, "--target d", "d must be an object of probabilities that add up to 1"),
        ({"candidates": []}, "--target uniform", "candidates must be the list of candidates"),
        ({"user": None}, "--target p --unit user", "user must be the id of a unit"),
    ],
)
def test_records_that_cannot_be_evaluated_are_refused_with_their_number(
    row: dict[str, object], options: str, message: str, folder: Path
) -> None:
    good = {
        "converted": True,
        "propensity": 0.5,
        "survey": "s1",
        "p": 0.5,
        "d": {"s1": 0.5, "s2": 0.5},
        "candidates": ["s1", "s2"],
        "user": "u1",
    }
    (folder / "bad.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(good | row) + "\n")
    answer = run(f"headrace experiment evaluate bad.jsonl {options}")
    assert isinstance(answer.exception, ConfigError)
    assert f"bad.jsonl: record 2: {message}" in str(answer.exception)
    assert answer.exception.exit_code == 2


def test_a_plan_measures_rate_traffic_and_clustering_of_a_log() -> None:
    found = data_of("headrace experiment plan impressions.jsonl --unit user_id --lift 30% --share 50% --days 10")
    assert found["impressions_per_day"] == pytest.approx(2_880, rel=0.001)
    assert 0.04 < found["rate"] < 0.06
    assert 1 <= found["design_effect"] < 1.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "needs the conversion rate and the impressions"),
        ("--rate 5%", "needs the conversion rate and the impressions"),
        ("--rate 5% --impressions 0", "impressions and days must be above 0"),
        ("--rate 150% --impressions 9", "rate must be between 0 and 1"),
        ("--rate 5% --impressions 9 --share 120%", "must be between 0 and 1"),
        ("--rate 50% --impressions 9 --lift 200%", "no rate between 0 and 1"),
    ],
)
def test_plans_that_cannot_be_made_are_refused(options: str, message: str) -> None:
    answer = run(f"headrace experiment plan {options}")
    assert isinstance(answer.exception, ConfigError)
    assert message in str(answer.exception)


def test_a_share_that_is_no_number_is_refused() -> None:
    answer = run("headrace experiment plan --rate few --impressions 9")
    assert answer.exit_code == 2
    assert "is not a share such as 5% or 0.05" in answer.output


def test_a_report_that_cannot_be_written_is_an_error() -> None:
    answer = run("headrace experiment evaluate small/selections.jsonl --target uniform --html missing/report.html")
    assert isinstance(answer.exception, ConfigError)
    assert "missing/report.html cannot be written" in str(answer.exception)
