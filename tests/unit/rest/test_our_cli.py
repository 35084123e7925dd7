"""The command line parses the responses of the REST API."""

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace.accounting import PartitionAccount, RecordCause
from headrace.cli import connectors, record_view, status_view
from headrace.cli.client import WorkerClient
from headrace.cli.main import app
from headrace.conditions import Condition
from headrace.errors import ConfigError, Finding, HeadraceError, NotFoundError
from headrace.rest.server import RestServer
from headrace.runtime.api import ConnectorStatus, TaskProgress
from headrace.states import State, Status, TaskId
from headrace.step_accounting import TERMS


@pytest.fixture
def cli(server: RestServer, worker: Any) -> WorkerClient:
    return WorkerClient(server.url)


def test_a_status_is_parsed_completely(cli: WorkerClient, worker: Any) -> None:
    waiting = Status(State.RUNNING, "w:1", reason="the broker does not answer", since=1_700_000_000_000)
    failed = Status(State.FAILED, "w:2", trace="ValueError: x", since=5)
    worker.statuses["a/ü"] = ConnectorStatus("a/ü", waiting, {0: failed}, "sink")
    assert status_view.parse_status(cli.of_connector("GET", "a/ü", "/status").body) == worker.statuses["a/ü"]


def test_the_progress_of_tasks_is_parsed_completely(cli: WorkerClient, worker: Any) -> None:
    worker.add("orders")
    worker.task_progress = {0: TaskProgress(12.5, 7, None, 3), 1: TaskProgress(0.0, 0, 1500, 0)}
    body = cli.request("GET", "/v1/connectors/orders/progress").body
    parsed = status_view.parse_progress(
        body, status_view.parse_status(cli.of_connector("GET", "orders", "/status").body)
    )
    assert parsed[0][:4] == (12.5, 7, None, 3)
    assert parsed[1][:4] == (0.0, 0, 1500, 0)
    expanded = cli.request("GET", "/connectors?expand=status&expand=progress").body
    assert expanded["orders"]["progress"] == body
    with pytest.raises(NotFoundError):
        cli.request("GET", "/v1/connectors/none/progress")


class TestRecords:
    @pytest.fixture
    def status(self, server: RestServer, worker: Any) -> Callable[..., str]:
        worker.add("orders")
        worker.counters = {
            TaskId("orders", 0): {
                "sink_record_read_total": 1_030,
                "sink_record_send_total": 1_000,
                "sink_record_dead_lettered_total": 20,
            }
        }
        worker.causes = [
            RecordCause("dead_lettered", "data.refused", 20, 1_700_000_000_000, 1_700_000_001_000, "t-0: 7")
        ]
        worker.accounts = {"t-0": PartitionAccount(100, 1_165, 1_030, 25, 9, 1)}
        counted = {"received": 1_900, "matched": 1_700, "open": 190}
        worker.step_accounts = {"joined.left": dict.fromkeys(TERMS, 0) | counted}

        def run(*arguments: str) -> str:
            shown = CliRunner().invoke(connectors.app, ["status", "orders", *arguments, "--url", server.url])
            assert shown.exit_code == 0, shown.output
            return shown.stdout

        return run

    def test_the_account_of_each_task_and_partition_is_shown_on_request(self, status: Callable[..., str]) -> None:
        lines = [line.split() for line in status("--records").splitlines()]

        assert ["orders", "0", "1,030", "0", "1,000", "0", "0", "20", "0", "0", "0", "10"] in lines
        assert ["orders", "0", "t-0", "100", "1,030", "25", "9", "1", "1,165"] in lines
        assert ["orders", "0", "joined.left", "1,900", "0", "1,700", "0", "0", "0", "0", "190", "10"] in lines
        (cause,) = [line for line in lines if "data.refused" in line]
        assert cause[:5] == ["orders", "0", "dead-lettered", "data.refused", "20"]
        assert cause[-2:] == ["t-0:", "7"]

    def test_status_alone_shows_no_account(self, status: Callable[..., str]) -> None:
        assert "1,165" not in status()

    def test_json_has_the_response_of_the_worker(self, status: Callable[..., str], cli: WorkerClient) -> None:
        body = cli.request("GET", "/v1/connectors/orders/records").body
        (step,) = body["tasks"][0]["steps"]
        assert (step["step"], step["received"], step["balance"]) == ("joined.left", 1_900, 10)
        assert json.loads(status("--records", "--json"))["records"] == body
        assert record_view.parse_records(body)[0].partitions["t-0"].balance == 0

    def test_an_invalid_account_is_an_error(self) -> None:
        for body in ({}, {"tasks": [{"id": 0}]}, {"tasks": [{"id": 0, "counts": {}, "causes": [], "partitions": []}]}):
            with pytest.raises(HeadraceError, match="cannot parse the records"):
                record_view.parse_records(body)


