"""Translates messages of Protobuf to Connect's schemas, as ProtobufData does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from google.protobuf.descriptor import Descriptor, EnumDescriptor, OneofDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from headrace import DataError, Field, Schema, Type
from headrace.converters.protobuf.compiler import invalid
from headrace.converters.protobuf.configuration import ProtobufConverterConfig
from headrace.converters.protobuf.connect_names import (
    CONNECT_PRECISION,
    CONNECT_TYPE,
    DATE_MESSAGE,
    DECIMAL_MESSAGE,
    ENUM,
    PRECISION,
    SCALE,
    TAG,
    TIME_MESSAGE,
    TIMESTAMP_MESSAGE,
    TYPE,
    UNION,
    WRAPPER,
)
from headrace.converters.protobuf.fields import WRAPPERS, MessageField, fields_of
from headrace.schema import DATE_SCHEMA, TIME_SCHEMA, TIMESTAMP_SCHEMA, decimal

_P = FieldDescriptorProto
_TYPES = {
    _P.TYPE_INT32: Type.INT32,
    _P.TYPE_SINT32: Type.INT32,
    _P.TYPE_SFIXED32: Type.INT32,
    _P.TYPE_UINT32: Type.INT64,
    _P.TYPE_FIXED32: Type.INT64,
    _P.TYPE_INT64: Type.INT64,
    _P.TYPE_UINT64: Type.INT64,
    _P.TYPE_SINT64: Type.INT64,
    _P.TYPE_FIXED64: Type.INT64,
    _P.TYPE_SFIXED64: Type.INT64,
    _P.TYPE_FLOAT: Type.FLOAT32,
    _P.TYPE_DOUBLE: Type.FLOAT64,
    _P.TYPE_BOOL: Type.BOOLEAN,
    _P.TYPE_STRING: Type.STRING,
    _P.TYPE_BYTES: Type.BYTES,
}
_USUAL = frozenset({_P.TYPE_INT32, _P.TYPE_INT64, _P.TYPE_FLOAT, _P.TYPE_DOUBLE, _P.TYPE_BOOL, _P.TYPE_STRING})
_SMALL = {"int8": Type.INT8, "int16": Type.INT16}
_CAPITAL = re.compile("(?<!^)([A-Z])")
_LOGICAL = {DATE_MESSAGE: DATE_SCHEMA, TIME_MESSAGE: TIME_SCHEMA, TIMESTAMP_MESSAGE: TIMESTAMP_SCHEMA}


class ProtobufConnectSchemas:
    """Translates with the settings of a converter."""

    def __init__(self, config: ProtobufConverterConfig) -> None:
        self._config = config
        self._open: list[str] = []
        """Messages that are being translated."""

    def translate(self, descriptor: Descriptor) -> Schema:
        """Return the schema of records. Raise DataError for what Connect cannot express."""
        if self._config.wrapper_for_primitives and descriptor.full_name in WRAPPERS:
            return _unwrapped(descriptor)
        return self._struct(descriptor)

    def union_field(self, oneof: OneofDescriptor) -> str:
        """Return the name of the field of a ``oneof``."""
        return f"{oneof.name}_{oneof.index}" if self._config.index_for_unions else str(oneof.name)

    def _struct(self, descriptor: Descriptor) -> Schema:
        if descriptor.full_name in self._open:
            raise DataError(
                f"the Protobuf schema cannot be used: '{descriptor.full_name}' contains itself",
                code="protobuf.recursive_schema",
                hint="Connect's schemas are trees; read the topic with ByteArrayConverter",
            )
        self._open.append(descriptor.full_name)
        facts = fields_of(descriptor)
        members: dict[str, list[MessageField]] = {}
        for field in facts:
            if (oneof := field.oneof) is not None:
                members.setdefault(oneof.name, []).append(field)
        fields: list[Field] = []
        for oneof in descriptor.oneofs:
            parts = [Field(field.name, self._field(field)) for field in members.get(oneof.name, ())]
            if parts and self._config.flattens_unions:
                fields += parts
            elif parts:
                name = f"{UNION}.{self._name(oneof)}"
                schema = Schema(Type.STRUCT, name=name, optional=True, fields=tuple(parts))
                fields.append(Field(self.union_field(oneof), schema))
        fields += [Field(field.name, self._field(field)) for field in facts if field.oneof is None]
        self._open.pop()
        return Schema(Type.STRUCT, name=self._name(descriptor), fields=tuple(fields))

    def _field(self, field: MessageField) -> Schema:
        config = self._config
        schema = self._typed(field)
        if field.is_repeated and not field.is_map:
            schema = Schema(Type.ARRAY, items=replace(schema, optional=True), optional=True)
        parameters = dict(schema.parameters)
        optional = schema.optional
        if field.oneof is not None:
            optional = True
            if config.wrapper_for_nullables and field.message_name in WRAPPERS:
                parameters[WRAPPER] = "true"
        elif config.optional_for_nullables:
            optional = optional or field.is_marked_optional
        elif not config.wrapper_for_nullables:
            optional = True
        parameters[TAG] = str(field.proto.number)
        return replace(schema, optional=optional, parameters=tuple(parameters.items()))

    def _typed(self, field: MessageField) -> Schema:
        if field.is_message:
            return replace(self._message(field), optional=True)
        if field.is_enum:
            return self._enum(field.enum)
        kind = field.proto.type
        if _TYPES[kind] is Type.INT32 and (small := field.parameters().get(CONNECT_TYPE)) in _SMALL:
            return Schema(_SMALL[small])
        return Schema(_TYPES[kind], parameters=_written_type(field))

    def _message(self, field: MessageField) -> Schema:
        name, descriptor = field.message_name, field.message
        if name == DECIMAL_MESSAGE:
            return _decimal(field.parameters())
        if name in _LOGICAL:
            return _LOGICAL[name]
        if name in WRAPPERS and (self._config.wrapper_for_nullables or self._config.wrapper_for_primitives):
            return _unwrapped(descriptor)
        if field.is_map:
            key, value = fields_of(descriptor)
            name = _map_name(self._name(descriptor))
            return Schema(Type.MAP, name=name, keys=self._field(key), items=self._field(value))
        return self._struct(descriptor)

    def _enum(self, described: EnumDescriptor) -> Schema:
        parameters = {ENUM: str(described.name)}
        parameters |= {f"{ENUM}.{value.name}": str(value.number) for value in described.values}
        kind = Type.INT32 if self._config.int_for_enums else Type.STRING
        return Schema(kind, name=self._name(described), parameters=tuple(parameters.items()), optional=True)

    def _name(self, described: Descriptor | EnumDescriptor | OneofDescriptor) -> str:
        return str(described.full_name if self._config.enhanced else described.name)


def _unwrapped(descriptor: Descriptor) -> Schema:
    (field,) = fields_of(descriptor)
    return Schema(_TYPES[field.proto.type])


def _written_type(field: MessageField) -> tuple[tuple[str, str], ...]:
    """Return the parameter for a type of Protobuf that is not the usual one of Connect's type."""
    kind = field.proto.type
    if kind in _USUAL or _TYPES[kind] not in (Type.INT32, Type.INT64):
        return ()
    return ((TYPE, _P.Type.Name(kind).removeprefix("TYPE_").lower()),)


def _decimal(parameters: Mapping[str, str]) -> Schema:
    try:
        scale, precision = int(parameters.get(SCALE, "0")), parameters.get(PRECISION)
        made = decimal(scale)
        extra = () if precision is None else ((CONNECT_PRECISION, str(int(precision))),)
    except ValueError as error:
        raise invalid("scale or precision of a decimal is no whole number") from error
    return replace(made, parameters=made.parameters + extra)


def _map_name(entry: str) -> str:
    """Return the name that the entries of a map are named after: ``MyMapEntry`` is ``my_map``."""
    scope, dot, last = entry.removesuffix("Entry").rpartition(".")
    return scope + dot + _CAPITAL.sub(r"_\1", last).lower()
