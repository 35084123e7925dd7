"""Commands of plugins: found by their entry points, and what is passed to them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from headrace.cli.output import err, out, print_json, print_table
from headrace.errors import ConfigError
from headrace.plugin import ConnectorAccess

if TYPE_CHECKING:
    from headrace.broker.interfaces import KafkaClients
    from headrace.settings import WorkerSettings

GROUP = "headrace.commands"
"""The group of entry points whose values are ``typer.Typer`` objects."""


class TerminalCommandContext:
    """Implements :class:`headrace.CommandContext`. ``kafka_clients`` replace those of the worker's file, for tests."""

    def __init__(self, kafka_clients: KafkaClients | None = None) -> None:
        self._kafka_clients = kafka_clients

    def print(self, text: str) -> None:
        out.print(Text(text))

    def note(self, text: str) -> None:
        err.print(Text(text))

    def print_table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        print_table(columns, rows)

    def print_json(self, data: Any) -> None:
        print_json(data)

    def read_topics(self, worker: Path, topics: Sequence[str]) -> Iterator[bytes | None]:
        # Late: the list of commands needs neither configurations nor a Kafka client.
        from headrace.cli.loading import load
        from headrace.cli.topic_reading import read_to_ends

        loaded = load([worker], worker=worker)
        settings = loaded.require()
        clients = self._clients(settings)
        batches = read_to_ends(
            lambda: clients.admin(settings.admin),
            lambda: clients.reader(settings.consumer),
            topics,
            committed=settings.consumer.get("isolation.level", "read_committed") == "read_committed",
            hint=f"check the names, and bootstrap.servers of {worker}",
        )
        for batch in batches:
            yield from batch.values

    def connector(self, worker: Path, file: Path) -> ConnectorAccess:
        from headrace.cli.connector_access import load_connector  # late, see above

        return load_connector(worker, file, self._clients, self.note)

    def _clients(self, settings: WorkerSettings) -> KafkaClients:
        return self._kafka_clients or _open_clients(settings)


def add_plugin_commands(app: typer.Typer) -> None:
    """Add the commands of installed plugins. One that cannot be imported remains as a command that says so."""
    for entry_point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda found: found.name):
        try:
            commands = entry_point.load()
        except ImportError as error:
            app.command(entry_point.name, help=f"Not available: {error}")(_unavailable(entry_point.name, str(error)))
        else:
            settings = {"obj": TerminalCommandContext(), "help_option_names": ["-h", "--help"]}
            app.add_typer(commands, name=entry_point.name, context_settings=settings)


def _unavailable(name: str, reason: str) -> Any:
    def command() -> None:
        raise ConfigError(
            f"the command '{name}' of a plugin cannot be imported: {reason}",
            code="plugin.broken",
            hint="install what the plugin requires, for example its extra",
        )

    return command


def _open_clients(settings: WorkerSettings) -> KafkaClients:
    from headrace.broker.client_choice import choose

    return choose(settings.kafka_client).open(settings.client_settings())
