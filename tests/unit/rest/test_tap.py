"""``headrace tap`` and its route, with a worker whose answers are set by the tests."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner, Result

from headrace.cli.main import app
from headrace.errors import CommandError, NotFoundError
from headrace.rest.server import RestServer
from headrace.runtime.tap_view import TappedRecord, TapQuery, TapView
from tests.engines.http import HTTP

PATH = "/v1/connectors/orders/tasks/0/tap"
RECORD = TappedRecord("t", 3, 7, 1, "k", '{"a": "\x1b[31m\u202e"}', "row", [("h", None), ("trace", "1")], "index t/k")


@pytest.fixture
def orders(worker: Any) -> Any:
    worker.add("orders")
    worker.tapped = TapView([RECORD], 2)
    return worker


def run(server: RestServer, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["tap", *arguments], env={"HEADRACE_URL": server.url, "COLUMNS": "200"})


def test_the_answer_has_the_records_and_what_was_left_out(server: RestServer, orders: Any) -> None:
    answer = HTTP.post(server.url + PATH, json={"stage": "read", "records": 3, "bytes": 9, "seconds": 2, "mask": ["c"]})

    assert answer.status_code == 200
    body = answer.json()
    assert orders.queries == [TapQuery("read", 3, 9, 2.0, ("c",))]
    assert (body["name"], body["task"], body["stage"], body["left_out"]) == ("orders", 0, "read", 2)
    (record,) = body["records"]
    assert record["headers"] == [{"name": "h", "value": None}, {"name": "trace", "value": "1"}]
    assert (record["topic"], record["partition"], record["offset"], record["write"]) == ("t", 3, 7, "index t/k")


def test_limits_have_defaults(server: RestServer, orders: Any) -> None:
    assert HTTP.post(server.url + PATH, json={"stage": "read"}).status_code == 200
    assert orders.queries == [TapQuery("read", 10, 100_000, 10.0)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "'stage' must be the name of a stage"),
        ({"stage": 1}, "'stage' must be the name of a stage"),
        ({"stage": "read", "records": 1001}, "'records' must be a number from 1 to 1000"),
        ({"stage": "read", "seconds": 61}, "'seconds' must be a number from 0.1 to 60"),
        ({"stage": "read", "bytes": True}, "'bytes' must be a number from 1 to 1e+06"),
        ({"stage": "read", "mask": "card"}, "'mask' must be a list of at most 100 names of fields"),
        ({"stage": "read", "masks": []}, "unknown field 'masks'"),
    ],
)
def test_a_request_that_is_not_understood_is_refused(
    server: RestServer, orders: Any, body: dict[str, Any], message: str
) -> None:
    answer = HTTP.post(server.url + PATH, json=body)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(message)
    assert orders.queries == []


def test_the_command_prints_records_without_control_characters(server: RestServer, orders: Any) -> None:
    result = run(server, "orders", "--at", "transforms.x", "--mask", "card", "--mask", "a.b", "--records", "2")

    assert result.exit_code == 0, result.output
    assert orders.queries == [TapQuery("transforms.x", 2, 100_000, 10.0, ("card", "a.b"))]
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[lines.index("t-3 offset 7  key k") :] == [  # the worker of the test logs to the same output
        "t-3 offset 7  key k",
        "writes index t/k",
        "schema row",
        "header h=null",
        "header trace=1",
        '{"a": "\\x1b[31m\\u202e"}',
    ]
    assert result.stderr == "1 record at transforms.x of task 0, 2 more left out (--bytes)\n"


def test_no_record_is_a_failure_that_names_what_to_look_at(server: RestServer, orders: Any) -> None:
    orders.tapped = TapView([], 0)
    result = run(server, "orders", "--seconds", "0.5")

    assert result.exit_code == 1
    assert "no record passed written of task 0 within 0.5 s" in result.stderr
    assert "headrace connectors status orders" in result.stderr


def test_another_task_is_asked_by_its_number(server: RestServer, orders: Any) -> None:
    result = run(server, "orders", "--task", "1")
    assert isinstance(result.exception, NotFoundError)
    assert "task orders-1 does not run" in result.exception.message


def test_a_refused_request_keeps_the_message_of_the_worker(server: RestServer, orders: Any) -> None:
    def refuse(*_: Any) -> TapView:
        raise CommandError("the task has no stage 'x'", hint="it has: read, written")

    orders.tap = refuse
    try:
        result = run(server, "orders", "--at", "x")
    finally:
        del orders.tap
    assert isinstance(result.exception, CommandError)
    assert result.exception.message == "the task has no stage 'x' → it has: read, written"
