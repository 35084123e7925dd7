"""``headrace describe``: configuration keys of a plugin or of the worker, formatted for terminals."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from headrace.cli.output import JsonFlag, out, print_json
from headrace.config import ConfigModel, KeyDefinition, nearest
from headrace.errors import ConfigError
from headrace.plugin_docs import definitions_of, facts_of, rest_definitions, type_text
from headrace.registry import PluginKind, Registry
from headrace.settings import WorkerSettings

WORKER = "worker"
_WIDEST = 100
"""Columns: longer lines of prose are hard to read, however wide the terminal is."""

Key = tuple[type[ConfigModel], KeyDefinition]
"""A key and the model that says how it is parsed."""


def describe(
    plugin: Annotated[str, typer.Argument(metavar="PLUGIN", help="Name or class of a plugin, or 'worker'.")],
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="One key, in full.", show_default=False)] = None,
    json: JsonFlag = False,
) -> None:
    """Show the configuration keys of a plugin or of the worker: type, default, meaning.

    headrace describe SqlSource

    headrace describe ElasticsearchSink batch.size

    headrace describe worker
    """
    keys = _keys(plugin)
    if not keys and not json:
        out.print(f"{plugin} has no keys", markup=False)
        return
    if key is not None:
        keys = [_one_key(plugin, key, keys)]
    if json:
        answer = rest_definitions(keys)
        print_json(answer[0] if key is not None and answer else answer)
    elif key is not None:
        _print_key(*keys[0])
    else:
        _print_all(keys)


def _keys(name: str) -> list[Key]:
    if name == WORKER:
        return [(WorkerSettings, item) for item in WorkerSettings.definitions()]
    registry = Registry()
    for kind in PluginKind:
        try:
            return definitions_of(registry.find(kind, name))
        except ConfigError as error:
            if error.code != "plugin.unknown":
                raise
    names = [plugin.name for plugin in registry.plugins()]
    hint = nearest(name, [*names, WORKER]) or "`headrace plugins` lists all plugins"
    raise ConfigError(f"there is no plugin '{name}'", code="plugin.unknown", hint=hint)


def _one_key(plugin: str, name: str, keys: Sequence[Key]) -> Key:
    for model, item in keys:
        if name == item.name:
            return model, item
    for model, item in keys:
        if item.prefix_key and name.startswith(item.name):
            return model, item
    hint = nearest(name, [item.name for _, item in keys]) or f"`headrace describe {plugin}` lists all keys"
    raise ConfigError(f"{plugin} has no key '{name}'", code="config.unknown_key", hint=hint)


def _print_all(keys: Sequence[Key]) -> None:
    """By group, in the order of the models."""
    groups: dict[str, list[Key]] = {}
    for model, item in keys:
        groups.setdefault(item.group or "Other", []).append((model, item))
    for number, (group, members) in enumerate(groups.items()):
        if number:
            out.print()
        out.print(group, style="bold underline", markup=False)
        for model, item in members:
            _print_key(model, item)


def _print_key(model: type[ConfigModel], item: KeyDefinition) -> None:
    """Print name, type and default in one line, so that ``grep`` finds them; the documentation below."""
    facts = facts_of(model, item)
    name = f"{item.name}*" if item.prefix_key else item.name
    properties = [type_text(item, facts).replace("`", "")]
    if item.required:
        properties.append("required")
    elif not item.prefix_key:
        properties.append(f"default {facts.default}" if facts.default else "no default")
    properties.append(f"importance {item.importance}")
    out.print(Text.assemble((name, "bold cyan"), "  ", ", ".join(properties)))
    width = min(out.width, _WIDEST)
    text = textwrap.fill(item.doc, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    out.print(text, markup=False)
