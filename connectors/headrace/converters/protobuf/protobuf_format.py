"""Protobuf as a format of schemas in a registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from google.protobuf.message import DecodeError

from headrace import DataError, Schema, Type
from headrace.converters.json_columns import JsonColumn
from headrace.converters.protobuf.compiler import compile_proto
from headrace.converters.protobuf.configuration import ProtobufConverterConfig
from headrace.converters.protobuf.connect_names import META_FILE
from headrace.converters.protobuf.decoding import MessageReaders, Read, read_all, unreadable
from headrace.converters.protobuf.encoding import encoding_column, with_maps
from headrace.converters.protobuf.from_connect import ProtobufFile, message_fields, proto_name
from headrace.converters.protobuf.known_files import known_file
from headrace.converters.protobuf.messages import ProtobufMessage, message_of
from headrace.converters.protobuf.proto_text import proto_text
from headrace.converters.protobuf.to_connect import ProtobufConnectSchemas
from headrace.converters.schema_registry.registry_client import SchemaText
from headrace.converters.schema_registry.schema_format import OwnSchema, SchemaFormat, ValueReader, ValueWriter
from headrace.converters.schema_registry.wire_format import MessagePath


class ProtobufFormat(SchemaFormat[ProtobufMessage]):
    """Translates with the settings of a converter."""

    kind: ClassVar = "PROTOBUF"
    has_paths: ClassVar = True

    def __init__(self, config: ProtobufConverterConfig) -> None:
        self._config = config
        self._schemas = ProtobufConnectSchemas(config)
        self._readers = MessageReaders(config, self._schemas)

    def parse(self, text: SchemaText, path: MessagePath) -> ProtobufMessage:
        return message_of(compile_proto(text).file, path)

    def own_schema(self, schema: Schema) -> OwnSchema[ProtobufMessage]:
        made = ProtobufFile(schema, self._config)
        text = proto_text(made.file)
        # The option is read without its file, which would need another one.
        imports = [name for name in made.file.dependency if name != META_FILE]
        del made.file.dependency[:]
        made.file.dependency.extend(imports)
        return OwnSchema(text, message_of([*map(known_file, imports), made.file], made.path))

    def record_name(self, parsed: ProtobufMessage) -> str:
        return parsed.name

    def title(self, parsed: ProtobufMessage) -> str:
        return parsed.name

    def connect_schema(self, parsed: ProtobufMessage) -> Schema:
        return self._schemas.translate(parsed.descriptor)

    def of_record(self, parsed: ProtobufMessage, record_name: str) -> ProtobufMessage:
        return parsed.named(record_name) or parsed

    def path(self, parsed: ProtobufMessage) -> MessagePath:
        return parsed.path

    def writer(self, schema: Schema, parsed: ProtobufMessage, label: str, *, latest: bool) -> ValueWriter:
        column = encoding_column(schema, self._config)
        if not latest:
            return _MessageWriter(column, parsed.message_class, label, is_single=schema.type is not Type.STRUCT)
        left_out = self._left_out(schema, parsed, label)

        def fitted(row: dict[str, Any]) -> dict[str, Any]:
            return with_maps({name: row[name] for name in row if name not in left_out}, parsed.descriptor)

        return _MessageWriter(column, parsed.message_class, label, fitted, is_single=schema.type is not Type.STRUCT)

    def reader(self, parsed: ProtobufMessage, label: str, reads_as: ProtobufMessage | None) -> ValueReader:
        shape = reads_as or parsed
        read = self._readers.of(shape.descriptor, self.connect_schema(shape))
        return _MessageReader(shape.message_class, read, label)

    def _left_out(self, schema: Schema, parsed: ProtobufMessage, label: str) -> frozenset[str]:
        """Return fields that the latest version does not have. Raise DataError when they must not be left out."""
        names = [proto_name(field.name, scrubs=self._config.scrub_names) for field in message_fields(schema)]
        missing = [name for name in names if name not in parsed.descriptor.fields_by_name]
        if missing and self._config.latest_strict:
            raise DataError(
                f"the latest version of the schema {label} has no field {', '.join(missing)}",
                code="schema_registry.unknown_field",
                hint="register a version with it, or leave it out by latest.compatibility.strict: false",
            )
        return frozenset(missing)


class _MessageWriter:
    def __init__(
        self,
        column: JsonColumn,
        message_class: Any,
        label: str,
        fitted: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        *,
        is_single: bool,
    ) -> None:
        self._column = column
        self._message_class = message_class
        self._label = label
        self._fitted = fitted
        self._is_single = is_single

    def write(self, values: Sequence[Any], prefix: bytes) -> list[bytes]:
        rows = self._column.run([*values])
        if self._is_single:
            rows = [{"value": row} for row in rows]
        make = self._message_class
        try:
            if self._fitted is not None:
                rows = [self._fitted(row) for row in rows]
            return [prefix + make(**row).SerializeToString(deterministic=True) for row in rows]
        except MemoryError:
            raise
        except Exception as error:  # of any kind
            # Without its cause, whose text may hold the record's contents.
            raise DataError(
                f"the record cannot be written with the Protobuf schema {self._label}: {type(error).__name__}",
                code="protobuf.unwritable",
                hint="compare the fields of the record with the schema",
            ) from None


class _MessageReader:
    def __init__(self, message_class: Any, read: Read, label: str) -> None:
        self._message_class = message_class
        self._read = read
        self._label = label

    def read(self, values: Sequence[bytes], offset: int) -> list[Any]:
        parse = self._message_class.FromString
        try:
            messages = [parse(value[offset:]) for value in values]
        except DecodeError as error:
            raise unreadable(self._label, "they are no message") from error
        return read_all(self._read, messages, self._label)
