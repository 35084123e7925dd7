"""Parses Avro schemas: names are resolved, so that a schema is a tree (https://avro.apache.org/docs/1.12.0/specification/)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from headrace import DataError

NULL = "null"
PRIMITIVES = frozenset({NULL, "boolean", "int", "long", "float", "double", "bytes", "string"})
NAMED = frozenset({"record", "enum", "fixed"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FULL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
NO_DEFAULT: Any = object()


@dataclass(frozen=True, eq=False, slots=True)
class AvroField:
    """A field of a record."""

    name: str
    type: AvroType
    doc: str | None = None
    default: Any = NO_DEFAULT
    """As JSON."""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class AvroType:
    """A type of an Avro schema."""

    kind: str
    """A primitive type, or record, enum, fixed, array, map, union."""
    name: str = ""
    """The full name of a record, enum or fixed."""
    fields: tuple[AvroField, ...] = ()
    items: AvroType | None = None
    """Of an array or a map."""
    members: tuple[AvroType, ...] = ()
    """Of a union."""
    symbols: tuple[str, ...] = ()
    size: int = 0
    aliases: tuple[str, ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)
    """The JSON object with all keys; empty for a type that is written as its name only."""

    @property
    def part(self) -> AvroType:
        """The items of an array or a map."""
        assert self.items is not None
        return self.items

    @property
    def nullable(self) -> AvroType | None:
        """The other member of a union with null; None for everything else."""
        present = [member for member in self.members if member.kind != NULL]
        return present[0] if len(self.members) == 2 and len(present) == 1 else None

    def text(self, name: str) -> str | None:
        """Return a property that is a text; None when it is missing or anything else."""
        value = self.properties.get(name)
        return value if isinstance(value, str) else None

    @property
    def record_name(self) -> str:
        """The name of the record that it is, or is with null; empty when it is none."""
        described = self.nullable or self
        return described.name if described.kind == "record" else ""


def is_name(text: str) -> bool:
    """Return whether Avro allows the text as the name of a field."""
    return _NAME.fullmatch(text) is not None


def is_full_name(text: str) -> bool:
    """Return whether Avro allows the text as a name with a namespace."""
    return _FULL_NAME.fullmatch(text) is not None


def parse_avro(text: str, references: Sequence[str] = ()) -> AvroType:
    """Parse a schema; ``references`` are the schemas that it refers to by name, in an order in which each can be read.

    Raise DataError.
    """
    known: dict[str, AvroType | None] = {}
    try:
        for reference in references:
            _parse(orjson.loads(reference), "", known)
        return _parse(orjson.loads(text), "", known)
    except orjson.JSONDecodeError as error:
        raise _invalid(f"it is not JSON ({error})") from error
    except RecursionError as error:
        raise _invalid("it is nested too deeply") from error


def _parse(written: Any, namespace: str, known: dict[str, AvroType | None]) -> AvroType:
    if isinstance(written, str):
        return AvroType(written) if written in PRIMITIVES else _named(written, namespace, known)
    if isinstance(written, list):
        return _union(written, namespace, known)
    if not isinstance(written, dict):
        raise _invalid("a type is a name, an object or a list")
    kind = written.get("type")
    if isinstance(kind, (dict, list)):
        return _parse(kind, namespace, known)
    if kind in PRIMITIVES:
        return AvroType(kind, properties=written)
    if kind == "error":
        kind = "record"
    if kind in NAMED:
        return _definition(kind, written, namespace, known)
    if kind in ("array", "map"):
        name = "items" if kind == "array" else "values"
        if name not in written:
            raise _invalid(f"an {kind} has no '{name}'" if kind == "array" else f"a {kind} has no '{name}'")
        items = _parse(written[name], namespace, known)
        if kind == "array" and _takes_no_bytes(items):
            raise _invalid("the items of an array take no bytes, so their number has no limit")
        return AvroType(kind, items=items, properties=written)
    if isinstance(kind, str):
        return _named(kind, namespace, known)
    raise _invalid("a type has no 'type'")


def _definition(kind: str, written: dict[str, Any], namespace: str, known: dict[str, AvroType | None]) -> AvroType:
    name = written.get("name")
    if not isinstance(name, str) or not is_full_name(name):
        raise _invalid(f"a {kind} has no name that Avro allows")
    given = written.get("namespace")
    name = _full(name, given if isinstance(given, str) else namespace)
    if name in known:
        raise _invalid(f"'{name}' is defined twice")
    known[name] = None
    inner = name.rpartition(".")[0]
    aliases = tuple(_full(alias, inner) for alias in _texts(written, "aliases"))
    if kind == "record":
        fields = tuple(_field(item, inner, known) for item in _list(written, "fields"))
        if len({item.name for item in fields}) < len(fields):
            raise _invalid(f"'{name}' has two fields of one name")
        made = AvroType(kind, name, fields, aliases=aliases, properties=written)
    elif kind == "enum":
        symbols = _texts(written, "symbols")
        if not symbols or len(set(symbols)) < len(symbols):
            raise _invalid(f"the symbols of '{name}' are missing or not unique")
        made = AvroType(kind, name, symbols=symbols, aliases=aliases, properties=written)
    else:
        size = written.get("size")
        if type(size) is not int or not 0 <= size < 1 << 31:
            raise _invalid(f"'{name}' has no size")
        made = AvroType(kind, name, size=size, aliases=aliases, properties=written)
    known[name] = made
    return made


def _field(written: Any, namespace: str, known: dict[str, AvroType | None]) -> AvroField:
    if not isinstance(written, dict) or not isinstance(name := written.get("name"), str) or "type" not in written:
        raise _invalid("a field has no name or no type")
    doc = written.get("doc")
    return AvroField(
        name,
        _parse(written["type"], namespace, known),
        doc if isinstance(doc, str) else None,
        written.get("default", NO_DEFAULT),
        _texts(written, "aliases"),
    )


def _union(written: list[Any], namespace: str, known: dict[str, AvroType | None]) -> AvroType:
    members = tuple(_parse(item, namespace, known) for item in written)
    if not members or any(member.kind == "union" for member in members):
        raise _invalid("a union is empty, or has a union as its member")
    names = [member.name or member.kind for member in members]
    if len(set(names)) < len(names):
        raise _invalid("a union has two members of one type")
    return AvroType("union", members=members)


def _named(name: str, namespace: str, known: dict[str, AvroType | None]) -> AvroType:
    full = _full(name, namespace)
    found = known.get(full, known.get(name, NO_DEFAULT))
    if found is NO_DEFAULT:
        raise _invalid(f"the type '{full}' is not defined")
    if found is None:
        raise DataError(
            f"the Avro schema cannot be used: '{full}' contains itself",
            code="avro.recursive_schema",
            hint="Connect's schemas are trees; read the topic with ByteArrayConverter, or flatten the records before",
        )
    described: AvroType = found
    return described


def _full(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _takes_no_bytes(described: AvroType) -> bool:
    if described.kind == "record":
        return all(_takes_no_bytes(item.type) for item in described.fields)
    return described.kind == NULL or (described.kind == "fixed" and described.size == 0)


def _list(written: dict[str, Any], name: str) -> list[Any]:
    value = written.get(name)
    if not isinstance(value, list):
        raise _invalid(f"a {written['type']} has no '{name}'")
    return value


def _texts(written: dict[str, Any], name: str) -> tuple[str, ...]:
    value = written.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _invalid(f"'{name}' is not a list of texts")
    return tuple(value)


def _invalid(reason: str) -> DataError:
    return DataError(f"the Avro schema cannot be used: {reason}", code="avro.invalid_schema")
