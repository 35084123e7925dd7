"""Keys of Kafka Connect without an effect, or with one supported value, are accepted, or refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.interpolation import make_interpolator
from headrace.plugin_docs import validation_response
from headrace.registry import Registry
from headrace.settings import WorkerSettings
from headrace.validation import Validator

from .test_validation import SINK, SOURCE

WORKER = {"bootstrap.servers": "broker:9092", "config.providers": ""}


def test_connect_rest_6_a_key_of_the_framework_is_accepted_at_its_default_only(validator: Validator) -> None:
    key = "topic.creation.groups"
    assert validator.connector({**SOURCE, key: ""})[1] == []
    (finding,) = validator.connector({**SOURCE, key: "mine"})[1]
    assert (finding.code, finding.key, finding.severity) == ("config.invalid_value", key, "error")
    assert "only" in finding.message
    assert "''" in finding.hint


INTERVAL = {"transaction.boundary": "interval"}


@pytest.mark.parametrize(
    ("support", "keys", "code", "message"),
    [
        ("enabled", {"exactly.once.support": "required"}, "config.exactly_once", "does not say that it supports it"),
        (None, {"exactly.once.support": "required"}, "config.exactly_once", "does not support exactly-once semantics"),
        ("enabled", {"transaction.boundary": "connector"}, "config.invalid_value", "connector-defined"),
        (
            "enabled",
            {**INTERVAL, "transaction.boundary.interval.ms": "1m"},
            "config.conflict",
            "transaction.timeout.ms",
        ),
        ("enabled", {"producer.override.bootstrap.servers": "other:9092"}, "config.conflict", "one transaction"),
        (None, {"offsets.storage.topic": "own"}, "config.unsupported_key", "offset topic of the worker group"),
    ],
)
def test_what_exactly_once_sources_do_not_support_is_refused(
    validator: Validator, support: Any, keys: dict[str, str], code: str, message: str
) -> None:
    of_worker = Validator(validator.registry, validator.interpolator, exactly_once=support)
    (finding,) = of_worker.connector({**SOURCE, **keys})[1]
    assert (finding.code, finding.severity) == (code, "error")
    assert message in finding.message
    assert finding.hint


def test_a_worker_without_exactly_once_support_refuses_connectors_that_require_it(validator: Validator) -> None:
    of_worker = Validator(validator.registry, validator.interpolator, exactly_once="preparing")
    found = of_worker.connector({**SOURCE, "exactly.once.support": "required"})[1]
    assert "This worker does not have exactly-once source support enabled." in [item.message for item in found]


def test_a_longer_transaction_timeout_allows_a_longer_interval(validator: Validator) -> None:
    longer = {"transaction.boundary.interval.ms": "1m", "producer.override.transaction.timeout.ms": "120000"}
    assert validator.connector({**SOURCE, **INTERVAL, **longer})[1] == []


def test_exactly_once_sources_need_a_worker_group(validator: Validator) -> None:
    (finding,) = validator.worker({**WORKER, "exactly.once.source.support": "enabled"})[1]
    assert (finding.code, finding.key) == ("config.conflict", "exactly.once.source.support")
    assert "needs a worker group" in finding.message
    assert validator.worker({**WORKER, **GROUP, "exactly.once.source.support": "enabled"})[0] is not None


def test_connect_rest_8_keys_for_own_tools_are_accepted_below_their_prefix_with_a_warning(validator: Validator) -> None:
    config, found = validator.connector({**SOURCE, "custom.owner": "team-a"})
    assert config is not None
    assert [(item.key, item.severity) for item in found] == [("custom.owner", "warning")]
    assert "custom.owner" not in config.own
    (refused,) = validator.connector({**SOURCE, "zz.owner": "team-a"})[1]
    assert "'custom.'" in refused.hint


GROUP = {
    "group.id": "g",
    "config.storage.topic": "g-configs",
    "offset.storage.topic": "g-offsets",
    "status.storage.topic": "g-statuses",
}


@pytest.mark.parametrize("missing", GROUP)
def test_connect_rest_3_a_worker_of_a_group_needs_its_name_and_three_topics(validator: Validator, missing: str) -> None:
    settings, found = validator.worker({**WORKER, **{key: value for key, value in GROUP.items() if key != missing}})
    assert settings is None
    (finding,) = found
    assert (finding.code, finding.key) == ("config.missing_key", missing)
    assert all(key in finding.message for key in GROUP)
    assert "or none" in finding.hint
    assert validator.worker({**WORKER, **GROUP}) == (WorkerSettings.parse({**WORKER, **GROUP}), [])


@pytest.mark.parametrize(
    ("changes", "code", "key"),
    [
        ({"status.storage.topic": "g-configs"}, "config.conflict", "config.storage.topic"),
        ({"heartbeat.interval.ms": "6s"}, "config.conflict", "heartbeat.interval.ms"),
        ({"offset.storage.file.name": "x"}, "config.unknown_key", "offset.storage.file.name"),
        ({"connect.protocol": "eager"}, "config.invalid_value", "connect.protocol"),
    ],
)
def test_keys_of_a_group_that_contradict_each_other_are_refused(
    validator: Validator, changes: dict[str, str], code: str, key: str
) -> None:
    settings, found = validator.worker({**WORKER, **GROUP, **changes})
    assert settings is None
    assert [(finding.code, finding.key) for finding in found] == [(code, key)]


def test_topics_of_a_group_have_any_settings_and_a_standalone_worker_none(validator: Validator) -> None:
    settings, found = validator.worker({**WORKER, **GROUP, "offset.storage.min.insync.replicas": "2"})
    assert (settings is not None, found) == (True, [])
    _, (finding,) = validator.worker({**WORKER, "offset.storage.file.filenam": "x"})
    assert (finding.code, finding.key) == ("config.unknown_key", "offset.storage.file.filenam")
    assert "offset.storage.file.filename" in finding.hint


def test_worker_keys_without_effect_are_accepted(validator: Validator) -> None:
    accepted = {"rest.extension.classes": ""}
    settings, found = validator.worker({**WORKER, **accepted, "plugin.discovery": "hybrid_warn"})
    assert [(item.key, item.severity) for item in found] == [("plugin.discovery", "warning")]
    assert settings is not None


def test_connect_rest_16_an_empty_regex_and_an_empty_dead_letter_topic_are_the_defaults(validator: Validator) -> None:
    empty = {"topics.regex": "", "errors.deadletterqueue.topic.name": ""}
    assert validator.connector({**SINK, **empty})[1] == []


@pytest.mark.parametrize("more", [{"topics.regex": "t.*"}, {"topics": ""}])
def test_connect_rest_17_topics_and_their_regex_are_reported_at_both_keys(
    validator: Validator, more: dict[str, str]
) -> None:
    answer = validation_response(validator, {**SINK, **more})
    errors = {item["value"]["name"]: item["value"]["errors"] for item in answer["configs"]}
    assert answer["error_count"] == 2
    assert errors["topics"] == errors["topics.regex"] != []


@pytest.mark.parametrize("text", ["1.0", "1e3", "1000.0", "1."])
@pytest.mark.parametrize("key", ["tasks.max", "errors.retry.delay.max.ms"])
def test_connect_rest_22_a_whole_number_is_not_written_with_a_fraction(
    validator: Validator, key: str, text: str
) -> None:
    (finding,) = validator.connector({**SOURCE, key: text})[1]
    assert finding.key == key
    assert "Not a number of type INT" in finding.message


def test_connect_rest_21_another_version_of_the_plugin_than_the_installed_one_is_refused(validator: Validator) -> None:
    version = validator.require_connector(SOURCE).plugin.version
    assert validator.connector({**SOURCE, "connector.plugin.version": version})[1] == []
    (finding,) = validator.connector({**SOURCE, "connector.plugin.version": "9.9.9"})[1]
    assert (finding.key, finding.hint) == ("connector.plugin.version", f"installed: {version}")


def test_connect_rest_5_a_transform_of_kafka_connect_is_refused_and_none_is_named_where_none_is_installed() -> None:
    route = "org.apache.kafka.connect.transforms.RegexRouter"
    properties = {**SOURCE, "transforms": "route", "transforms.route.type": route}
    found = Validator(Registry([]), make_interpolator(Registry())).unresolved_connector(properties)
    [refused] = [finding for finding in found if finding.key == "transforms.route.type"]
    assert refused.message == f"Failed to find any transform plugin that is named '{route}'"
    assert refused.hint == "no transform is installed"
