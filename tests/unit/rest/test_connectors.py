"""Connectors: status codes and bodies are those of Kafka Connect."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import ConfigError, Finding, RetriableError
from headrace.runtime.api import ConnectorStatus
from headrace.states import State, Status, TargetState, TaskId
from tests.unit.examples import examples

CONFIG = {"connector.class": "AcmeSource", "tasks.max": "1"}
RUNNING = {"state": "RUNNING", "worker_id": "127.0.0.1:8083"}
STATUS = {"name": "a", "connector": RUNNING, "tasks": [{"id": 0, **RUNNING}], "type": "source"}
INFO = {
    "name": "a",
    "config": {"connector.class": "AcmeSource", "name": "a"},
    "tasks": [{"connector": "a", "task": 0}],
    "type": "source",
}


def error(status: int, message: str) -> dict[str, Any]:
    return {"error_code": status, "message": message}


class TestListing:
    def test_the_list_is_an_array_of_names(self, client: httpx.Client, worker: Any) -> None:
        assert client.get("/connectors").json() == []
        worker.add("b")
        worker.add("a")
        answer = client.get("/connectors")
        assert (answer.status_code, answer.json()) == (200, ["a", "b"])
        assert answer.headers["content-type"] == "application/json"

    def test_the_list_is_expanded_with_status_and_info(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        assert client.get("/connectors?expand=status").json() == {"a": {"status": STATUS}}
        assert client.get("/connectors?expand=info").json() == {"a": {"info": INFO}}
        both = client.get("/connectors?expand=status&expand=info").json()
        assert both == {"a": {"status": STATUS, "info": INFO}}
        assert client.get("/connectors?expand=nonsense").json() == {"a": {}}

    def test_a_connector_without_a_status_is_not_in_the_expanded_list(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        worker.add("new")
        del worker.statuses["new"]
        assert list(client.get("/connectors?expand=status").json()) == ["a"]


class TestCreating:
    def test_creation_returns_201_and_the_location(self, client: httpx.Client, worker: Any) -> None:
        answer = client.post("/connectors", json={"name": " a ", "config": CONFIG})
        assert answer.status_code == 201
        assert answer.headers["location"] == f"{str(client.base_url).rstrip('/')}/connectors/a"
        assert answer.json() == {"name": "a", "config": {**CONFIG, "name": "a"}, "tasks": [], "type": "source"}
        assert worker.targets["a"] is TargetState.STARTED

    @pytest.mark.parametrize(
        ("word", "target"),
        [("RUNNING", TargetState.STARTED), ("paused", TargetState.PAUSED), ("Stopped", TargetState.STOPPED)],
    )
    def test_creation_sets_the_initial_state(
        self, client: httpx.Client, worker: Any, word: str, target: TargetState
    ) -> None:
        assert client.post("/connectors", json={"name": "a", "config": CONFIG, "initial_state": word}).is_success
        assert worker.targets["a"] is target

    def test_creation_with_an_existing_name_is_409(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        answer = client.post("/connectors", json={"name": "a", "config": CONFIG})
        assert (answer.status_code, answer.json()) == (409, error(409, "Connector a already exists"))

    def test_configuration_values_keep_their_text_as_in_connect(self, client: httpx.Client, worker: Any) -> None:
        body = b'{"name":"a","config":{"tasks.max":2,"ratio":1.50,"big":1E400,"on":true,"off":false}}'
        assert client.post("/connectors", content=body, headers={"Content-Type": "application/json"}).is_success
        expected = {"tasks.max": "2", "ratio": "1.50", "big": "1E400", "on": "true", "off": "false", "name": "a"}
        assert worker.configs["a"] == expected

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({"name": "a", "config": CONFIG, "configs": {}}, "Unrecognized field \"configs\" → did you mean 'config'"),
            ({"name": "a"}, "'config' must be an object of keys and values, not null"),
            ({"name": "a", "config": ["x"]}, "'config' must be an object of keys and values, not an array"),
            ({"name": {}, "config": CONFIG}, "'name' must be a string, not an object"),
            ({"name": "a", "config": {"k": {"nested": "x"}}}, "values of a configuration are strings; 'k'"),
            ({"name": "a", "config": {"name": "b"}}, "Connector name configuration (b) doesn't match connector name"),
            ({"name": "a", "config": CONFIG, "initial_state": "ASLEEP"}, "initial_state is one of RUNNING, PAUSED"),
            ({"name": "a", "config": CONFIG, "initial_state": True}, "initial_state is one of RUNNING, PAUSED"),
            ({"config": CONFIG}, 'Missing required configuration "name" which has no default value.'),
            ({"name": "  ", "config": CONFIG}, 'Missing required configuration "name" which has no default value.'),
            (["name"], "the body must be a JSON object, not an array"),
        ],
    )
    def test_a_body_with_wrong_members_or_types_is_400(
        self, client: httpx.Client, worker: Any, body: Any, says: str
    ) -> None:
        answer = client.post("/connectors", json=body)
        assert answer.status_code == answer.json()["error_code"] == 400
        assert says in answer.json()["message"]
        assert not worker.configs

    @pytest.mark.parametrize("body", [b"", b"{", b'{"name": NaN}', b"\xff", b"[" * 100_000])
    def test_a_body_that_is_not_json_is_400(self, client: httpx.Client, body: bytes) -> None:
        answer = client.post("/connectors", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == answer.json()["error_code"] == 400
        assert "not JSON" in answer.json()["message"]

    def test_a_body_that_is_not_declared_as_json_is_415(self, client: httpx.Client) -> None:
        answer = client.post("/connectors", content=b"{}", headers={"Content-Type": "text/plain"})
        assert answer.status_code == answer.json()["error_code"] == 415

    def test_an_invalid_configuration_is_reported_with_the_message_of_connect(
        self, client: httpx.Client, failing: Any
    ) -> None:
        missing = Finding("config.missing_key", 'Missing required configuration "topic" which…', "topic", "where to")
        unwise = Finding("config.ignored_key", "no effect", "x", severity="warning")
        number = Finding(
            "config.invalid_value", "Invalid value x for configuration tasks.max: Not a number", "tasks.max"
        )
        failing(ConfigError(findings=[missing, unwise, number]))
        answer = client.post("/connectors", json={"name": "a", "config": CONFIG})
        assert answer.status_code == 400
        assert answer.json() == {
            "error_code": 400,
            "message": "Connector configuration is invalid and contains the following 2 error(s):\n"
            'Missing required configuration "topic" which… → where to\n'
            "Invalid value x for configuration tasks.max: Not a number\n"
            "You can also find the above list of errors at the endpoint "
            "`/connector-plugins/{connectorType}/config/validate`",
            "findings": [
                {"code": missing.code, "key": "topic", "message": missing.message, "hint": "where to"},
                {"code": number.code, "key": "tasks.max", "message": number.message, "hint": ""},
            ],
        }

    def test_a_retriable_error_is_503(self, client: httpx.Client, failing: Any) -> None:
        failing(RetriableError("Request timed out."))
        answer = client.post("/connectors", json={"name": "a", "config": CONFIG})
        assert (answer.status_code, answer.json()) == (503, error(503, "Request timed out."))

    @pytest.mark.parametrize("kind", [ValueError, SystemExit])
    def test_an_unexpected_error_is_500_without_its_message(
        self, client: httpx.Client, failing: Any, kind: type[BaseException]
    ) -> None:
        failing(kind("postgresql://me:secret@db"))
        answer = client.get("/connectors")
        assert answer.status_code == answer.json()["error_code"] == 500
        assert f"internal error ({kind.__name__}) while handling GET /connectors" in answer.json()["message"]
        assert "secret" not in answer.text


class TestOneConnector:
    @pytest.mark.parametrize(
        ("method", "rest"),
        [
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/config"),
            ("GET", "/tasks"),
            ("GET", "/offsets"),
            ("DELETE", "/offsets"),
            ("PUT", "/pause"),
            ("PUT", "/resume"),
            ("PUT", "/stop"),
            ("POST", "/restart"),
            ("POST", "/restart?includeTasks=true"),
            ("POST", "/tasks/0/restart"),
        ],
    )
    def test_an_unknown_connector_is_404(self, client: httpx.Client, method: str, rest: str) -> None:
        answer = client.request(method, f"/connectors/a{rest}")
        assert (answer.status_code, answer.json()) == (404, error(404, "Connector a not found"))

    def test_get_returns_the_info(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        answer = client.get("/connectors/a")
        assert (answer.status_code, answer.json()) == (200, INFO)

    def test_delete_removes_the_connector(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        answer = client.delete("/connectors/a")
        assert (answer.status_code, answer.content) == (204, b"")
        assert not worker.configs

    def test_get_config_returns_the_stored_text(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a", password="${env:PASSWORD}")
        answer = client.get("/connectors/a/config")
        expected = {"connector.class": "AcmeSource", "name": "a", "password": "${env:PASSWORD}"}
        assert (answer.status_code, answer.json()) == (200, expected)

    def test_put_config_creates_then_replaces(self, client: httpx.Client, worker: Any) -> None:
        first = client.put("/connectors/a/config", json=CONFIG)
        assert first.status_code == 201
        assert first.headers["location"] == f"{str(client.base_url).rstrip('/')}/connectors/a"
        second = client.put("/connectors/a/config", json={**CONFIG, "name": "a", "tasks.max": "2"})
        assert second.status_code == 200
        assert "location" not in second.headers
        assert second.json()["config"] == worker.configs["a"] == {**CONFIG, "name": "a", "tasks.max": "2"}

    def test_put_config_of_another_name_is_400(self, client: httpx.Client, worker: Any) -> None:
        answer = client.put("/connectors/a/config", json={"name": "b"})
        assert answer.status_code == 400
        text = "Connector name configuration (b) doesn't match connector name in the URL (a)"
        assert answer.json()["message"].startswith(text)
        assert not worker.configs

    def test_patch_config_merges_and_null_deletes(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a", keep="1", change="2", drop="3")
        answer = client.patch("/connectors/a/config", json={"change": 4, "drop": None, "add": "5"})
        assert answer.status_code == 200
        expected = {"connector.class": "AcmeSource", "name": "a", "keep": "1", "change": "4", "add": "5"}
        assert answer.json()["config"] == expected

    @pytest.mark.parametrize("name", ["b", None])
    def test_patch_config_cannot_rename(self, client: httpx.Client, worker: Any, name: str | None) -> None:
        worker.add("a")
        assert client.patch("/connectors/a/config", json={"name": name}).status_code == 400
        assert client.patch("/connectors/a/config", json={"name": "a"}).status_code == 200

    def test_patch_config_of_an_unknown_connector_is_404(self, client: httpx.Client) -> None:
        assert client.patch("/connectors/a/config", json={"x": "1"}).status_code == 404

    @pytest.mark.parametrize(
        ("verb", "status", "target"),
        [
            ("pause", 202, TargetState.PAUSED),
            ("resume", 202, TargetState.STARTED),
            ("stop", 204, TargetState.STOPPED),
        ],
    )
    def test_pause_resume_and_stop_set_the_target_state(
        self, client: httpx.Client, worker: Any, verb: str, status: int, target: TargetState
    ) -> None:
        worker.add("a")
        answer = client.put(f"/connectors/a/{verb}")
        assert (answer.status_code, answer.content) == (status, b"")
        assert worker.targets["a"] is target

    def test_get_offsets_returns_the_stored_offsets(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        answer = client.get("/connectors/a/offsets")
        expected = {"offsets": [{"partition": {"table": "orders"}, "offset": {"id": 42}}]}
        assert (answer.status_code, answer.json()) == (200, expected)

    def test_a_decision_of_a_stream_application_is_returned(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        answer = client.post("/v1/streams/a/decide", json={"request_id": "r1", "age": 31})
        assert (answer.status_code, answer.json()) == (200, {"request": "r1", "selected": "s1"})
        assert client.post("/v1/streams/b/decide", json={"request_id": "r1"}).status_code == 404
        assert (
            client.post("/v1/streams/a/decide", content="[", headers={"Content-Type": "application/json"}).status_code
            == 400
        )
        worker.fail = RetriableError("no decision in time", code="stream.decision_timeout")
        assert client.post("/v1/streams/a/decide", json={"request_id": "r1"}).status_code == 503

    def test_offsets_are_altered_and_reset(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        body = {
            "offsets": [
                {"partition": {"table": "orders"}, "offset": {"id": 42, "at": 1.5}},
                {"partition": {"table": "users"}, "offset": None},
            ]
        }
        altered = client.patch("/connectors/a/offsets", json=body)
        assert altered.status_code == 200
        assert "have been altered successfully" in altered.json()["message"]
        assert worker.altered == [({"table": "orders"}, {"id": 42, "at": 1.5}), ({"table": "users"}, None)]
        reset = client.delete("/connectors/a/offsets")
        assert reset.status_code == 200
        assert "have been reset successfully" in reset.json()["message"]
        assert worker.altered == []

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            ({}, "Partitions / offsets need to be provided"),
            ({"offsets": []}, "Partitions / offsets need to be provided"),
            ({"offsets": [1]}, "exactly the fields"),
            ({"offsets": [{"partition": {}}]}, "exactly the fields"),
            ({"offsets": [{"partition": [], "offset": None}]}, "the partition of offsets[0]"),
            ({"offsets": [{"partition": {"a": {}}, "offset": None}]}, "the partition of offsets[0]"),
            ({"offsets": [{"partition": {}, "offset": {"a": []}}]}, "the offset of offsets[0]"),
        ],
    )
    def test_invalid_offsets_are_400(self, client: httpx.Client, worker: Any, body: dict[str, Any], told: str) -> None:
        worker.add("a")
        answer = client.patch("/connectors/a/offsets", json=body)
        assert answer.status_code == 400
        assert told in answer.json()["message"]

    def test_connect_rest_11_topics_used_by_a_connector_are_listed_and_reset(
        self, client: httpx.Client, worker: Any
    ) -> None:
        worker.add("a")
        assert client.get("/connectors/a/topics").json() == {"a": {"topics": ["shop.orders"]}}
        assert client.put("/connectors/a/topics/reset").status_code == 202
        assert client.get("/connectors/a/topics").json() == {"a": {"topics": []}}

    @pytest.mark.parametrize(("method", "path"), [("GET", "topics"), ("PUT", "topics/reset")])
    def test_topics_are_403_where_they_are_not_tracked(
        self, client: httpx.Client, worker: Any, method: str, path: str
    ) -> None:
        worker.add("a")
        worker.used_topics = None
        answer = client.request(method, f"/connectors/a/{path}")
        assert (answer.status_code, answer.json()) == (403, error(403, "Topic tracking is disabled."))

    def test_a_reset_of_topics_is_403_where_it_is_not_allowed(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        worker.topics_may_be_reset = False
        answer = client.put("/connectors/a/topics/reset")
        assert (answer.status_code, answer.json()) == (403, error(403, "Topic tracking reset is disabled."))


class TestStatus:
    def test_the_status_of_a_healthy_connector_is_that_of_connect(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        answer = client.get("/connectors/a/status")
        assert (answer.status_code, answer.json()) == (200, STATUS)

    def test_the_status_of_an_unknown_connector_is_404(self, client: httpx.Client) -> None:
        answer = client.get("/connectors/a/status")
        assert (answer.status_code, answer.json()) == (404, error(404, "No status found for connector a"))

    def test_a_status_has_trace_version_reason_and_since_when_they_exist(
        self, client: httpx.Client, worker: Any
    ) -> None:
        worker.add("a")
        waiting = Status(
            State.RUNNING,
            "w:1",
            reason="the broker does not answer",
            since=1_700_000_000_000,
            version="2.1",
            retrying=True,
        )
        failed = Status(State.FAILED, "w:2", trace="Traceback …")
        worker.statuses["a"] = ConnectorStatus("a", waiting, {1: failed, 0: waiting}, "sink")
        ours: dict[str, object] = {"version": "2.1", "reason": "the broker does not answer", "since": 1_700_000_000_000}
        ours["condition"] = "RETRYING"
        shown = {"state": "RUNNING", "worker_id": "w:1", **ours}
        assert client.get("/connectors/a/status").json() == {
            "name": "a",
            "connector": shown,
            "tasks": [{"id": 0, **shown}, {"id": 1, "state": "FAILED", "worker_id": "w:2", "trace": "Traceback …"}],
            "type": "sink",
        }


class TestRestarting:
    def test_a_restart_of_the_connector_only_is_204(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        answer = client.post("/connectors/a/restart")
        assert (answer.status_code, answer.content) == (204, b"")
        assert worker.restarts == [("a", False, False)]

    @pytest.mark.parametrize(
        ("query", "asked"),
        [
            ("includeTasks=true", ("a", True, False)),
            ("onlyFailed=True", ("a", False, True)),
            ("includeTasks=TRUE&onlyFailed=true", ("a", True, True)),
            ("includeTasks=true&onlyFailed=False", ("a", True, False)),
        ],
    )
    def test_a_restart_with_tasks_is_202_with_the_plan(
        self, client: httpx.Client, worker: Any, query: str, asked: Any
    ) -> None:
        worker.add("a")
        answer = client.post(f"/connectors/a/restart?{query}")
        assert answer.status_code == 202
        assert answer.json()["connector"]["state"] == "RESTARTING"
        assert worker.restarts == [asked]

    def test_a_restart_of_a_task_is_204(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        answer = client.post("/connectors/a/tasks/0/restart")
        assert (answer.status_code, answer.content) == (204, b"")
        assert worker.restarts == [TaskId("a", 0)]

    def test_a_restart_of_an_unknown_task_is_404(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        answer = client.post("/connectors/a/tasks/9/restart")
        assert (answer.status_code, answer.json()) == (404, error(404, "Unknown task: a-9"))


class TestTasks:
    def test_tasks_are_listed_with_their_configuration(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        answer = client.get("/connectors/a/tasks")
        config = {"task.class": "AcmeTask", "connector.class": "AcmeSource", "name": "a"}
        assert (answer.status_code, answer.json()) == (200, [{"id": {"connector": "a", "task": 0}, "config": config}])

    def test_the_status_of_a_task_is_returned(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        answer = client.get("/connectors/a/tasks/0/status")
        assert (answer.status_code, answer.json()) == (200, {"id": 0, **RUNNING})

    def test_the_status_of_an_unknown_task_is_404(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        answer = client.get("/connectors/a/tasks/7/status")
        assert (answer.status_code, answer.json()) == (404, error(404, "No status found for task a-7"))
        assert client.get("/connectors/a/tasks/x/status").json() == error(404, "HTTP 404 Not Found")


class TestPaths:
    @pytest.mark.parametrize("path", ["/nothing", "/connectors/a/nothing", "/connectors//status", "/connectors/a/b/c"])
    def test_unknown_paths_are_404_with_the_body_of_other_errors(self, client: httpx.Client, path: str) -> None:
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (404, error(404, "HTTP 404 Not Found"))

    def test_a_wrong_method_is_405_with_the_body_of_other_errors(self, client: httpx.Client) -> None:
        answer = client.delete("/connectors")
        assert (answer.status_code, answer.json()) == (405, error(405, "HTTP 405 Method Not Allowed"))
        assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))

    def test_a_trailing_slash_is_ignored(self, client: httpx.Client, worker: Any) -> None:
        worker.add("a")
        assert client.get("/connectors/").json() == ["a"]
        assert client.get("/connectors/a/status/").json() == STATUS

    @given(name=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1).map(str.strip).filter(bool))
    @settings(max_examples=examples(0.5), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_connect_rest_28_any_name_can_be_addressed(self, client: httpx.Client, worker: Any, name: str) -> None:
        worker.configs.clear()
        created = client.post("/connectors", json={"name": name, "config": CONFIG})
        location = created.headers["location"]
        # httpx and many clients fold dot segments before they send, so these two cannot be addressed by URL.
        if name not in (".", ".."):
            assert location == f"{str(client.base_url).rstrip('/')}/connectors/{quote(name, safe='')}"
            assert client.get(location).json()["name"] == name
            assert client.get(f"{location}/config").json() == {**CONFIG, "name": name}
