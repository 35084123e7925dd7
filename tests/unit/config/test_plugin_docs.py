"""Documentation generated from configuration models: REST responses, pages, and JSON Schema for editors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from headrace.plugin_docs import (
    config_definitions,
    connector_keys_page,
    connector_schema,
    json_schema,
    markdown,
    validation_response,
    worker_page,
    worker_schema,
)
from headrace.registry import Plugin, PluginKind, Registry
from headrace.settings import ConnectorSettings, SinkSettings, SourceSettings, WorkerSettings
from headrace.validation import Validator

SOURCE = {"name": "shop", "connector.class": "ShopSource", "topic": "orders"}


@pytest.fixture
def shop(registry: Registry) -> Plugin:
    return registry.find(PluginKind.CONNECTOR, "ShopSource")


class TestConfigAnswer:
    def test_a_definition_has_the_members_of_connect(self, shop: Plugin) -> None:
        definitions = {item["name"]: item for item in config_definitions(shop)}
        assert definitions["poll.interval.ms"] == {
            "name": "poll.interval.ms",
            "type": "INT",
            "required": False,
            "default_value": "1000",
            "importance": "MEDIUM",
            "documentation": "Pause.",
            "group": "Shop",
            "width": "SHORT",
            "display_name": "poll.interval.ms",
            "dependents": [],
            "order_in_group": 2,
        }
        assert (definitions["topic"]["required"], definitions["topic"]["default_value"]) == (True, None)
        assert definitions["quiet"]["group"] is None

    def test_types_and_defaults_are_those_of_connect(self, shop: Plugin) -> None:
        facts = {item["name"]: (item["type"], item["default_value"]) for item in config_definitions(shop)}
        assert {name: facts[name] for name in ("rate", "mode", "quiet", "tables", "password", "key.converter")} == {
            "rate": ("DOUBLE", "1.5"),
            "mode": ("STRING", "bulk"),
            "quiet": ("BOOLEAN", "false"),
            "tables": ("LIST", ""),
            "password": ("PASSWORD", None),
            "key.converter": ("CLASS", None),
        }

    def test_the_keys_of_the_plugin_are_listed_first(self, shop: Plugin) -> None:
        names = [item["name"] for item in config_definitions(shop)]
        assert names.index("password") < names.index("name") < names.index("errors.tolerance")
        assert not [name for name in names if name.endswith(".")]  # prefixes are not keys

    def test_a_converter_has_only_its_own_keys(self, registry: Registry) -> None:
        names = [item["name"] for item in config_definitions(registry.find(PluginKind.CONVERTER, "JsonConverter"))]
        assert names == ["schemas.enable", "schemas.cache.size", "decimal.format", "replace.null.with.default"]

    def test_a_config_provider_has_no_keys(self, registry: Registry) -> None:
        assert config_definitions(registry.find(PluginKind.CONFIG_PROVIDER, "vault")) == []


class TestValidateAnswer:
    def ask(self, validator: Validator, properties: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the response, and its values by key."""
        answer = validation_response(validator, properties)
        json.dumps(answer)
        return answer, {item["value"]["name"]: item["value"] for item in answer["configs"]}

    def test_a_valid_configuration_has_no_errors(self, validator: Validator) -> None:
        answer, values = self.ask(validator, {**SOURCE, "tasks.max": "3"})
        assert (answer["name"], answer["error_count"]) == ("ShopSource", 0)
        assert answer["groups"][:4] == ["Common", "Transforms", "Predicates", "Error Handling"]
        assert "Shop" in answer["groups"]
        assert values["tasks.max"] == {
            "name": "tasks.max",
            "value": "3",
            "recommended_values": [],
            "errors": [],
            "visible": True,
        }
        assert values["poll.interval.ms"]["value"] == "1000"
        assert values["mode"]["recommended_values"] == ["bulk", "incrementing"]

    def test_errors_are_reported_at_their_keys(self, validator: Validator) -> None:
        answer, values = self.ask(validator, {"connector.class": "ShopSource", "tasks.max": "x", "topc": "1"})
        assert answer["error_count"] == 4
        assert values["name"]["errors"] == ['Missing required configuration "name" which has no default value.']
        assert values["topic"]["errors"] == ['Missing required configuration "topic" which has no default value.']
        assert values["tasks.max"]["errors"] == [
            "Invalid value x for configuration tasks.max: Not a number of type INT"
        ]
        assert "'topic'" in values["topc"]["errors"][0]
        assert next(item for item in answer["configs"] if item["value"]["name"] == "topc")["definition"] is None

    def test_warnings_are_not_counted_as_errors(self, validator: Validator) -> None:
        assert self.ask(validator, {**SOURCE, "jvm.heap": "1g"})[0]["error_count"] == 0

    def test_keys_of_converters_and_transforms_are_included(self, validator: Validator) -> None:
        answer, values = self.ask(
            validator,
            {**SOURCE, "value.converter": "JsonConverter", "transforms": "t", "transforms.t.type": "Rename"},
        )
        assert values["value.converter.schemas.enable"]["value"] == "true"
        assert values["transforms.t.old.name"]["errors"]
        assert "Transforms: t" in answer["groups"]
        assert "key.converter.schemas.enable" not in values

    def test_an_unknown_plugin_is_an_error_at_its_key(self, validator: Validator) -> None:
        answer, values = self.ask(validator, {"name": "x", "connector.class": "ShopSauce"})
        assert answer["error_count"] == 1
        assert "'ShopSource'" in values["connector.class"]["errors"][0]

    def test_secrets_are_hidden_and_placeholders_are_shown(self, validator: Validator, vault: Any) -> None:
        vault.secrets |= {"t": "s3cret-topic", "p": "s3cret-password"}
        answer, values = self.ask(
            validator,
            {
                **SOURCE,
                "topic": "${vault:t}",
                "password": "${vault:p}",
                "driver.password": "in-clear",
                "driver.size": "7",
                "producer.override.sasl.jaas.config": "in-clear",
            },
        )
        assert values["topic"]["value"] == "${vault:t}"
        assert values["password"]["value"] == "[hidden]"
        assert values["driver.size"]["value"] == "7"
        assert "s3cret" not in json.dumps(answer)
        assert "in-clear" not in json.dumps(answer)


