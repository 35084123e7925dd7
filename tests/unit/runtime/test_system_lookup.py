"""Validation over REST asks a system only where this sends no secret to a place that the caller has chosen."""

from __future__ import annotations

import importlib.metadata
import sys
import threading
import types
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from headrace.config import ConfigModel, Secret, key
from headrace.errors import ConfigError, Finding, InfrastructureError, RetriableError
from headrace.interpolation import make_interpolator
from headrace.plugin import SinkConnector, SinkTask, SystemChoices
from headrace.plugin_docs import validation_response
from headrace.registry import Plugin, PluginKind, Registry
from headrace.runtime.system_lookup import SystemLookups
from headrace.states import TargetState
from headrace.validation import Validator

SECRET = "s3cret-of-the-worker"
PLACEHOLDER = "${env:LOOKUP_PASSWORD}"
OWN = {"connector.class": "FormSink", "name": "form", "topics": "orders", "system.url": "db.example", "table": ""}
SOURCE = {"name": "numbers", "connector.class": "NumbersSource", "topic": "numbers"}
STORED = {**OWN, "name": "stored", "system.password": PLACEHOLDER}


class FormConfig(ConfigModel):
    url: str = key("system.url", doc="Where.")
    password: Secret | None = key("system.password", default=None, doc="Password.")
    table: str = key("table", default="", doc="Which.")


class FormSinkConnector(SinkConnector):
    config_model: ClassVar[type[ConfigModel]] = FormConfig
    task_class = SinkTask
    lookup_keys = ("system.url", "system.")
    asked: ClassVar[list[dict[str, str]]] = []
    answer: ClassVar[Callable[[], SystemChoices]]

    def look_up(self, properties: Mapping[str, str]) -> SystemChoices:
        self.asked.append(dict(properties))
        return type(self).answer()


@pytest.fixture
def validator(monkeypatch: pytest.MonkeyPatch) -> Validator:
    monkeypatch.setenv("LOOKUP_PASSWORD", SECRET)
    FormSinkConnector.asked.clear()
    FormSinkConnector.answer = lambda: SystemChoices({"table": ["items", "orders"]})
    module = types.ModuleType("lookup_test_plugins")
    module.FormSinkConnector = FormSinkConnector  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entry = importlib.metadata.EntryPoint("FormSink", f"{module.__name__}:FormSinkConnector", "")
    installed = Registry()
    registry = Registry(
        [
            Plugin(PluginKind.CONNECTOR, "FormSink", entry),
            *installed.plugins(PluginKind.CONVERTER),
            *installed.plugins(PluginKind.HEADER_CONVERTER),
            *installed.plugins(PluginKind.CONFIG_PROVIDER),
        ]
    )
    allowed = {"env.param.allowlist.pattern": "LOOKUP_.*"}
    return Validator(registry, make_interpolator(registry, settings=allowed))


@pytest.fixture
def validate(validator: Validator) -> Callable[..., dict[str, Any]]:
    """Return a function that validates as the REST API does: ``validate({"system.url": "x"}, known)``."""
    lookups = SystemLookups(validator)

    def validate(changes: Mapping[str, str] = {}, *known: Mapping[str, str]) -> dict[str, Any]:
        answer = validation_response(
            validator, {**OWN, **changes}, lambda *args: lookups.choices(args[0], known, args[1])
        )
        return {item["value"]["name"]: item["value"] for item in answer["configs"]} | {"count": answer["error_count"]}

    return validate


def test_rest_9_a_configuration_without_placeholders_gets_the_values_of_its_system(
    validate: Callable[..., dict[str, Any]],
) -> None:
    values = validate({"system.password": "literal"})

    assert values["table"]["recommended_values"] == ["items", "orders"]
    assert values["count"] == 0
    assert FormSinkConnector.asked == [{"system.url": "db.example", "system.password": "literal"}]


def test_a_placeholder_is_not_sent_to_a_system_that_no_connector_uses(
    validate: Callable[..., dict[str, Any]],
) -> None:
    for known in ([], [{**STORED, "system.url": "other.example"}], [{**STORED, "system.password": "literal"}]):
        values = validate({"system.password": PLACEHOLDER}, *known)
        assert values["table"]["recommended_values"] == []
        assert values["count"] == 0

    assert FormSinkConnector.asked == []


@pytest.mark.parametrize("change", [{"system.url": "rogue.example"}, {"system.url": PLACEHOLDER}, {"system.port": "1"}])
def test_a_placeholder_of_a_connector_is_not_sent_to_another_system(
    validate: Callable[..., dict[str, Any]], change: dict[str, str]
) -> None:
    validate({"system.password": PLACEHOLDER, **change}, STORED)

    assert FormSinkConnector.asked == []


