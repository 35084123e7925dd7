"""What a converter needs to know of a format whose schemas are in a registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from headrace import Schema
from headrace.converters.schema_registry.registry_client import SchemaText
from headrace.converters.schema_registry.wire_format import MessagePath

P = TypeVar("P")


class ValueWriter(Protocol):
    """Writes values of a Connect schema, of which none is None."""

    def write(self, values: Sequence[Any], prefix: bytes) -> list[bytes]:
        """Return the bytes of each value behind the prefix. Raise DataError."""


class ValueReader(Protocol):
    """Reads values that were written with one schema."""

    def read(self, values: Sequence[bytes], offset: int) -> list[Any]:
        """Return the value that begins at the offset of each record. Raise DataError."""


class OwnSchema(NamedTuple, Generic[P]):
    """The format's schema for a Connect schema: its text, as it is registered, and what it describes."""

    text: str
    parsed: P


class SchemaFormat(ABC, Generic[P]):
    """Translates schemas between a format and Connect; ``P`` is a parsed schema of the format.

    All methods raise DataError for what they cannot express or read.
    """

    kind: ClassVar[str]
    """The registry's name of the format."""
    has_paths: ClassVar[bool] = False
    """Whether a schema describes several messages, and records name theirs."""

    @abstractmethod
    def parse(self, text: SchemaText, path: MessagePath) -> P:
        """Return what the registry's schema describes."""

    @abstractmethod
    def own_schema(self, schema: Schema) -> OwnSchema[P]:
        """Return the schema for values of a Connect schema."""

    @abstractmethod
    def record_name(self, parsed: P) -> str:
        """Return the full name of the record; empty when it has none."""

    @abstractmethod
    def title(self, parsed: P) -> str:
        """Return the name by which messages name the schema."""

    @abstractmethod
    def connect_schema(self, parsed: P) -> Schema:
        """Return the Connect schema of values that are read."""

    @abstractmethod
    def writer(self, schema: Schema, parsed: P, label: str, *, latest: bool) -> ValueWriter:
        """Return the writer of values of a Connect schema; ``latest``: with another schema than their own."""

    @abstractmethod
    def reader(self, parsed: P, label: str, reads_as: P | None) -> ValueReader:
        """Return the reader of values of a schema, as another when ``reads_as`` is given."""

    def of_record(self, parsed: P, record_name: str) -> P:
        """Return the part of a schema that describes the record, if it describes several."""
        return parsed

    def path(self, parsed: P) -> MessagePath:
        """Return the place of the message in its file."""
        return ()
