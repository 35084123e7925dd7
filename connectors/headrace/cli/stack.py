"""``headrace up`` and ``headrace down``: start and stop Kafka, Elasticsearch and PostgreSQL on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli.output import JsonFlag, err, out, print_json
from headrace.config import nearest
from headrace.embedded.stack import ENGINES, EmbeddedStack
from headrace.embedded.stack_process import Addresses, addresses, run_until_signal, start_in_background, stop_stack
from headrace.embedded.tcp_ports import preferred_port
from headrace.errors import ConfigError

DEFAULT_DATA = Path("~/.local/share/headrace/stack")
PURPOSE = "for laptops, demos and tests: no security, no backup, everything on this machine"
_USUAL_PORTS = {"kafka": 9092, "elasticsearch": 9200, "postgres": 5432}

DataOption = Annotated[
    Path,
    typer.Option(
        "--data", envvar="HEADRACE_STACK_DATA", help="Folder of the engines' data; kept when they stop.", metavar="DIR"
    ),
]
PortHelp = "Default: the usual port if it is free, else any free port."


def up(
    engines: Annotated[
        list[str] | None, typer.Argument(metavar="[ENGINE...]", help="kafka, elasticsearch, postgres; all if omitted.")
    ] = None,
    data: DataOption = DEFAULT_DATA,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Run in the background; `headrace down` stops it.")
    ] = False,
    brokers: Annotated[int, typer.Option("--brokers", help="1, or 3 with replication.")] = 1,
    kafka_port: Annotated[int | None, typer.Option("--kafka-port", min=1, max=65535, help=PortHelp)] = None,
    elasticsearch_port: Annotated[
        int | None, typer.Option("--elasticsearch-port", min=1, max=65535, help=PortHelp)
    ] = None,
    postgres_port: Annotated[int | None, typer.Option("--postgres-port", min=1, max=65535, help=PortHelp)] = None,
    json: JsonFlag = False,
) -> None:
    """Start a real Kafka, Elasticsearch and PostgreSQL on this machine, for laptops, demos and tests.

    They run until Ctrl+C, or in the background with --detach until `headrace down`. Their data is kept.
    """
    if brokers not in (1, 3):
        raise ConfigError(
            f"--brokers is 1 or 3, not {brokers}", code="cli.bad_option", hint="3 makes a replicated cluster"
        )
    folder = data.expanduser().absolute()
    wanted = list(engines or ENGINES)
    chosen = {"kafka": kafka_port, "elasticsearch": elasticsearch_port, "postgres": postgres_port}
    arguments: dict[str, Any] = {"engines": wanted, "brokers": brokers}
    for name in wanted:
        if name not in ENGINES:
            hint = nearest(name, ENGINES) or f"known: {', '.join(ENGINES)}"
            raise ConfigError(f"there is no engine {name!r}", code="embedded.unknown_engine", hint=hint)
        count = brokers if name == "kafka" else 1
        arguments[f"{name}_port"] = chosen[name] or preferred_port(_USUAL_PORTS[name], count)
    err.print(f"starting {', '.join(wanted)} in {folder}")
    if detach:
        _show(
            start_in_background(folder, arguments), folder, json, "headrace down" + _data_option(folder) + " stops it"
        )
        return
    stack = EmbeddedStack(folder, **arguments)
    run_until_signal(stack, lambda: _show(addresses(stack), folder, json, "Ctrl+C stops it"))
    err.print(f"stopped; the data is kept in {folder}")


def down(data: DataOption = DEFAULT_DATA, json: JsonFlag = False) -> None:
    """Stop the engines that `headrace up` started. Their data is kept."""
    folder = data.expanduser().absolute()
    owner = stop_stack(folder)
    if json:
        print_json({"stopped": owner is not None, "data": str(folder)})
    elif owner is None:
        err.print(f"nothing is running in {folder}")
    else:
        err.print(f"stopped; the data is kept in {folder}")


def _show(found: Addresses, folder: Path, json: bool, how_to_stop: str) -> None:
    if json:
        print_json({"data": str(folder), "engines": found})
    else:
        err.print("up: " + ", ".join(f"{engine['title']} {engine['version']}" for engine in found.values()))
        # On stdout, for eval "$(headrace up --detach)"; the example files in config/ use these variables.
        for engine in found.values():
            out.print(f"export {engine['variable']}={shlex.quote(engine['address'])}", markup=False)
    err.print(f"{PURPOSE}; {how_to_stop}", markup=False)


def _data_option(folder: Path) -> str:
    return "" if folder == DEFAULT_DATA.expanduser() else f" --data {shlex.quote(str(folder))}"
