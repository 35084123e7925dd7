"""Translates Connect's schemas to files of Protobuf (proto3), as ProtobufData does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from urllib.parse import quote_plus

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from headrace import DataError, Field, Schema, Type
from headrace.converters.json_leaves import logical_name
from headrace.converters.protobuf.configuration import ProtobufConverterConfig
from headrace.converters.protobuf.connect_names import (
    CONNECT_PRECISION,
    CONNECT_TYPE,
    DATE_MESSAGE,
    DECIMAL_MESSAGE,
    DEFAULT_NAME,
    ENUM,
    FILES,
    META_FILE,
    PRECISION,
    SCALE,
    TAG,
    TIME_MESSAGE,
    TIMESTAMP_MESSAGE,
    TYPE,
    UNION,
    WRAPPER,
    WRAPPERS_FILE,
)
from headrace.converters.protobuf.fields import set_meta_parameters
from headrace.converters.protobuf.known_files import known_file
from headrace.converters.schema_registry.wire_format import FIRST_MESSAGE, MessagePath
from headrace.schema import DATE, DECIMAL, TIME, TIMESTAMP

_P = FieldDescriptorProto
_TYPES = {
    Type.BOOLEAN: _P.TYPE_BOOL,
    Type.INT8: _P.TYPE_INT32,
    Type.INT16: _P.TYPE_INT32,
    Type.INT32: _P.TYPE_INT32,
    Type.INT64: _P.TYPE_INT64,
    Type.FLOAT32: _P.TYPE_FLOAT,
    Type.FLOAT64: _P.TYPE_DOUBLE,
    Type.STRING: _P.TYPE_STRING,
    Type.BYTES: _P.TYPE_BYTES,
}
_WRAPPERS = {
    _P.TYPE_BOOL: "Bool",
    _P.TYPE_INT32: "Int32",
    _P.TYPE_UINT32: "UInt32",
    _P.TYPE_FIXED32: "UInt32",
    _P.TYPE_INT64: "Int64",
    _P.TYPE_UINT64: "UInt64",
    _P.TYPE_FIXED64: "UInt64",
    _P.TYPE_FLOAT: "Float",
    _P.TYPE_DOUBLE: "Double",
    _P.TYPE_STRING: "String",
    _P.TYPE_BYTES: "Bytes",
}
_LOGICAL = {DECIMAL: DECIMAL_MESSAGE, DATE: DATE_MESSAGE, TIME: TIME_MESSAGE, TIMESTAMP: TIMESTAMP_MESSAGE}
_KEYS = frozenset({Type.BOOLEAN, Type.INT8, Type.INT16, Type.INT32, Type.INT64, Type.STRING})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def is_union(schema: Schema) -> bool:
    """Return whether a struct is a ``oneof``."""
    return schema.type is Type.STRUCT and (schema.name or "").startswith(UNION)


def message_fields(schema: Schema) -> list[Field]:
    """Return the fields of a struct's message: those of a ``oneof`` are fields of the message."""
    return [part for field in schema.fields for part in (field.schema.fields if is_union(field.schema) else (field,))]


def uses_wrapper(schema: Schema, config: ProtobufConverterConfig, *, in_union: bool) -> bool:
    """Return whether values without parts are written as wrappers."""
    plain = schema.type in _TYPES and logical_name(schema) is None and schema.parameter(ENUM) is None
    marked = not in_union or schema.parameter(WRAPPER) == "true"
    return config.wrapper_for_nullables and plain and schema.optional and marked


def proto_name(name: str, *, scrubs: bool) -> str:
    """Return the name of a field. Raise DataError for one that Protobuf does not allow."""
    if scrubs and not _PLAIN_NAME.fullmatch(name):
        encoded = quote_plus(name, safe="*").replace("~", "%7E")
        return re.sub("[^A-Za-z0-9_]", "_", encoded if _PLAIN_NAME.match(encoded) else f"x{encoded}")
    if not _NAME.fullmatch(name):
        raise DataError(
            f"'{name}' is no name that Protobuf allows (letters, digits and _, the first no digit)",
            code="protobuf.invalid_name",
            hint="set scrub.invalid.names: true, or rename it with ReplaceField",
        )
    return name


