"""Types of columns, as far as they are known before the start."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace import nearest
from headrace_streams.expressions.errors import ExpressionError


class ColumnType(enum.StrEnum):
    """Types of values. ``ANY``: not known before a record is read."""

    ANY = "any"
    NULL = "null"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    DOUBLE = "double"
    DECIMAL = "decimal"
    STRING = "string"
    TIMESTAMP = "timestamp"
    OBJECT = "object"
    ARRAY = "array"

    @property
    def numeric(self) -> bool:
        return self in (ColumnType.INTEGER, ColumnType.DOUBLE, ColumnType.DECIMAL)

    def may_be(self, *types: ColumnType) -> bool:
        """Return whether a value of this type may have one of ``types``; null may have every type."""
        return self in (ColumnType.ANY, ColumnType.NULL, *types)


NUMERIC = (ColumnType.INTEGER, ColumnType.DOUBLE, ColumnType.DECIMAL)

DECLARABLE = {
    **{item.value: item for item in ColumnType if item is not ColumnType.NULL},
    "int": ColumnType.INTEGER,
    "long": ColumnType.INTEGER,
    "bigint": ColumnType.INTEGER,
    "float": ColumnType.DOUBLE,
    "bool": ColumnType.BOOLEAN,
    "text": ColumnType.STRING,
    "varchar": ColumnType.STRING,
}
"""Names of types in ``columns`` of an input or table."""


@dataclass(frozen=True)
class Columns:
    """The columns of a stream. ``complete``: no others exist, so that an unknown name is an error before the start."""

    types: Mapping[str, ColumnType | Columns] = field(default_factory=dict)
    complete: bool = False

    def type_of(self, path: tuple[str, ...]) -> ColumnType:
        """Return the type of a column, ``(offer, cpi)`` for ``offer.cpi``. Raise ExpressionError when it is unknown."""
        name, rest = path[0], path[1:]
        known = self.types.get(name)
        if known is None:
            if not self.complete:
                return ColumnType.ANY
            hint = nearest(name, self.types) or f"there are: {', '.join(self.types) or 'no columns'}"
            raise ExpressionError(f"unknown column '{name}'", code="stream.unknown_column", hint=hint)
        if isinstance(known, Columns):
            return known.type_of(rest) if rest else ColumnType.OBJECT
        if rest and not known.may_be(ColumnType.OBJECT):
            text = f"'{name}' is of type {known} and has no column '{rest[0]}'"
            raise ExpressionError(text, code="stream.unknown_column", hint="remove what follows the dot")
        return ColumnType.ANY if rest else known

    def with_columns(self, added: Mapping[str, ColumnType | Columns]) -> Columns:
        """Return these columns and ``added``, which replace those of the same name."""
        return Columns({**self.types, **added}, self.complete)

    def merged(self, other: Columns) -> Columns:
        """Return the columns of records that come from either stream."""
        types: dict[str, ColumnType | Columns] = {}
        for name in {**self.types, **other.types}:
            mine, theirs = self.types.get(name), other.types.get(name)
            both_known = name in self.types and name in other.types
            types[name] = mine if both_known and mine == theirs and mine is not None else ColumnType.ANY
        return Columns(types, self.complete and other.complete)
