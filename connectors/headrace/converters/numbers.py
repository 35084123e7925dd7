"""Numbers and booleans as the serializers of Kafka write them: big-endian, of a fixed size."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from headrace import BatchHeaders, ConfigModel, Converter, DataError, Decoded, Headers, Schema, Type


class NumberConverterConfig(ConfigModel):
    """No keys of its own."""

    ignored_keys: ClassVar = {"schemas.enable": "numbers have no envelope, in Kafka Connect neither"}


class NumberConverter(Converter):
    """Base of the converters of single numbers. A null stays null."""

    config_model = NumberConverterConfig
    kind: ClassVar[Type]
    packing: ClassVar[struct.Struct]
    accepted: ClassVar[tuple[type, ...]] = (int,)

    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        NumberConverterConfig.parse(properties)
        self._schema = Schema(self.kind, optional=True)

    def to_bytes(
        self, topic: str, schema: Schema | None, values: Sequence[Any], headers: BatchHeaders | None = None
    ) -> list[bytes | None]:
        if schema is not None and schema.type is not self.kind:
            raise DataError(
                f"{type(self).__name__} cannot write {schema.type.value}", hint="use JsonConverter, or Cast"
            )
        pack, accepted = self.packing.pack, self.accepted
        try:
            written = []
            for value in values:
                if value is not None and (not isinstance(value, accepted) or isinstance(value, bool)):
                    raise DataError(
                        f"{type(self).__name__} cannot write {type(value).__name__}", hint="use JsonConverter"
                    )
                written.append(None if value is None else pack(value))
        except (struct.error, OverflowError) as error:
            raise DataError(f"{type(self).__name__}: {error}", hint="use the converter of a larger type") from error
        return written

    def from_bytes(self, topic: str, values: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> list[Decoded]:
        unpack, size = self.packing.unpack, self.packing.size
        read: list[Any] = []
        for value in values:
            if value is not None and len(value) != size:
                raise DataError(f"{type(self).__name__} reads {size} bytes, and found {len(value)}")
            read.append(None if value is None else unpack(value)[0])
        return [Decoded(0, self._schema, read)] if read else []


class ShortConverter(NumberConverter):
    """Connect's ShortConverter: 16 bits."""

    kind = Type.INT16
    packing = struct.Struct(">h")
    aliases = ("org.apache.kafka.connect.converters.ShortConverter",)


class IntegerConverter(NumberConverter):
    """Connect's IntegerConverter: 32 bits."""

    kind = Type.INT32
    packing = struct.Struct(">i")
    aliases = ("org.apache.kafka.connect.converters.IntegerConverter",)


class LongConverter(NumberConverter):
    """Connect's LongConverter: 64 bits."""

    kind = Type.INT64
    packing = struct.Struct(">q")
    aliases = ("org.apache.kafka.connect.converters.LongConverter",)


class FloatConverter(NumberConverter):
    """Connect's FloatConverter: 32 bits."""

    kind = Type.FLOAT32
    packing = struct.Struct(">f")
    accepted = (int, float)
    aliases = ("org.apache.kafka.connect.converters.FloatConverter",)


class DoubleConverter(NumberConverter):
    """Connect's DoubleConverter: 64 bits."""

    kind = Type.FLOAT64
    packing = struct.Struct(">d")
    accepted = (int, float)
    aliases = ("org.apache.kafka.connect.converters.DoubleConverter",)


_BOOLEANS = {b"\x00": False, b"\x01": True}


class BooleanConverter(Converter):
    """Connect's BooleanConverter: one byte, 0 or 1."""

    config_model = NumberConverterConfig
    aliases = ("org.apache.kafka.connect.converters.BooleanConverter",)

    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        NumberConverterConfig.parse(properties)
        self._schema = Schema(Type.BOOLEAN, optional=True)

    def to_bytes(
        self, topic: str, schema: Schema | None, values: Sequence[Any], headers: BatchHeaders | None = None
    ) -> list[bytes | None]:
        for value in values:
            if value is not None and not isinstance(value, bool):
                raise DataError(
                    f"BooleanConverter cannot write {type(value).__name__}", hint="use JsonConverter, or Cast"
                )
        return [None if value is None else bytes([value]) for value in values]

    def from_bytes(self, topic: str, values: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> list[Decoded]:
        for value in values:
            if value is not None and value not in _BOOLEANS:
                raise DataError("BooleanConverter reads one byte, 0 or 1")
        read = [None if value is None else _BOOLEANS[value] for value in values]
        return [Decoded(0, self._schema, read)] if read else []
