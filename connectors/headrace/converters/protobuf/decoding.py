"""Reads messages of Protobuf as values of their Connect schema."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor

from headrace import DataError, Schema, Type
from headrace.converters.decimals import from_unscaled
from headrace.converters.protobuf.configuration import ProtobufConverterConfig
from headrace.converters.protobuf.connect_names import (
    DATE_MESSAGE,
    DECIMAL_MESSAGE,
    TIME_MESSAGE,
    TIMESTAMP_MESSAGE,
)
from headrace.converters.protobuf.fields import WRAPPERS, MessageField, fields_of
from headrace.converters.protobuf.to_connect import ProtobufConnectSchemas
from headrace.schema import INTEGERS

Read = Callable[[Any], Any]
"""Converts a value of a message; raises ValueError or ArithmeticError."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BITS = {Type.INT8: 8, Type.INT16: 16, Type.INT32: 32, Type.INT64: 64}


class MessageReaders:
    """Makes the functions that read messages, with the settings of a converter."""

    def __init__(self, config: ProtobufConverterConfig, schemas: ProtobufConnectSchemas) -> None:
        self._config = config
        self._schemas = schemas

    def of(self, descriptor: Descriptor, schema: Schema) -> Read:
        """Return how records are read whose schema ``ProtobufConnectSchemas`` returns for the message."""
        if schema.type is not Type.STRUCT:
            (field,) = fields_of(descriptor)
            value = self._single(field, schema)
            return lambda message: value(message.value)
        return self._struct(descriptor, schema)

    def _struct(self, descriptor: Descriptor, schema: Schema) -> Read:
        facts = {field.name: field for field in fields_of(descriptor)}
        unions = {self._schemas.union_field(oneof): oneof.name for oneof in descriptor.oneofs}
        reads: list[tuple[str, Read]] = []
        for member in schema.fields:
            field = facts.get(member.name)
            if field is None or (field.oneof is not None and not self._config.flattens_unions):
                reads.append((member.name, self._union(unions[member.name], facts, member.schema)))
            else:
                reads.append((member.name, self._field(field, member.schema)))

        def read(message: Any) -> dict[str, Any]:
            return {name: take(message) for name, take in reads}

        return read

    def _union(self, oneof: str, facts: dict[str, MessageField], schema: Schema) -> Read:
        reads = {member.name: self._field(facts[member.name], member.schema) for member in schema.fields}
        empty = dict.fromkeys(reads)

        def read(message: Any) -> dict[str, Any] | None:
            name = message.WhichOneof(oneof)
            return None if name is None else {**empty, name: reads[name](message)}

        return read

    def _field(self, field: MessageField, schema: Schema) -> Read:
        name = field.name
        value = self._value(field, schema)
        if field.oneof is not None or field.may_be_unset(self._config):
            return lambda message: value(getattr(message, name)) if message.HasField(name) else None
        return lambda message: value(getattr(message, name))

    def _value(self, field: MessageField, schema: Schema) -> Read:
        if field.is_map:
            return self._map(field, schema)
        if not field.is_repeated:
            return self._single(field, schema)
        assert schema.items is not None
        item = self._single(field, schema.items)
        return lambda values: [item(value) for value in values]

    def _map(self, field: MessageField, schema: Schema) -> Read:
        assert schema.keys is not None
        assert schema.items is not None
        key, value = fields_of(field.message)
        read_key, read_value = self._single(key, schema.keys), self._single(value, schema.items)
        if field.is_true_map:
            return lambda entries: {read_key(name): read_value(entries[name]) for name in entries}
        return lambda entries: {read_key(entry.key): read_value(entry.value) for entry in entries}

    def _single(self, field: MessageField, schema: Schema) -> Read:
        if field.is_enum:
            return _same if schema.type is Type.INT32 else _enum(field.enum)
        if field.is_message:
            return self._message(field, schema)
        return _within(schema.type) if schema.type in INTEGERS else _same

    def _message(self, field: MessageField, schema: Schema) -> Read:
        name, descriptor = field.message_name, field.message
        if name in _LOGICAL:
            return _LOGICAL[name]
        if name in WRAPPERS and schema.type is not Type.STRUCT:
            (part,) = fields_of(descriptor)
            value = self._single(part, schema)
            return lambda message: value(message.value)
        return self._struct(descriptor, schema)


def _same(value: Any) -> Any:
    return value


def _within(kind: Type) -> Read:
    limit = 1 << (_BITS[kind] - 1)

    def read(value: int) -> int:
        if not -limit <= value < limit:
            raise ValueError(f"a number outside the range of {kind.name}")
        return value

    return read


def _enum(described: EnumDescriptor) -> Read:
    names = {value.number: str(value.name) for value in reversed(described.values)}
    unknown = f"UNKNOWN_ENUM_VALUE_{described.name}_"

    def read(number: int) -> str:
        return names.get(number) or f"{unknown}{number}"

    return read


def _decimal(message: Any) -> Decimal:
    if len(message.value) > _LONGEST_DECIMAL or abs(message.scale) > _LONGEST_DECIMAL:
        raise ValueError("a decimal with too many digits")
    return from_unscaled(message.value, message.scale)


def _date(message: Any) -> date:
    return date(message.year, message.month, message.day)


def _time(message: Any) -> time:
    return time(message.hours, message.minutes, message.seconds, message.nanos // 1_000_000 * 1000)


def _timestamp(message: Any) -> datetime:
    try:
        return _EPOCH + timedelta(seconds=message.seconds, milliseconds=message.nanos // 1_000_000)
    except OverflowError:
        raise ValueError("a timestamp outside the years 1 to 9999") from None


_LONGEST_DECIMAL = 100_000
"""Digits and bytes; a scale of 32 bits may ask for billions."""
_LOGICAL: dict[str, Read] = {
    DECIMAL_MESSAGE: _decimal,
    DATE_MESSAGE: _date,
    TIME_MESSAGE: _time,
    TIMESTAMP_MESSAGE: _timestamp,
}


def read_all(read: Read, messages: list[Any], label: str) -> list[Any]:
    """Return the values of messages. Raise DataError, without what the records hold."""
    try:
        return [read(message) for message in messages]
    except UnicodeDecodeError as error:
        raise unreadable(label, "a text is not UTF-8") from error
    except (ValueError, ArithmeticError) as error:
        raise unreadable(label, str(error)) from error


def unreadable(label: str, reason: str) -> DataError:
    return DataError(
        f"the bytes are not a message of the Protobuf schema {label}: {reason}",
        code="protobuf.unreadable",
        hint="the producer wrote them with another schema than it named",
    )
