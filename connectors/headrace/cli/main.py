"""The root command, which turns every error into one message and an exit code."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import Annotated

import typer

from headrace.cli.lazy_commands import LazyGroup
from headrace.cli.output import print_error, redact_output
from headrace.errors import HeadraceError
from headrace.redaction import unredacted

EPILOG = (
    "Exit codes: 0 success · 1 failure · 2 fix your configuration or command · "
    "3 environment problem (port in use, password refused, system unavailable)."
)

app = typer.Typer(
    name="headrace",
    cls=LazyGroup,
    help="Kafka Connect and Kafka Streams for Python teams: SQL databases, Kafka, stream applications, Elasticsearch.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    """Options of every command."""
    redact_output(unredacted)  # a command names its own secrets


def main() -> None:
    """Run a command. Stack traces are shown only with ``HEADRACE_DEBUG=1``."""
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
            hint="this is a bug in headrace; report it with the output of the same command under HEADRACE_DEBUG=1",
        )
        print_error(bug)
        sys.exit(bug.exit_code)
