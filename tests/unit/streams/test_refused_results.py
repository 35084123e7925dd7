"""A result of a window or a join that a later step refuses is a dead letter, and everything else goes on."""

from __future__ import annotations

from typing import Any

import orjson

from headrace.testing.waiting import eventually
from tests.unit.streams.conftest import Application, MakeApplication
from tests.unit.streams.drivers import make_driver

WINDOW = """inputs:
  views: {topic: impressions, time: at, key: id}
steps:
  counted:
    window: {by: id, tumbling: 10ms, grace: 0, aggregate: {views: count(*), total: sum(price)}}
  mean:
    add: {mean: views / total}
outputs: {out: mean}
"""
VIEWS = [(1, 1, 2), (2, 2, 0), (3, 3, 4), (1, 50, 1)]
"""Id, time and price; the total of id 2 is 0."""


def send(application: Application) -> None:
    values = [{"id": key, "at": at, "price": price} for key, at, price in VIEWS]
    application.send("impressions", values, [key for key, _, _ in VIEWS])


def make(make_application: MakeApplication, text: str = WINDOW, **settings: str) -> Application:
    letters = {"errors_tolerance": "all", "errors_deadletterqueue_topic_name": "dead"}
    return make_application(text, {"impressions": 1, "out": 1}, **{**letters, **settings})


def headers_of(letter: Any) -> dict[str, str]:
    return {name.rpartition("errors.")[2]: text.decode() for name, text in letter.headers if text}


def test_a_refused_result_is_a_dead_letter_with_its_window_and_the_place(make_application: MakeApplication) -> None:
    application = make(make_application)
    send(application)
    task = application.start()
    application.wait_until_processed()
    eventually(lambda: task.metrics.snapshot()["stream_result_dead_lettered_total"] == 1)
    account = task.metrics.steps.snapshot()["counted"]
    task.stop()

    assert sorted(row["id"] for row in application.committed("out")) == [1, 3]
    (letter,) = application.broker.records("dead")
    assert orjson.loads(letter.key or b"") == 2
    window = {"window_start": 0, "window_end": 10}
    assert orjson.loads(letter.value or b"") == {"id": 2, **window, "views": 1, "total": 0}
    headers = headers_of(letter)
    assert headers["code"] == "stream.division_by_zero"
    assert (headers["step"], headers["expression"]) == ("mean", "views / total")
    assert headers["location"] == application.location("10:11")
    assert (headers["result.step"], headers["result.key"]) == ("counted", "2")
    assert (headers["window_start"], headers["window_end"]) == ("0", "10")
    # The three records of the window have their outcome, so nothing is missing in any account.
    assert (account["results"], account["open"]) == (3, 1)
    assert task.metrics.snapshot()["stream_record_dead_lettered_total"] == 0
    (condition,) = application.conditions.of("app")
    assert (condition.code, condition.count) == ("records.dead_lettered", 1)
    assert "row made by counted: key=2, window_start=0, window_end=10" in condition.example


def test_a_refused_result_is_left_out_after_a_restart_too(make_application: MakeApplication) -> None:
    application = make(make_application)
    send(application)
    for _ in range(2):
        task = application.start()
        application.wait_until_processed()
        eventually(task.started.is_set)
        task.stop()

    assert len(application.committed("out")) == 2
    assert len(application.broker.records("dead")) == 1


def test_without_tolerance_the_task_fails_and_names_the_result(make_application: MakeApplication) -> None:
    application = make(make_application, errors_tolerance="none")
    send(application)
    task = application.start()
    application.wait_until_failed()

    assert "division" in str(task.error)
    assert "row made by counted: key=2, window_start=0" in str(task.error)
    assert application.location("10:11") in str(task.error)
    assert application.committed("out") == []
    assert len(application.broker.records("dead")) == 1


def test_without_a_queue_refused_results_are_counted_as_skipped(make_application: MakeApplication) -> None:
    application = make_application(WINDOW, {"impressions": 1, "out": 1}, errors_tolerance="all")
    send(application)
    task = application.start()
    application.wait_until_processed()
    eventually(lambda: task.metrics.snapshot()["stream_result_skipped_total"] == 1)
    task.stop()

    assert task.metrics.snapshot()["stream_record_skipped_total"] == 0


def test_a_window_of_results_lacks_the_refused_one() -> None:
    driver = make_driver("""inputs: {views: {topic: impressions, time: at, key: id}}
steps:
  minutes: {window: {by: id, tumbling: 10ms, grace: 0, aggregate: {total: sum(price)}}}
  hours: {window: {by: id, tumbling: 100ms, grace: 0, aggregate: {best: max(10 / total)}}}
outputs: {out: hours}
""")
    for view, at, price in [*VIEWS, (1, 500, 1), (1, 700, 1)]:
        driver.send("impressions", {"id": view, "at": at, "price": price}, view)

    found = [record.value for record in driver.outputs["out"] if record.value["window_start"] == 0]
    assert [(row["id"], float(row["best"])) for row in found] == [(1, 10.0), (3, 2.5)]
    (failure,) = driver.refused
    details = failure.error.details
    assert (details["step"], details["result.step"], details["result.key"]) == ("hours", "minutes", "2")


def test_values_that_do_not_fit_when_a_sliding_window_closes_refuse_its_result() -> None:
    driver = make_driver("""inputs: {views: {topic: impressions, time: at, key: id}}
steps:
  near: {window: {by: id, sliding: 5ms, grace: 0, aggregate: {low: min(name)}}}
outputs: {out: near}
""")
    for at, value in ((1, "x"), (2, 5), (100, "y")):
        driver.send("impressions", {"id": 7, "at": at, "name": value}, 7)

    # The windows that end at 1 and begin at 2 have one record each, and the one that ends at 2 has both.
    assert [(record.value["window_end"], record.value["low"]) for record in driver.outputs["out"]] == [(1, "x"), (7, 5)]
    (failure,) = driver.refused
    details = failure.error.details
    assert (details["step"], details["window_start"], details["window_end"]) == ("near", "-3", "2")
    assert failure.error.code == "stream.wrong_type"


def test_a_left_record_that_closes_without_a_match_can_be_refused() -> None:
    text = """inputs:
  views: {topic: impressions, time: at, key: id}
  clicks: {topic: conversions, time: at, key: id}
steps:
  joined: {join: {type: left, left: views, right: clicks, by: id, within: 5ms, grace: 0, as: click}}
  known: {add: {share: 1 / price}}
outputs: {out: known}
"""
    driver = make_driver(text)
    for view, price in ((1, 0), (2, 4)):
        driver.send("impressions", {"id": view, "at": 1, "price": price}, view)
    driver.send("conversions", {"id": 9, "at": 100}, 9)

    assert [record.value["id"] for record in driver.outputs["out"]] == [2]
    (failure,) = driver.refused
    assert (failure.error.code, failure.error.details["result.key"]) == ("stream.division_by_zero", "1")
