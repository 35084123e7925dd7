"""Everything that is wrong is said at once, with its place, the nearest right name, and no secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ConfigError, Finding, Location
from headrace.files import ConfigFile
from headrace.interpolation import Interpolator
from headrace.plugin import BatchHeaders, ConfigProvider
from headrace.registry import Registry
from headrace.settings import SinkSettings, SourceSettings
from headrace.validation import Validator, locate_findings, make_converter

SOURCE = {"name": "shop", "connector.class": "ShopSource", "topic": "orders"}
SINK = {"name": "out", "connector.class": "ShopSink", "connection.url": "http://shop", "topics": "orders"}
WORKER = {"bootstrap.servers": "broker:9092"}


def found(validator: Validator, properties: Mapping[str, str]) -> list[tuple[str, str]]:
    """Code and key of every finding of a connector's configuration."""
    return [(finding.code, finding.key) for finding in validator.connector(properties)[1]]


def only(validator: Validator, properties: Mapping[str, str]) -> Finding:
    findings = validator.connector(properties)[1]
    assert len(findings) == 1, findings
    return findings[0]


def test_five_mistakes_are_five_findings_with_their_places(
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


def test_a_right_configuration_has_its_parts(validator: Validator, vault: ConfigProvider) -> None:
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
def test_a_connector_answers_to_all_its_names(validator: Validator, name: str) -> None:
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


def test_a_plugin_that_cannot_be_loaded_says_why(validator: Validator) -> None:
    finding = only(validator, {"name": "x", "connector.class": "Broken"})
    assert (finding.code, finding.key) == ("plugin.broken", "connector.class")
    assert "No module named 'shop_without_driver'" in finding.message


def test_rules_over_several_keys_are_the_plugins(validator: Validator) -> None:
    assert found(validator, {**SOURCE, "mode": "incrementing"}) == [("shop.no_tables", "tables")]


def test_ignored_keys_are_warnings(validator: Validator) -> None:
    config, findings = validator.connector({**SOURCE, "jvm.heap": "1g", "tasks.max.enforce": "true"})
    assert config is not None
    assert [(item.code, item.severity) for item in findings] == [("config.ignored_key", "warning")] * 2


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
def test_an_unknown_key_is_told_the_nearest_of_all_known(validator: Validator, written: str, meant: str) -> None:
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

    def test_settings_without_a_converter_are_not_dropped_in_silence(self, validator: Validator) -> None:
        finding = only(validator, {**SOURCE, "value.converter.schemas.enable": "false"})
        assert (finding.code, finding.severity) == ("config.ignored_key", "warning")
        assert "'value.converter'" in finding.hint

    def test_settings_of_an_unknown_converter_are_not_judged(self, validator: Validator) -> None:
        properties = {**SOURCE, "value.converter": "AvroConverter", "value.converter.schema.registry.url": "http://x"}
        assert found(validator, properties) == [("plugin.unknown", "value.converter")]

    def test_one_is_made_with_its_settings(self, registry: Registry) -> None:
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

    def test_right_ones_pass(self, validator: Validator) -> None:
        gated = {
            "predicates": "mine",
            "predicates.mine.type": "TopicMatches",
            "predicates.mine.pattern": "x",
            "transforms.short.predicate": "mine",
            "transforms.short.negate": "true",
        }
        assert found(validator, self.ROUTE) == []
        assert found(validator, {**self.ROUTE, **gated}) == []

    def test_the_type_is_required(self, validator: Validator) -> None:
        finding = only(validator, {**SOURCE, "transforms": "short"})
        assert finding.message.startswith('Missing required configuration "transforms.short.type"')

    def test_their_own_keys_are_checked(self, validator: Validator) -> None:
        properties = {name: value for name, value in self.ROUTE.items() if not name.endswith("new.name")}
        assert found(validator, properties) == [("config.missing_key", "transforms.short.new.name")]

    def test_an_unknown_type_has_its_key(self, validator: Validator) -> None:
        finding = only(validator, {**self.ROUTE, "transforms.short.type": "Renam"})
        assert (finding.code, finding.key) == ("plugin.unknown", "transforms.short.type")
        assert "'Rename'" in finding.hint

    def test_keys_of_an_alias_that_is_not_listed(self, validator: Validator) -> None:
        finding = only(validator, {**self.ROUTE, "transforms.shrt.type": "Rename"})
        assert (finding.code, finding.key) == ("config.unknown_key", "transforms.shrt.type")
        assert "'short'" in finding.hint

    def test_an_alias_twice(self, validator: Validator) -> None:
        assert "Duplicate alias provided." in only(validator, {**self.ROUTE, "transforms": "short,short"}).message

    def test_a_predicate_that_is_not_declared(self, validator: Validator) -> None:
        assert only(validator, {**self.ROUTE, "transforms.short.predicate": "mine"}).key == "transforms.short.predicate"

    def test_negation_of_nothing(self, validator: Validator) -> None:
        assert only(validator, {**self.ROUTE, "transforms.short.negate": "true"}).code == "config.conflict"


class TestRules:
    @pytest.mark.parametrize("value", ["0", "-2", "many"])
    def test_partitions_of_topics_to_create(self, validator: Validator, value: str) -> None:
        assert only(validator, {**SOURCE, "topic.creation.default.partitions": value}).key.endswith("partitions")

    @pytest.mark.parametrize("value", ["-1", "1", "12"])
    def test_right_partitions(self, validator: Validator, value: str) -> None:
        assert found(validator, {**SOURCE, "topic.creation.default.partitions": value}) == []

    def test_a_pattern_of_topics_must_be_one(self, validator: Validator) -> None:
        properties = {**SINK, "topics.regex": "(orders"}
        del properties["topics"]
        assert found(validator, properties) == [("config.invalid_value", "topics.regex")]

    @pytest.mark.parametrize(("topic", "matches"), [("shop.dead", True), ("shop.dead2", False), ("letters", False)])
    def test_dead_letters_that_would_be_read_again(self, validator: Validator, topic: str, matches: bool) -> None:
        properties = {**SINK, "topics.regex": r"shop\.[a-z]+", "errors.deadletterqueue.topic.name": topic}
        del properties["topics"]
        wrong = [("config.conflict", "errors.deadletterqueue.topic.name")]
        assert found(validator, properties) == (wrong if matches else [])

    def test_a_duration_tells_its_units(self, validator: Validator) -> None:
        assert "30s" in only(validator, {**SOURCE, "errors.retry.delay.max.ms": "1h30"}).hint

    def test_a_source_has_no_consumer_to_set(self, validator: Validator) -> None:
        properties = {**SOURCE, "consumer.override.max.poll.records": "5"}
        assert found(validator, properties) == [("config.ignored_key", "consumer.override.max.poll.records")]

    def test_control_characters_in_a_name(self, validator: Validator) -> None:
        assert only(validator, {**SOURCE, "name": "a\x07b"}).key == "name"


class TestPlaceholders:
    def test_one_that_has_no_value_is_the_only_finding_about_its_key(self, validator: Validator) -> None:
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
    @settings(max_examples=25)  # of each key
    @given(secret=st.text("qwzxjk0918", min_size=8, max_size=20), literal=st.sampled_from(["", "x", "1"]))
    def test_what_one_stands_for_is_never_said(self, registry: Registry, key: str, secret: str, literal: str) -> None:
        class Provider(ConfigProvider):
            def get(self, path: str, key: str) -> str:
                return secret

        properties = {**SOURCE, "transforms": "t", "transforms.t.type": "Rename", key: literal + "${p:secret}"}
        _, findings = Validator(registry, Interpolator({"p": Provider()})).connector(properties)
        assert secret.lower() not in " ".join(map(repr, findings)).lower()

    def test_a_secret_in_the_file_is_not_said_either(self, validator: Validator) -> None:
        findings = validator.connector({**SOURCE, "password": "hunter22", "tasks.max": "x"})[1]
        assert "hunter22" not in repr(findings)


class TestWorker:
    def test_right(self, validator: Validator) -> None:
        settings, findings = validator.worker({**WORKER, "config.providers": "vault", "producer.linger.ms": "5"})
        assert settings is not None
        assert (settings.bootstrap_servers, findings) == ("broker:9092", [])

    def test_everything_at_once(self, validator: Validator) -> None:
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

    def test_an_unknown_config_provider(self, validator: Validator) -> None:
        findings = validator.worker({**WORKER, "config.providers": "vault,vaul"})[1]
        assert [(item.code, item.key) for item in findings] == [("plugin.unknown", "config.providers")]

    def test_settings_of_the_default_converter_are_checked(self, validator: Validator) -> None:
        findings = validator.worker({**WORKER, "config.providers": "vault", "key.converter.schemas.enabled": "1"})[1]
        assert [item.code for item in findings] == ["config.unknown_key"]
        assert "'key.converter.schemas.enable'" in findings[0].hint


class TestLocated:
    def test_order_is_the_files_and_missing_keys_come_last(self) -> None:
        positions = {"b": Location("f", 2, 3), "a": Location("f", 1)}
        findings = [Finding("c", "m", key) for key in ("missing", "b", "a", "")]
        assert [str(item.location) for item in locate_findings(findings, positions)] == [
            "f:1:1",
            "f:1:1",
            "f:2:3",
            "f:2:1",
        ]

    def test_a_place_that_is_known_already_stays(self) -> None:
        finding = Finding("c", "m", "a", location=Location("other", 9, 9))
        assert locate_findings([finding], {"a": Location("f", 1)}) == [finding]

    def test_a_file_without_keys(self) -> None:
        assert [str(item.location) for item in locate_findings([Finding("c", "m", "a")], {}, "f")] == ["f:1:1"]
