"""Control characters in texts from databases, records and traces, which a terminal would obey."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""C0 and C1 without tab and line feed, and characters that turn the direction of text."""


def without_control_characters(text: str) -> str:
    """Return the text with control characters as escapes, such as ``\\x1b``; tabs and line feeds stay."""
    return _CONTROL.sub(_escape, text) if _CONTROL.search(text) else text


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
