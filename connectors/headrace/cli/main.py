"""The root of the command line: puts commands together, and turns every error into one message and an exit code."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import Annotated

import typer

from headrace.cli import configs, connectors, describe, reindex, run, stack, verify
from headrace.cli.output import print_error
from headrace.errors import HeadraceError

EPILOG = (
    "Exit codes: 0 done · 1 failed · 2 something you wrote must change · 3 something around headrace must be mended."
)

app = typer.Typer(
    name="headrace",
    help="Kafka Connect for Python teams: rows from SQL databases to Kafka, records from Kafka to Elasticsearch.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run.run)
app.command()(configs.validate)
app.command()(configs.check)
app.command()(configs.plugins)
app.command()(describe.describe)
app.command()(configs.schema)
app.add_typer(connectors.app)
app.command("verify")(verify.verify_command)
app.command("reindex")(reindex.reindex_command)
app.command()(stack.up)
app.command()(stack.down)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headrace {importlib.metadata.version('headrace')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """What all commands share."""


def main() -> None:
    """Run a command. Never shows a bare stack trace; ``HEADRACE_DEBUG=1`` shows the one of a bug."""
    try:
        app()
    except HeadraceError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except Exception as error:
        if os.environ.get("HEADRACE_DEBUG"):
            raise
        bug = HeadraceError(
            f"{type(error).__name__}: {error}",
            hint="this is a bug of headrace's; please report it with what HEADRACE_DEBUG=1 prints",
        )
        print_error(bug)
        sys.exit(bug.exit_code)
