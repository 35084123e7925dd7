"""Rules of connectors that the models of their settings cannot express."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from headrace.config import nearest
from headrace.errors import Finding
from headrace.patterns import compile_pattern
from headrace.placeholders import is_interpolated
from headrace.registry import Plugin
from headrace.settings import ConnectorSettings, SinkSettings, SourceSettings

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONGEST_NAME = 255


def connector_rules(settings: ConnectorSettings) -> Iterator[Finding]:
    """Check the framework's settings of a connector."""
    if len(settings.name) > _LONGEST_NAME:
        text = f"Invalid value {settings.name[:40]}… for configuration name: it has {len(settings.name)} characters"
        yield Finding("config.invalid_value", text, "name", f"use at most {_LONGEST_NAME}")
    if _CONTROL_CHARACTER.search(settings.name):
        text = f"Invalid value {settings.name!r} for configuration name: it contains control characters"
        yield Finding("config.invalid_value", text, "name", "use letters, digits, '-', '_' and '.'")
    if isinstance(settings, SinkSettings) and settings.topics_regex:
        try:
            pattern = compile_pattern(settings.topics_regex)
        except ValueError as error:
            text = f"Invalid value {settings.topics_regex} for configuration topics.regex: {error}"
            yield Finding("config.invalid_value", text, "topics.regex", "write a regular expression of RE2")
        else:
            letters = settings.dead_letter_topic
            if letters and pattern.fullmatch(letters):
                text = f"topics.regex matches the dead letter queue topic '{letters}': dead letters would be read again"
                hint = "choose another topic, or an expression that does not match it"
                yield Finding("config.conflict", text, "errors.deadletterqueue.topic.name", hint)
    for name in settings.custom:
        text = f"'custom.{name}' has no effect here: keys below 'custom.' are for your own tools"
        yield Finding("config.ignored_key", text, f"custom.{name}", severity="warning")
    if isinstance(settings, SourceSettings):
        if settings.errors_tolerance == "all" and not settings.dead_letter_topic:
            text = "rows that cannot be converted, or that Kafka refuses, are lost: there is no dead letter queue"
            hint = "set errors.deadletterqueue.topic.name, or remove errors.tolerance"
            yield Finding("config.rows_lost", text, "errors.tolerance", hint, severity="warning")
        for name in settings.consumer_override:
            text = f"'consumer.override.{name}' has no effect here: a source has no consumer"
            yield Finding("config.ignored_key", text, f"consumer.override.{name}", "remove it", severity="warning")
        for name in ("partitions", "replication.factor"):
            value = settings.topic_creation.get(name, "1").strip()
            if not re.fullmatch(r"-1|0*[1-9]\d*", value):
                full = f"topic.creation.default.{name}"
                text = f"Invalid value {value} for configuration {full}: Value must be at least 1, or -1"
                yield Finding("config.invalid_value", text, full, "-1 means the broker's default")


def version_rule(plugin: Plugin | None, settings: ConnectorSettings) -> Iterator[Finding]:
    """Check ``connector.plugin.version``."""
    wanted = settings.plugin_version
    if plugin is not None and wanted and wanted != plugin.version:
        text = f"Invalid value {wanted} for configuration connector.plugin.version: it is not installed"
        yield Finding("config.invalid_value", text, "connector.plugin.version", f"installed: {plugin.version}")


def predicate_rules(resolved: Mapping[str, str]) -> Iterator[Finding]:
    """Check that transforms name predicates that exist."""
    predicates = aliases_of(resolved.get("predicates", ""))
    if is_interpolated(resolved.get("predicates", "")):
        return  # the aliases are not known yet
    for alias in aliases_of(resolved.get("transforms", "")):
        name = f"transforms.{alias}.predicate"
        gate = resolved.get(name)
        if gate is None and f"transforms.{alias}.negate" in resolved:
            text = f"'transforms.{alias}.negate' needs a predicate that it negates"
            yield Finding("config.conflict", text, f"transforms.{alias}.negate", f"add '{name}', or remove the key")
        elif gate is not None and gate.strip() not in predicates:
            text = f"Invalid value {gate} for configuration {name}: there is no such alias in 'predicates'"
            hint = nearest(gate, predicates) or f"add '{gate}' to 'predicates'"
            yield Finding("config.invalid_value", text, name, hint)


def settings_without_converter(name: str, resolved: Mapping[str, str]) -> Iterator[Finding]:
    """Warn of converter settings without a converter, which Kafka Connect ignores silently."""
    for written in resolved:
        if written.startswith(f"{name}."):
            text = f"'{written}' has no effect here: without '{name}' the worker's converter and settings are used"
            yield Finding("config.ignored_key", text, written, f"add '{name}'", severity="warning")


def aliases_of(text: str) -> list[str]:
    """Return the aliases of ``transforms`` or ``predicates``."""
    return [alias for item in text.split(",") if (alias := item.strip())]
