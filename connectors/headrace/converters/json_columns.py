"""Converts values of a schema to what JSON can express and back, a column at a time; only columns that differ change.

Both directions share one walk (null rules, structs, arrays, maps); they differ in the leaves and in where a map with
keys other than strings becomes a list of pairs. Types are checked on whole columns, at the speed of C.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from types import NoneType
from typing import Any, NamedTuple

from headrace import DataError, Schema, Type

Values = list[Any]


class Leaf(NamedTuple):
    """Checks and converts values without parts: accepted Python types, and a function of a whole column.

    ``convert`` returns its argument when nothing changes; raises ValueError or ArithmeticError with the reason.
    """

    accepted: frozenset[type]
    convert: Callable[[Values], Values]


@dataclass(frozen=True)
class Direction:
    """The differences between an encoder and a decoder."""

    leaf: Callable[[Schema], Leaf]
    encodes: bool
    replace_nulls: bool
    special: Callable[[Schema], type[JsonColumn] | None] = lambda described: None
    """The columns of schemas that a format writes in its own way."""


def compile_column(schema: Schema, direction: Direction, path: str = "") -> JsonColumn:
    """Return the column of a schema, to be made once per schema. Raise DataError for an invalid schema."""
    kinds: dict[Type, type[JsonColumn]] = {Type.STRUCT: StructColumn, Type.ARRAY: _Array, Type.MAP: MapColumn}
    kind = direction.special(schema) or kinds.get(schema.type, _Leaf)
    return kind(schema, direction, path)


class JsonColumn(ABC):
    """Checks and changes values of one schema."""

    accepted: frozenset[type]

    def __init__(self, schema: Schema, direction: Direction, path: str) -> None:
        self.schema, self._direction, self._path = schema, direction, path
        self._default: Values | None = None  # converted on first use; a list, because None means not converted

    def run(self, values: Values) -> Values:
        """Return the changed values; ``values`` itself when nothing changes. Raise DataError that names the field."""
        types = set(map(type, values))
        if NoneType in types:
            return self._with_nulls(values)
        if not types <= self.accepted:
            found = ", ".join(sorted(item.__name__ for item in types - self.accepted))
            raise self._error(f"{found} where {self._kind()} is expected")
        try:
            return self._convert(values) if values else values
        except (ValueError, ArithmeticError) as error:
            raise self._error(str(error) or "not a value of " + self._kind()) from error

    @abstractmethod
    def _convert(self, values: Values) -> Values:
        """Convert values of accepted types; there is at least one, and none is None."""

    def _with_nulls(self, values: Values) -> Values:
        filler = self._filler()
        present = [value for value in values if value is not None]
        changed = self.run(present)
        if changed is present and filler is None:
            return values
        rest = iter(changed)
        return [filler if value is None else next(rest) for value in values]

    def _filler(self) -> Any:
        """Return the value that replaces null, as in Connect's JsonConverter."""
        if self.schema.default is not None and self._direction.replace_nulls:
            if self._default is None:
                defaults = [self.schema.default]
                self._default = self.run(defaults) if self._direction.encodes else defaults
            return self._default[0]
        if not self.schema.optional:
            raise self._error(f"null where {self._kind()} is required and has no default")
        return None

    def _kind(self) -> str:
        name = (self.schema.name or "").rsplit(".", 1)[-1]
        return f"{self.schema.type.name} ({name})" if name else self.schema.type.name

    def _error(self, reason: str) -> DataError:
        return DataError(f"field '{self._path}': {reason}" if self._path else reason)

    def _child(self, schema: Schema | None, step: str) -> JsonColumn:
        if schema is None:
            raise self._error(f"the schema of {self._kind()} says nothing of its {step.strip('[].')}")
        return compile_column(schema, self._direction, f"{self._path}{step}".removeprefix("."))


