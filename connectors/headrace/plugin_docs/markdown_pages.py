"""Pages of documentation in Markdown."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

from headrace.config import ConfigModel, KeyDefinition
from headrace.plugin_docs.key_facts import KeyFacts, facts_of, grouped, settings_model
from headrace.registry import Plugin
from headrace.settings import ConnectorSettings, SinkSettings, SourceSettings, StreamSettings, WorkerSettings

_GENERATED = "<!-- Written by scripts/generate_docs.py from the models in the code. -->"


def markdown(plugin: Plugin) -> str:
    """The page of a plugin: what it is, its names, its own keys."""
    model: type[ConfigModel] = plugin.cls.config_model
    names = [f"`{name}`" for name in (plugin.name, plugin.class_name, *plugin.cls.aliases)]
    lines = [f"# {plugin.name}", "", _GENERATED, "", _summary(plugin.cls), ""]
    if plugin.type in ("source", "sink", "stream"):
        lines += [f"A {plugin.type} connector. Accepted values of `connector.class`: {', '.join(names)}.", ""]
        lines += _example(plugin, model)
        lines += ["Keys of every connector (converters, transforms, error handling) are in [connector-keys.md]"]
        lines[-1] += "(../connector-keys.md).\n"
    else:
        lines += [f"A {plugin.type}. Accepted names: {', '.join(names)}.", ""]
    lines += _sections([model], "Keys", level="##")
    lines += _ignored([model])
    return _joined(lines)


def worker_page() -> str:
    """The worker's keys."""
    intro = (
        "Keys of the worker's file (`headrace run WORKER …`). Names and defaults are Kafka Connect's unless the "
        "description says otherwise."
    )
    body = [*_sections([WorkerSettings], "Keys", level="##"), *_ignored([WorkerSettings])]
    return _joined(["# Worker", "", _GENERATED, "", intro, "", *body])


def connector_keys_page() -> str:
    """Keys of every connector, of every source and of every sink."""
    intro = (
        "Keys of every connector, in addition to those of its plugin. Names and defaults are Kafka Connect's "
        "unless the description says otherwise."
    )
    lines = ["# Keys of every connector", "", _GENERATED, "", intro, ""]
    common = {item.name for item in ConnectorSettings.definitions()}
    lines += ["## All connectors", "", *_sections([ConnectorSettings], "Clients", level="###")]
    for title, model in (("Sources", SourceSettings), ("Sinks", SinkSettings), ("Streams", StreamSettings)):
        lines += [f"## {title}", "", *_sections([model], "Clients", level="###", without=common)]
    return _joined([*lines, *_ignored([ConnectorSettings])])


def transform_keys_page(transforms: Sequence[Plugin], predicates: Sequence[Plugin]) -> str:
    """Keys of all transforms and predicates. Those with the same keys, for keys and for values, are one section."""
    intro = (
        "Keys of the transforms (`transforms.<alias>.…`) and predicates (`predicates.<alias>.…`) that come with "
        "headrace. [transforms.md](transforms.md) describes how they are used."
    )
    lines = ["# Keys of transforms and predicates", "", _GENERATED, "", intro, ""]
    for plugins in (transforms, predicates):
        by_base: dict[str, list[Plugin]] = {}
        for plugin in plugins:
            by_base.setdefault(plugin.name.partition("$")[0], []).append(plugin)
        for name, members in by_base.items():
            names = ", ".join(f"`{alias}`" for plugin in members for alias in (plugin.name, *plugin.cls.aliases))
            first = members[0].cls
            summary = _summary(first.__mro__[1] if "$" in members[0].name else first)
            model: type[ConfigModel] = first.config_model
            lines += [f"## {name}", "", summary, "", f"Accepted names: {names}.", ""]
            lines += _table(model) if model.definitions() else ["No keys of its own.", ""]
    return _joined(lines)


