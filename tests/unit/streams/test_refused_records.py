"""A refused record is a dead letter that names the step, the expression or function, and their locations."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headrace.errors import TaskError
from headrace.testing.waiting import eventually
from tests.unit.streams.conftest import Application, MakeApplication

TEXT = """inputs:
  views: {{topic: impressions, time: shown_at}}
tables:
  offers: offers
steps:
  last:
    {operation}
outputs: {{out: last}}
"""
GOOD = {"shown_at": 1, "offer_id": 1, "cpi": 6, "loi": 2, "items": [1]}


def make(application: MakeApplication, operation: str, **settings: str) -> Application:
    letters = {"errors_tolerance": "all", "errors_deadletterqueue_topic_name": "dead"}
    topics = {"impressions": 1, "offers": 1, "out": 1}
    return application(TEXT.format(operation=operation), topics, **{**letters, **settings})


def letter_of(application: Application, record: Any) -> Mapping[str, str]:
    """Return our headers of the dead letter of ``record``, which is sent between two good records."""
    application.send("offers", [{"cpi": 1}], [1])
    application.send("impressions", [GOOD, record, GOOD])
    task = application.start()
    application.wait_until_processed()
    task.stop()
    assert len(application.committed("out")) == 2
    (letter,) = application.broker.records("dead")
    prefix = "__headrace.errors."
    return {name.removeprefix(prefix): text.decode() for name, text in letter.headers if text and prefix in name}


@pytest.mark.parametrize(
    ("operation", "record", "code", "expression", "place"),
    [
        ("add: {epi: cpi / loi}", {"loi": 0}, "stream.division_by_zero", "cpi / loi", "10:11"),
        ("add: {epi: cpi % loi}", {"loi": 0}, "stream.division_by_zero", "cpi % loi", "10:11"),
        ("add: {epi: cpi / loi}", {"cpi": "6"}, "stream.wrong_type", "cpi / loi", "10:11"),
        ("add: {one: cpi, two: cpi + loi}", {"loi": True}, "stream.wrong_type", "cpi + loi", "10:21"),
        ("select: {day: CAST(cpi AS INT)}", {"cpi": "x"}, "stream.cast", "CAST(cpi AS INT)", "10:14"),
        ("filter: cpi > loi", {"cpi": "6"}, "stream.wrong_type", "cpi > loi", "10:5"),
        ("filter: cpi", {"cpi": 6}, "stream.wrong_type", "cpi", "10:5"),
        ("flat_map: {item: items}", {"items": 7}, "stream.wrong_type", "items", "10:16"),
        ("key_by: upper(cpi) AS name", {"cpi": 6}, "stream.wrong_type", "UPPER(cpi)", "10:5"),
        ('lookup: {offer: "offers[offer_id]"}', {"offer_id": []}, "stream.wrong_type", "offers[offer_id]", "10:14"),
    ],
)
def test_a_record_that_an_expression_refuses_names_the_expression_and_its_location(
    make_application: MakeApplication, operation: str, record: Mapping[str, Any], code: str, expression: str, place: str
) -> None:
    good: dict[str, dict[str, Any]] = {
        "filter: cpi": {"cpi": True, "loi": False},
        "select: {day": {"cpi": "1"},
        "key_by": {"cpi": "a"},
    }
    changed = next((fields for start, fields in good.items() if operation.startswith(start)), {})
    application = make(make_application, operation)
    application.send("impressions", [{**GOOD, **changed}, {**GOOD, **record}])
    application.send("offers", [{"cpi": 1}], [1])

    task = application.start()
    application.wait_until_processed()
    task.stop()

    assert len(application.committed("out")) == 1
    (letter,) = application.broker.records("dead")
    headers = dict(letter.headers)
    prefix = "__headrace.errors."
    found = {name: (headers[prefix + name] or b"").decode() for name in ("code", "step", "expression", "location")}
    assert found == {"code": code, "step": "last", "expression": expression, "location": application.location(place)}


@pytest.mark.parametrize(
    ("operation", "record", "code", "place"),
    [
        ("filter: TRUE", {"shown_at": None}, "stream.event_time", "5:31"),
        (
            'lookup: {offer: "offers[offer_id]"}\n    missing: dead_letter',
            {"offer_id": None},
            "stream.missing_row",
            "10:14",
        ),
    ],
)
def test_a_null_that_has_no_meaning_is_refused(
    make_application: MakeApplication, operation: str, record: Mapping[str, Any], code: str, place: str
) -> None:
    application = make(make_application, operation)
    letter = letter_of(application, {**GOOD, **record})
    assert (letter["code"], letter["location"]) == (code, application.location(place))


def test_a_null_operand_gives_null_and_no_dead_letter(make_application: MakeApplication) -> None:
    application = make(make_application, "add: {epi: cpi / loi, more: cpi > 1}")
    application.send("impressions", [{**GOOD, "cpi": None}, {**GOOD, "loi": None}])
    task = application.start()
    application.wait_until_processed()
    task.stop()
    assert [(row["epi"], row["more"]) for row in application.committed("out")] == [(None, None), (None, True)]
    assert "dead" not in application.broker.topics() or not application.broker.records("dead")


def test_an_expression_that_refuses_the_result_of_a_window_fails_the_task_and_names_its_location(
    make_application: MakeApplication,
) -> None:
    window = "window: {by: offer_id, tumbling: 10ms, grace: 0, aggregate: {n: count(*)}}"
    text = TEXT.format(operation=f"{window}\n  ratio:\n    add: {{x: 1 / (n - 1)}}").replace("out: last", "out: ratio")
    application = make_application(text, {"impressions": 1, "offers": 1, "out": 1})
    application.send("impressions", [GOOD, {**GOOD, "shown_at": 99}])

    task = application.start()
    assert task.thread is not None
    task.thread.join(20)

    assert isinstance(task.error, TaskError)
    assert "step 'ratio': 1 / (n - 1): division by zero" in str(task.error)
    assert "row made by last: key=1, window_start=0, window_end=10" in str(task.error)
    assert f"({application.location('12:11')})" in str(task.error)


FUNCTIONS = """import threading

