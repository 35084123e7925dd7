"""The command line understands what the REST API says."""

from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace.cli import connectors, status_view
from headrace.cli.client import WorkerClient
from headrace.conditions import Condition
from headrace.errors import ConfigError, Finding, NotFoundError
from headrace.rest import RestServer
from headrace.runtime.api import ConnectorStatus
from headrace.states import State, Status


@pytest.fixture
def cli(server: RestServer, worker: Any) -> WorkerClient:
    return WorkerClient(server.url)


def test_a_status_comes_through_whole(cli: WorkerClient, worker: Any) -> None:
    waiting = Status(State.RUNNING, "w:1", reason="the broker does not answer", since=1_700_000_000_000)
    failed = Status(State.FAILED, "w:2", trace="ValueError: x", since=5)
    worker.statuses["a/ü"] = ConnectorStatus("a/ü", waiting, {0: failed}, "sink")
    assert status_view.parse_status(cli.of_connector("GET", "a/ü", "/status").body) == worker.statuses["a/ü"]


def test_findings_come_through_whole(cli: WorkerClient, failing: Any) -> None:
    finding = Finding("config.unknown_key", "unknown configuration key 'topc'", "topc", "did you mean 'topic'?")
    failing(ConfigError(findings=[finding]))
    with pytest.raises(ConfigError) as caught:
        cli.of_connector("PUT", "a", "/config", {"topc": "x"})
    assert caught.value.findings == (finding,)


def test_a_wrong_name_is_told_with_the_nearest(cli: WorkerClient, worker: Any) -> None:
    worker.add("orders")
    with pytest.raises(NotFoundError, match="did you mean 'orders'"):
        cli.of_connector("DELETE", "ordesr")


def test_a_condition_is_shown_with_its_facts_until_it_is_acknowledged(server: RestServer, worker: Any) -> None:
    worker.add("orders")
    text = "retention removed records of t-0 before they were read"
    condition = Condition("records.removed_unread", text, "load them again", 1, 2, 10, "t-0: offsets 10 to 19")
    worker.raised = [condition]
    worker.statuses["orders"] = replace(worker.statuses["orders"], conditions=(condition,))

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(connectors.app, [*arguments, "--url", server.url])

    shown = run("status", "orders")
    assert shown.exit_code == 1
    assert "orders needs attention: records.removed_unread" in shown.stdout
    for said in (text, "10 records", "t-0: offsets 10 to 19", "load them again"):
        assert said in shown.stdout
    assert "connectors acknowledge orders --code records.removed_unread" in shown.stdout
    assert "no problems" not in shown.stderr

    acknowledged = run("acknowledge", "orders", "--code", "records.removed_unread")
    assert acknowledged.exit_code == 0
    assert "acknowledged records.removed_unread" in acknowledged.stderr
    assert worker.raised == []
    assert "nothing to acknowledge" in run("acknowledge", "orders").stderr
