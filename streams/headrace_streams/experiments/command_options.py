"""Options that several commands of ``headrace experiment`` have, and what all of them need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headrace import CommandContext, ConfigError

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE|TOPIC...", help="Files of JSON lines or CSV; with --worker, topics.", show_default=False
    ),
]
WorkerFile = Annotated[
    Path | None, typer.Option("--worker", metavar="FILE", help="A worker's file: read topics of its Kafka.")
]
Outcome = Annotated[str, typer.Option("--outcome", metavar="COLUMN", help="Whether the impression converted.")]
Unit = Annotated[
    str, typer.Option("--unit", metavar="COLUMN", help="The user; without it, impressions count as independent.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for scripts.")]
Documents = Annotated[
    Path | None,
    typer.Option(
        "--documents", metavar="FILE", help="Write the numbers as JSON lines, a document each, for Elasticsearch."
    ),
]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a report with plots as one file (extra 'reports').")
]


def share_of(text: str | float) -> float:
    """Return a share: ``5%`` or ``0.05``. Defaults are numbers already."""
    if isinstance(text, (int, float)):
        return float(text)
    number = text.strip()
    try:
        return float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a share such as 5% or 0.05") from error


def command_of(context: typer.Context) -> CommandContext:
    """Return what the framework gives to the command."""
    found: Any = context.obj
    return found  # type: ignore[no-any-return]


def require_numpy() -> None:
    """Raise ConfigError when the extra is not installed."""
    try:
        import headrace_streams.exploration.special  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"headrace experiment needs numpy and scipy: {error}",
            code="experiment.missing_extra",
            hint="pip install 'headrace[exploration]'; for --html also 'headrace[reports]'",
        ) from error
