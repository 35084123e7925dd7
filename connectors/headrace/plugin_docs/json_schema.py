"""JSON Schema (draft 7, which editors know) of connector and worker files, so that editors complete and check YAML.

Keys are dotted; the nested form of a key with dots (``errors: {tolerance: all}``) is let through unchecked. Any value
may be a text with a placeholder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from headrace.config import ConfigModel, KeyDefinition
from headrace.errors import ConfigError
from headrace.plugin_docs.key_facts import KeyFacts, definitions_of, facts_of
from headrace.registry import Plugin, PluginKind, Registry
from headrace.settings import WorkerSettings
from headrace.validation import CONVERTERS

_DRAFT = "http://json-schema.org/draft-07/schema#"
_SCALAR = ["string", "number", "boolean"]
_PLACEHOLDER = {"type": "string", "pattern": r"\$\{[^}]*:[^}]*\}"}
_DURATION = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d)?\s*$"}
_SIZE = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([bB]|[kKmMgG][iI]?[bB])?\s*$"}

Keys = list[tuple[type[ConfigModel], KeyDefinition]]


def json_schema(registry: Registry) -> dict[str, Any]:
    """One schema for both kinds of files: with ``connector.class`` (or ``connector: {class: …}``) a connector's."""
    return {
        "$schema": _DRAFT,
        "title": "headrace: a connector or a worker",
        "type": "object",
        "if": {"anyOf": [{"required": ["connector.class"]}, {"required": ["connector"]}]},
        "then": _connector(registry),
        "else": _worker(registry),
    }


def connector_schema(registry: Registry) -> dict[str, Any]:
    """Files of connectors."""
    return {"$schema": _DRAFT, "title": "headrace: a connector", **_connector(registry)}


def worker_schema(registry: Registry) -> dict[str, Any]:
    """Files of workers."""
    return {"$schema": _DRAFT, "title": "headrace: a worker", **_worker(registry)}


def _connector(registry: Registry) -> dict[str, Any]:
    classes, cases = [], []
    for plugin in registry.plugins(PluginKind.CONNECTOR):
        try:
            names = _names(plugin)
        except ConfigError:  # not importable here; its name is still a good one
            classes.append(plugin.name)
            continue
        classes += names
        keys = _with_class(_object(definitions_of(plugin), registry), names)
        cases.append({"if": {"properties": {"connector.class": {"enum": names}}}, "then": keys})
    one = {"description": "Name or class of the connector plugin.", "anyOf": [{"enum": classes}, {"type": "string"}]}
    return {
        "type": "object",
        "properties": {"connector.class": one},
        "allOf": [{"if": {"required": ["connector.class"]}, "then": case} for case in cases],
    }


def _worker(registry: Registry) -> dict[str, Any]:
    return _object([(WorkerSettings, item) for item in WorkerSettings.definitions()], registry)


def _with_class(schema: dict[str, Any], names: list[str]) -> dict[str, Any]:
    schema["properties"]["connector.class"]["anyOf"][0] = {"enum": names}
    return schema


def _names(plugin: Plugin) -> list[str]:
    """Names worth completing: the short one, the JVM's."""
    return list(dict.fromkeys([plugin.name, plugin.class_name, *plugin.cls.aliases]))


def _object(keys: Keys, registry: Registry) -> dict[str, Any]:
    names = {name: [item.name for item in registry.plugins(kind)] for name, kind in CONVERTERS.items()}
    properties, patterns, required = {}, {}, []
    for model, definition in keys:
        if definition.prefix_key:
            described = {"description": _families(definition), "type": _SCALAR}
            patterns[f"^{re.escape(definition.name)}."] = described
            continue
        known = names.get(definition.name, [])
        properties[definition.name] = _property(definition, facts_of(model, definition), known)
        if definition.required:
            required.append(definition.name)
    ignored = {name: why for model in {model for model, _ in keys} for name, why in model.ignored_keys.items()}
    for name, why in sorted(ignored.items()):
        properties.setdefault(name, {"description": f"No effect: {why}.", "type": _SCALAR})
    nested = sorted({prefix for _, item in keys for prefix in _prefixes(item.name)} - properties.keys())
    schema: dict[str, Any] = {"type": "object", "properties": properties, "patternProperties": patterns}
    if nested:
        patterns[f"^({'|'.join(map(re.escape, nested))})$"] = {"type": "object"}
    schema["additionalProperties"] = False
    if required:
        schema["allOf"] = [{"anyOf": [{"required": [item]} for item in (name, *_prefixes(name))]} for name in required]
    return schema


def _prefixes(name: str) -> list[str]:
    """``a.b`` and ``a`` of ``a.b.c``."""
    parts = name.rstrip(".").split(".")
    whole = [".".join(parts)] if name.endswith(".") else []
    return [*whole, *(".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))]


def _property(definition: KeyDefinition, facts: KeyFacts, known: Iterable[str]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": definition.doc}
    if facts.default is not None and not definition.secret:
        described["default"] = _default(facts)
    return {**described, "anyOf": _forms(facts, list(known))}


def _families(definition: KeyDefinition) -> str:
    return f"`{definition.name}*`: {definition.doc}"


def _default(facts: KeyFacts) -> Any:
    if facts.type == "BOOLEAN":
        return facts.default == "true"
    if facts.type == "INT" and facts.default is not None and re.fullmatch(r"-?\d+", facts.default):
        return int(facts.default)
    return facts.default


def _forms(facts: KeyFacts, known: list[str]) -> list[dict[str, Any]]:
    if facts.choices:
        pattern = [{"type": "string", "pattern": _any_case(facts.choices)}] if facts.any_case else []
        return [{"enum": list(facts.choices)}, *pattern, _PLACEHOLDER]
    if facts.type == "BOOLEAN":
        return [
            {"type": "boolean"},
            {"type": "string", "pattern": "^([tT][rR][uU][eE]|[fF][aA][lL][sS][eE])$"},
            _PLACEHOLDER,
        ]
    if facts.type in ("INT", "DOUBLE"):
        bounds = {"minimum": facts.minimum, "maximum": facts.maximum}
        number = {"type": "integer" if facts.type == "INT" and not facts.unit else "number"}
        text = {"duration": _DURATION, "size": _SIZE}.get(
            facts.unit, {"type": "string", "pattern": r"^\s*-?[\d.eE+-]+\s*$"}
        )
        return [{**number, **{name: value for name, value in bounds.items() if value is not None}}, text, _PLACEHOLDER]
    if facts.type == "LIST":
        return [{"type": _SCALAR}, {"type": "array", "items": {"type": _SCALAR}}]
    if known or facts.type == "CLASS":
        return [{"enum": known}, {"type": "string"}]
    return [{"type": _SCALAR}]


def _any_case(choices: Iterable[str]) -> str:
    words = ("".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else re.escape(c) for c in word) for word in choices)
    return f"^({'|'.join(words)})$"
