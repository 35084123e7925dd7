"""Findings as blocks: location and message, the source line with a caret, the hint."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.text import Text

from headrace.errors import Finding, Location

_STYLES = {"warning": "yellow", "error": "red"}
# A literal secret in a file must not reach the terminal or the log of a CI job.
_SECRET = re.compile(r"""((?:password|secret|token|jaas\.config|\.key)["']?\s*[:=]\s*).+""", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^\s/:@]*:)[^\s@]+@")
_KEY = re.compile(r"""["']?[^\s:=,"'{}\[\]]+["']?""")
_LONGEST_LINE = 160


def finding_block(finding: Finding, width: int | None) -> Iterator[Text]:
    """Yield the lines of a block, wrapped between words at ``width`` (None = not wrapped)."""
    place = f"{finding.location}: " if finding.location else ""
    severity = "warning: " if finding.severity == "warning" else ""
    style = _STYLES.get(finding.severity, "red")
    for number, line in enumerate(wrapped(f"{place}{severity}{finding.code}: {finding.message}", width, "    ")):
        text = Text(line, style=style)
        if number == 0:
            text.stylize("bold", 0, len(place))
        yield text
    if finding.location is not None:
        yield from _excerpt(finding.location, finding.key if finding.at is None else "")
    if finding.hint:
        for line in wrapped(f"  → {finding.hint}", width, "    "):
            yield Text(line)


def count_line(findings: Iterable[Finding]) -> str:
    """Return a line such as ``2 errors, 1 warning in 3 files``; empty without findings."""
    findings = list(findings)
    errors = sum(finding.severity == "error" for finding in findings)
    counts = [_plural(count, word) for word, count in (("error", errors), ("warning", len(findings) - errors)) if count]
    files = {finding.location.file for finding in findings if finding.location}
    return ", ".join(counts) + (f" in {_plural(len(files), 'file')}" if files else "")


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def wrapped(text: str, width: int | None, indent: str) -> list[str]:
    """Return the lines of a text that is wrapped between words. None: not at all, for output that programs read."""
    if width is None:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _excerpt(place: Location, key: str) -> Iterator[Text]:
    """Yield the source line with a caret; nothing when the line is not the key's own, because the key is missing."""
    try:
        lines = Path(place.file).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):  # the finding itself says that the file cannot be read
        return
    if not 1 <= place.line <= len(lines):
        return
    source = lines[place.line - 1]
    shown = _URL_PASSWORD.sub(r"\1[hidden]@", _SECRET.sub(r"\1[hidden]", source)).expandtabs(1)
    if not shown.strip() or place.column > len(shown) or len(shown) > _LONGEST_LINE:
        return
    marked = _KEY.match(shown, place.column - 1)
    if key and (marked is None or not key.endswith(marked[0].strip("\"'"))):
        return
    number = str(place.line)
    yield Text(f"  {number} | {shown.rstrip()}", style="dim")
    carets = "^" * (len(marked[0]) if marked else 1)
    yield Text(f"  {' ' * len(number)} | {' ' * (place.column - 1)}{carets}", style="dim")