class TestPages:
    def test_every_key_of_a_connector_is_on_its_page(self, shop: Plugin) -> None:
        page = markdown(shop)
        for definition in shop.cls.config_model.definitions():
            assert f"`{definition.name}" in page
            assert definition.doc in page
        assert "`com.example.jvm.ShopSourceConnector`" in page
        assert "Reads a shop." in page
        assert "one of `bulk`, `incrementing`" in page
        assert "there is no JVM" in page

    def test_the_smallest_example_is_valid(self, registry: Registry, validator: Validator) -> None:
        for name in ("ShopSource", "ShopSink"):
            page = markdown(registry.find(PluginKind.CONNECTOR, name))
            example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
            assert example is not None
            lines = [line.split(": ", 1) for line in example[1].splitlines()]
            assert validator.connector({key: value.replace("…", "x") for key, value in lines})[1] == []

    @pytest.mark.parametrize(
        ("page", "models"),
        [(worker_page, [WorkerSettings]), (connector_keys_page, [ConnectorSettings, SourceSettings, SinkSettings])],
    )
    def test_the_page_has_every_key_of_the_framework(self, page: Any, models: list[Any]) -> None:
        text = page()
        for definition in (item for model in models for item in model.definitions()):
            assert f"`{definition.name}" in text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert all(
            len(re.findall(r"(?<!\\)\|", row)) in (3, 5) for row in rows
        )  # no cell contains an unescaped separator


class TestJsonSchema:
    def test_the_json_schema_has_every_key(self, registry: Registry, shop: Plugin) -> None:
        case = connector_schema(registry)["allOf"]
        of_shop = next(
            item["then"] for item in case if "ShopSource" in item["then"]["if"]["properties"]["connector.class"]["enum"]
        )
        keys = of_shop["then"]["properties"]
        models = (shop.cls.config_model, SourceSettings)
        names = {item.name for model in models for item in model.definitions() if not item.prefix_key}
        assert names <= keys.keys()
        assert keys["mode"]["anyOf"][0] == {"enum": ["bulk", "incrementing"]}
        assert keys["mode"]["default"] == "bulk"
        assert keys["quiet"]["default"] is False
        assert keys["password"].get("default") is None
        patterns = of_shop["then"]["patternProperties"]
        for name in ("driver.x", "producer.override.acks", "transforms.t.type", "errors"):
            assert any(re.search(pattern, name) for pattern in patterns), name
        assert not any(re.search(pattern, "topc") for pattern in patterns)

    def test_the_json_schema_of_the_worker_has_its_keys(self, registry: Registry) -> None:
        schema = worker_schema(registry)
        assert {item.name for item in WorkerSettings.definitions() if not item.prefix_key} <= schema[
            "properties"
        ].keys()
        assert "JsonConverter" in schema["properties"]["value.converter"]["anyOf"][0]["enum"]

    def test_one_json_schema_covers_worker_and_connectors(self, registry: Registry) -> None:
        schema = json_schema(registry)
        assert schema["if"]["anyOf"][0] == {"required": ["connector.class"]}
        assert "bootstrap.servers" in schema["else"]["properties"]

    def test_a_broken_plugin_keeps_its_name(self, registry: Registry) -> None:
        assert "Broken" in connector_schema(registry)["properties"]["connector.class"]["anyOf"][0]["enum"]
