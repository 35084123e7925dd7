"""All mistakes are reported at once, with their location and the nearest valid name, and without secrets."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.config import nearest
from headrace.errors import ConfigError, Finding, Location
from headrace.files import ConfigFile
from headrace.interpolation import Interpolator
from headrace.plugin import BatchHeaders, ConfigProvider
from headrace.registry import Registry
from headrace.settings import SinkSettings, SourceSettings
from headrace.validation import Validator, locate_findings, make_converter
from tests.unit.examples import examples

SOURCE = {"name": "shop", "connector.class": "ShopSource", "topic": "orders"}
SINK = {"name": "out", "connector.class": "ShopSink", "connection.url": "http://shop", "topics": "orders"}
WORKER = {"bootstrap.servers": "broker:9092"}


def found(validator: Validator, properties: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return code and key of each finding of a connector's configuration."""
    return [(finding.code, finding.key) for finding in validator.connector(properties)[1]]


def only(validator: Validator, properties: Mapping[str, str]) -> Finding:
    findings = validator.connector(properties)[1]
    assert len(findings) == 1, findings
    return findings[0]


def test_five_mistakes_are_five_findings_with_their_locations(
    validator: Validator, read: Callable[[str, str], ConfigFile]
) -> None:
    file = read(
        "shop.yaml",
        "name: shop\n"
        "connector.class: ShopSource\n"
        "tasks:\n"
        "  max: many\n"
        "topics: orders\n"
        "mode: bulky\n"
        "  \n"
        "value.converter: JsonConvertor\n"
        "password: ${vault:shop}\n",
    )
    findings = locate_findings(validator.connector(file.properties)[1], file.positions, file.path)
    assert [(str(item.location).rsplit("/", 1)[-1], item.code, item.key) for item in findings] == [
        ("shop.yaml:4:3", "config.invalid_value", "tasks.max"),
        ("shop.yaml:5:1", "config.unknown_key", "topics"),
        ("shop.yaml:6:1", "config.invalid_value", "mode"),
        ("shop.yaml:8:1", "plugin.unknown", "value.converter"),
        ("shop.yaml:9:1", "config.unresolved", "password"),
        ("shop.yaml:9:1", "config.missing_key", "topic"),
    ]
    hints = {item.key: item.hint for item in findings}
    assert "'topic'" in hints["topics"]
    assert "'bulk'" in hints["mode"]
    assert "'JsonConverter'" in hints["value.converter"]


def test_a_valid_configuration_returns_all_parts(validator: Validator, vault: ConfigProvider) -> None:
    vault.secrets["shop"] = "s3cret"  # type: ignore[attr-defined]
    raw = {**SOURCE, "tasks.max": "2", "password": "${vault:shop}", "driver.timeout": "5"}
    config, findings = validator.connector(raw)
    assert findings == []
    assert config is not None
    assert (config.name, config.raw) == ("shop", raw)
    assert config.properties == {**raw, "password": "s3cret"}
    assert config.own == {"topic": "orders", "password": "s3cret", "driver.timeout": "5"}
    assert (config.plugin.name, type(config.settings), config.settings.tasks_max) == ("ShopSource", SourceSettings, 2)


def test_a_sink_has_the_settings_of_sinks(validator: Validator) -> None:
    config = validator.require_connector(SINK)
    assert isinstance(config.settings, SinkSettings)
    assert config.settings.topics == ("orders",)
    assert config.own == {"connection.url": "http://shop"}


@pytest.mark.parametrize("name", ["ShopSource", "ShopSourceConnector", "com.example.jvm.ShopSourceConnector"])
def test_a_connector_is_found_by_each_of_its_names(validator: Validator, name: str) -> None:
    assert validator.connector({**SOURCE, "connector.class": name})[1] == []


def test_the_configuration_of_a_task_passes_with_the_keys_its_connector_added(validator: Validator) -> None:
    config = validator.require_connector({**SOURCE, "task.class": "shop.Task", "shard": "3"})
    assert config.own == {"topic": "orders", "shard": "3"}
    assert "task.class" not in config.properties
    assert found(validator, {**SOURCE, "shard": "3"}) == [("config.unknown_key", "shard")]


