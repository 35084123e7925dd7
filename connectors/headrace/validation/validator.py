"""Validates configurations of workers, connectors and tasks; reports all findings at once.

A connector's configuration consists of sections: the framework's keys, the connector's own, and below a prefix those of
each converter, transform and predicate (:class:`ConfigSection`). A key of no section is an error that suggests the most
similar key of all sections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import cast

from headrace.broker.connector_clients import ALL_OVERRIDES, OverridePolicy
from headrace.config import ConfigModel
from headrace.errors import ConfigError, Finding
from headrace.exactly_once_settings import ExactlyOnceSupport
from headrace.interpolation import Interpolator, make_interpolator
from headrace.local_access import NO_LISTS, LocalAccess
from headrace.placeholders import is_interpolated
from headrace.plugin import Converter
from headrace.redaction import Secrets
from headrace.registry import Plugin, PluginKind, Registry
from headrace.settings import SETTINGS_MODELS, ConnectorSettings, SourceSettings, WorkerSettings
from headrace.validation.exactly_once_rules import exactly_once_problem, exactly_once_rules
from headrace.validation.findings import finished_findings, secrets_of
from headrace.validation.rules import (
    aliases_of,
    connector_rules,
    predicate_rules,
    settings_without_converter,
    version_rule,
)
from headrace.validation.sections import ConfigSection, PredicateSettings, TransformSettings, unknown_keys

TASK_CLASS = "task.class"
"""Added to every task's configuration, as in Kafka Connect; its plugin may add keys that its model does not know."""

CONVERTERS = {
    "key.converter": PluginKind.CONVERTER,
    "value.converter": PluginKind.CONVERTER,
    "header.converter": PluginKind.HEADER_CONVERTER,
}
_DELEGATED = ("key.converter.", "value.converter.", "header.converter.", "transforms.", "predicates.")


@dataclass(frozen=True)
class ConnectorConfig:
    """A connector's (or task's) configuration without errors.

    ``raw`` is the configuration as written; ``properties`` has its placeholders resolved; ``own`` are the properties of
    the plugin itself: what its ``task_configs``, ``check`` and tasks are given.
    """

    name: str
    raw: dict[str, str]
    properties: dict[str, str]
    plugin: Plugin
    settings: ConnectorSettings  # SourceSettings, SinkSettings or StreamSettings
    own: dict[str, str]


