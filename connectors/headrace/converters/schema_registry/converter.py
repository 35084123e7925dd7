"""Converts batches of a format whose schemas are in a registry: ids, subjects, versions and caches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace import BatchHeaders, Converter, DataError, Decoded, Headers, Schema, Type
from headrace.converters.schema_registry.caches import with_room
from headrace.converters.schema_registry.configuration import SchemaRegistryConfig
from headrace.converters.schema_registry.subjects import subject_name
from headrace.converters.schema_registry.wire_format import (
    FIRST_MESSAGE,
    KEY_HEADER,
    VALUE_HEADER,
    WireId,
    head,
    header,
    wire_runs,
)

if TYPE_CHECKING:
    from headrace.converters.schema_registry.registry_client import RegisteredId
    from headrace.converters.schema_registry.schema_format import SchemaFormat, ValueReader, ValueWriter

_SCHEMALESS = {bool: Type.BOOLEAN, int: Type.INT64, float: Type.FLOAT64, str: Type.STRING, bytes: Type.BYTES}


class _Output(NamedTuple):
    """How values of a schema are written."""

    writer: ValueWriter
    prefix: bytes
    header: bytes | None


class _Input(NamedTuple):
    """How records of a schema are read."""

    schema: Schema
    reader: ValueReader


class RegistryConverter(Converter):
    """A converter of records that name their schema in a registry. A subclass gives its format to :meth:`use`."""

    always_has_schemas = True

    def use(self, config: SchemaRegistryConfig, schema_format: SchemaFormat[Any], *, is_key: bool) -> None:
        """Prepare for conversions. To be called by ``configure``."""
        # Only here: all converters are imported to find one, and this takes time.
        from headrace.converters.schema_registry.registry_client import SchemaRegistryClient

        self._config = config
        self._is_key = is_key
        self._strategy = config.key_strategy if is_key else config.value_strategy
        self._header = KEY_HEADER if is_key else VALUE_HEADER
        serializer = config.key_id_serializer if is_key else config.value_id_serializer
        self._writes_header = serializer == "HeaderSchemaIdSerializer"
        self._format = schema_format
        self._registry = SchemaRegistryClient(config, schema_format.kind)
        self._parsed: dict[WireId, Any] = {}
        self._outputs: dict[tuple[str | int, Schema], _Output] = {}
        self._inputs: dict[tuple[WireId, int | None], _Input] = {}

    def close(self) -> None:
        self._registry.close()

    def to_bytes(
        self, topic: str, schema: Schema | None, values: Sequence[Any], headers: BatchHeaders | None = None
    ) -> list[bytes | None]:
        present = [value for value in values if value is not None]
        if not present:
            return [None] * len(values)
        output = (
            self._latest_output(topic, schema)
            if self._config.writes_latest
            else self._output(topic, schema if schema is not None else self._schema_of(present))
        )
        written = output.writer.write(present, output.prefix)
        if output.header is not None:
            if headers is None:
                raise ValueError("ids in headers need the headers of the records")
            for row, value in enumerate(values):
                if value is not None:
                    headers.add(row, self._header, output.header)
        if len(written) == len(values):
            return [*written]
        rest = iter(written)
        return [None if value is None else next(rest) for value in values]

    def from_bytes(self, topic: str, values: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> list[Decoded]:
        runs = []
        for run in wire_runs(values, headers, name=self._header, with_path=self._format.has_paths):
            if run.id is None:
                runs.append(Decoded(run.start, None, [None] * (run.end - run.start)))
                continue
            schema, reader = self._input(topic, run.id)
            present = [value for value in values[run.start : run.end] if value is not None]
            runs.append(Decoded(run.start, schema, reader.read(present, run.offset)))
        return runs

    def _output(self, topic: str, schema: Schema) -> _Output:
        """Return how values are written with the schema of the format for their own."""
        known = (topic, schema)
        if known not in self._outputs:
            own = self._format.own_schema(schema)
            subject = self._subject(topic, self._format.record_name(own.parsed))
            found = (self._registry.register if self._config.auto_register else self._registry.find)(subject, own.text)
            with_room(self._outputs, self._config.cache_size)[known] = self._made_output(schema, own.parsed, found)
        return self._outputs[known]

    def _latest_output(self, topic: str, schema: Schema | None) -> _Output:
        """Return how values are written with the latest version of their subject; without a schema, they have its."""
        name = ""
        if schema is not None and (self._strategy != "TopicNameStrategy" or self._format.has_paths):
            name = self._format.record_name(self._format.own_schema(schema).parsed)
        latest = self._registry.latest(self._subject(topic, name))
        parsed = self._version(latest, name)
        if schema is None:
            schema = self._format.connect_schema(parsed)
        known = (latest.number, schema)
        if known not in self._outputs:
            made = self._made_output(schema, parsed, latest, latest=True)
            with_room(self._outputs, self._config.cache_size)[known] = made
        return self._outputs[known]

    def _made_output(self, schema: Schema, parsed: Any, found: RegisteredId, *, latest: bool = False) -> _Output:
        writer = self._format.writer(schema, parsed, self._label(parsed, found.number), latest=latest)
        path = self._format.path(parsed)
        if not self._writes_header:
            return _Output(writer, head(found.number, path), None)
        return _Output(writer, b"", header(self._registry.guid(found), path))

    def _input(self, topic: str, wire_id: WireId) -> _Input:
        parsed = self._described(wire_id)
        latest = None
        if self._config.use_latest:
            latest = self._registry.latest(self._subject(topic, self._format.record_name(parsed)))
        known = (wire_id, latest.number if latest is not None else None)
        if known not in self._inputs:
            reads_as = None
            if latest is not None and latest.number != wire_id.key:
                reads_as = self._version(latest, self._format.record_name(parsed))
            schema = self._format.connect_schema(reads_as if reads_as is not None else parsed)
            reader = self._format.reader(parsed, self._label(parsed, wire_id.key), reads_as)
            with_room(self._inputs, self._config.cache_size)[known] = _Input(schema, reader)
        return self._inputs[known]

    def _described(self, wire_id: WireId) -> Any:
        if wire_id not in self._parsed:
            parsed = self._format.parse(self._registry.schema(wire_id.key), wire_id.path)
            with_room(self._parsed, self._config.cache_size)[wire_id] = parsed
        return self._parsed[wire_id]

    def _version(self, latest: RegisteredId, record_name: str) -> Any:
        """Return what a version of a subject describes, of several messages the one with the name of the record."""
        parsed = self._described(WireId(latest.number, FIRST_MESSAGE if self._format.has_paths else ()))
        return self._format.of_record(parsed, record_name)

    def _label(self, parsed: Any, key: int | bytes) -> str:
        """Return how messages name a schema."""
        return f"'{self._format.title(parsed)}' ({f'id {key}' if isinstance(key, int) else f'GUID {key.hex()}'})"

    def _subject(self, topic: str, record_name: str) -> str:
        return subject_name(self._strategy, topic, record_name, is_key=self._is_key)

    def _schema_of(self, values: Sequence[Any]) -> Schema:
        """Return the schema of values without one. Raise DataError when they are not of one simple type."""
        types = set(map(type, values))
        kind = _SCHEMALESS.get(next(iter(types))) if len(types) == 1 else None
        if kind is None:
            found = ", ".join(sorted(item.__name__ for item in types))
            raise DataError(
                f"{self._config.converter} cannot write {found} without a schema",
                code="schema_registry.no_schema",
                hint="register a schema and set use.latest.version: true with auto.register.schemas: false",
            )
        return Schema(kind)
