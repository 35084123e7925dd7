"""Response bodies of ``/connector-plugins/{name}/config`` and ``…/config/validate``, as Connect defines them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from headrace.config import ConfigModel, KeyDefinition
from headrace.errors import Finding
from headrace.plugin import SystemChoices
from headrace.plugin_docs.key_facts import definitions_of, facts_of
from headrace.redaction import HIDDEN, is_secret_key
from headrace.registry import Plugin
from headrace.validation import ConfigSection, Validator

_WIDTHS = {"BOOLEAN": "SHORT", "INT": "SHORT", "DOUBLE": "SHORT", "LIST": "LONG", "CLASS": "LONG"}
_FRAMEWORK_GROUPS = ("Common", "Transforms", "Predicates", "Error Handling", "Topic Creation")


def config_definitions(plugin: Plugin) -> list[dict[str, Any]]:
    """Return definitions of the plugin's keys; of a connector also the framework's. Prefix keys have none."""
    return rest_definitions(definitions_of(plugin))


def rest_definitions(keys: Iterable[tuple[type[ConfigModel], KeyDefinition]]) -> list[dict[str, Any]]:
    """Return definitions of any keys."""
    orders: Counter[str] = Counter()
    return [_definition(model, item, "", "", orders) for model, item in keys if not item.prefix_key]


def _nothing(properties: Mapping[str, str], findings: Sequence[Finding]) -> SystemChoices:
    return SystemChoices()


def validation_response(
    validator: Validator,
    properties: Mapping[str, str],
    look_up: Callable[[Mapping[str, str], Sequence[Finding]], SystemChoices] = _nothing,
) -> dict[str, Any]:
    """Return all keys with definition, value (placeholders unresolved), recommended values and errors.

    ``look_up`` asks the connector's system; it is given the findings about the configuration itself.
    """
    findings = validator.unresolved_connector(properties)
    choices = look_up(properties, findings)
    errors = _errors([*findings, *choices.findings])
    sections, _ = validator.connector_sections(properties)
    orders: Counter[str] = Counter()
    # As in Connect the connector's own keys come first, and replace the framework's of the same name.
    ordered = [sections[1], sections[0], *sections[2:]]
    configs: dict[str, dict[str, Any]] = {}
    for section in ordered:
        for definition in section.model.definitions() if section.model else ():
            name = section.prefix + definition.name
            if not definition.prefix_key and name not in configs:
                assert section.model is not None
                written = properties.get(name)
                configs[name] = {
                    "definition": _definition(section.model, definition, section.prefix, section.group, orders),
                    "value": _value(section, definition, written, errors.pop(name, [])),
                }
                if name in choices.values:
                    configs[name]["value"]["recommended_values"] = list(choices.values[name])
    for name, value in properties.items():
        if name not in configs:
            # A value below a prefix may be a password (producer.override.sasl.jaas.config).
            shown = HIDDEN if is_secret_key(name) or name.endswith(".key") else value
            configs[name] = {"definition": None, "value": _bare(name, shown, errors.pop(name, []))}
    for name, messages in errors.items():  # about keys that are neither defined nor given
        place = configs.setdefault(name or "connector.class", {"definition": None, "value": _bare(name, None, [])})
        place["value"]["errors"] += messages
    return {
        "name": properties.get("connector.class", ""),
        "error_count": sum(len(item["value"]["errors"]) for item in configs.values()),
        "groups": _groups(configs.values()),
        "configs": list(configs.values()),
    }


def _definition(
    model: type[ConfigModel], definition: KeyDefinition, prefix: str, group: str, orders: Counter[str]
) -> dict[str, Any]:
    facts = facts_of(model, definition)
    group = group or definition.group
    orders[group] += 1
    return {
        "name": prefix + definition.name,
        "type": facts.type,
        "required": definition.required,
        "default_value": facts.default,
        "importance": definition.importance.upper(),
        "documentation": definition.doc,
        "group": group or None,
        "width": _WIDTHS.get(facts.type, "MEDIUM"),
        "display_name": prefix + definition.name,
        "dependents": [],
        "order_in_group": orders[group],
    }


def _value(section: ConfigSection, definition: KeyDefinition, written: str | None, errors: list[str]) -> dict[str, Any]:
    assert section.model is not None
    facts = facts_of(section.model, definition)
    shown = facts.default if written is None else HIDDEN if definition.secret else written
    return {**_bare(section.prefix + definition.name, shown, errors), "recommended_values": list(facts.choices)}


def _bare(name: str, value: str | None, errors: list[str]) -> dict[str, Any]:
    return {"name": name, "value": value, "recommended_values": [], "errors": errors, "visible": True}


def _errors(findings: Iterable[Finding]) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    for finding in findings:
        if finding.severity == "error":
            # The hint of a missing key is its documentation, which the definition contains already.
            hint = f" → {finding.hint}" if finding.hint and finding.code != "config.missing_key" else ""
            # Connect reports problems of the pair topics and topics.regex at both keys.
            both = finding.key == "topics" and "topics.regex" in finding.message
            for key in ("topics", "topics.regex") if both else (finding.key,):
                errors.setdefault(key, []).append(finding.message + hint)
    return errors


def _groups(configs: Iterable[dict[str, Any]]) -> list[str]:
    present = dict.fromkeys(item["definition"]["group"] for item in configs if item["definition"])
    found = [group for group in present if group]
    aliases = [group for group in found if group.startswith(("Transforms: ", "Predicates: "))]
    framework = [group for group in _FRAMEWORK_GROUPS if group in found]
    return [*framework, *aliases, *(group for group in found if group not in (*framework, *aliases))]
