"""``headrace stream`` on the files of the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.errors import ConfigError

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
runner = CliRunner()


@pytest.mark.parametrize(("name", "passed"), [("surveys", 3), ("visits", 5), ("profiles", 2), ("exploration", 3)])
def test_the_tests_of_the_documented_applications_pass(name: str, passed: int) -> None:
    result = runner.invoke(app, ["stream", "test", str(EXAMPLES / f"{name}.test.yaml")])
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, f"{passed} passed, 0 failed"), result.output


def test_the_tests_of_the_documented_join_pass() -> None:
    result = runner.invoke(app, ["stream", "test", str(EXAMPLES / "labels.test.yaml")])
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "4 passed, 0 failed")


def test_a_difference_is_shown_and_fails(tmp_path: Path) -> None:
    (tmp_path / "surveys.yaml").write_text((EXAMPLES / "surveys.yaml").read_text("utf-8"), encoding="utf-8")
    text = (EXAMPLES / "surveys.test.yaml").read_text("utf-8").replace("views: 2", "views: 3")
    (tmp_path / "surveys.test.yaml").write_text(text, encoding="utf-8")

    result = runner.invoke(app, ["stream", "test", str(tmp_path / "surveys.test.yaml")])

    assert result.exit_code == 1
    assert '"views":3' in result.output
    assert "2 passed, 1 failed" in result.output


def test_a_topic_that_is_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "surveys.yaml").write_text((EXAMPLES / "surveys.yaml").read_text("utf-8"), encoding="utf-8")
    text = "application: surveys.yaml\ntests:\n  one:\n    given: [{topic: views, value: {}}]\n"
    (tmp_path / "t.yaml").write_text(text, encoding="utf-8")

    result = runner.invoke(app, ["stream", "test", str(tmp_path / "t.yaml")])

    assert result.exit_code == 1
    assert "topic views is not read by the application; it reads impressions, offers" in result.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "not readable as YAML"),
        ("tests: {}", "application: Field required"),
        ("application: x\ntests: {a: {given: [{topics: x}]}}", "tests.a.given.0.topic"),
    ],
)
def test_an_invalid_test_file_is_refused_with_its_location(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.yaml").write_text(text, encoding="utf-8")
    result = runner.invoke(app, ["stream", "test", str(tmp_path / "t.yaml")])
    assert isinstance(result.exception, ConfigError)
    assert words in str(result.exception)


def test_explain_shows_steps_state_and_internal_topics() -> None:
    result = runner.invoke(app, ["stream", "explain", str(EXAMPLES / "surveys.yaml")])
    assert result.exit_code == 0
    assert "topic   surveys-per_offer-repartition: active by key (key_by offer_id)" in result.output
    assert "state   per_offer: in the partitions of surveys-per_offer-repartition" in result.output


def test_explain_shows_the_topics_of_a_join_that_must_have_equal_partitions() -> None:
    result = runner.invoke(app, ["stream", "explain", str(EXAMPLES / "labels.yaml")])
    assert result.exit_code == 0
    topics = "labels-labelled.left-repartition and labels-labelled.right-repartition"
    assert f"state   labelled: in the partitions of {topics}, with a changelog" in result.output
    assert f"{topics} must have equally many partitions" in result.output


def test_explain_refuses_the_file_of_a_connector(tmp_path: Path) -> None:
    path = tmp_path / "console.yaml"
    path.write_text("name: c\nconnector.class: ConsoleSink\ntopics: t\n", encoding="utf-8")
    result = runner.invoke(app, ["stream", "explain", str(path)])
    assert isinstance(result.exception, ConfigError)
    assert "is not the file of a stream application" in str(result.exception)


def test_explain_shows_what_an_experiment_reads_and_writes() -> None:
    result = runner.invoke(app, ["stream", "explain", str(EXAMPLES / "exploration.yaml")])
    assert result.exit_code == 0
    assert "step    learned.late: from labelled.late: late selections of experiment surveys" in result.output
    assert "output  exploration-surveys-models: learned.models" in result.output
    assert "output  experiment-log: learned.transitions" in result.output


def test_explain_shows_windows() -> None:
    result = runner.invoke(app, ["stream", "explain", str(EXAMPLES / "visits.yaml")])
    assert result.exit_code == 0
    text = "hopping window of 600000 ms every 300000 ms, grace 60000 ms, by site: views = count(*)"
    assert f"step    trend: from unique: {text}; results on close" in result.output
    kept = "deduplicate by view_id: the first record within 3600000 ms, grace 600000 ms"
    assert f"step    unique: from views: {kept}" in result.output
    assert "top 2 by views DESC in each tumbling window of 3600000 ms, grace 0 ms, by entry" in result.output
    assert "sessions with a gap of 1800000 ms, grace 60000 ms, by user: views = count(*)" in result.output
