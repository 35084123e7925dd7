"""Validates configurations of workers, connectors and tasks; reports all findings at once.

A connector's configuration consists of sections: the framework's keys, the connector's own, and below a prefix those of
each converter, transform and predicate (:class:`ConfigSection`). A key of no section is an error that suggests the most
similar key of all sections.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from headrace.broker.connector_clients import ALL_OVERRIDES, OverridePolicy
from headrace.config import ConfigModel, LocalUse, key, nearest
from headrace.errors import ConfigError, Finding, Location
from headrace.files import position_of
from headrace.interpolation import Interpolator, Resolution, make_interpolator
from headrace.local_access import NO_LISTS, LocalAccess
from headrace.patterns import compile_pattern
from headrace.placeholders import is_interpolated
from headrace.plugin import Converter
from headrace.redaction import Redactor, Secrets, secrets_in
from headrace.registry import Plugin, PluginKind, Registry
from headrace.settings import SETTINGS_MODELS, ConnectorSettings, SinkSettings, SourceSettings, WorkerSettings

TASK_CLASS = "task.class"
"""Added to every task's configuration, as in Kafka Connect; its plugin may add keys that its model does not know."""

CONVERTERS = ("key.converter", "value.converter")
_DELEGATED = ("key.converter.", "value.converter.", "transforms.", "predicates.")
_MOST_SUGGESTIONS = 100
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONGEST_NAME = 255
# Reasons that headrace.config makes from the model alone; any other may quote the value.
_REASON_WITHOUT_VALUE = re.compile(
    r"Not a number of type \w+|Expected value to be either true or false|String must be one of: .*|Value must be .*",
    re.DOTALL,
)


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


class TransformSettings(ConfigModel):
    """Keys of the framework below ``transforms.<alias>.``: the others are the transform's."""

    type: str = key("type", doc="Name or class of the transform.", importance="high")
    predicate: str | None = key("predicate", default=None, doc="Alias of the predicate that decides where it applies.")
    negate: bool = key("negate", default=False, doc="Apply where the predicate is false.")


class PredicateSettings(ConfigModel):
    """Keys of the framework below ``predicates.<alias>.``: the others are the predicate's."""

    type: str = key("type", doc="Name or class of the predicate.", importance="high")


@dataclass(frozen=True)
class ConfigSection:
    """The keys of a configuration below ``prefix`` that one model defines. ``model`` None = unknown: accept any key.

    ``group`` is the group of its keys in REST responses, unless they name one themselves.
    """

    prefix: str
    model: type[ConfigModel] | None
    group: str = ""
    delegated: tuple[str, ...] = ()
    """Prefixes whose keys belong to other sections."""

    def knows(self, name: str) -> bool:
        """Return whether the key belongs to this section."""
        if not name.startswith(self.prefix) or name.startswith(self.delegated):
            return False
        return self.model is None or self.model.owns(name.removeprefix(self.prefix))

    def names(self) -> Iterator[str]:
        """Yield its keys with the prefix; of prefix keys the prefix."""
        for definition in self.model.definitions() if self.model else ():
            yield self.prefix + definition.name

    def validate(self, properties: Mapping[str, str]) -> tuple[ConfigModel | None, list[Finding]]:
        """Validate this section's keys of ``properties``. Keys in findings have their prefix."""
        if self.model is None:
            return None, []
        model, findings = self.model.validate_properties(self._own(properties))
        return model, [_prefixed(finding, self.prefix) for finding in findings]

    def validate_values(self, properties: Mapping[str, str]) -> list[Finding]:
        """Validate this section's keys one by one, without rules over several keys."""
        if self.model is None:
            return []
        findings = self.model.validate_values(self._own(properties))
        return [_prefixed(finding, self.prefix) for finding in findings]

    def local_uses(self, properties: Mapping[str, str]) -> list[LocalUse]:
        """Return what this section's keys use of the worker's machine. Keys have their prefix."""
        if self.model is None:
            return []
        return [replace(use, key=self.prefix + use.key) for use in self.model.local_uses(self._own(properties))]

    def secret_keys(self) -> list[str]:
        """Return the keys that the model declares as passwords, with the prefix."""
        found = self.model.definitions() if self.model else ()
        return [self.prefix + item.name for item in found if item.secret and not item.prefix_key]

    def _own(self, properties: Mapping[str, str]) -> dict[str, str]:
        assert self.model is not None
        return {
            rest: value
            for name, value in properties.items()
            if name.startswith(self.prefix) and self.model.owns(rest := name.removeprefix(self.prefix))
        }


