"""The commands of ``headrace``. Each is imported when it is called: all of them together take longer than most runs."""

from __future__ import annotations

import functools
import importlib
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup


class CommandEntry(NamedTuple):
    """Where a command is, and what the list of commands says about it: the first paragraph of its help."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "run": CommandEntry(
        "run",
        "run",
        "Run a worker, until Ctrl+C or SIGTERM: standalone with connectors from files, or as a member of a group.",
    ),
    "validate": CommandEntry(
        "validate",
        "validate",
        "Check configuration files without connecting to any system. Reports all problems at once, with location and "
        "hint.",
    ),
    "check": CommandEntry(
        "validate",
        "check",
        "Validate files, then check the systems they name: Kafka, databases, tables, Elasticsearch. Changes nothing.",
    ),
    "doctor": CommandEntry(
        "doctor",
        "doctor",
        "Examine this machine and the systems in the files, and print for each problem the command to run.",
    ),
    "plugins": CommandEntry(
        "plugin_commands",
        "plugins",
        "List installed plugins: connectors, converters, transforms, predicates, config providers.",
    ),
    "describe": CommandEntry(
        "describe", "describe", "Show the configuration keys of a plugin or of the worker: type, default, meaning."
    ),
    "schema": CommandEntry(
        "plugin_commands",
        "schema",
        "Print a JSON Schema of connector and worker files, so that editors complete keys and mark mistakes.",
    ),
    "migrate": CommandEntry(
        "migrate",
        "migrate",
        "Say what headrace would do with the connectors of a Kafka Connect cluster. Reads three topics, changes "
        "nothing.",
    ),
    "preview": CommandEntry(
        "preview",
        "preview_command",
        "Show real records as a connector would write them, after converters and transforms. Nothing is written.",
    ),
    "tap": CommandEntry(
        "tap",
        "tap_command",
        "Show records of a running task as they pass a stage. The task is not delayed, and nothing is changed.",
    ),
    "verify": CommandEntry(
        "verify",
        "verify_command",
        "Compare a sink's index with its topics: the last record of every key. Both sides are read completely.",
    ),
    "reindex": CommandEntry(
        "reindex",
        "reindex_command",
        "Rebuild a sink's indices from its topics, with the mappings and settings of its current configuration.",
    ),
    "workers": CommandEntry(
        "workers",
        "workers",
        "List the workers of a group, the leader, their versions and the differences of their clocks.",
    ),
    "up": CommandEntry(
        "stack", "up", "Start a real Kafka, Elasticsearch and PostgreSQL on this machine, for laptops, demos and tests."
    ),
    "down": CommandEntry("stack", "down", "Stop the engines that `headrace up` started. Their data is kept."),
    "connectors": CommandEntry("connectors", "app", "Show and control the connectors of a running worker."),
    "dlq": CommandEntry("dlq", "app", "Work with the dead letters of a connector."),
    "kibana": CommandEntry(
        "kibana", "app", "Dashboards, saved searches and alert rules over the data of Elasticsearch sinks, as files."
    ),
    "monitoring": CommandEntry(
        "monitoring", "app", "Write alert rules for Prometheus and a dashboard for Grafana over the metrics of workers."
    ),
    "new": CommandEntry("new", "app", "Write a new package, such as a connector's."),
    "stream": CommandEntry("stream", "app", "Explain, try, test, query and reset stream applications."),
    "users": CommandEntry("users", "app", "Write the file of users of a worker's REST API."),
}


class LazyGroup(TyperGroup):
    """The root command. Its list of commands imports only those of plugins, which say what they do themselves."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in COMMANDS.items():
            self.add_command(TyperCommand(name, help=entry.summary))

    def list_commands(self, ctx: Any) -> list[str]:
        self._add_plugin_commands()
        return super().list_commands(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, *rest = args
        if name in COMMANDS:
            return name, load_command(name), rest
        self._add_plugin_commands()
        return super().resolve_command(ctx, args)

    def _add_plugin_commands(self) -> None:
        for name, command in _plugin_commands().items():
            if name not in self.commands:
                self.add_command(command, name)


@functools.cache
def load_command(name: str) -> Any:
    """Import a command of headrace."""
    entry = COMMANDS[name]
    target = getattr(importlib.import_module(f"headrace.cli.{entry.module}"), entry.attribute)
    group = _empty_group()
    if isinstance(target, typer.Typer):
        group.add_typer(target, name=name)
    else:
        group.command(name)(target)
    return _commands_of(group)[name]


@functools.cache
def _plugin_commands() -> dict[str, Any]:
    from headrace.cli.command_context import add_plugin_commands  # late: it imports what commands of plugins use

    group = _empty_group()
    add_plugin_commands(group)
    return _commands_of(group)


def _empty_group() -> typer.Typer:
    return typer.Typer(
        callback=lambda: None, rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False
    )


def _commands_of(group: typer.Typer) -> dict[str, Any]:
    return dict(typer.main.get_group(group).commands)