def test_findings_are_parsed_completely(cli: WorkerClient, failing: Any) -> None:
    finding = Finding("config.unknown_key", "unknown configuration key 'topc'", "topc", "did you mean 'topic'?")
    failing(ConfigError(findings=[finding]))
    with pytest.raises(ConfigError) as caught:
        cli.of_connector("PUT", "a", "/config", {"topc": "x"})
    assert caught.value.findings == (finding,)


def test_an_unknown_name_is_reported_with_the_nearest(cli: WorkerClient, worker: Any) -> None:
    worker.add("orders")
    with pytest.raises(NotFoundError, match="did you mean 'orders'"):
        cli.of_connector("DELETE", "ordesr")


def test_trial_11_status_and_restart_take_several_names(server: RestServer, worker: Any) -> None:
    for name in ("orders", "clicks", "other"):
        worker.add(name)
    shown = CliRunner().invoke(connectors.app, ["status", "orders", "clicks", "--json", "--url", server.url])
    assert json.loads(shown.stdout).keys() == {"orders", "clicks"}
    restarted = CliRunner().invoke(connectors.app, ["restart", "orders", "clicks", "--url", server.url])
    assert restarted.exit_code == 0, restarted.output
    assert [name for name, *_ in worker.restarts] == ["orders", "clicks"]


def test_a_condition_is_shown_with_its_details_until_it_is_acknowledged(server: RestServer, worker: Any) -> None:
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


