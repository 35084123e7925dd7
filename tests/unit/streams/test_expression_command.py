"""``headrace stream try`` and ``explain --against``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.errors import CommandError

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
RECORD = '{"cpi": 3, "loi": 2, "name": "x", "offer": {"country": "de"}, "none": null}'
runner = CliRunner()


@pytest.mark.parametrize(
    ("expression", "output"),
    [
        ("cpi / loi", "1.5  (double)"),
        ("cpi + loi", "5  (integer)"),
        ("UPPER(offer.country) || name", '"DEx"  (string)'),
        ("none > 1", "null  (boolean)"),
        ("cpi > 2 AND loi > 1", "true  (boolean)"),
        ("CAST(cpi AS DECIMAL)", '{"$decimal":"3"}  (decimal)'),
    ],
)
def test_an_expression_is_evaluated_over_a_record(expression: str, output: str) -> None:
    result = runner.invoke(app, ["stream", "try", "--expr", expression, "--record", RECORD])
    assert (result.exit_code, result.output) == (0, f"{output}\n")


def test_without_a_record_the_columns_are_null() -> None:
    result = runner.invoke(app, ["stream", "try", "--expr", "COALESCE(a, 1)", "--json"])
    assert (result.exit_code, json.loads(result.output)) == (0, {"value": 1, "type": "any"})


@pytest.mark.parametrize(
    ("expression", "lines"),
    [
        (
            "cpi / lio",
            ["stream.unknown_column: unknown column 'lio'", "  cpi / lio", "        ^", "  → did you mean 'loi'?"],
        ),
        (
            "loi\n + offer.contry",
            [
                "stream.unknown_column: unknown column 'contry'",
                "   + offer.contry",
                "     ^",
                "  → did you mean 'country'?",
            ],
        ),
        (
            "cpi /",
            [
                "stream.syntax: 'cpi /' is not an expression: an operand of '/' is missing at character 5",
                "  cpi /",
                "      ^",
            ],
        ),
        ("'a", ["stream.syntax: ''a' is not an expression: a quote is not closed", "  'a", "  ^"]),
        ("(" * 3_000, ["stream.syntax: the expression is nested too deeply", "  → divide it into several steps"]),
    ],
)
def test_the_place_of_a_mistake_has_a_caret(expression: str, lines: list[str]) -> None:
    result = runner.invoke(app, ["stream", "try", "--expr", expression, "--record", RECORD])
    assert (result.exit_code, result.output.splitlines()) == (2, lines)


def test_a_record_that_the_expression_does_not_accept_is_a_failure_of_the_record() -> None:
    result = runner.invoke(app, ["stream", "try", "--expr", "cpi / (loi - 2)", "--record", RECORD])
    assert (result.exit_code, "stream.division_by_zero" in result.output) == (1, True)


@pytest.mark.parametrize("record", ["{", "[1]", "7"])
def test_a_record_that_is_not_an_object_is_refused(record: str) -> None:
    result = runner.invoke(app, ["stream", "try", "--expr", "a", "--record", record])
    assert isinstance(result.exception, CommandError)
    assert result.exception.code == "cli.bad_record"


def test_explain_compares_a_changed_file_with_the_former_one(tmp_path: Path) -> None:
    text = (EXAMPLES / "surveys.yaml").read_text("utf-8")
    (tmp_path / "former.yaml").write_text(text.replace("tumbling: 1m", "tumbling: 2m"), encoding="utf-8")
    same = runner.invoke(
        app, ["stream", "explain", str(EXAMPLES / "surveys.yaml"), "--against", str(EXAMPLES / "surveys.yaml")]
    )
    assert (same.exit_code, same.output.splitlines()[-1]) == (0, "kept     per_offer: its state is used on")

    result = runner.invoke(
        app, ["stream", "explain", str(EXAMPLES / "surveys.yaml"), "--against", str(tmp_path / "former.yaml")]
    )

    assert result.exit_code == 1
    assert "RESET    per_offer: its state was made by 'windows of 120000 ms" in result.output
    assert "`headrace stream reset surveys`" in result.output


def test_explain_does_not_compare_applications_of_two_names() -> None:
    files = [str(EXAMPLES / f"{name}.yaml") for name in ("surveys", "visits")]
    result = runner.invoke(app, ["stream", "explain", files[0], "--against", files[1]])
    assert isinstance(result.exception, CommandError)
    assert "the state of visits is in topics of its own" in str(result.exception)
