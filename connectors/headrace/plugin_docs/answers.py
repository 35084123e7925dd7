"""Answers of ``/connector-plugins/{name}/config`` and ``…/config/validate``, in Connect's shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from headrace.config import ConfigModel, KeyDefinition
from headrace.errors import Finding
from headrace.plugin_docs.facts import HIDDEN, definitions_of, facts_of
from headrace.registry import Plugin
from headrace.validation import Part, Validator

_WIDTHS = {"BOOLEAN": "SHORT", "INT": "SHORT", "DOUBLE": "SHORT", "LIST": "LONG", "CLASS": "LONG"}
_FRAMEWORK_GROUPS = ("Common", "Transforms", "Predicates", "Error Handling", "Topic Creation")


def config_answer(plugin: Plugin) -> list[dict[str, Any]]:
    """Definitions of the plugin's keys; of a connector then the framework's. Families of keys have no definition."""
    return definitions_answer(definitions_of(plugin))


def definitions_answer(keys: Iterable[tuple[type[ConfigModel], KeyDefinition]]) -> list[dict[str, Any]]:
    """The same of any keys."""
    orders: Counter[str] = Counter()
    return [_definition(model, item, "", "", orders) for model, item in keys if not item.prefix_key]


def validate_answer(validator: Validator, properties: Mapping[str, str]) -> dict[str, Any]:
    """Every key that has a say, with its value (placeholders as they are written) and its errors."""
    _, findings = validator.connector(properties)
    errors = _errors(findings)
    resolved, _ = validator.interpolator.resolve(properties)
    parts, _ = validator.connector_parts(resolved)
    orders: Counter[str] = Counter()
    # Connect: the connector's own keys stand before the framework's, and win over them.
    ordered = [parts[1], parts[0], *parts[2:]]
    configs: dict[str, dict[str, Any]] = {}
    for part in ordered:
        for definition in part.model.definitions() if part.model else ():
            name = part.prefix + definition.name
            if not definition.prefix_key and name not in configs:
                assert part.model is not None
                written = properties.get(name)
                configs[name] = {
                    "definition": _definition(part.model, definition, part.prefix, part.group, orders),
                    "value": _value(part, definition, written, errors.pop(name, [])),
                }
    for name, value in properties.items():
        if name not in configs:
            # A key of a family may be a password ("producer.override.sasl.jaas.config"); Connect hides those it knows.
            shown = HIDDEN if _may_be_secret(name) else value
            configs[name] = {"definition": None, "value": _bare(name, shown, errors.pop(name, []))}
    for name, messages in errors.items():  # about keys that neither exist nor are written
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
        "order": orders[group],
    }


def _value(part: Part, definition: KeyDefinition, written: str | None, errors: list[str]) -> dict[str, Any]:
    assert part.model is not None
    facts = facts_of(part.model, definition)
    shown = facts.default if written is None else HIDDEN if definition.secret else written
    return {**_bare(part.prefix + definition.name, shown, errors), "recommended_values": list(facts.choices)}


def _bare(name: str, value: str | None, errors: list[str]) -> dict[str, Any]:
    return {"name": name, "value": value, "recommended_values": [], "errors": errors, "visible": True}


def _errors(findings: Iterable[Finding]) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    for finding in findings:
        if finding.severity == "error":
            # The hint of a missing key is its documentation, which stands beside it already.
            hint = f" → {finding.hint}" if finding.hint and finding.code != "config.missing_key" else ""
            errors.setdefault(finding.key, []).append(finding.message + hint)
    return errors


def _groups(configs: Iterable[dict[str, Any]]) -> list[str]:
    present = dict.fromkeys(item["definition"]["group"] for item in configs if item["definition"])
    found = [group for group in present if group]
    aliases = [group for group in found if group.startswith(("Transforms: ", "Predicates: "))]
    framework = [group for group in _FRAMEWORK_GROUPS if group in found]
    return [*framework, *aliases, *(group for group in found if group not in (*framework, *aliases))]


def _may_be_secret(name: str) -> bool:
    return name.endswith((".password", ".jaas.config", ".key", ".secret", ".token"))