waiting, go_on = threading.Event(), threading.Event()


def failing(record):
    if record["loi"] == 0:
        return checked(record)
    return record


def checked(record):
    raise ValueError(record)


def failing_batch(records):
    return [failing(record) for record in records]


def odd(record):
    return record if record["loi"] else 7


def hanging(record):
    if record["loi"] == 0:
        waiting.set()
        go_on.wait(60)
    return record


def hanging_batch(records):
    return [hanging(record) for record in records]
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "view_functions.py").write_text(FUNCTIONS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    import view_functions  # type: ignore[import-not-found]

    yield view_functions
    view_functions.go_on.set()
    del sys.modules["view_functions"]


@pytest.mark.parametrize(
    ("operation", "line", "words"),
    [
        ("call: view_functions:failing", 13, "raised ValueError at"),
        ("call: view_functions:failing_batch\n    batch: true", 13, "raised ValueError at"),
        ("call: view_functions:odd", 20, "returned int, not a dict"),
    ],
)
def test_a_function_that_fails_is_named_with_the_line_that_raised(
    make_application: MakeApplication, functions: ModuleType, operation: str, line: int, words: str
) -> None:
    application = make(make_application, operation)
    letter = letter_of(application, {**GOOD, "loi": 0})

    path = operation.removeprefix("call: ").partition("\n")[0]
    assert letter["code"] == "stream.function_failed"
    assert (letter["step"], letter["expression"], letter["key"]) == ("last", path, "steps.last.call")
    assert letter["location"] == application.location("10:5")
    assert letter["function"] == f"{functions.__file__}:{line}"


@pytest.mark.parametrize(
    ("operation", "progress"),
    [
        ("call: view_functions:hanging", "record 2 of 3"),
        ("call: view_functions:hanging_batch\n    batch: true", "3 records"),
    ],
)
def test_the_status_names_a_function_that_does_not_return(
    make_application: MakeApplication, functions: ModuleType, operation: str, progress: str
) -> None:
    application = make(make_application, f"{operation}\n    function.timeout: 1ms")
    application.send("impressions", [GOOD, {**GOOD, "loi": 0}, GOOD])
    task = application.start()
    assert functions.waiting.wait(20)
    path = operation.removeprefix("call: ").partition("\n")[0]
    begin, place = f"step 'last': function {path} has not returned for", f"({progress}, at {functions.__file__}:27)"

    def shown() -> bool:
        """the status names the function and the line at which it waits"""
        return any(reason and reason.startswith(begin) and place in reason for reason in task.reasons)

    eventually(shown, 20)
    functions.go_on.set()
    eventually(lambda: task.reasons[-1] is None, 20)
    application.wait_until_processed()
    task.stop()
    assert len(application.committed("out")) == 3
    assert "function-watchdog" not in {thread.name for thread in threading.enumerate()}
