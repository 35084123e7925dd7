"""Converts texts, in any encoding."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from headrace import BatchHeaders, ConfigModel, Converter, DataError, Decoded, Finding, Headers, Schema, key, schema

_OPTIONAL_STRING = schema.STRING.as_optional()


class StringConverterConfig(ConfigModel):
    """Keys of Connect's StringConverter."""

    ignored_keys: ClassVar = {"schemas.enable": "texts have no envelope, in Kafka Connect neither"}

    encoding: str = key("converter.encoding", default="UTF-8", doc="Character set of the texts.", importance="high")

    def problems(self) -> Iterable[Finding]:
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            text = f"Invalid value {self.encoding} for configuration converter.encoding: no such character set"
            yield Finding("config.invalid_value", text, "converter.encoding", "for example UTF-8 or ISO-8859-1")


class StringConverter(Converter):
    """Connect's StringConverter. Writes the text form of any value; reads optional strings."""

    config_model = StringConverterConfig
    aliases = ("org.apache.kafka.connect.storage.StringConverter",)

    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        self._encoding = StringConverterConfig.parse(properties).encoding

    @property
    def reads_texts(self) -> bool:
        return codecs.lookup(self._encoding).name == "utf-8"

    def to_bytes(
        self, topic: str, schema: Schema | None, values: Sequence[Any], headers: BatchHeaders | None = None
    ) -> list[bytes | None]:
        try:
            return [None if value is None else _text(value).encode(self._encoding) for value in values]
        except UnicodeEncodeError as error:
            raise DataError(f"a character that {self._encoding} cannot write: {error.reason}") from error

    def from_bytes(self, topic: str, values: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> list[Decoded]:
        try:
            texts = [None if value is None else value.decode(self._encoding) for value in values]
        except UnicodeDecodeError as error:
            raise DataError(f"not readable as {self._encoding}: {error.reason} at byte {error.start}") from error
        return [Decoded(0, _OPTIONAL_STRING, texts)] if texts else []


def _text(value: Any) -> str:
    """Return the text form of a value, as Java's ``toString`` where that differs from Python's ``str``."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(name)}={_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, (bytes, bytearray)):
        raise DataError("bytes have no text form", hint="use ByteArrayConverter")
    return str(value)
