"""``headrace connectors`` with a worker whose responses are set by the tests."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner, Result

from headrace.cli import connectors
from headrace.cli.client import WorkerClient
from headrace.errors import CommandError, ConfigError, ConflictError, HeadraceError, InfrastructureError, NotFoundError

RUNNING = {"state": "RUNNING", "worker_id": "w:8083", "since": 1}
TRACE = 'Traceback (most recent call last):\n  File "x.py", line 1, in poll\n    read()\nValueError: password wrong\n'
FAILED = {"state": "FAILED", "worker_id": "w:8083", "trace": TRACE}


def status(name: str, connector: dict[str, Any], *tasks: dict[str, Any]) -> dict[str, Any]:
    numbered = [{"id": number, **task} for number, task in enumerate(tasks)]
    return {"name": name, "connector": connector, "tasks": numbered, "type": "source"}


class StubWorker(http.server.ThreadingHTTPServer):
    """``answers["GET /path"] = (status, body)``; requests are recorded in ``requests``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), StubHandler)
        self.answers: dict[str, tuple[int, Any]] = {"GET /connectors": (200, ["orders", "clicks"])}
        self.requests: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class StubHandler(http.server.BaseHTTPRequestHandler):
    server: StubWorker
    unknown: ClassVar[tuple[int, Any]] = (404, {"error_code": 404, "message": "Connector not found"})

    def _answer(self) -> None:
        asked = f"{self.command} {self.path}"
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((asked, json.loads(sent) if sent else None))
        self.server.headers.append(dict(self.headers))
        code, body = self.server.answers.get(asked, self.unknown)
        payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@pytest.fixture
def worker() -> Iterator[StubWorker]:
    with StubWorker() as stub:
        thread = threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield stub
        stub.shutdown()
        thread.join()


