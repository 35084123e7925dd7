"""Output of commands: results on stdout (a table, or JSON for scripts), everything else on stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from headrace.cli.finding_blocks import count_line, finding_block
from headrace.control_characters import without_control_characters
from headrace.errors import ConfigError, Finding, HeadraceError
from headrace.redaction import Redact, unredacted

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for scripts.")]


class _Harmless:
    """Output of a console, without secrets and control characters; the console's own styles are kept."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._renderable, options):
            yield segment if segment.control else Segment(_clean(segment.text), segment.style)


class _Filter(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Harmless(each) for each in renderables]


class _Secrets:
    """The secrets of the files that this command has read."""

    redact: Redact = staticmethod(unredacted)


def redact_output(redact: Redact) -> None:
    """Take these secrets out of everything that the command prints from now on."""
    _Secrets.redact = staticmethod(redact)


def _clean(text: str) -> str:
    return without_control_characters(_Secrets.redact(text))


def _console(**options: Any) -> Console:
    console = Console(highlight=False, **options)
    console.push_render_hook(_Filter())
    return console


out = _console(soft_wrap=True)
err = _console(stderr=True, soft_wrap=True)

_UNBOUNDED = 100_000
_OTHER_CONTROL = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_WIDEST_TEXT = 100
"""Columns: longer lines of prose are hard to read, however wide the terminal is."""


def print_json(data: Any) -> None:
    """Print indented JSON on stdout."""
    text = json.dumps(data, indent=2, ensure_ascii=False, default=str)
    # JSON escapes the control characters below 32 itself; the others would reach the terminal.
    sys.stdout.write(_OTHER_CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", _Secrets.redact(text)) + "\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], console: Console = out, folded: str = ""
) -> None:
    """Print a table without frames, so that ``awk`` can read it. Without a terminal nothing is cut or wrapped.

    ``folded``: the only column whose cells may have several lines; empty = all.
    """
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    for column in table.columns:
        column.overflow = "fold"  # wrap long names instead of truncating them
        column.no_wrap = folded not in ("", column.header)
    if console.is_terminal:
        console.print(table, soft_wrap=False)
        return
    plain = _console(width=_UNBOUNDED)
    with plain.capture() as capture:
        plain.print(table, soft_wrap=False)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def finding_view(finding: Finding) -> dict[str, Any]:
    """Return a finding as an object of JSON, without its place."""
    return {
        "severity": finding.severity,
        "code": finding.code,
        "key": finding.key,
        "message": finding.message,
        "hint": finding.hint,
    }


def print_findings(findings: Iterable[Finding], console: Console = err) -> None:
    """Print each finding as a block on stderr, and how many there are."""
    findings = list(findings)
    for number, finding in enumerate(findings):
        if number and console.is_terminal:
            console.print()
        for line in finding_block(finding, text_width(console)):
            console.print(line)
    if findings:
        console.print(count_line(findings), style="bold")


def text_width(console: Console) -> int | None:
    """Return at which column to wrap text; None without a terminal, where nothing is wrapped."""
    return min(console.width, _WIDEST_TEXT) if console.is_terminal else None


def print_error(error: HeadraceError) -> None:
    """Print an error: code, message, hint."""
    if isinstance(error, ConfigError) and error.findings:
        print_findings(error.findings)
        return
    err.print(Text.assemble(("error", "bold red"), f": {error.code}: {error.message}"))
    if error.hint:
        err.print(Text(f"  → {error.hint}"))
