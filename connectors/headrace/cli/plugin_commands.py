"""``headrace plugins`` and ``headrace schema``: what is installed, and the JSON Schema of its keys for editors."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli.output import JsonFlag, err, print_json, print_table
from headrace.errors import ConfigError
from headrace.plugin_docs import json_schema
from headrace.registry import Plugin, PluginKind, Registry


def plugins(json: JsonFlag = False) -> None:
    """List installed plugins: connectors, converters, transforms, predicates, config providers.

      headrace plugins

    `headrace describe NAME` shows the configuration keys of a plugin.
    """
    views = [_plugin_view(plugin) for kind in PluginKind for plugin in Registry().plugins(kind)]
    if json:
        print_json(views)
        return
    rows = [(view["name"], view["type"], view["version"], ", ".join(view["aliases"])) for view in views]
    print_table(("name", "type", "version", "aliases"), rows)
    for view in views:
        if view["error"]:
            err.print(f"{view['name']}: {view['error']}", style="red", markup=False)


def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file instead of stdout.")
    ] = None,
) -> None:
    """Print a JSON Schema of connector and worker files, so that editors complete keys and mark mistakes.

      headrace schema --output headrace.schema.json

    Then write this as the first line of a YAML file:  # yaml-language-server: $schema=headrace.schema.json
    """
    text = json_format.dumps(json_schema(Registry()), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"{output} cannot be written: {reason}", code="cli.output", hint="choose another path"
        ) from error
    err.print(f"wrote {output}; first line of a YAML file: # yaml-language-server: $schema={output}", markup=False)


def _plugin_view(plugin: Plugin) -> dict[str, Any]:
    view: dict[str, Any] = {"name": plugin.name, "type": plugin.kind.word, "class": "", "version": "", "aliases": []}
    try:
        aliases = list(plugin.cls.aliases)
        return view | {
            "type": plugin.type,
            "class": plugin.class_name,
            "version": plugin.version,
            "aliases": aliases,
            "error": "",
        }
    except ConfigError as error:
        return view | {"error": str(error)}