class Command:
    """Runs ``headrace connectors …`` in this process."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, *arguments: str) -> Result:
        """Run a command that must succeed."""
        result = CliRunner().invoke(connectors.app, arguments, env={"HEADRACE_URL": self._url})
        assert result.exception is None, result.exception
        return result

    def needs_attention(self, *arguments: str) -> Result:
        """Run a command that reports problems, and must exit with 1."""
        result = CliRunner().invoke(connectors.app, arguments, env={"HEADRACE_URL": self._url})
        assert result.exit_code == 1, result.output
        assert isinstance(result.exception, SystemExit), result.output
        return result

    def error(self, *arguments: str) -> HeadraceError:
        """Return the error of a refused command; ``main`` prints it and exits with its code."""
        result = CliRunner().invoke(connectors.app, arguments, env={"HEADRACE_URL": self._url})
        assert isinstance(result.exception, HeadraceError), result.output
        return result.exception


@pytest.fixture
def run(worker: StubWorker) -> Command:
    return Command(worker.url)


def fields(line: str) -> list[str]:
    return line.split()


class TestList:
    def test_a_list_shows_the_worst_state_of_connector_and_tasks(self, run: Command, worker: StubWorker) -> None:
        worker.answers["GET /connectors?expand=status"] = (
            200,
            {
                "orders": {"status": status("orders", RUNNING, RUNNING, FAILED), "info": {}},
                "clicks": {"status": status("clicks", RUNNING, RUNNING), "info": {}},
            },
        )
        lines = [fields(line) for line in run("list").stdout.splitlines()]
        assert ["clicks", "source", "RUNNING", "1/1", "running"] in lines
        assert ["orders", "source", "FAILED", "1/2", "running"] in lines

    def test_list_json_is_the_response_of_the_worker(self, run: Command, worker: StubWorker) -> None:
        answer = {"orders": {"status": status("orders", RUNNING), "info": {"name": "orders"}}}
        worker.answers["GET /connectors?expand=status&expand=info"] = (200, answer)
        assert json.loads(run("list", "--json").stdout) == answer

    def test_an_empty_list_names_the_command_that_creates_a_connector(self, run: Command, worker: StubWorker) -> None:
        worker.answers["GET /connectors?expand=status"] = (200, {})
        assert "headrace connectors apply" in run("list").stderr


class TestStatus:
    def test_status_of_a_failed_task_shows_reason_and_command(self, run: Command, worker: StubWorker) -> None:
        worker.answers["GET /connectors/orders/status"] = (200, status("orders", RUNNING, RUNNING, FAILED))
        shown = run.needs_attention("status", "orders").stdout
        lines = [fields(line) for line in shown.splitlines()]
        assert ["orders", "source", "FAILED", "1", "w:8083", "-"] in lines
        assert "orders-1 is FAILED" in shown
        assert "ValueError: password wrong" in shown
        assert "Traceback" not in shown
        assert f"→ headrace connectors restart orders --task 1 --url {worker.url}" in shown
        assert "Traceback" in run.needs_attention("status", "orders", "--trace").stdout

    def test_status_of_a_waiting_connector_shows_its_reason(self, run: Command, worker: StubWorker) -> None:
        waiting = {**RUNNING, "reason": "no answer from the broker localhost:9092"}
        worker.answers["GET /connectors/orders/status"] = (200, status("orders", RUNNING, waiting))
        shown = run("status", "orders").stdout
        assert "orders-0 is RUNNING" in shown
        assert "no answer from the broker localhost:9092" in shown

    def test_status_of_a_retrying_connector_is_retrying(self, run: Command, worker: StubWorker) -> None:
        retrying = {**RUNNING, "reason": "the index is blocked", "condition": "RETRYING"}
        worker.answers["GET /connectors/orders/status"] = (200, status("orders", RUNNING, retrying))
        assert "orders-0 is RETRYING" in run.needs_attention("status", "orders").stdout

    def test_status_of_a_healthy_connector_is_only_the_table(self, run: Command, worker: StubWorker) -> None:
        worker.answers["GET /connectors/orders/status"] = (200, status("orders", RUNNING, RUNNING))
        assert " is " not in run("status", "orders").stdout

    def test_status_without_a_name_shows_all_connectors(self, run: Command, worker: StubWorker) -> None:
        bodies = {name: status(name, RUNNING, RUNNING) for name in ("orders", "clicks")}
        expanded = {name: {"status": body} for name, body in bodies.items()}
        worker.answers["GET /connectors?expand=status&expand=progress"] = (200, expanded)
        shown = run("status").stdout
        assert shown.index("clicks") < shown.index("orders")
        assert json.loads(run("status", "--json").stdout) == bodies

    def test_status_json_of_one_connector_is_the_response_of_the_worker(self, run: Command, worker: StubWorker) -> None:
        worker.answers["GET /connectors/orders/status"] = (200, status("orders", FAILED))
        assert json.loads(run.needs_attention("status", "orders", "--json").stdout) == status("orders", FAILED)


class TestTargetStates:
    @pytest.mark.parametrize("verb", ["pause", "resume", "stop"])
    def test_the_worker_receives_one_request_per_connector(self, run: Command, worker: StubWorker, verb: str) -> None:
        worker.answers |= {f"PUT /connectors/{name}/{verb}": (202, None) for name in ("orders", "clicks")}
        worker.answers |= {f"GET /connectors/{name}/status": (200, {}) for name in ("orders", "clicks")}
        result = run(verb, "orders", "clicks")
        puts = [f"PUT /connectors/orders/{verb}", f"PUT /connectors/clicks/{verb}"]
        assert requests_with(worker.requests, "PUT") == puts
        assert f"orders: {verb} requested" in result.stderr
        assert not result.stdout
        answer = json.loads(run(verb, "orders", "--json").stdout)
        assert answer == {"requested": verb, "connectors": ["orders"]}

    def test_one_unknown_name_changes_no_connector(self, run: Command, worker: StubWorker) -> None:
        worker.answers |= {"PUT /connectors/orders/pause": (202, None), "GET /connectors/orders/status": (200, {})}
        assert isinstance(run.error("pause", "orders", "order"), NotFoundError)
        assert requests_with(worker.requests, "PUT") == []

    def test_an_unknown_name_is_reported_with_the_nearest(self, run: Command) -> None:
        error = run.error("pause", "order")
        assert isinstance(error, NotFoundError)
        assert (error.code, error.exit_code) == ("connector.not_found", 2)
        assert "'order'" in error.message
        assert "did you mean 'orders'?" in error.hint
        assert "clicks, orders" in run.error("status", "zzz").hint

    def test_names_are_url_encoded(self, run: Command, worker: StubWorker) -> None:
        worker.answers["PUT /connectors/a%2Fb%20%C3%BC/pause"] = (202, None)
        run("pause", "a/b ü")


class TestRestart:
    def test_restart_restarts_the_connector(self, run: Command, worker: StubWorker) -> None:
        asked = "POST /connectors/orders/restart?includeTasks=false&onlyFailed=false"
        worker.answers[asked] = (204, None)
        assert "orders: restart requested" in run("restart", "orders").stderr
        assert worker.requests == [(asked, None)]

    def test_restart_of_failed_parts_shows_the_plan(self, run: Command, worker: StubWorker) -> None:
        asked = "POST /connectors/orders/restart?includeTasks=true&onlyFailed=true"
        planned = status("orders", {**RUNNING, "state": "RESTARTING"}, RUNNING)
        worker.answers[asked] = (202, planned)
        assert "RESTARTING" in run("restart", "orders", "--include-tasks", "--only-failed").stdout
        assert json.loads(run("restart", "orders", "--include-tasks", "--only-failed", "--json").stdout) == planned

    def test_restart_restarts_one_task(self, run: Command, worker: StubWorker) -> None:
        worker.answers["POST /connectors/orders/tasks/1/restart"] = (204, None)
        assert "orders-1: restart requested" in run("restart", "orders", "--task", "1").stderr

    def test_an_unknown_task_is_reported_with_the_message_of_the_worker(self, run: Command, worker: StubWorker) -> None:
        asked = "POST /connectors/orders/tasks/9/restart"
        worker.answers[asked] = (404, {"error_code": 404, "message": "Unknown task: orders-9"})
        assert run.error("restart", "orders", "--task", "9").message == "Unknown task: orders-9"

    def test_conflicting_options_are_refused(self, run: Command, worker: StubWorker) -> None:
        error = run.error("restart", "orders", "--task", "1", "--only-failed")
        assert (error.code, error.exit_code) == ("cli.conflicting_options", 2)
        assert not worker.requests


class TestDelete:
    @pytest.fixture(autouse=True)
    def orders(self, worker: StubWorker) -> None:
        worker.answers |= {
            "GET /connectors/orders/status": (200, status("orders", RUNNING)),
            "DELETE /connectors/orders": (204, None),
        }

    def test_delete_requires_yes(self, run: Command, worker: StubWorker) -> None:
        error = run.error("delete", "orders")
        assert isinstance(error, CommandError)
        assert "--yes" in error.hint
        assert "DELETE /connectors/orders" not in dict(worker.requests)

    def test_delete_with_yes_deletes(self, run: Command, worker: StubWorker) -> None:
        assert "orders: delete requested" in run("delete", "orders", "--yes").stderr
        assert worker.requests[-1] == ("DELETE /connectors/orders", None)

    def test_delete_with_one_unknown_name_deletes_nothing(self, run: Command, worker: StubWorker) -> None:
        assert isinstance(run.error("delete", "orders", "clicsk", "-y"), NotFoundError)
        assert "DELETE /connectors/orders" not in dict(worker.requests)


class TestErrors:
    def test_an_unreachable_worker_is_an_error(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        error = Command(url).error("list")
        assert isinstance(error, InfrastructureError)
        assert (error.code, error.exit_code) == ("worker.unreachable", 3)
        assert url in error.message
        assert "headrace run" in error.hint

    @pytest.mark.parametrize("answer", [(200, b"<html>"), (502, b"<html>"), (500, [1]), (404, {"detail": "x"})])
    def test_another_server_at_the_address_is_an_error(self, run: Command, worker: StubWorker, answer: Any) -> None:
        worker.answers["GET /connectors?expand=status"] = answer
        assert run.error("list").code == "worker.not_a_worker"

    @pytest.mark.parametrize(
        ("code", "expected", "exit_code"), [(400, CommandError, 2), (409, ConflictError, 2), (500, HeadraceError, 1)]
    )
    def test_the_message_of_the_worker_is_shown(
        self, run: Command, worker: StubWorker, code: int, expected: type[HeadraceError], exit_code: int
    ) -> None:
        worker.answers["PUT /connectors/orders/pause"] = (code, {"error_code": code, "message": "because so"})
        error = run.error("pause", "orders")
        assert type(error) is expected
        assert error.exit_code == exit_code
        assert "because so" in error.message

    def test_a_password_in_the_url_is_sent_and_never_shown(self, worker: StubWorker) -> None:
        client = WorkerClient(worker.url.replace("//", "//me:s%40cret@") + "/prefix/")
        with pytest.raises(NotFoundError):
            client.request("GET", "/x")
        assert worker.requests[0][0] == "GET /prefix/x"
        assert worker.headers[0]["Authorization"] == "Basic bWU6c0BjcmV0"
        assert client.url == f"{worker.url}/prefix"

    @pytest.mark.parametrize("url", ["localhost:8083", "ftp://me:secret@x", "http://", "http://me:secret@x:port"])
    def test_an_invalid_url_is_refused_without_showing_its_password(self, url: str) -> None:
        with pytest.raises(ConfigError) as caught:
            WorkerClient(url)
        assert caught.value.code == "cli.bad_url"
        assert "secret" not in str(caught.value)


class TestApply:
    @pytest.fixture
    def orders(self, tmp_path: Path) -> Path:
        path = tmp_path / "orders.properties"
        path.write_text("name=orders\nconnector.class=AcmeSource\ntasks.max=2\n")
        return path

    CONFIG: ClassVar[dict[str, str]] = {"name": "orders", "connector.class": "AcmeSource", "tasks.max": "2"}

    @pytest.mark.parametrize(("code", "word"), [(201, "created"), (200, "updated")])
    def test_apply_puts_the_config(self, run: Command, worker: StubWorker, orders: Path, code: int, word: str) -> None:
        worker.answers["GET /connectors/orders/config"] = (200, {**self.CONFIG, "tasks.max": "1"})
        worker.answers["PUT /connectors/orders/config"] = (code, {})
        said = run("apply", str(orders)).stderr
        assert f"orders: {word}" in said
        assert ("(tasks.max changed)" in said) == (word == "updated")
        assert worker.requests[-1] == ("PUT /connectors/orders/config", self.CONFIG)
        assert json.loads(run("apply", str(orders), "--json").stdout) == {"connectors": {"orders": word}}

    def test_apply_keeps_an_equal_configuration(self, run: Command, worker: StubWorker, orders: Path) -> None:
        worker.answers["GET /connectors/orders/config"] = (200, self.CONFIG)
        assert "orders: unchanged" in run("apply", str(orders)).stderr
        assert not requests_with(worker.requests, "PUT")

    def test_apply_requires_a_name_in_the_file(self, run: Command, worker: StubWorker, orders: Path) -> None:
        orders.write_text("connector.class=AcmeSource\n")
        assert isinstance(run.error("apply", str(orders)), ConfigError)
        assert not requests_with(worker.requests, "PUT")

    def test_apply_shows_all_findings_of_the_worker(self, run: Command, worker: StubWorker, orders: Path) -> None:
        finding = {"code": "config.unknown_key", "key": "tasks.max", "message": "unknown", "hint": "did you mean…"}
        body = {"error_code": 400, "message": "Connector configuration is invalid…", "findings": [finding]}
        worker.answers["PUT /connectors/orders/config"] = (400, body)
        worker.answers["GET /connectors"] = (200, [])
        error = run.error("apply", str(orders))
        assert isinstance(error, ConfigError)
        assert [(item.code, item.key, item.hint) for item in error.findings] == [
            ("config.unknown_key", "tasks.max", "did you mean…")
        ]


def requests_with(requests: Sequence[tuple[str, Any]], method: str) -> list[str]:
    return [asked for asked, _ in requests if asked.startswith(method)]


class TestOffsets:
    STORED = (200, {"offsets": [{"partition": {"table": "orders"}, "offset": {"incrementing": 42}}]})

    def test_offsets_are_shown(self, run: Command, worker: StubWorker) -> None:
        worker.answers["GET /connectors/orders/offsets"] = self.STORED
        assert '{"table": "orders"}' in run("offsets", "orders").stdout
        assert json.loads(run("offsets", "orders", "--json").stdout) == self.STORED[1]

    def test_offsets_are_changed(self, run: Command, worker: StubWorker) -> None:
        worker.answers["PATCH /connectors/orders/offsets"] = (200, {"message": "done"})
        worker.answers["GET /connectors/orders/offsets"] = self.STORED
        change = {"partition": {"table": "orders"}, "offset": None}
        run("offsets", "orders", "--set", json.dumps(change))
        assert ("PATCH /connectors/orders/offsets", {"offsets": [change]}) in worker.requests

    def test_a_change_names_partitions_that_had_no_offset(self, run: Command, worker: StubWorker) -> None:
        worker.answers["PATCH /connectors/orders/offsets"] = (200, {"message": "done"})
        worker.answers["GET /connectors/orders/offsets"] = self.STORED
        known, new = ({"partition": {"table": name}, "offset": None} for name in ("orders", "ordres"))
        assert "had no offset before" not in run("offsets", "orders", "--set", json.dumps(known)).stderr
        assert '{"table": "ordres"} had no offset before' in run("offsets", "orders", "--set", json.dumps(new)).stderr

    def test_reset_deletes_all_offsets(self, run: Command, worker: StubWorker) -> None:
        worker.answers["DELETE /connectors/orders/offsets"] = (200, {"message": "done"})
        worker.answers["GET /connectors/orders/offsets"] = (200, {"offsets": []})
        assert "no stored offsets" in run("offsets", "orders", "--reset").output
        assert worker.requests[0] == ("DELETE /connectors/orders/offsets", None)

    def test_a_change_of_a_running_connector_names_the_stop_command(self, run: Command, worker: StubWorker) -> None:
        worker.answers["DELETE /connectors/orders/offsets"] = (400, {"message": "must be in the STOPPED state"})
        refused = run.error("offsets", "orders", "--reset")
        assert (refused.code, refused.hint) == ("connector.not_stopped", "headrace connectors stop orders")

    def test_other_refusals_have_the_message_of_the_worker(self, run: Command, worker: StubWorker) -> None:
        worker.answers["DELETE /connectors/orders/offsets"] = (400, {"message": "not today"})
        assert "not today" in str(run.error("offsets", "orders", "--reset"))

    def test_a_file_that_is_not_json_is_refused(self, run: Command) -> None:
        assert "--set is not JSON" in str(run.error("offsets", "orders", "--set", "{table"))


class TestManyConnectors:
    """One command for several connectors."""

    def test_a_connector_without_problems_is_one_row(self, run: Command, worker: StubWorker) -> None:
        worker.answers["GET /connectors/orders/status"] = (200, status("orders", RUNNING, RUNNING, RUNNING))
        worker.answers["GET /connectors/clicks/status"] = (200, status("clicks", RUNNING, RUNNING, FAILED))
        lines = [fields(line) for line in run.needs_attention("status", "orders", "clicks").stdout.splitlines()]
        assert [line[3:5] for line in lines if line[:1] == ["orders"]] == [["all", "2"]]
        assert len([line for line in lines if line[:2] == ["clicks", "source"]]) == 3

    def test_status_without_problems_reports_no_problems(self, run: Command, worker: StubWorker) -> None:
        worker.answers["GET /connectors/orders/status"] = (200, status("orders", RUNNING, RUNNING, RUNNING))
        assert "no problems: connectors 1, tasks 2" in run("status", "orders").stderr
        worker.answers["GET /connectors/orders/status"] = (200, status("orders", RUNNING, FAILED))
        assert "no problems" not in run.needs_attention("status", "orders").stderr

    def test_restart_all_that_failed_restarts_their_tasks(self, run: Command, worker: StubWorker) -> None:
        for name in ("orders", "clicks"):
            worker.answers[f"GET /connectors/{name}/status"] = (200, status(name, RUNNING, RUNNING))
            planned = status(name, {**RUNNING, "state": "RESTARTING"})
            worker.answers[f"POST /connectors/{name}/restart?includeTasks=true&onlyFailed=true"] = (202, planned)
        result = run("restart", "--all", "--only-failed", "--json")
        assert set(json.loads(result.stdout)) == {"orders", "clicks"}
        assert len(requests_with(worker.requests, "POST")) == 2

    @pytest.mark.parametrize("arguments", [(), ("orders", "--all"), ("orders", "clicks", "--task", "0")])
    def test_restart_refuses_wrong_arguments(self, run: Command, worker: StubWorker, arguments: Sequence[str]) -> None:
        assert run.error("restart", *arguments).code == "cli.conflicting_options"
        assert not worker.requests

    def test_wait_returns_when_every_part_has_reached_its_state(self, run: Command, worker: StubWorker) -> None:
        paused = {**RUNNING, "state": "PAUSED"}
        worker.answers["PUT /connectors/orders/pause"] = (202, None)
        worker.answers["GET /connectors/orders/status"] = (200, status("orders", paused, paused))
        assert "PAUSED" in run("pause", "orders", "--wait").stdout

    def test_wait_ends_with_an_error_after_its_timeout(self, run: Command, worker: StubWorker) -> None:
        worker.answers["PUT /connectors/orders/stop"] = (204, None)
        worker.answers["GET /connectors/orders/status"] = (200, status("orders", RUNNING, RUNNING))
        error = run.error("stop", "orders", "--wait", "--timeout", "0")
        assert error.code == "cli.wait_timeout"
        assert "2 of 2" in error.message

    def test_wait_fails_when_a_task_fails(self, run: Command, worker: StubWorker) -> None:
        worker.answers["POST /connectors/orders/restart?includeTasks=false&onlyFailed=false"] = (204, None)
        worker.answers["GET /connectors/orders/status"] = (200, status("orders", RUNNING, FAILED))
        result = CliRunner().invoke(connectors.app, ["restart", "orders", "--wait"], env={"HEADRACE_URL": worker.url})
        assert result.exit_code == 1
        assert "orders-0 is FAILED" in result.stdout