class Validator:
    """Validates configurations without connecting to any system."""

    def __init__(
        self,
        registry: Registry,
        interpolator: Interpolator,
        overrides: OverridePolicy = ALL_OVERRIDES,
        secrets: Secrets | None = None,
        local_access: LocalAccess = NO_LISTS,
    ) -> None:
        """``overrides``: what the worker lets connectors override. ``secrets`` is told every secret. ``local_access``:
        what connectors may use of this machine."""
        self.registry = registry
        self.interpolator = interpolator
        self._overrides = overrides
        self._local_access = local_access
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
            findings += _unknown(sections, resolved, _help(resolved))
        plugin, settings = self._connector_plugin(resolved, []), models[0]
        if isinstance(settings, ConnectorSettings):
            findings += _rules(settings)
            findings += self._overrides.problems(settings)
            findings += _version_rule(plugin, settings)
        secrets = _secrets(sections, resolution)
        self.secrets.add(resolved.get("name", "").strip(), secrets)
        findings = _finished(findings, resolution, raw, secrets)
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
            findings += _unknown(sections, raw, _help(raw))
        if isinstance(models[0], ConnectorSettings):
            findings += _rules(models[0])
            findings += self._overrides.problems(models[0])
            if "connector.class" not in opaque:
                findings += _version_rule(self._connector_plugin(raw, []), models[0])
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

    def worker(self, properties: Mapping[str, str]) -> tuple[WorkerSettings | None, list[Finding]]:
        """Validate a worker's configuration; None when there are errors."""
        raw = dict(properties)
        resolution = self.interpolator.resolution(raw, trusted=True)
        resolved = resolution.properties
        findings: list[Finding] = []
        sections = [ConfigSection("", WorkerSettings, delegated=_DELEGATED[:2])]
        for name in CONVERTERS:
            default = next(item.default for item in WorkerSettings.definitions() if item.name == name)
            sections.append(self._converter_part(name, resolved.get(name, default), findings))
        models = []
        for section in sections:
            model, found = section.validate(resolved)
            models.append(model)
            findings += found
        settings = models[0]
        findings += _unknown(sections, resolved, "`headrace describe worker` lists all keys")
        if isinstance(settings, WorkerSettings):
            try:
                make_interpolator(self.registry, settings.config_providers, settings.config_provider_settings)
            except ConfigError as error:
                findings += error.findings
        secrets = _secrets(sections, resolution)
        self.secrets.add_worker(secrets)
        findings = _finished(findings, resolution, raw, secrets)
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
                findings += _settings_without_converter(name, resolved)
        for word, kind, model in (
            ("transforms", PluginKind.TRANSFORM, TransformSettings),
            ("predicates", PluginKind.PREDICATE, PredicateSettings),
        ):
            aliases = _aliases(resolved.get(word, ""))
            for alias in dict.fromkeys(aliases):
                prefix, group = f"{word}.{alias}.", f"{word.capitalize()}: {alias}"
                sections.append(ConfigSection(prefix, model, group))
                found = self._plugin(kind, resolved.get(f"{prefix}type"), f"{prefix}type", findings)
                sections.append(ConfigSection(prefix, found.cls.config_model if found else None, group))
            if len(set(aliases)) < len(aliases):
                text = f"Invalid value {resolved[word]} for configuration {word}: Duplicate alias provided."
                findings.append(Finding("config.invalid_value", text, word, "name each alias once"))
        findings += _predicate_rules(resolved)
        return sections, findings

    def _connector_plugin(self, resolved: Mapping[str, str], findings: list[Finding]) -> Plugin | None:
        return self._plugin(PluginKind.CONNECTOR, resolved.get("connector.class"), "connector.class", findings)

    def _converter_part(self, name: str, class_name: str, findings: list[Finding]) -> ConfigSection:
        plugin = self._plugin(PluginKind.CONVERTER, class_name, name, findings)
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


