"""A converter that does not change bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from headrace import BatchHeaders, ConfigModel, Converter, DataError, Decoded, Headers, Schema, Type, schema

_OPTIONAL_BYTES = schema.BYTES.as_optional()


class ByteArrayConverterConfig(ConfigModel):
    """No keys of its own."""

    ignored_keys: ClassVar = {"schemas.enable": "bytes have no envelope, in Kafka Connect neither"}


class ByteArrayConverter(Converter):
    """Connect's ByteArrayConverter: the bytes of the record are the value."""

    config_model = ByteArrayConverterConfig
    aliases = (
        "org.apache.kafka.connect.converters.ByteArrayConverter",
        "io.confluent.connect.replicator.util.ByteArrayConverter",
    )

    @property
    def reads_texts(self) -> bool:
        return True

    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        ByteArrayConverterConfig.parse(properties)

    def to_bytes(
        self, topic: str, schema: Schema | None, values: Sequence[Any], headers: BatchHeaders | None = None
    ) -> list[bytes | None]:
        if schema is not None and schema.type is not Type.BYTES:
            raise DataError(f"Invalid schema type for ByteArrayConverter: {schema.type.name}", hint="use JsonConverter")
        for value in values:
            if value is not None and not isinstance(value, (bytes, bytearray, memoryview)):
                raise DataError(f"ByteArrayConverter is not compatible with {type(value).__name__}")
        return [None if value is None else bytes(value) for value in values]

    def from_bytes(self, topic: str, values: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> list[Decoded]:
        return [Decoded(0, _OPTIONAL_BYTES, list(values))] if values else []