def test_the_system_of_a_connector_is_asked_with_its_placeholders(validate: Callable[..., dict[str, Any]]) -> None:
    values = validate({"system.password": PLACEHOLDER, "table": "new"}, STORED)

    assert values["table"]["recommended_values"] == ["items", "orders"]
    assert FormSinkConnector.asked == [{"system.url": "db.example", "system.password": SECRET}]
    assert SECRET not in str(values)


def test_a_placeholder_that_no_list_allows_is_not_resolved(validate: Callable[..., dict[str, Any]]) -> None:
    stored = {**STORED, "system.password": "${env:HOME}"}
    values = validate({"system.password": "${env:HOME}"}, stored)

    assert "does not allow it" in values["system.password"]["errors"][0]
    assert FormSinkConnector.asked == []


def test_a_system_that_is_down_is_an_error_at_its_key_without_secrets(
    validate: Callable[..., dict[str, Any]],
) -> None:
    def fail() -> SystemChoices:
        raise RetriableError(f"cannot reach db.example as {SECRET}", code="form.unreachable")

    FormSinkConnector.answer = fail
    values = validate({"system.password": PLACEHOLDER}, STORED)

    assert values["system.url"]["errors"] == [f"cannot reach db.example as {PLACEHOLDER}"]
    assert values["count"] == 1


def test_errors_of_other_keys_do_not_prevent_the_lookup(validate: Callable[..., dict[str, Any]]) -> None:
    values = validate({"unknown": "1"})

    assert values["count"] == 1
    assert values["table"]["recommended_values"] == ["items", "orders"]


def test_a_system_that_does_not_answer_is_an_error_after_a_limited_time(validator: Validator) -> None:
    release = threading.Event()

    def hang() -> SystemChoices:
        release.wait(60)
        return SystemChoices()

    FormSinkConnector.answer = hang
    lookups = SystemLookups(validator, timeout=0.05, most=1)
    try:
        found = [finding for _ in range(2) for finding in lookups.choices(OWN, (), ()).findings]
        refusals = lookups.refusals(OWN, {})
    finally:
        release.set()

    assert [finding.code for finding in found] == ["config.lookup_timeout", "config.lookup_busy"]
    assert refusals == []  # the connector may be created, and waits for its system


def test_a_connector_whose_placeholders_may_not_be_sent_is_not_refused(validator: Validator) -> None:
    def fail() -> SystemChoices:
        raise InfrastructureError("wrong password", code="form.authentication")

    FormSinkConnector.answer = fail
    lookups = SystemLookups(validator)

    assert [finding.code for finding in lookups.refusals({**OWN, "system.password": "x"}, {})] == [
        "form.authentication"
    ]
    assert lookups.refusals({**OWN, "system.password": PLACEHOLDER}, {}) == []
    assert len(FormSinkConnector.asked) == 1


def test_an_error_at_a_key_of_the_system_prevents_the_lookup(validator: Validator) -> None:
    found = SystemLookups(validator).choices(OWN, (), [Finding("config.not_allowed", "no", "system.file")])

    assert found == SystemChoices()
    assert FormSinkConnector.asked == []


def test_a_connector_that_its_system_refuses_is_not_created_or_changed(start: Callable[..., Any], world: Any) -> None:
    worker = start().worker
    wrong, refused = {**SOURCE, "speed": "2"}, InfrastructureError("wrong password", code="numbers.authentication")
    world.looking_up.append(refused)
    with pytest.raises(ConfigError, match="wrong password") as error:
        worker.create("numbers", wrong, TargetState.STARTED)
    assert [(finding.code, finding.key) for finding in error.value.findings] == [("numbers.authentication", "speed")]
    assert worker.connectors() == []

    worker.create("numbers", wrong, TargetState.STARTED)
    world.looking_up.append(refused)
    with pytest.raises(ConfigError, match="wrong password"):
        worker.put_config("numbers", {**SOURCE, "speed": "3"})
    world.looking_up.append(refused)
    with pytest.raises(ConfigError, match="wrong password"):
        worker.patch_config("numbers", {"speed": "3"})
    assert worker.info("numbers").config["speed"] == "2"


def test_a_connector_is_created_and_changed_while_its_system_cannot_be_reached(
    start: Callable[..., Any], world: Any
) -> None:
    worker = start().worker
    world.looking_up.append(RetriableError("down", code="numbers.unreachable"))
    worker.create("numbers", {**SOURCE, "speed": "2"}, TargetState.STARTED)
    assert world.looking_up == []

    # The keys that say which system it is are not changed: it is not asked.
    world.looking_up.append(InfrastructureError("wrong password", code="numbers.authentication"))
    worker.put_config("numbers", {**SOURCE, "speed": "2", "tasks.max": "3"})
    assert world.looking_up.pop().code == "numbers.authentication"