class ProtobufFile:
    """The file for one schema of Connect."""

    def __init__(self, schema: Schema, config: ProtobufConverterConfig) -> None:
        """Raise DataError for what Protobuf cannot express."""
        self._config = config
        self._numbers: Iterator[int] = count(1)
        self._imports: list[str] = []
        self._defined: dict[str, Schema] = {}
        self.file = FileDescriptorProto(name="record.proto", syntax="proto3")
        self.path: MessagePath = FIRST_MESSAGE
        if schema.type is Type.STRUCT and not is_union(schema):
            package, _, name = self._full_name(schema.name).rpartition(".")
            self.file.package = package
            self._define(self.file.message_type.add(name=name), package, schema)
        elif schema.type in _TYPES and logical_name(schema) is None:
            self.file.CopyFrom(known_file(WRAPPERS_FILE))
            wanted = f"{_WRAPPERS[_TYPES[schema.type]]}Value"
            self.path = ([message.name for message in self.file.message_type].index(wanted),)
        else:
            raise DataError(
                f"a record of the type {schema.name or schema.type.name} is no message of Protobuf",
                code="protobuf.no_message",
                hint="put it into a field, for example with HoistField",
            )
        self.file.dependency.extend(self._imports)

    def _define(self, message: DescriptorProto, scope: str, schema: Schema) -> None:
        """Add the fields of a struct to its message."""
        path = f"{scope}.{message.name}" if scope else message.name
        members = [
            part for field in schema.fields for part in (field.schema.fields if is_union(field.schema) else [field])
        ]
        taken = {_tag(field.schema) for field in members}
        free = (number for number in count(1) if number not in taken)
        marked = []
        for field in schema.fields:
            if is_union(field.schema):
                index = len(message.oneof_decl)
                union = (field.schema.name or "").removeprefix(UNION).rpartition(".")[2]
                message.oneof_decl.add(name=self._name(union or field.name))
                for member in field.schema.fields:
                    number = _tag(member.schema) or next(free)
                    made = self._field(message, path, member.name, member.schema, number, in_union=True)
                    made.oneof_index = index
                continue
            number = _tag(field.schema) or next(free)
            made = self._field(message, path, field.name, field.schema, number)
            if self._config.optional_for_nullables and field.schema.optional and made.label != _P.LABEL_REPEATED:
                marked.append(made)
        for made in marked:  # behind those that are written
            made.proto3_optional = True
            made.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{made.name}")

    def _field(
        self,
        scope: DescriptorProto,
        path: str,
        name: str,
        schema: Schema,
        number: int,
        *,
        in_union: bool = False,
    ) -> FieldDescriptorProto:
        """Add a field to a message, which the path names; types that it needs are defined in it."""
        name = self._name(name)
        made = scope.field.add(name=name, number=number, label=_P.LABEL_OPTIONAL)
        if schema.type in (Type.ARRAY, Type.MAP):
            made.label = _P.LABEL_REPEATED
        if schema.type is Type.ARRAY:
            schema = _part(schema.items)
            if schema.type in (Type.ARRAY, Type.MAP) or is_union(schema):
                raise _nested(name)
        if schema.type is Type.MAP:
            self._map(made, scope, path, schema)
        elif schema.type is Type.STRUCT:
            self._struct(made, scope, path, schema)
        elif (message := _LOGICAL.get(logical_name(schema) or "")) is not None:
            made.type, made.type_name = _P.TYPE_MESSAGE, f".{message}"
            self._import(FILES[message])
            if message == DECIMAL_MESSAGE:
                known = {PRECISION: schema.parameter(CONNECT_PRECISION), SCALE: schema.parameter("scale")}
                self._describe(made, {key: text for key, text in known.items() if text is not None})
        elif (enum := schema.parameter(ENUM)) is not None:
            self._enum(made, scope, path, schema, self._name(enum))
        else:
            self._simple(made, schema, wrapped=uses_wrapper(schema, self._config, in_union=in_union))
        return made

    def _simple(self, made: FieldDescriptorProto, schema: Schema, *, wrapped: bool) -> None:
        made.type = _TYPES[schema.type]
        if (written := schema.parameter(TYPE)) is not None and schema.type in (Type.INT32, Type.INT64):
            try:
                made.type = _P.Type.Value(f"TYPE_{written.upper()}")
            except ValueError:
                raise DataError(f"'{written}' is no type of Protobuf", code="protobuf.invalid_schema") from None
        if schema.type in (Type.INT8, Type.INT16):
            self._describe(made, {CONNECT_TYPE: schema.type.value})
        if wrapped:
            usual = _WRAPPERS.get(made.type) or _WRAPPERS[_TYPES[schema.type]]
            made.type, made.type_name = _P.TYPE_MESSAGE, f".google.protobuf.{usual}Value"
            self._import(WRAPPERS_FILE)

    def _struct(self, made: FieldDescriptorProto, scope: DescriptorProto, path: str, schema: Schema) -> None:
        name = self._full_name(schema.name).rpartition(".")[2]
        if name == made.name:  # a message and a field of one scope have different names
            name += "Message"
        made.type, made.type_name = _P.TYPE_MESSAGE, f".{path}.{name}"
        if self._is_new(made.type_name, schema):
            self._define(scope.nested_type.add(name=name), path, schema)

    def _map(self, made: FieldDescriptorProto, scope: DescriptorProto, path: str, schema: Schema) -> None:
        """Define the entries of a map: a message, which has the same bytes as a map of Protobuf."""
        keys, items = _part(schema.keys), _part(schema.items)
        if keys.type not in _KEYS or logical_name(keys) is not None or items.type in (Type.ARRAY, Type.MAP):
            raise _nested(made.name)
        name = _entry_name(self._full_name(schema.name).rpartition(".")[2])
        made.type, made.type_name = _P.TYPE_MESSAGE, f".{path}.{name}"
        if self._is_new(made.type_name, schema):
            entry = scope.nested_type.add(name=name)
            self._field(entry, f"{path}.{name}", "key", replace(keys, optional=False), 1)
            self._field(entry, f"{path}.{name}", "value", items, 2)

    def _enum(self, made: FieldDescriptorProto, scope: DescriptorProto, path: str, schema: Schema, name: str) -> None:
        made.type, made.type_name = _P.TYPE_ENUM, f".{path}.{name}"
        values = replace(schema, optional=False, parameters=tuple(enum_values(schema).items()))
        if not self._is_new(made.type_name, values):
            return
        enum = scope.enum_type.add(name=name)
        try:
            numbers = {symbol: int(text) for symbol, text in enum_values(schema).items()}
        except ValueError:
            raise DataError(f"the enum '{name}' has no numbers", code="protobuf.invalid_schema") from None
        for symbol, number in sorted(numbers.items(), key=lambda item: item[1] != 0):  # proto3: zero is the first
            enum.value.add(name=self._name(symbol), number=number)
        if len(set(numbers.values())) < len(numbers):
            enum.options.allow_alias = True

    def _is_new(self, name: str, schema: Schema) -> bool:
        """Return whether a type is to be defined. Raise DataError when another one has its name."""
        schema = replace(schema, optional=False, parameters=tuple(item for item in schema.parameters if item[0] != TAG))
        known = self._defined.setdefault(name, schema)
        if known is schema:
            return True
        if known != schema:
            raise DataError(
                f"two different types have the name '{name.lstrip('.')}'",
                code="protobuf.duplicate_name",
                hint="name one of them otherwise, for example with SetSchemaMetadata",
            )
        return False

    def _describe(self, made: FieldDescriptorProto, parameters: dict[str, str]) -> None:
        set_meta_parameters(made, parameters)
        self._import(META_FILE)

    def _import(self, name: str) -> None:
        if name not in self._imports:
            self._imports.append(name)

    def _full_name(self, name: str | None) -> str:
        full = name or f"{DEFAULT_NAME}{next(self._numbers)}"
        return ".".join(map(self._name, full.split(".")))

    def _name(self, name: str) -> str:
        return proto_name(name, scrubs=self._config.scrub_names)


def enum_values(schema: Schema) -> dict[str, str]:
    """Return the numbers of an enum's symbols."""
    prefix = f"{ENUM}."
    return {name.removeprefix(prefix): text for name, text in schema.parameters if name.startswith(prefix)}


def _entry_name(name: str) -> str:
    """Return the name of a map's entries: that of ``my_map`` is ``MyMapEntry``."""
    return ("".join(part.capitalize() for part in name.split("_")) if "_" in name else name) + "Entry"


def _tag(schema: Schema) -> int | None:
    """Return the number that a field had when it was read."""
    text = schema.parameter(TAG)
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _part(schema: Schema | None) -> Schema:
    if schema is None:
        raise DataError("the schema of an ARRAY or MAP does not say what is in it", code="protobuf.invalid_schema")
    return schema


def _nested(name: str) -> DataError:
    return DataError(
        f"'{name}' has lists or maps in a list or map, or keys that are no numbers or texts: Protobuf has none",
        code="protobuf.nested_list",
        hint="put the inner list or map into a struct",
    )