def converter_keys_page(converters: Sequence[Plugin]) -> str:
    """Keys of all converters."""
    intro = (
        "Keys of the converters that come with headrace (`key.converter.…`, `value.converter.…`). "
        "[schema-registry.md](schema-registry.md) describes how those with a schema registry are used."
    )
    lines = ["# Keys of converters", "", _GENERATED, "", intro, ""]
    for plugin in converters:
        names = ", ".join(f"`{alias}`" for alias in (plugin.name, *plugin.cls.aliases))
        model: type[ConfigModel] = plugin.cls.config_model
        lines += [f"## {plugin.name}", "", _summary(plugin.cls), "", f"Accepted names: {names}.", ""]
        lines += _table(model) if model.definitions() else ["No keys of its own.", ""]
    return _joined(lines)


def _table(model: type[ConfigModel]) -> list[str]:
    rows = [_row(model, definition) for definition in model.definitions()]
    return ["| key | type | default | |", "|---|---|---|---|", *rows, ""]


def _summary(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "").strip()


def _example(plugin: Plugin, model: type[ConfigModel]) -> list[str]:
    """The smallest file: all required keys."""
    names = [item.name for item in (*settings_model(plugin).definitions(), *model.definitions()) if item.required]
    if plugin.type == "sink":
        names.append("topics")
    values = {"name": f"my-{plugin.type}", "connector.class": plugin.name, "topics": "orders"}
    required = [f"{name}: {values.get(name, '…')}" for name in dict.fromkeys(names)]
    return ["The smallest file:", "", "```yaml", *required, "```", ""]


def _sections(
    models: Sequence[type[ConfigModel]], otherwise: str, *, level: str, without: Iterable[str] = ()
) -> list[str]:
    lines: list[str] = []
    left = set(without)
    for model in models:
        shown = [item for item in model.definitions() if item.name not in left]
        for group, definitions in grouped(shown, otherwise).items():
            lines += [f"{level} {group}", "", "| key | type | default | |", "|---|---|---|---|"]
            lines += [_row(model, definition) for definition in definitions]
            lines.append("")
        if not shown:
            lines += ["No keys of its own.", ""]
    return lines


def _row(model: type[ConfigModel], definition: KeyDefinition) -> str:
    facts = facts_of(model, definition)
    name = f"`{definition.name}*`" if definition.prefix_key else f"`{definition.name}`"
    bold = f"**{name}**" if definition.importance == "high" else name
    default = "*required*" if definition.required else _code(facts.default)
    doc = definition.doc.replace("|", "\\|").replace("\n", " ")
    return f"| {bold} | {type_text(definition, facts)} | {default} | {doc} |"


def type_text(definition: KeyDefinition, facts: KeyFacts) -> str:
    """What may be written, in words (Markdown)."""
    if definition.prefix_key:
        return "keys with this prefix"
    if facts.choices:
        return "one of " + ", ".join(f"`{choice}`" for choice in facts.choices)
    units = {"duration": "duration (ms, or `30s`, `5m`)", "size": "size (bytes, or `5mb`)"}
    kinds = {"STRING": "text", "CLASS": "class", "INT": "number", "DOUBLE": "number", "BOOLEAN": "true or false"}
    kinds |= {"LIST": "list", "PASSWORD": "secret"}
    bounds = [f"≥ {facts.minimum}" if facts.minimum is not None else "", f"≤ {facts.maximum}" if facts.maximum else ""]
    return " ".join([units.get(facts.unit) or kinds[facts.type], *filter(None, bounds)])


def _code(text: str | None) -> str:
    if text is None:
        return ""
    return f"`{text}`" if text else "*empty*"


def _ignored(models: Sequence[type[ConfigModel]]) -> list[str]:
    """Keys of Kafka Connect's that have no effect."""
    rows = [f"| `{name}` | {why} |" for model in models for name, why in model.ignored_keys.items()]
    if not rows:
        return []
    return ["## Accepted without effect", "", "| key | reason |", "|---|---|", *rows, ""]


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"
