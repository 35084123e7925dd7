"""Responses of Kafka Connect 4.4 that clients rely on; each one was different in an earlier version of headrace."""

import logging
from typing import Any

import httpx
import pytest

from headrace.errors import ConfigError
from headrace.registry import Registry
from headrace.rest.options import HeaderRule, RestOptions, parse_header_rules
from headrace.rest.server import RestServer
from tests.engines.http import HTTP

CONFIG = {"connector.class": "AcmeSource", "topic": "t"}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/connectors", "HEAD,POST,GET,OPTIONS"),
        ("/connectors/a/config", "HEAD,GET,PUT,PATCH,OPTIONS"),
        ("/connectors/a/pause", "PUT,OPTIONS"),
    ],
)
def test_connect_rest_14_options_are_answered_with_the_allowed_methods(
    client: httpx.Client, path: str, allowed: str
) -> None:
    answer = client.options(path)
    assert (answer.status_code, answer.headers["allow"]) == (200, allowed)


def test_connect_rest_18_the_location_of_a_new_connector_is_a_valid_url(client: httpx.Client) -> None:
    location = client.post("/connectors", json={"name": "a b", "config": CONFIG}).headers["location"]
    assert HTTP.get(location).json()["name"] == "a b"


def test_connect_rest_15_a_null_value_is_the_same_as_no_key(client: httpx.Client, worker: Any) -> None:
    answer = client.put("/connectors/a/config", json={**CONFIG, "catalog.pattern": None})
    assert answer.status_code == 201
    assert worker.configs["a"] == {**CONFIG, "name": "a"}


@pytest.mark.parametrize(("method", "word"), [("DELETE", "reset"), ("PATCH", "altered")])
def test_connect_rest_24_the_message_about_changed_offsets_contains_the_action_twice(
    client: httpx.Client, worker: Any, method: str, word: str
) -> None:
    worker.add("a")
    body = {"offsets": [{"partition": {"table": "t"}, "offset": {"id": 1}}]}
    answer = client.request(method, "/connectors/a/offsets", json=body if method == "PATCH" else None)
    assert answer.json()["message"].count(word) == 2


def test_connect_rest_21_definitions_of_another_version_of_a_plugin_are_400(client: httpx.Client) -> None:
    assert client.get("/connector-plugins/AcmeSource/config?version=0.1.0").status_code == 200
    answer = client.get("/connector-plugins/AcmeSource/config?version=9.9.9")
    assert answer.status_code == 400
    assert "installed: 0.1.0" in answer.json()["message"]


@pytest.mark.parametrize("name", ["a/b%2Fc\\d", "n" * 200])
def test_connect_rest_28_a_connector_with_an_odd_name_can_be_read_and_deleted(
    client: httpx.Client, worker: Any, name: str
) -> None:
    location = client.post("/connectors", json={"name": name, "config": CONFIG}).headers["location"]
    assert client.get(location).json()["name"] == name
    assert client.delete(location).status_code == 204
    assert name not in worker.configs


def test_connect_rest_10_loggers_of_headrace_are_listed(client: httpx.Client) -> None:
    logging.getLogger("headrace.contract")  # without its own level, as all loggers of headrace
    shown = client.get("/admin/loggers").json()
    assert {"headrace", "headrace.contract", "root"} <= shown.keys()


class TestOptions:
    """Worker keys of the REST API."""

    @pytest.fixture
    def open_client(self, worker: Any, registry: Registry) -> Any:
        servers = []

        def start(options: RestOptions) -> httpx.Client:
            server = RestServer(["http://127.0.0.1:0"], options)
            server.bind()
            server.start(worker, registry)
            opened = httpx.Client(base_url=server.url, verify=False)
            servers.append((server, opened))
            return opened

        yield start
        for server, opened in servers:
            opened.close()
            server.stop()

    def test_pages_of_an_allowed_origin_can_read(self, open_client: Any) -> None:
        client = open_client(RestOptions(["https://ui.example"], ["GET", "PUT"]))
        answer = client.get("/connectors", headers={"Origin": "https://ui.example"})
        assert answer.headers["access-control-allow-origin"] == "https://ui.example"
        asked = {"Origin": "https://ui.example", "Access-Control-Request-Method": "PUT"}
        assert "PUT" in client.options("/connectors", headers=asked).headers["access-control-allow-methods"]
        other = client.get("/connectors", headers={"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers

    def test_without_allowed_origins_no_page_can_read(self, client: httpx.Client) -> None:
        answer = client.get("/connectors", headers={"Origin": "https://ui.example"})
        assert "access-control-allow-origin" not in answer.headers

    def test_every_response_has_the_configured_headers(self, open_client: Any) -> None:
        client = open_client(
            RestOptions(headers=parse_header_rules("set X-Frame-Options: DENY, add X-Team: data, ops"))
        )
        for path in ("/connectors", "/nothing"):
            answer = client.get(path)
            assert (answer.headers["x-frame-options"], answer.headers["x-team"]) == ("DENY", "data, ops")

    def test_header_rules_are_parsed(self) -> None:
        text = "set Cache-Control: no-cache, no-store, add X-A: b"
        assert parse_header_rules(text) == [
            HeaderRule(True, "Cache-Control", "no-cache, no-store"),
            HeaderRule(False, "X-A", "b"),
        ]
        assert parse_header_rules(" ") == []

    @pytest.mark.parametrize("text", ["X-A: b", "set X-A", "setDate Expires: 1", "set X A: b"])
    def test_an_invalid_header_rule_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match="is not a header rule"):
            parse_header_rules(text)
