"""Confluent's AvroConverter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from headrace import BatchHeaders, Converter, DataError, Decoded, Headers, Schema, Type
from headrace.converters.avro.avro_types import AvroType, parse_avro
from headrace.converters.avro.caches import with_room
from headrace.converters.avro.configuration import AvroConverterConfig
from headrace.converters.avro.decoding import Change, decoding_change
from headrace.converters.avro.encoding import encoding_column
from headrace.converters.avro.from_connect import AvroSchemas, allowed_name
from headrace.converters.avro.subjects import subject_name
from headrace.converters.avro.to_connect import ConnectSchemas
from headrace.converters.avro.wire_format import wire_runs
from headrace.converters.json_columns import JsonColumn

if TYPE_CHECKING:
    from headrace.converters.avro.codec import AvroReader, AvroWriter
    from headrace.converters.avro.registry_client import RegisteredSchema

_SCHEMALESS = {bool: Type.BOOLEAN, int: Type.INT64, float: Type.FLOAT64, str: Type.STRING, bytes: Type.BYTES}


class _Output(NamedTuple):
    """How values of a schema are written."""

    column: JsonColumn
    writer: AvroWriter


class _Input(NamedTuple):
    """How records of a schema are read."""

    schema: Schema
    reader: AvroReader
    change: Change | None


class AvroConverter(Converter):
    """Confluent's AvroConverter. Differs in three ways: bytes behind a value are refused; a schema that the registry
    refuses fails the task, and no record is skipped for it; a schema's version is that of ``connect.version`` only."""

    config_model = AvroConverterConfig
    aliases = ("io.confluent.connect.avro.AvroConverter",)
    always_has_schemas = True

    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        config = AvroConverterConfig.parse(properties)
        # Only here: all converters are imported to find one, and these take time or may not be installed.
        from headrace.converters.avro import codec, registry_client

        self._config = config
        self._is_key = is_key
        self._strategy = config.key_strategy if is_key else config.value_strategy
        self._codec = codec
        self._registry = registry_client.SchemaRegistryClient(config)
        self._connect_schemas = ConnectSchemas(enhanced=config.enhanced, meta_data=config.meta_data)
        self._parsed: dict[int, AvroType] = {}
        self._outputs: dict[tuple[str | int, Schema], _Output] = {}
        self._inputs: dict[tuple[int, int | None], _Input] = {}

    def close(self) -> None:
        self._registry.close()

    def to_bytes(
        self, topic: str, schema: Schema | None, values: Sequence[Any], headers: BatchHeaders | None = None
    ) -> list[bytes | None]:
        present = [value for value in values if value is not None]
        if not present:
            return [None] * len(values)
        column, writer = (
            self._latest_output(topic, schema)
            if self._config.writes_latest
            else self._output(topic, schema if schema is not None else _schema_of(present))
        )
        written = writer.write(column.run(present))
        if len(written) == len(values):
            return [*written]
        rest = iter(written)
        return [None if value is None else next(rest) for value in values]

    def from_bytes(self, topic: str, values: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> list[Decoded]:
        runs = []
        for start, end, number in wire_runs(values):
            if number is None:
                runs.append(Decoded(start, None, [None] * (end - start)))
                continue
            schema, reader, change = self._input(topic, number)
            read = reader.read([value for value in values[start:end] if value is not None])
            runs.append(Decoded(start, schema, change(read) if change is not None else read))
        return runs

    def _output(self, topic: str, schema: Schema) -> _Output:
        """Return how values are written with the Avro schema of their own schema."""
        known = (topic, schema)
        if known not in self._outputs:
            text = self._avro_text(schema)
            described = parse_avro(text)
            subject = self._subject(topic, described)
            number = (self._registry.register if self._config.auto_register else self._registry.find)(subject, text)
            with_room(self._outputs, self._config.cache_size)[known] = self._made_output(schema, described, number)
        return self._outputs[known]

    def _latest_output(self, topic: str, schema: Schema | None) -> _Output:
        """Return how values are written with the latest version of their subject; without a schema, they have its."""
        named = None
        if schema is not None and self._strategy != "TopicNameStrategy":
            named = parse_avro(self._avro_text(schema))
        latest = self._registry.latest(self._subject(topic, named))
        described = self._described(latest)
        if schema is None:
            schema = self._connect_schemas.translate(described)
        known = (latest.id, schema)
        if known not in self._outputs:
            if self._config.latest_strict:
                _check_fields(schema, described, latest.id)
            with_room(self._outputs, self._config.cache_size)[known] = self._made_output(schema, described, latest.id)
        return self._outputs[known]

    def _made_output(self, schema: Schema, described: AvroType, number: int) -> _Output:
        config = self._config
        column = encoding_column(
            schema,
            replace_nulls=not config.ignore_defaults,
            enums=config.enhanced and not config.writes_latest,
            optional_map_keys=config.optional_map_keys,
        )
        strict = config.writes_latest and config.latest_strict
        member_name = self._connect_schemas.member_name
        return _Output(column, self._codec.AvroWriter(described, member_name, number, strict=strict))

    def _input(self, topic: str, number: int) -> _Input:
        described = self._described(number)
        latest = None
        if self._config.use_latest:
            latest = self._registry.latest(self._subject(topic, described))
        known = (number, latest.id if latest is not None else None)
        if known not in self._inputs:
            reads_as = self._described(latest) if latest is not None and latest.id != number else None
            shape = reads_as or described
            schema = self._connect_schemas.translate(shape)
            reader = self._codec.AvroReader(described, self._connect_schemas.member_name, number, reads_as)
            change = decoding_change(shape, schema, resolved=reads_as is not None)
            with_room(self._inputs, self._config.cache_size)[known] = _Input(schema, reader, change)
        return self._inputs[known]

    def _described(self, known: int | RegisteredSchema) -> AvroType:
        """Return the parsed schema of an id, or of a version whose text is known."""
        number = known if isinstance(known, int) else known.id
        if number not in self._parsed:
            text = self._registry.schema(known) if isinstance(known, int) else known.schema
            with_room(self._parsed, self._config.cache_size)[number] = parse_avro(text.text, text.references)
        return self._parsed[number]

    def _avro_text(self, schema: Schema) -> str:
        config = self._config
        translator = AvroSchemas(
            enhanced=config.enhanced,
            meta_data=config.meta_data,
            scrub_names=config.scrub_names,
            optional_map_keys=config.optional_map_keys,
        )
        return orjson.dumps(translator.translate(schema)).decode()

    def _subject(self, topic: str, described: AvroType | None) -> str:
        return subject_name(self._strategy, topic, described, is_key=self._is_key)


def _schema_of(values: Sequence[Any]) -> Schema:
    """Return the schema of values without one. Raise DataError when they are not of one simple type."""
    types = set(map(type, values))
    kind = _SCHEMALESS.get(next(iter(types))) if len(types) == 1 else None
    if kind is None:
        found = ", ".join(sorted(item.__name__ for item in types))
        raise DataError(
            f"AvroConverter cannot write {found} without a schema",
            code="avro.no_schema",
            hint="register a schema and set use.latest.version: true with auto.register.schemas: false",
        )
    return Schema(kind)


def _check_fields(schema: Schema, described: AvroType, number: int) -> None:
    """Raise DataError when records have fields that the record of the latest version does not have."""
    if schema.type is not Type.STRUCT or not described.record_name:
        return
    known = {field.name for field in (described.nullable or described).fields}
    if missing := [field.name for field in schema.fields if allowed_name(field.name) not in known]:
        raise DataError(
            f"the latest version of the schema (id {number}) has no field {', '.join(missing)}",
            code="avro.unknown_field",
            hint="register a version with it, or leave it out by latest.compatibility.strict: false",
        )