def make_converter(registry: Registry, class_name: str, settings: Mapping[str, str], *, is_key: bool) -> Converter:
    """Return a configured converter; ``settings`` have no prefix. Raises ConfigError."""
    converter: Converter = registry.find(PluginKind.CONVERTER, class_name).cls()
    converter.configure(settings, is_key=is_key)
    return converter


def locate_findings(
    findings: Iterable[Finding],
    positions: Mapping[str, Location],
    path: str = "",
    texts: Mapping[str, Location] | None = None,
) -> list[Finding]:
    """Return findings in the order of the file, each with its location. ``path`` is needed for files without any key.
    ``texts``: where the values begin, see :class:`headrace.files.ConfigFile`.

    A missing key is located at the last key's line, a finding about the whole file at its first line.
    """
    last = max(positions.values(), key=lambda place: place.line, default=Location(path, 0))
    end = Location(last.file, max(last.line, 1))

    def place(finding: Finding) -> Location:
        if finding.location is None and finding.at is not None and texts and (first := texts.get(finding.key)):
            line, column = finding.at
            return Location(first.file, first.line + line - 1, first.column + column - 1)
        return finding.location or (
            (position_of(finding.key, positions) or end) if finding.key else Location(last.file, 1)
        )

    def order(finding: Finding) -> tuple[bool, int, int]:
        where = place(finding)
        return where is end, where.line, where.column

    return [replace(finding, location=place(finding)) for finding in sorted(findings, key=order)]


def _prefixed(finding: Finding, prefix: str) -> Finding:
    if not prefix or not finding.key:
        return finding
    name, message = finding.key, finding.message
    for form in ("for configuration {}:", 'required configuration "{}"', "'{}' has no effect"):
        message = message.replace(form.format(name), form.format(prefix + name), 1)
    return replace(finding, key=prefix + name, message=message)


def _unknown(sections: Sequence[ConfigSection], properties: Mapping[str, str], otherwise: str) -> Iterator[Finding]:
    known = [name for section in sections for name in section.names()]
    unknown = [name for name in properties if not any(section.knows(name) for section in sections)]
    for number, name in enumerate(unknown):
        # A search takes a millisecond: a request with very many unknown keys must not block other threads.
        similar = nearest(name, known) if number < _MOST_SUGGESTIONS else ""
        text, hint = f"unknown configuration key '{name}'", similar or otherwise
        word, _, rest = name.partition(".")
        alias = rest.partition(".")[0]
        if word in ("transforms", "predicates") and alias not in _aliases(properties.get(word, "")):
            text += f": there is no alias '{alias}' in '{word}'"
            similar = nearest(alias, _aliases(properties.get(word, ""))) if number < _MOST_SUGGESTIONS else ""
            hint = similar or f"add '{alias}' to '{word}', or remove the key"
        yield Finding("config.unknown_key", text, name, hint)


def _help(resolved: Mapping[str, str]) -> str:
    command = f"headrace describe {resolved.get('connector.class', '')}"
    return f"`{command}` lists all keys; keys for your own tools begin with 'custom.'"


