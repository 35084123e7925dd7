"""The command line understands what the REST API says."""

from typing import Any

import pytest

from headrace.cli import status_view
from headrace.cli.client import WorkerClient
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