def test_all_findings_are_raised(validator: Validator) -> None:
    with pytest.raises(ConfigError) as caught:
        validator.require_connector({"connector.class": "ShopSource", "tasks.max": "0"})
    assert {finding.key for finding in caught.value.findings} == {"name", "topic", "tasks.max"}


def test_keys_of_the_framework_are_checked_even_when_the_plugin_is_unknown(validator: Validator) -> None:
    properties = {"name": "x", "connector.class": "ShopSorce", "tasks.max": "0", "whatever": "1"}
    assert set(found(validator, properties)) == {
        ("plugin.unknown", "connector.class"),
        ("config.invalid_value", "tasks.max"),
    }
    assert "'ShopSource'" in str(validator.connector(properties)[1])


def test_a_plugin_that_cannot_be_loaded_is_reported_with_the_reason(validator: Validator) -> None:
    finding = only(validator, {"name": "x", "connector.class": "Broken"})
    assert (finding.code, finding.key) == ("plugin.broken", "connector.class")
    assert "No module named 'shop_without_driver'" in finding.message


def test_rules_over_several_keys_are_checked_by_the_plugin(validator: Validator) -> None:
    assert found(validator, {**SOURCE, "mode": "incrementing"}) == [("shop.no_tables", "tables")]


def test_ignored_keys_are_warnings(validator: Validator) -> None:
    config, findings = validator.connector({**SOURCE, "jvm.heap": "1g", "tasks.max.enforce": "true"})
    assert config is not None
    assert [(item.code, item.severity) for item in findings] == [("config.ignored_key", "warning")] * 2


def test_a_key_that_several_plugins_have_is_proposed_once() -> None:
    assert nearest("topic", ["topics", "other", "topics"]) == "did you mean 'topics'?"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("topc", "topic"),
        ("error.tolerance", "errors.tolerance"),
        ("value.converter.schema.enable", "value.converter.schemas.enable"),
        ("transforms.short.old.nam", "transforms.short.old.name"),
        ("transforms.short.predicat", "transforms.short.predicate"),
    ],
)
def test_an_unknown_key_is_reported_with_the_nearest_known_key(validator: Validator, written: str, meant: str) -> None:
    properties = {
        **SOURCE,
        "value.converter": "JsonConverter",
        "transforms": "short",
        "transforms.short.type": "Rename",
        "transforms.short.old.name": "a",
        "transforms.short.new.name": "b",
        written: "false",
    }
    finding = only(validator, properties)
    assert (finding.code, finding.key) == ("config.unknown_key", written)
    assert f"'{meant}'" in finding.hint


class TestConverters:
    def test_settings_keep_their_prefix(self, validator: Validator) -> None:
        properties = {**SOURCE, "key.converter": "JsonConverter", "key.converter.schemas.enable": "nope"}
        finding = only(validator, properties)
        assert finding.key == "key.converter.schemas.enable"
        assert finding.message == (
            "Invalid value nope for configuration key.converter.schemas.enable: "
            "Expected value to be either true or false"
        )

    def test_settings_without_a_converter_are_reported(self, validator: Validator) -> None:
        finding = only(validator, {**SOURCE, "value.converter.schemas.enable": "false"})
        assert (finding.code, finding.severity) == ("config.ignored_key", "warning")
        assert "'value.converter'" in finding.hint

    def test_settings_of_an_unknown_converter_are_not_validated(self, validator: Validator) -> None:
        properties = {**SOURCE, "value.converter": "AvroConverter", "value.converter.schema.registry.url": "http://x"}
        assert found(validator, properties) == [("plugin.unknown", "value.converter")]

    def test_a_converter_is_created_with_its_settings(self, registry: Registry) -> None:
        converter = make_converter(registry, "JsonConverter", {"schemas.enable": "false"}, is_key=False)
        assert converter.to_bytes("t", None, [{"a": 1}], BatchHeaders(None, 1)) == [b'{"a":1}']


