"""Kafka Connect's SimpleHeaderConverter: values of headers as texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from headrace import BatchHeaders, ConfigModel, Converter, DataError, Decoded, Headers, Schema
from headrace_transforms.header_texts import TypedValue, header_bytes, parse_text


class SimpleHeaderConverter(Converter):
    """Writes values as texts; reads texts as numbers, booleans, times, lists and maps where they look like one."""

    config_model = ConfigModel
    aliases = ("org.apache.kafka.connect.storage.SimpleHeaderConverter", "Simple")

    @property
    def reads_texts(self) -> bool:
        return True

    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        ConfigModel.parse(properties)

    def to_bytes(
        self, topic: str, schema: Schema | None, values: Sequence[Any], headers: BatchHeaders | None = None
    ) -> list[bytes | None]:
        return [header_bytes(schema, value) for value in values]

    def from_bytes(self, topic: str, values: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> list[Decoded]:
        read = [(row, _read(value)) for row, value in enumerate(values)]
        runs = []
        for schema, run in groupby(read, lambda item: item[1].schema):
            members = list(run)
            runs.append(Decoded(members[0][0], schema, [item.value for _, item in members]))
        return runs


_TEXTS = SimpleHeaderConverter()


def header_column(
    converter: Converter | None, topic: str, name: str, schema: Schema | None, values: Sequence[Any]
) -> list[bytes | None]:
    """Return values of a header as they are written; by ``converter`` None as texts. Raise DataError."""
    try:
        return (converter or _TEXTS).to_bytes(topic, schema, values, BatchHeaders(None, len(values)))
    except DataError as error:
        text = f"header '{name}' cannot be written: {error.message}"
        raise DataError(text, code=error.code, hint=error.hint or "see header.converter") from error


def header_value(converter: Converter | None, topic: str, name: str, value: bytes | None) -> Any:
    """Return the value that a header's bytes stand for; by ``converter`` None they are a text. Raise DataError."""
    try:
        return (converter or _TEXTS).from_bytes(topic, [value], [()])[0].values[0]
    except DataError as error:
        text = f"header '{name}' cannot be read: {error.message}"
        raise DataError(text, code=error.code, hint=error.hint or "see header.converter") from error


def _read(value: bytes | None) -> TypedValue:
    return TypedValue(None, None) if value is None else parse_text(value.decode(errors="replace"))
