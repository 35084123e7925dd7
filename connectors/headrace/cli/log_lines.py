"""Log events for people at a terminal: long texts have lines of their own, wrapped between words."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

_LONG = ("reason", "hint", "next", "example")
"""Fields that hold sentences."""
_COLOURS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_RESET = "\x1b[0m"
_INDENT = "    "


class TerminalRenderer:
    """A structlog processor. The first line has time, level, event and short fields."""

    def __init__(self, width: Callable[[], int], *, colours: bool) -> None:
        """``width`` returns the columns of the terminal, which may change."""
        self._width = width
        self._colours = colours

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        fields = {key: value for key, value in event.items() if value not in (None, "")}
        level, time = str(fields.pop("level", "info")), str(fields.pop("timestamp", ""))
        fields.pop("logger", None)
        trace = fields.pop("exception", "")
        said = [str(fields.pop("event", "")), *(f"{key}={fields.pop(key)}" for key in list(fields) if key not in _LONG)]
        first = " ".join(filter(None, (time.partition("T")[2].removesuffix("Z") or time, level, *said)))
        lines = [*self._wrapped(first, "")]
        for key, value in fields.items():
            lines += self._wrapped(f"{'→ ' if key in ('hint', 'next') else ''}{value}", _INDENT)
        colour = _COLOURS.get(level, "") if self._colours else ""
        lines[0] = f"{colour}{lines[0]}{_RESET}" if colour else lines[0]
        return "\n".join([*lines, *([str(trace)] if trace else [])])

    def _wrapped(self, text: str, indent: str) -> Iterator[str]:
        for line in text.splitlines() or [""]:
            yield from textwrap.wrap(
                line,
                max(40, self._width()),
                initial_indent=indent,
                subsequent_indent=indent or _INDENT,
                break_long_words=False,
                break_on_hyphens=False,
            ) or [""]
