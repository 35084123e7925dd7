"""Regular expressions that users write, matched in time that is linear in the text (RE2).

Python's ``re`` holds the interpreter while it matches, and with it all tasks: ``(a+)+b`` takes seconds for a topic of
27 letters. RE2 has no backreferences, lookaheads and lookbehinds, which cannot be matched in linear time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import re2

_LONGEST = 10_000
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20
_MISSING = {
    "(?=": "a lookahead",
    "(?!": "a negative lookahead",
    "(?<=": "a lookbehind",
    "(?<!": "a negative lookbehind",
    "(?>": "an atomic group",
}


class PatternMatch(Protocol):
    """A match: ``match[1]`` and ``match["name"]`` are its groups, None for one that took no part."""

    def __getitem__(self, group: int | str, /) -> str | None: ...


class Pattern:
    """A compiled pattern."""

    def __init__(self, text: str) -> None:
        """Raise ValueError with the reason when RE2 does not have it."""
        if len(text) > _LONGEST:
            raise ValueError(f"it is longer than {_LONGEST} characters")
        self.text = text
        try:
            self._compiled = re2.compile(text, _OPTIONS)
        except re2.error as error:
            raise ValueError(_reason(text, error)) from error
        self.groups: int = self._compiled.groups
        self.groupindex: dict[str, int] = dict(self._compiled.groupindex)

    def fullmatch(self, text: str) -> PatternMatch | None:
        """Return the match of the whole text, None when there is none."""
        try:
            found: PatternMatch | None = self._compiled.fullmatch(text)
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold and UTF-8 cannot
            return None
        return found


@lru_cache(maxsize=1_000)
def compile_pattern(text: str) -> Pattern:
    """Return the compiled pattern. Raise ValueError with the reason when RE2 does not have it."""
    return Pattern(text)


def _reason(text: str, error: Exception) -> str:
    said = error.args[0] if error.args else error
    reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    for sign, name in _MISSING.items():
        if sign in text:
            return f"{reason}; {name} ({sign}…) is not supported, because it cannot be matched in linear time"
    if "invalid escape sequence" in reason:
        return rf"{reason}; backreferences (\1) are not supported, because they cannot be matched in linear time"
    return reason
