"""What a field can show on a dashboard, by its type and its name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from headrace.plugin import IndexedField

WHOLE_NUMBERS = frozenset(["long", "integer", "short", "byte", "unsigned_long"])
NUMBERS = WHOLE_NUMBERS | {"double", "float", "half_float", "scaled_float"}
DATES = frozenset(["date", "date_nanos"])
TERMS = frozenset(["keyword", "constant_keyword", "ip", "boolean", "version"])
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_IDENTIFIERS = frozenset(
    [
        "id",
        "ids",
        "uuid",
        "guid",
        "ulid",
        "key",
        "keys",
        "pk",
        "hash",
        "digest",
        "token",
        "checksum",
        "etag",
        "offset",
        "seq",
        "sequence",
        "cursor",
        "email",
        "mail",
        "phone",
        "address",
        "iban",
        "password",
        "secret",
        "url",
        "uri",
        "user",
        "session",
    ]
)
"""Words of names of fields that identify a document or a person, or hold a secret."""
_TIMES = ("updated", "modified", "changed", "timestamp", "time", "created", "inserted")
_MOST_VALUES = 1_000
_FEW_DOCUMENTS = 100
_FEW_VALUES = 12


class FieldKind(StrEnum):
    """How a field is shown."""

    NUMBER = "number"
    DATE = "date"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    """Few different values."""
    TERMS = "terms"
    """The most frequent values are shown; there may be many others."""


class FieldFacts(NamedTuple):
    """A field, and what is known of its values. ``distinct``: None = not asked."""

    field: IndexedField
    distinct: int | None = None
    documents: int = 0

    @property
    def title(self) -> str:
        """The path without the subfield that holds the exact text."""
        return self.field.path.removesuffix(".keyword")


def kind_of(facts: FieldFacts) -> FieldKind | None:
    """Return how a field is shown; None for text, identifiers, constants, and types that no panel takes."""
    field = facts.field
    if not field.aggregatable:
        return None
    if field.type in DATES:
        return FieldKind.DATE
    if identifies(facts.title):
        return None
    if field.type in NUMBERS:
        return FieldKind.NUMBER
    if field.type == "boolean":
        return FieldKind.BOOLEAN
    if field.type not in TERMS or _says_nothing(facts):
        return None
    few = facts.distinct is not None and facts.distinct <= _FEW_VALUES
    return FieldKind.CATEGORY if few else FieldKind.TERMS


def identifies(path: str) -> bool:
    """Return whether the last name of a path is that of an identifier or a secret."""
    words = [word.lower() for word in _WORD.findall(path.rpartition(".")[2])]
    return any(word in _IDENTIFIERS for word in words)


def time_field_of(fields: Iterable[IndexedField]) -> str:
    """Return the date field that tells best when a document changed last; empty when there is no date field."""
    dates = [field.path for field in fields if field.type in DATES and field.aggregatable]
    return min(dates, key=_time_order, default="")


def in_order(facts: Iterable[FieldFacts]) -> Sequence[FieldFacts]:
    """Return fields from the top of documents first, then by name: an order that does not depend on the data."""
    return sorted(facts, key=lambda each: (each.title.count("."), each.title, each.field.path))


def _says_nothing(facts: FieldFacts) -> bool:
    if facts.distinct is None:
        return False
    constant = facts.distinct <= 1 and facts.documents > 1
    unique = facts.documents >= _FEW_DOCUMENTS and facts.distinct * 2 > facts.documents
    return constant or unique or facts.distinct > _MOST_VALUES


def _time_order(path: str) -> tuple[int, int, str]:
    name = path.lower()
    rank = next((number for number, word in enumerate(_TIMES) if word in name), len(_TIMES))
    return path.count("."), rank, path
