"""Interfaces of converters, transforms, predicates and config providers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from headrace.config import ConfigModel
from headrace.records import (
    JsonForm,
    Record,
)
from headrace.schema import Schema


class Decoded(NamedTuple):
    """A converter's answer for a run of records with one schema: ``values[i]`` belongs to input ``start + i``."""

    start: int
    schema: Schema | None
    values: Sequence[Any]
    """A list, or JsonValues."""


class Converter(ABC):
    """Schema and value ⇄ bytes, a batch at a time. One instance per task and role; no state between batches matters."""

    config_model: ClassVar[type[ConfigModel]]
    aliases: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        """``properties`` have no prefix (``schemas.enable``). Raises ConfigError."""

    @abstractmethod
    def to_bytes(self, topic: str, schema: Schema | None, values: Sequence[Any]) -> list[bytes | None]:
        """Encode; None stands for a null record value (a tombstone).

        Raises DataError when any value is bad; the framework then asks again, a value at a time, to find it.
        """

    def json_form(self) -> JsonForm | None:
        """Set by a converter whose ``to_bytes`` passes on the texts of ``JsonValues`` of this form. Optional."""
        return None

    @abstractmethod
    def from_bytes(self, topic: str, values: Sequence[bytes | None]) -> list[Decoded]:
        """Decode into consecutive runs of one schema each, together covering the input. Raises DataError as above."""


class Transform(ABC):
    """A single message transform: a verb applied to a record."""

    config_model: ClassVar[type[ConfigModel]]
    aliases: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def configure(self, properties: Mapping[str, str]) -> None:
        """``properties`` have no prefix. Raises ConfigError."""

    @abstractmethod
    def apply(self, record: Record) -> Record | None:
        """The changed record (a new or the same object), or None to drop it. Raises DataError."""


class Predicate(ABC):
    """Decides whether a transform applies to a record."""

    config_model: ClassVar[type[ConfigModel]]
    aliases: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def configure(self, properties: Mapping[str, str]) -> None:
        """``properties`` have no prefix. Raises ConfigError."""

    @abstractmethod
    def test(self, record: Record) -> bool:
        """Whether the record is meant."""


class ConfigProvider(ABC):
    """Values for placeholders ``${name:path:key}`` in configurations."""

    aliases: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def get(self, path: str, key: str) -> str:
        """The value. Raises KeyError with a sentence that says what was looked for and where."""