class TestProgress:
    """Rate, lag, age of the newest record and dead letters in ``connectors status``."""

    @pytest.fixture
    def cells(self, server: RestServer) -> Callable[..., list[list[str]]]:
        def run(exit_code: int = 0) -> list[list[str]]:
            shown = CliRunner().invoke(connectors.app, ["status", "--url", server.url])
            assert shown.exit_code == exit_code, shown.output
            header, *lines = [line for line in shown.stdout.splitlines() if line.strip(" \u2500")]
            places = [header.index(name) for name in connectors.PROGRESS_COLUMNS]
            return [
                [line[start:end].strip() for start, end in itertools.pairwise([*places, 1000])]
                for line in lines
                if line.strip().startswith("orders ")
            ]

        return run

    def test_a_healthy_connector_shows_the_sums_of_its_tasks(self, cells: Any, worker: Any) -> None:
        worker.add("orders")
        running = Status(State.RUNNING, "w:1")
        worker.statuses["orders"] = ConnectorStatus("orders", running, {0: running, 1: running}, "sink")
        worker.task_progress = {0: TaskProgress(1234.4, 100, 65_000, 2), 1: TaskProgress(100, 1_000_000, 3_000, 0)}
        [[rate, lag, as_of, letters]] = cells()
        assert (rate, lag, letters) == ("1,334", "1,000,100", "2")
        assert re.fullmatch(r"\d\d:\d\d:\d\d \(3\.0 s ago\)", as_of), "the newest of both"

    def test_the_lag_of_a_task_that_does_not_poll_is_a_lower_bound(self, cells: Any, worker: Any) -> None:
        worker.add("orders")
        running, retrying = Status(State.RUNNING, "w:1"), Status(State.RUNNING, "w:1", reason="blocked", retrying=True)
        worker.statuses["orders"] = ConnectorStatus("orders", running, {0: running, 1: retrying}, "sink")
        worker.task_progress = {0: TaskProgress(0.0, 0, 500, 0), 1: TaskProgress(2.25, 12, None, 0)}
        rows = cells(exit_code=1)
        assert [(rate, lag) for rate, lag, _, _ in rows] == [("2.2", "≥ 12"), ("0", "0"), ("2.2", "≥ 12")]
        assert [as_of[8:] for _, _, as_of, _ in rows] == [" (0.5 s ago)", " (0.5 s ago)", ""]

    def test_old_data_has_a_date(self) -> None:
        noon = round(datetime(2026, 11, 30, 12).timestamp() * 1000)
        assert status_view.data_as_of(noon, 800) == "11:59:59 (0.8 s ago)"
        assert status_view.data_as_of(noon, 65_000) == "11:58:55 (1 min 5 s ago)"
        assert status_view.data_as_of(noon, 90_000_000) == "2026-11-29 11:00 (1 d 1 h ago)"

    def test_a_task_that_waits_for_its_start_needs_attention(self, cells: Any, worker: Any) -> None:
        worker.add("orders")
        running = Status(State.RUNNING, "w:1")
        for reason, exit_code in ((None, 0), ("Kafka does not answer", 1)):
            waiting = Status(State.UNASSIGNED, "w:1", reason=reason)
            worker.statuses["orders"] = ConnectorStatus("orders", running, {0: waiting}, "sink")
            assert len(cells(exit_code)) == 2

    def test_a_connector_without_running_tasks_has_no_progress(self, cells: Any, worker: Any) -> None:
        worker.add("orders")
        assert cells() == [["-", "-", "-", "-"]]

    def test_an_invalid_progress_is_an_error(self) -> None:
        running = Status(State.RUNNING, "w:1")
        bodies: list[dict[str, Any]] = [{}, {"tasks": [{}]}, {"tasks": [{"id": "x"}]}]
        for body in bodies:
            with pytest.raises(HeadraceError, match="cannot parse the progress"):
                status_view.parse_progress(body, ConnectorStatus("a", running, {0: running}, "sink"))


class TestStreams:
    """``headrace stream`` with a running worker."""

    APPLICATION = """name: app
connector.class: Stream
inputs: {views: {topic: t, time: at, key: id}}
steps: {counted: {window: {by: id, tumbling: 10ms, grace: 0, aggregate: {n: count(*)}}}}
outputs: {out: counted}
"""

    def test_the_state_of_a_key_is_printed_with_all_types(self, server: RestServer, worker: Any) -> None:
        worker.add("app")
        result = CliRunner().invoke(app, ["stream", "state", "app", "counted", '["a/b", 7]', "--url", server.url])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout) == {
            "name": "app", "store": "counted", "task": 0, "partition": 3, "key": ["a/b", 7],
            "entries": [{"at": {"$decimal": "1.50"}}],
        }  # fmt: skip

    def test_a_file_is_compared_with_the_state_of_a_running_application(
        self, server: RestServer, worker: Any, tmp_path: Path
    ) -> None:
        worker.add("app")
        file = tmp_path / "app.yaml"
        file.write_text(self.APPLICATION, encoding="utf-8")
        arguments = ["stream", "explain", str(file), "--against", "app", "--url", server.url]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 1
        assert "RESET    counted: its state was made by 'windows', and the step is now" in result.output
        assert "`headrace stream reset app`" in result.output

        file.write_text(self.APPLICATION.replace("counted", "visits"), encoding="utf-8")
        result = CliRunner().invoke(app, arguments)
        assert (result.exit_code, result.stdout.splitlines()[-2:]) == (
            0,
            ["new      visits: begins without state", "removed  counted: its changelog stays in Kafka and is not used"],
        )
