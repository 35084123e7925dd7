"""Plugins: listing, definitions of keys, validation."""

from typing import Any

import httpx
import pytest

SOURCE = {"class": "acme_plugins.AcmeSourceConnector", "type": "source", "version": "0.1.0"}
SINK = {"class": "acme_plugins.AcmeSinkConnector", "type": "sink", "version": "2.1"}
CONVERTER = {"class": "acme_plugins.AcmeConverter", "type": "converter", "version": "3.0"}


@pytest.mark.parametrize("query", ["", "?connectorsOnly=true", "?connectorsOnly=True"])
def test_connectors_are_listed_sinks_first_and_broken_ones_left_out(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/connector-plugins{query}")
    assert (answer.status_code, answer.json()) == (200, [SINK, SOURCE])


def test_other_kinds_are_listed_on_request(client: httpx.Client) -> None:
    assert client.get("/connector-plugins?connectorsOnly=false").json() == [SINK, SOURCE, CONVERTER]


@pytest.mark.parametrize(
    "name",
    ["AcmeSource", "AcmeSourceConnector", "acme_plugins.AcmeSourceConnector", "io.acme.connect.AcmeSourceConnector"],
)
def test_definitions_are_found_by_each_name_of_a_plugin(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/connector-plugins/{name}/config")
    names = [definition["name"] for definition in answer.json()]
    assert (answer.status_code, names[:3]) == (200, ["topic", "name", "connector.class"])


def test_definitions_of_an_unknown_plugin_are_404_with_the_nearest_name(client: httpx.Client) -> None:
    answer = client.get("/connector-plugins/AcmeSourc/config")
    assert answer.status_code == answer.json()["error_code"] == 404
    assert answer.json()["message"].startswith("Unknown plugin AcmeSourc.")
    assert "'AcmeSource'" in answer.json()["message"]


def test_definitions_of_a_broken_plugin_give_the_reason(client: httpx.Client) -> None:
    answer = client.get("/connector-plugins/Broken/config")
    assert answer.status_code == answer.json()["error_code"] == 400
    assert "plugin 'Broken' cannot be loaded: No module named 'acme_without_its_driver'" in answer.json()["message"]


@pytest.mark.parametrize(
    ("requested", "included"),
    [
        ("AcmeSource", "AcmeSource"),
        ("AcmeSource", "acme_plugins.AcmeSourceConnector"),
        ("AcmeSourceConnector", "AcmeSource"),
        ("AcmeSource", "io.acme.connect.AcmeSourceConnector"),
        ("io.acme.connect.AcmeSourceConnector", "AcmeSource"),
        ("NotInstalledHere", "com.example.NotInstalledHereConnector"),
    ],
)
def test_validation_returns_the_result_of_the_worker(client: httpx.Client, requested: str, included: str) -> None:
    answer = client.put(
        f"/connector-plugins/{requested}/config/validate", json={"connector.class": included, "tasks.max": 1}
    )
    assert answer.status_code == 200
    assert answer.json() == {"name": included, "error_count": 0, "groups": [], "configs": []}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "Connector config contains no connector type"),
        ({"connector.class": None}, "Connector config contains no connector type"),
        ({"connector.class": "AcmeSink"}, "Included connector type AcmeSink does not match request type AcmeSource"),
        ({"connector.class": "Other"}, "Included connector type Other does not match request type AcmeSource"),
        ({"connector.class": "AcmeSource", "x": []}, "values of a configuration are strings"),
    ],
)
def test_validation_of_an_invalid_body_is_400(client: httpx.Client, body: Any, says: str) -> None:
    answer = client.put("/connector-plugins/AcmeSource/config/validate", json=body)
    assert answer.status_code == answer.json()["error_code"] == 400
    assert says in answer.json()["message"]


def test_a_null_value_is_an_error_of_its_key_with_status_200(client: httpx.Client) -> None:
    body = {"connector.class": "AcmeSource", "x": None}
    answer = client.put("/connector-plugins/AcmeSource/config/validate", json=body)
    assert (answer.status_code, answer.json()["error_count"]) == (200, 1)
    (item,) = answer.json()["configs"]
    assert item["value"]["name"] == "x"
    assert item["value"]["errors"] == ["Null value can not be supplied as the configuration value."]
