"""``@headrace.stream`` declares what a function takes and returns, so that the step does not have to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_streams.configuration import ApplicationKeys
from headrace_streams.planning import make_plan
from tests.unit.streams.conftest import MakeApplication

MODULE = """import headrace


@headrace.stream
def one(record):
    return {**record, "score": record["n"] * 2}


@headrace.stream(batch=True, columns={"n": "integer", "score": "double"})
def many(records):
    return [{"n": record["n"], "score": record["n"] * 2.0} for record in records]


@headrace.stream(columns={"n": "int4"})
def wrong(record):
    return record


def plain(records):
    return records
"""
BASE = {"inputs.views": "impressions", "outputs.out": "last"}


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "declared_functions.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("declared_functions", None)


def findings(keys: dict[str, str]) -> list[tuple[str, str, str]]:
    _, found = make_plan("app", ApplicationKeys.parse({**BASE, **keys}))
    return [(item.code, item.key, item.message) for item in found]


@pytest.mark.parametrize("name", ["one", "many"])
def test_a_declared_function_is_called_as_it_declares(make_application: MakeApplication, name: str) -> None:
    text = (
        f"inputs: {{views: impressions}}\nsteps:\n  last: {{call: 'declared_functions:{name}'}}\noutputs: {{out: last}}"
    )
    application = make_application(text, {"impressions": 1, "out": 1})
    application.send("impressions", [{"n": 1}, {"n": 2}])
    task = application.start()
    application.wait_until_processed()
    task.stop()
    assert application.committed("out") == [{"n": 1, "score": 2}, {"n": 2, "score": 4}]


def test_a_decorated_function_is_still_a_function() -> None:
    import declared_functions  # type: ignore[import-not-found]

    assert declared_functions.many([{"n": 1}]) == [{"n": 1, "score": 2.0}]


def test_columns_of_a_declared_function_are_known_in_later_steps() -> None:
    call = {"steps.called.call": "declared_functions:many"}
    assert findings({**call, "steps.last.filter": "score > 1"}) == []
    (found,) = findings({**call, "steps.last.filter": "scor > 1"})
    assert found[:2] == ("stream.unknown_column", "steps.last.filter")


def test_a_step_that_contradicts_the_declaration_is_refused() -> None:
    (found,) = findings({"steps.last.call": "declared_functions:many", "steps.last.batch": "false"})
    assert found == (
        "config.conflict",
        "steps.last.batch",
        "'declared_functions:many' is declared with batch=True by @headrace.stream",
    )


def test_an_unknown_type_in_a_declaration_is_named() -> None:
    (found,) = findings({"steps.last.call": "declared_functions:wrong"})
    assert found == ("config.invalid_value", "steps.last.call.n", "unknown type 'int4'")


def test_a_function_without_a_declaration_is_called_as_the_step_says() -> None:
    assert findings({"steps.last.call": "declared_functions:plain", "steps.last.batch": "true"}) == []


def test_a_module_that_exits_while_it_is_imported_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "exiting_functions.py").write_text("raise SystemExit('usage: exiting_functions.py FILE')")
    (found,) = findings({"steps.last.call": "exiting_functions:one"})
    assert found[:2] == ("stream.function", "steps.last.call")
    assert "SystemExit: usage: exiting_functions.py FILE" in found[2]