class _Leaf(JsonColumn):
    def __init__(self, schema: Schema, direction: Direction, path: str) -> None:
        super().__init__(schema, direction, path)
        try:
            self.accepted, self._change = direction.leaf(schema)
        except ValueError as error:
            raise self._error(str(error)) from error

    def _convert(self, values: Values) -> Values:
        return self._change(values)


class StructColumn(JsonColumn):
    """Objects with the fields of the schema; a format that writes them otherwise extends it."""

    accepted = frozenset({dict})

    def __init__(self, schema: Schema, direction: Direction, path: str) -> None:
        super().__init__(schema, direction, path)
        self._names = tuple(field.name for field in schema.fields)
        self._known = frozenset(self._names)
        self._columns = [self._child(field.schema, f".{field.name}") for field in schema.fields]

    def _convert(self, values: Values) -> Values:
        rows = values
        if set(map(tuple, rows)) != {self._names}:
            rows = [self._complete(row) for row in rows]
        columns = map(list, zip(*map(dict.values, rows), strict=True))
        changed = []
        for name, column, before in zip(self._names, self._columns, columns, strict=True):
            after = column.run(before)
            if after is not before:
                changed.append((name, after))
        if changed and rows is values:
            rows = [row.copy() for row in rows]  # the caller's rows must not change
        for name, column_after in changed:
            for row, cell in zip(rows, column_after, strict=True):
                row[name] = cell
        return rows

    def _complete(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row with every field of the schema, in its order."""
        if self._direction.encodes and (unknown := row.keys() - self._known):
            raise self._error(f"no field of the schema: {', '.join(sorted(map(str, unknown)))}")
        return {name: row.get(name) for name in self._names}  # Connect ignores unknown fields when it reads


class _Array(JsonColumn):
    accepted = frozenset({list})

    def __init__(self, schema: Schema, direction: Direction, path: str) -> None:
        super().__init__(schema, direction, path)
        self._items = self._child(schema.items, "[]")
        self.accepted = frozenset({list, tuple}) if direction.encodes else self.accepted

    def _convert(self, values: Values) -> Values:
        flat = list(chain.from_iterable(values))
        changed = self._items.run(flat)
        return values if changed is flat else _split(changed, map(len, values))


class MapColumn(JsonColumn):
    """Maps: objects, or pairs when their keys are no texts; a format that writes them otherwise extends it."""

    def __init__(self, schema: Schema, direction: Direction, path: str) -> None:
        super().__init__(schema, direction, path)
        self._keys = self._child(schema.keys, ".keys")
        self._items = self._child(schema.items, ".values")
        if self._keys.schema.type in (Type.STRUCT, Type.ARRAY, Type.MAP):
            raise self._error(f"keys of a MAP cannot be {self._keys.schema.type.name}")
        self._pairs = self._keys.schema.type is not Type.STRING  # Connect writes [[key, value], …] then
        self.accepted = frozenset({list if self._pairs and not direction.encodes else dict})

    def _convert(self, values: Values) -> Values:
        pairs_in, pairs_out = self._pairs and not self._direction.encodes, self._pairs and self._direction.encodes
        if pairs_in and any(type(pair) is not list or len(pair) != 2 for value in values for pair in value):
            raise self._error("a MAP whose keys are no strings is a list of pairs")
        keys = [pair[0] for value in values for pair in value] if pairs_in else list(chain.from_iterable(values))
        items = [item for value in values for item in ((pair[1] for pair in value) if pairs_in else value.values())]
        new_keys, new_items = self._keys.run(keys), self._items.run(items)
        if not self._pairs and new_keys is keys and new_items is items:
            return values
        sizes = list(map(len, values))
        columns = zip(_split(new_keys, sizes), _split(new_items, sizes), strict=True)
        if pairs_out:
            return [list(map(list, zip(*column, strict=True))) for column in columns]
        return [dict(zip(*column, strict=True)) for column in columns]


def _split(flat: Values, sizes: Iterable[int]) -> list[Values]:
    parts, start = [], 0
    for size in sizes:
        parts.append(flat[start : start + size])
        start += size
    return parts
