"""The lists of tables and columns in a configuration: regular expressions over names with their schema."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Entry(NamedTuple):
    """One entry of a column mapping: ``regex:column`` or ``regex:[column|column]``."""

    pattern: str
    columns: tuple[str, ...]


def pattern_error(pattern: str) -> str:
    """Why it is no regular expression; empty when it is one."""
    try:
        re.compile(pattern)
    except re.error as error:
        return str(error)
    return ""


def entry_error(text: str) -> str:
    """Why it is no entry of a column mapping; empty when it is one."""
    pattern, colon, _ = text.rpartition(":")
    if not colon or not pattern:
        return "it has no colon between the expression and the column"
    if not all(entry(text).columns):
        return "it names no column"
    return pattern_error(pattern)


def entry(text: str) -> Entry:
    """Read an entry; the last colon counts, as an expression may have some, too."""
    pattern, _, columns = text.rpartition(":")
    inner = columns.strip().removeprefix("[").removesuffix("]")
    return Entry(pattern.strip(), tuple(column.strip() for column in inner.split("|")))


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether one of the expressions matches the whole name."""
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def mapped(entries: Sequence[str], name: str) -> list[Entry]:
    """The entries that mean a table."""
    return [found for found in map(entry, entries) if re.fullmatch(found.pattern, name)]


def like(pattern: str | None, name: str) -> bool:
    """SQL LIKE; no pattern matches everything."""
    if pattern is None:
        return True
    parts = {"%": ".*", "_": "."}
    return re.fullmatch("".join(parts.get(char, re.escape(char)) for char in pattern), name, re.DOTALL) is not None