class TestTransforms:
    ROUTE: Mapping[str, str] = {
        **SOURCE,
        "transforms": "short",
        "transforms.short.type": "Rename",
        "transforms.short.old.name": "a",
        "transforms.short.new.name": "b",
    }

    def test_valid_transforms_are_accepted(self, validator: Validator) -> None:
        gated = {
            "predicates": "mine",
            "predicates.mine.type": "TopicMatches",
            "predicates.mine.pattern": "x",
            "transforms.short.predicate": "mine",
            "transforms.short.negate": "true",
        }
        assert found(validator, self.ROUTE) == []
        assert found(validator, {**self.ROUTE, **gated}) == []

    def test_the_type_of_a_transform_is_required(self, validator: Validator) -> None:
        finding = only(validator, {**SOURCE, "transforms": "short"})
        assert finding.message.startswith('Missing required configuration "transforms.short.type"')

    def test_keys_of_a_transform_are_validated(self, validator: Validator) -> None:
        properties = {name: value for name, value in self.ROUTE.items() if not name.endswith("new.name")}
        assert found(validator, properties) == [("config.missing_key", "transforms.short.new.name")]

    def test_an_unknown_type_is_reported_at_its_key(self, validator: Validator) -> None:
        finding = only(validator, {**self.ROUTE, "transforms.short.type": "Renam"})
        assert (finding.code, finding.key) == ("plugin.unknown", "transforms.short.type")
        assert "'Rename'" in finding.hint

    def test_keys_of_an_unlisted_alias_are_reported(self, validator: Validator) -> None:
        finding = only(validator, {**self.ROUTE, "transforms.shrt.type": "Rename"})
        assert (finding.code, finding.key) == ("config.unknown_key", "transforms.shrt.type")
        assert "'short'" in finding.hint

    def test_a_duplicate_alias_is_an_error(self, validator: Validator) -> None:
        assert "Duplicate alias provided." in only(validator, {**self.ROUTE, "transforms": "short,short"}).message

    def test_an_undeclared_predicate_is_an_error(self, validator: Validator) -> None:
        assert only(validator, {**self.ROUTE, "transforms.short.predicate": "mine"}).key == "transforms.short.predicate"

    def test_negate_without_a_predicate_is_an_error(self, validator: Validator) -> None:
        assert only(validator, {**self.ROUTE, "transforms.short.negate": "true"}).code == "config.conflict"


class TestRules:
    @pytest.mark.parametrize("value", ["0", "-2", "many"])
    def test_an_invalid_number_of_partitions_is_an_error(self, validator: Validator, value: str) -> None:
        assert only(validator, {**SOURCE, "topic.creation.default.partitions": value}).key.endswith("partitions")

    @pytest.mark.parametrize("value", ["-1", "1", "12"])
    def test_a_valid_number_of_partitions_is_accepted(self, validator: Validator, value: str) -> None:
        assert found(validator, {**SOURCE, "topic.creation.default.partitions": value}) == []

    def test_an_invalid_topics_regex_is_an_error(self, validator: Validator) -> None:
        properties = {**SINK, "topics.regex": "(orders"}
        del properties["topics"]
        assert found(validator, properties) == [("config.invalid_value", "topics.regex")]

    @pytest.mark.parametrize(("topic", "matches"), [("shop.dead", True), ("shop.dead2", False), ("letters", False)])
    def test_a_dead_letter_topic_that_the_sink_reads_is_an_error(
        self, validator: Validator, topic: str, matches: bool
    ) -> None:
        properties = {**SINK, "topics.regex": r"shop\.[a-z]+", "errors.deadletterqueue.topic.name": topic}
        del properties["topics"]
        wrong = [("config.conflict", "errors.deadletterqueue.topic.name")]
        assert found(validator, properties) == (wrong if matches else [])

    def test_an_invalid_duration_names_the_units(self, validator: Validator) -> None:
        assert "30s" in only(validator, {**SOURCE, "errors.retry.delay.max.ms": "1h30"}).hint

    def test_consumer_settings_of_a_source_are_reported(self, validator: Validator) -> None:
        properties = {**SOURCE, "consumer.override.max.poll.records": "5"}
        assert found(validator, properties) == [("config.ignored_key", "consumer.override.max.poll.records")]

    def test_control_characters_in_a_name_are_an_error(self, validator: Validator) -> None:
        assert only(validator, {**SOURCE, "name": "a\x07b"}).key == "name"