def _settings_without_converter(name: str, resolved: Mapping[str, str]) -> Iterator[Finding]:
    """Warn of converter settings without a converter, which Kafka Connect ignores silently."""
    for written in resolved:
        if written.startswith(f"{name}."):
            text = f"'{written}' has no effect here: without '{name}' the worker's converter and settings are used"
            yield Finding("config.ignored_key", text, written, f"add '{name}'", severity="warning")


def _aliases(text: str) -> list[str]:
    return [alias for item in text.split(",") if (alias := item.strip())]


def _predicate_rules(resolved: Mapping[str, str]) -> Iterator[Finding]:
    predicates = _aliases(resolved.get("predicates", ""))
    if is_interpolated(resolved.get("predicates", "")):
        return  # the aliases are not known yet
    for alias in _aliases(resolved.get("transforms", "")):
        name = f"transforms.{alias}.predicate"
        gate = resolved.get(name)
        if gate is None and f"transforms.{alias}.negate" in resolved:
            text = f"'transforms.{alias}.negate' needs a predicate that it negates"
            yield Finding("config.conflict", text, f"transforms.{alias}.negate", f"add '{name}', or remove the key")
        elif gate is not None and gate.strip() not in predicates:
            text = f"Invalid value {gate} for configuration {name}: there is no such alias in 'predicates'"
            hint = nearest(gate, predicates) or f"add '{gate}' to 'predicates'"
            yield Finding("config.invalid_value", text, name, hint)


def _rules(settings: ConnectorSettings) -> Iterator[Finding]:
    """Check rules that the models of the settings cannot express."""
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


def _version_rule(plugin: Plugin | None, settings: ConnectorSettings) -> Iterator[Finding]:
    wanted = settings.plugin_version
    if plugin is not None and wanted and wanted != plugin.version:
        text = f"Invalid value {wanted} for configuration connector.plugin.version: it is not installed"
        yield Finding("config.invalid_value", text, "connector.plugin.version", f"installed: {plugin.version}")


def _secrets(sections: Iterable[ConfigSection], resolution: Resolution) -> dict[str, str]:
    """Return the secrets of a configuration, each with its replacement: its placeholder, or [hidden]."""
    declared = {name for section in sections for name in section.secret_keys()}
    literal = secrets_in(resolution.properties, declared)
    # Of a value with text around a placeholder, the whole value is a secret, too.
    return {**literal, **resolution.values}


def _finished(
    findings: Sequence[Finding], resolution: Resolution, raw: Mapping[str, str], secrets: Mapping[str, str]
) -> list[Finding]:
    """Return one finding per problem, without secrets."""
    left = {finding.key for finding in resolution.findings}  # the text of an unresolved placeholder is not validated
    others = (finding for finding in findings if finding.key not in left)
    redactor = Redactor(secrets)
    return [_redacted(finding, raw, redactor) for finding in dict.fromkeys([*resolution.findings, *others])]


def redact_findings(findings: Iterable[Finding], raw: Mapping[str, str], resolution: Resolution) -> list[Finding]:
    """Return findings whose messages and hints have no values of placeholders."""
    redactor = Redactor({**secrets_in(resolution.properties), **resolution.values})
    return [_redacted(finding, raw, redactor) for finding in findings]


def _redacted(finding: Finding, raw: Mapping[str, str], redactor: Redactor) -> Finding:
    written = raw.get(finding.key, "")
    if finding.code == "config.invalid_value" and is_interpolated(written):
        reason = finding.message.partition(f"for configuration {finding.key}: ")[2]
        if not _REASON_WITHOUT_VALUE.fullmatch(reason):
            reason = "the value of the placeholder is not valid"
        text = f"Invalid value {written} for configuration {finding.key}: {reason}"
        return replace(finding, message=text, hint="check the value of the placeholder")
    # A key that is not in the file contains an alias, which may come from a placeholder.
    key = finding.key if finding.key in raw else redactor(finding.key)
    return replace(redactor.finding(finding), key=key)


def _has_errors(findings: Iterable[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)
