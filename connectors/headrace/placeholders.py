"""The syntax of placeholders: ``${provider:[path:]key}``, as in Kafka's ConfigTransformer, several per value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Placeholder(NamedTuple):
    """A placeholder in a text, with its place there."""

    start: int
    end: int
    text: str
    provider: str
    path: str
    key: str


def placeholders(text: str) -> Iterator[Placeholder]:
    """Yield the placeholders of a text, in one pass.

    Kafka has the pattern ``\\$\\{([^}]*?):(([^}]*?):)?([^}]*?)\\}``. Its time grows with the fourth power of the text,
    so it is not used: a request of 1 kB would hold the interpreter for minutes.
    """
    place = 0
    while (start := text.find("${", place)) >= 0 and (end := text.find("}", start)) >= 0:
        provider, colon, rest = text[start + 2 : end].partition(":")
        if colon:
            path, second, key = rest.partition(":")
            yield Placeholder(start, end + 1, text[start : end + 1], provider, *((path, key) if second else ("", path)))
        place = end + 1


def is_interpolated(value: str) -> bool:
    """Return whether the value contains a placeholder."""
    return next(placeholders(value), None) is not None