class TestPlaceholders:
    def test_an_unresolved_placeholder_is_the_only_finding_of_its_key(self, validator: Validator) -> None:
        finding = only(validator, {**SOURCE, "tasks.max": "${vault:tasks}"})
        assert finding.code == "config.unresolved"
        assert "the vault has no 'tasks'" in finding.message

    @pytest.mark.parametrize(
        "key",
        [
            "connector.class",
            "tasks.max",
            "poll.interval.ms",
            "batch.bytes",
            "rate",
            "mode",
            "quiet",
            "value.converter",
            "transforms",
            "predicates",
            "errors.tolerance",
            "topic.creation.default.partitions",
            "transforms.t.predicate",
        ],
    )
    @settings(max_examples=examples(0.25))  # of each key
    @given(secret=st.text("qwzxjk0918", min_size=8, max_size=20), literal=st.sampled_from(["", "x", "1"]))
    def test_the_value_of_a_placeholder_is_never_shown(
        self, registry: Registry, key: str, secret: str, literal: str
    ) -> None:
        class Provider(ConfigProvider):
            def get(self, path: str, key: str) -> str:
                return secret

        properties = {**SOURCE, "transforms": "t", "transforms.t.type": "Rename", key: literal + "${p:secret}"}
        _, findings = Validator(registry, Interpolator({"p": Provider()})).connector(properties)
        assert secret.lower() not in " ".join(map(repr, findings)).lower()

    def test_a_literal_secret_is_never_shown(self, validator: Validator) -> None:
        findings = validator.connector({**SOURCE, "password": "hunter22", "tasks.max": "x"})[1]
        assert "hunter22" not in repr(findings)


class TestWorker:
    def test_a_valid_worker_configuration_has_no_findings(self, validator: Validator) -> None:
        settings, findings = validator.worker({**WORKER, "config.providers": "vault", "producer.linger.ms": "5"})
        assert settings is not None
        assert (settings.bootstrap_servers, findings) == ("broker:9092", [])

    def test_all_mistakes_of_a_worker_are_reported_at_once(self, validator: Validator) -> None:
        settings, findings = validator.worker(
            {
                "bootstrap.server": "x",
                "listeners": "${vault:none}",
                "value.converter": "JsonConverter",
                "value.converter.decimal.format": "HEX",
                "key.converter": "Avro",
                "config.providers": "vault",
            }
        )
        assert settings is None
        assert {(item.code, item.key) for item in findings} == {
            ("config.missing_key", "bootstrap.servers"),
            ("config.unknown_key", "bootstrap.server"),
            ("config.unresolved", "listeners"),
            ("config.invalid_value", "value.converter.decimal.format"),
            ("plugin.unknown", "key.converter"),
        }

    def test_an_unknown_config_provider_is_an_error(self, validator: Validator) -> None:
        findings = validator.worker({**WORKER, "config.providers": "vault,vaul"})[1]
        assert [(item.code, item.key) for item in findings] == [("plugin.unknown", "config.providers")]

    def test_settings_of_the_default_converter_are_checked(self, validator: Validator) -> None:
        findings = validator.worker({**WORKER, "config.providers": "vault", "key.converter.schemas.enabled": "1"})[1]
        assert [item.code for item in findings] == ["config.unknown_key"]
        assert "'key.converter.schemas.enable'" in findings[0].hint


class TestLocated:
    def test_findings_have_the_order_of_the_file_and_missing_keys_come_last(self) -> None:
        positions = {"b": Location("f", 2, 3), "a": Location("f", 1)}
        findings = [Finding("c", "m", key) for key in ("missing", "b", "a", "")]
        assert [str(item.location) for item in locate_findings(findings, positions)] == [
            "f:1:1",
            "f:1:1",
            "f:2:3",
            "f:2:1",
        ]

    def test_a_known_location_is_kept(self) -> None:
        finding = Finding("c", "m", "a", location=Location("other", 9, 9))
        assert locate_findings([finding], {"a": Location("f", 1)}) == [finding]

    def test_findings_of_a_file_without_keys_have_its_path(self) -> None:
        assert [str(item.location) for item in locate_findings([Finding("c", "m", "a")], {}, "f")] == ["f:1:1"]