class Validator:
    """Validates configurations without connecting to any system."""

    def __init__(
        self,
        registry: Registry,
        interpolator: Interpolator,
        overrides: OverridePolicy = ALL_OVERRIDES,
        secrets: Secrets | None = None,
        local_access: LocalAccess = NO_LISTS,
        exactly_once: ExactlyOnceSupport | None = None,
    ) -> None:
        """``overrides``: what the worker lets connectors override. ``secrets`` is told every secret. ``local_access``:
        what connectors may use of this machine. ``exactly_once``: of the worker; None when it is not known."""
        self.registry = registry
        self.interpolator = interpolator
        self._overrides = overrides
        self._local_access = local_access
        self._exactly_once = exactly_once
        self.secrets = secrets or Secrets()

    def connector(
        self, properties: Mapping[str, str], *, trusted: bool = False
    ) -> tuple[ConnectorConfig | None, list[Finding]]:
        """Validate a connector's or task's configuration; None when there are errors. Findings contain no secrets.

        ``trusted``: it is from a file on the worker's command line, and may use what no allow-list names.
        """
        raw = {name: value for name, value in properties.items() if name != TASK_CLASS}
        resolution = self.interpolator.resolution(raw, trusted=trusted)
        resolved = resolution.properties
        sections, findings = self.connector_sections(resolved)
        models = []
        for section in sections:
            model, found = self._validate(section, resolved, trusted=trusted)
            models.append(model)
            findings += found
        if TASK_CLASS not in properties:
            findings += unknown_keys(sections, resolved, _help(resolved))
        plugin, settings = self._connector_plugin(resolved, []), models[0]
        if isinstance(settings, ConnectorSettings):
            findings += connector_rules(settings)
            findings += self._overrides.problems(settings)
            findings += version_rule(plugin, settings)
        if isinstance(settings, SourceSettings):
            findings += exactly_once_rules(settings, plugin, resolved, self._exactly_once)
        secrets = secrets_of(sections, resolution)
        self.secrets.add(resolved.get("name", "").strip(), secrets)
        findings = finished_findings(findings, resolution, raw, secrets)
        if plugin is None or not isinstance(settings, ConnectorSettings) or _has_errors(findings):
            return None, findings
        framework, plugins = sections[0], sections[1]
        own = {name: value for name, value in resolved.items() if plugins.knows(name) or not framework.knows(name)}
        own = {name: value for name, value in own.items() if not name.startswith(_DELEGATED)}
        return ConnectorConfig(settings.name, raw, resolved, plugin, settings, own), findings

    def require_connector(self, properties: Mapping[str, str], *, trusted: bool = False) -> ConnectorConfig:
        """As :meth:`connector`, or raise ConfigError with all findings."""
        config, findings = self.connector(properties, trusted=trusted)
        if config is None:
            raise ConfigError(findings=findings)
        return config

    def unresolved_connector(self, properties: Mapping[str, str]) -> list[Finding]:
        """Return the findings about a configuration that comes over REST, from the text as it is written.

        No rule is given the value of a placeholder: otherwise a caller could guess a secret character by character, by
        what the rules say of a regular expression, for example. That a placeholder can be resolved is checked; a value
        that breaks a rule is reported when the connector starts.
        """
        raw = {name: value for name, value in properties.items() if name != TASK_CLASS}
        unresolved = self.interpolator.resolution(raw, trusted=False).findings
        opaque = {name for name, value in raw.items() if is_interpolated(value)}
        sections, findings = self.connector_sections(raw)
        models = []
        for section in sections:
            model, found = self._validate(section, raw, trusted=False)
            models.append(model)
            # A rule may have judged the text of the placeholder, and reported another key.
            misread = any(finding.key in opaque and finding.severity == "error" for finding in found)
            findings += section.validate_values(raw) if misread else found
        if TASK_CLASS not in properties:
            findings += unknown_keys(sections, raw, _help(raw))
        if isinstance(models[0], ConnectorSettings):
            findings += connector_rules(models[0])
            findings += self._overrides.problems(models[0])
            if "connector.class" not in opaque:
                findings += version_rule(self._connector_plugin(raw, []), models[0])
        if isinstance(models[0], SourceSettings):
            found_plugin = self._connector_plugin(raw, []) if "connector.class" not in opaque else None
            findings += exactly_once_rules(models[0], found_plugin, raw, self._exactly_once)
        visible = [finding for finding in findings if finding.key not in opaque]
        return list(dict.fromkeys([*unresolved, *visible]))

    def _validate(
        self, section: ConfigSection, properties: Mapping[str, str], *, trusted: bool
    ) -> tuple[ConfigModel | None, list[Finding]]:
        """Validate a section. Rules over several keys, which may read files and import functions, are only applied when
        all that the section uses of this machine is allowed."""
        refused = list(self._local_access.refusals(section.local_uses(properties), trusted=trusted))
        if refused:
            return None, [*section.validate_values(properties), *refused]
        return section.validate(properties)

    def delivery(self, properties: Mapping[str, str]) -> str:
        """Return how a source with this configuration delivers; empty unless the worker writes in transactions."""
        if self._exactly_once != "enabled":
            return ""
        problem = exactly_once_problem(self._connector_plugin(properties, []), properties)
        return "exactly-once" if problem is None else "at-least-once"

    def worker(self, properties: Mapping[str, str]) -> tuple[WorkerSettings | None, list[Finding]]:
        """Validate a worker's configuration; None when there are errors."""
        raw = dict(properties)
        resolution = self.interpolator.resolution(raw, trusted=True)
        resolved = resolution.properties
        findings: list[Finding] = []
        sections = [ConfigSection("", WorkerSettings, delegated=_DELEGATED[:3])]
        for name in CONVERTERS:
            default = next(item.default for item in WorkerSettings.definitions() if item.name == name)
            sections.append(self._converter_part(name, resolved.get(name, default), findings))
        models = []
        for section in sections:
            model, found = section.validate(resolved)
            models.append(model)
            findings += found
        settings = models[0]
        findings += unknown_keys(sections, resolved, "`headrace describe worker` lists all keys")
        if isinstance(settings, WorkerSettings):
            try:
                make_interpolator(self.registry, settings.config_providers, settings.config_provider_settings)
            except ConfigError as error:
                findings += error.findings
        secrets = secrets_of(sections, resolution)
        self.secrets.add_worker(secrets)
        findings = finished_findings(findings, resolution, raw, secrets)
        return (None if _has_errors(findings) else cast(WorkerSettings, settings)), findings

    def connector_sections(self, resolved: Mapping[str, str]) -> tuple[list[ConfigSection], list[Finding]]:
        """Return the sections of a connector's configuration (framework, connector, others), and missing plugins."""
        findings: list[Finding] = []
        plugin = self._connector_plugin(resolved, findings)
        settings: type[ConnectorSettings] = ConnectorSettings
        if plugin is not None:
            settings = SETTINGS_MODELS[plugin.type]
        sections = [
            ConfigSection("", settings, delegated=_DELEGATED),
            ConfigSection("", plugin.cls.config_model if plugin else None, delegated=_DELEGATED),
        ]
        for name in CONVERTERS:
            if name in resolved:
                sections.append(self._converter_part(name, resolved[name], findings))
            else:
                sections.append(ConfigSection(f"{name}.", None))
                findings += settings_without_converter(name, resolved)
        for word, kind, model in (
            ("transforms", PluginKind.TRANSFORM, TransformSettings),
            ("predicates", PluginKind.PREDICATE, PredicateSettings),
        ):
            aliases = aliases_of(resolved.get(word, ""))
            for alias in dict.fromkeys(aliases):
                prefix, group = f"{word}.{alias}.", f"{word.capitalize()}: {alias}"
                sections.append(ConfigSection(prefix, model, group))
                found = self._plugin(kind, resolved.get(f"{prefix}type"), f"{prefix}type", findings)
                sections.append(ConfigSection(prefix, found.cls.config_model if found else None, group))
            if len(set(aliases)) < len(aliases):
                text = f"Invalid value {resolved[word]} for configuration {word}: Duplicate alias provided."
                findings.append(Finding("config.invalid_value", text, word, "name each alias once"))
        findings += predicate_rules(resolved)
        return sections, findings

    def _connector_plugin(self, resolved: Mapping[str, str], findings: list[Finding]) -> Plugin | None:
        return self._plugin(PluginKind.CONNECTOR, resolved.get("connector.class"), "connector.class", findings)

    def _converter_part(self, name: str, class_name: str, findings: list[Finding]) -> ConfigSection:
        plugin = self._plugin(CONVERTERS[name], class_name, name, findings)
        return ConfigSection(f"{name}.", plugin.cls.config_model if plugin else None, "Common")

    def _plugin(self, kind: PluginKind, class_name: str | None, name: str, findings: list[Finding]) -> Plugin | None:
        if class_name is None:
            return None  # the model of the required key reports that it is missing
        try:
            plugin = self.registry.find(kind, class_name.strip())
            plugin.cls  # noqa: B018 (imports the class: a broken plugin is reported here)
        except ConfigError as error:
            about = error.findings or (error.finding(),)
            findings.extend(replace(finding, key=name) for finding in about)
            return None
        return plugin


def make_converter(
    registry: Registry,
    class_name: str,
    settings: Mapping[str, str],
    *,
    is_key: bool,
    kind: PluginKind = PluginKind.CONVERTER,
) -> Converter:
    """Return a configured converter; ``settings`` have no prefix. Raises ConfigError."""
    converter: Converter = registry.find(kind, class_name).cls()
    converter.configure(settings, is_key=is_key)
    return converter


def _has_errors(findings: Iterable[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)


def _help(resolved: Mapping[str, str]) -> str:
    command = f"headrace describe {resolved.get('connector.class', '')}"
    return f"`{command}` lists all keys; keys for your own tools begin with 'custom.'"
