"""Converts values that the codec read to those of their Connect schema, a column at a time, where they differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from headrace import DataError, Schema, Type
from headrace.converters.avro.avro_types import NULL, AvroType
from headrace.converters.avro.leaves import decoding_leaf
from headrace.converters.avro.to_connect import is_map_entry
from headrace.converters.json_leaves import logical_name

Values = list[Any]
Change = Callable[[Values], Values]
"""Changes values of one type, of which none is None; the objects in it may be changed in place."""

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "int": (int,),
    "long": (int,),
    "float": (float,),
    "double": (float,),
    "bytes": (bytes,),
    "fixed": (bytes,),
    "string": (str,),
    "enum": (str,),
    "array": (list,),
    "map": (dict,),
    "record": (dict,),
}
_UNCHANGED = frozenset({Type.BOOLEAN, Type.BYTES, Type.STRING, Type.INT64, Type.FLOAT32, Type.FLOAT64})


def decoding_change(described: AvroType, schema: Schema, *, resolved: bool = False) -> Change | None:
    """Return the change; None when values stay as they are. Raise DataError for a schema that cannot be used.

    ``resolved``: the codec resolved the values to a reader's schema. They then hold defaults from the schema, and
    members of unions without their names.
    """
    return _Compiler(resolved).change(described, schema, "")


class _Compiler:
    def __init__(self, resolved: bool) -> None:
        self._resolved = resolved

    def change(self, described: AvroType, schema: Schema, path: str) -> Change | None:
        if described.kind == "union":
            nullable = described.nullable
            if nullable is None:
                return self._union(described, schema, path)
            return _with_nulls(self.change(nullable, schema, path))
        if described.kind == "record":
            return self._record(described, schema, path)
        if described.kind == "array" and is_map_entry(described.part):
            return self._entries(described.part, schema, path)
        if described.kind in ("array", "map"):
            return self._items(described, schema, path)
        return self._leaf(schema, path)

    def _record(self, described: AvroType, schema: Schema, path: str) -> Change | None:
        changes = [
            (field.name, change)
            for field, member in zip(described.fields, schema.fields, strict=True)
            if (change := self.change(field.type, member.schema, f"{path}.{field.name}".strip("."))) is not None
        ]
        if not changes:
            return None
        copies = self._resolved  # a row may be a default, which all records share

        def convert(rows: Values) -> Values:
            if copies:
                rows = [row.copy() for row in rows]
            for name, change in changes:
                cells = change([row[name] for row in rows])
                for row, cell in zip(rows, cells, strict=True):
                    row[name] = cell
            return rows

        return convert

    def _items(self, described: AvroType, schema: Schema, path: str) -> Change | None:
        assert schema.items is not None
        change = self.change(described.part, schema.items, f"{path}[]")
        if change is None:
            return None
        is_map = described.kind == "map"

        def convert(values: Values) -> Values:
            parts = [value.values() if is_map else value for value in values]
            changed = _split(change(list(chain.from_iterable(parts))), [len(value) for value in values])
            if is_map:
                return [dict(zip(value, items, strict=True)) for value, items in zip(values, changed, strict=True)]
            return changed

        return convert

    def _entries(self, entry: AvroType, schema: Schema, path: str) -> Change:
        assert schema.keys is not None
        assert schema.items is not None
        if schema.keys.type in (Type.STRUCT, Type.ARRAY, Type.MAP):
            raise DataError(f"keys of a MAP cannot be {schema.keys.type.name}", code="avro.invalid_schema")
        types = {field.name: field.type for field in entry.fields}
        keys = self.change(types["key"], schema.keys, f"{path}.keys") or _same
        items = self.change(types["value"], schema.items, f"{path}.values") or _same

        def convert(values: Values) -> Values:
            entries = list(chain.from_iterable(values))
            pairs = list(
                zip(keys([item["key"] for item in entries]), items([item["value"] for item in entries]), strict=True)
            )
            return [dict(part) for part in _split(pairs, [len(value) for value in values])]

        return convert

    def _union(self, described: AvroType, schema: Schema, path: str) -> Change:
        present = [member for member in described.members if member.kind != NULL]
        names = [field.name for field in schema.fields]
        changes = [
            (field.name, change)
            for field, member in zip(schema.fields, present, strict=True)
            if (change := self.change(member, field.schema, f"{path}.{field.name}".strip("."))) is not None
        ]
        named = _names_by_type(present, names) if self._resolved else None
        empty = dict.fromkeys(names)

        def convert(values: Values) -> Values:
            if named is not None:
                values = [None if value is None else {named[type(value)]: value} for value in values]
            rows = [None if value is None else empty | value for value in values]
            for name, change in changes:
                chosen = [row for row in rows if row is not None and row[name] is not None]
                for row, cell in zip(chosen, change([row[name] for row in chosen]), strict=True):
                    row[name] = cell
            return rows

        return convert

    def _leaf(self, schema: Schema, path: str) -> Change | None:
        """Return the change of a value without parts; it checks ranges, which bytes of another schema may exceed."""
        if not self._resolved and schema.type in _UNCHANGED and logical_name(schema) is None:
            return None
        try:
            accepted, change = decoding_leaf(schema)
        except ValueError as error:
            raise DataError(f"field '{path}': {error}", code="avro.invalid_schema") from error
        resolved = self._resolved
        is_bytes = schema.type is Type.BYTES

        def convert(values: Values) -> Values:
            if resolved and is_bytes:  # a default is a text with a character for each byte
                values = [value.encode("latin-1") if isinstance(value, str) else value for value in values]
            if resolved and not accepted.issuperset(map(type, values)):
                raise DataError(f"field '{path}': a default does not fit its type", code="avro.invalid_schema")
            try:
                return change(values) if values else values
            except (ValueError, ArithmeticError) as error:
                raise DataError(f"field '{path}': {error}" if path else str(error), code="avro.unreadable") from error

        return convert


def _names_by_type(members: Sequence[AvroType], names: Sequence[str]) -> dict[type, str]:
    found: dict[type, str] = {}
    for member, name in zip(members, names, strict=True):
        for kind in _PYTHON_TYPES[member.kind]:
            if kind in found:
                raise DataError(
                    f"records cannot be read as the latest version: its union of {found[kind]} and {name} is ambiguous",
                    code="avro.ambiguous_union",
                    hint="set use.latest.version: false",
                )
            found[kind] = name
    return found


def _with_nulls(change: Change | None) -> Change | None:
    if change is None:
        return None

    def convert(values: Values) -> Values:
        if None not in values:
            return change(values)
        changed = iter(change([value for value in values if value is not None]))
        return [None if value is None else next(changed) for value in values]

    return convert


def _split(flat: Values, sizes: Sequence[int]) -> list[Values]:
    parts, start = [], 0
    for size in sizes:
        parts.append(flat[start : start + size])
        start += size
    return parts


def _same(values: Values) -> Values:
    return values
