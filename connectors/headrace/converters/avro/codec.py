"""Bytes of Avro: the only user of ``fastavro``.

fastavro is given schemas of our own making: without logical types, whose values ``leaves.py`` converts exactly; with
names that all have a namespace; and with each member of a union (other than null and one type) in a record of one
field, which takes no bytes and says which member a value is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from itertools import count
from typing import Any

import fastavro
from fastavro.validation import ValidationError, validate

from headrace import DataError
from headrace.converters.avro.avro_types import NO_DEFAULT, NULL, AvroField, AvroType
from headrace.converters.avro.defaults import complete_default

MemberName = Callable[[AvroType], str]


class AvroWriter:
    """Writes values with a schema. ``strict``: fields that it does not have are refused, else left out."""

    def __init__(self, described: AvroType, member_name: MemberName, label: str, *, strict: bool) -> None:
        self._schema = _parsed(_PlainSchema(member_name, defaults=True).of(described))
        self._strict = strict
        self._label = label

    def write(self, values: Sequence[Any], prefix: bytes) -> list[bytes]:
        """Return the bytes of each value behind the prefix. Raise DataError."""
        schema, strict, put = self._schema, self._strict, fastavro.schemaless_writer
        written = []
        buffer = BytesIO()
        try:
            for value in values:
                buffer.seek(0)
                buffer.truncate()
                buffer.write(prefix)
                put(buffer, schema, value, strict_allow_default=strict)
                written.append(buffer.getvalue())
        except MemoryError:
            raise
        except Exception as error:  # of any kind
            reason = self._misfit(values[0]) if len(values) == 1 else ""
            # Without its cause, whose text may hold the record's contents.
            raise DataError(
                f"the record cannot be written with the Avro schema {self._label}: {reason or type(error).__name__}",
                code="avro.unwritable",
                hint="compare the fields of the record with the schema",
            ) from None
        return written

    def _misfit(self, value: Any) -> str:
        """Return which field does not fit; empty when it is not one field."""
        try:
            validate(value, self._schema, raise_errors=True)
        except ValidationError as error:
            field = str(error.errors[0].field)
            return f"the type of the field '{field}' is another one" if field else ""
        return ""


class AvroReader:
    """Reads values that were written with a schema, as another when ``reader`` is given."""

    def __init__(
        self, described: AvroType, member_name: MemberName, label: str, reader: AvroType | None = None
    ) -> None:
        if reader is None:
            self._writer, self._reader = _parsed(_PlainSchema(member_name, defaults=False).of(described)), None
        else:
            self._writer = _parsed(_PlainSchema(None, defaults=False).of(described))
            self._reader = _parsed(_PlainSchema(None, defaults=True).of(reader))
        self._label = label

    def read(self, values: Sequence[bytes], offset: int) -> list[Any]:
        """Return the values that begin at the offset. Raise DataError when bytes are missing or left."""
        take, writer, reader = fastavro.schemaless_reader, self._writer, self._reader
        read = []
        left = 0
        try:
            for value in values:
                source = BytesIO(value)
                source.seek(offset)
                read.append(take(source, writer, reader))
                left |= len(value) - source.tell()
        except MemoryError:
            raise
        except Exception as error:  # of any kind: the bytes are anything
            reason = _REASONS.get(type(error), type(error).__name__)
            raise self._unreadable(reason) from error
        if left:
            raise self._unreadable("bytes are left behind the value")
        return read

    def _unreadable(self, reason: str) -> DataError:
        return DataError(
            f"the bytes are not a value of the Avro schema {self._label}: {reason}",
            code="avro.unreadable",
            hint="the producer wrote them with another schema than it named",
        )


_REASONS: dict[type[Exception], str] = {
    EOFError: "they end too early",
    UnicodeDecodeError: "a text is not UTF-8",
    IndexError: "a union or enum has no such member",
}


class _PlainSchema:
    """Makes a schema for fastavro. ``member_name`` None: members of unions stay as they are."""

    def __init__(self, member_name: MemberName | None, *, defaults: bool) -> None:
        self._member_name = member_name
        self._defaults = defaults
        self._seen: set[str] = set()
        self._numbers: Iterator[int] = count(1)

    def of(self, described: AvroType) -> Any:
        kind = described.kind
        if kind == "union":
            return [self._member(member, described) for member in described.members]
        if kind in ("array", "map"):
            return {"type": kind, "items" if kind == "array" else "values": self.of(described.part)}
        if not described.name:
            return kind
        name = self._qualified(described.name, kind)
        if name in self._seen:
            return name
        self._seen.add(name)
        made: dict[str, Any] = {"type": kind, "name": name}
        if described.aliases:
            made["aliases"] = [self._qualified(alias, kind) for alias in described.aliases]
        if kind == "enum":
            made["symbols"] = list(described.symbols)
            if (default := described.text("default")) in described.symbols:
                made["default"] = default
        elif kind == "fixed":
            made["size"] = described.size
        else:
            made["fields"] = [self._field(item) for item in described.fields]
        return made

    def _qualified(self, name: str, kind: str) -> str:
        """Return a name that means the same inside of every other type: one with a namespace.

        When a reader's schema resolves the writer's, it has the kind of the type: fastavro compares names only.
        """
        namespace, _, short = name.rpartition(".")
        return f"{namespace or 'root'}.{short if self._member_name else f'{kind}_{short}'}"

    def _field(self, item: AvroField) -> dict[str, Any]:
        made: dict[str, Any] = {"name": item.name, "type": self.of(item.type)}
        if item.aliases:
            made["aliases"] = list(item.aliases)
        if self._defaults and item.default is not NO_DEFAULT and not (self._member_name and _has_choice(item.type)):
            made["default"] = complete_default(item.type, item.default)
        return made

    def _member(self, member: AvroType, union: AvroType) -> Any:
        if member.kind == NULL or union.nullable is not None or self._member_name is None:
            return self.of(member)
        field = {"name": self._member_name(member), "type": self.of(member)}
        return {"type": "record", "name": f"member.M{next(self._numbers)}", "fields": [field]}


def _has_choice(described: AvroType) -> bool:
    """Return whether a union is in the type whose members are put into records."""
    if described.kind == "union":
        return described.nullable is None or _has_choice(described.nullable)
    if described.items is not None:
        return _has_choice(described.items)
    return any(_has_choice(field.type) for field in described.fields)


def _parsed(schema: Any) -> Any:
    try:
        return fastavro.parse_schema(schema)
    except (ValueError, TypeError, KeyError, RecursionError, fastavro.schema.SchemaParseException) as error:
        # Also UnknownType, a ValueError. Its text names types and defaults of the schema, not contents of records.
        raise DataError(f"the Avro schema cannot be used: {error}", code="avro.invalid_schema") from error
