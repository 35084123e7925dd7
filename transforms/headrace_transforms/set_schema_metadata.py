"""SetSchemaMetadata: another name or version of the schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from headrace import DataError, Finding, RecordColumns, Schema, Type, key
from headrace_transforms.keys import ReplaceNullConfig
from headrace_transforms.sides import JVM, SideTransform, remembered, with_defaults


class SetSchemaMetadataConfig(ReplaceNullConfig):
    """Keys of Kafka Connect's SetSchemaMetadata."""

    name: str | None = key("schema.name", default=None, doc="Name of the schema.", importance="high")
    version: int | None = key("schema.version", default=None, doc="Version of the schema.", importance="high")

    def problems(self) -> Iterable[Finding]:
        if self.name is None and self.version is None:
            hint = "set 'schema.name' or 'schema.version'"
            yield Finding("config.missing_key", "Neither schema name nor version configured", "schema.name", hint)


class SetSchemaMetadata(SideTransform):
    """Renames the schema of structs."""

    config_model = SetSchemaMetadataConfig
    nulls_stay = False

    def configure(self, properties: Mapping[str, str]) -> None:
        config = SetSchemaMetadataConfig.parse(properties)
        self._name, self._version, self._replace_null = config.name, config.version, config.replace_null
        self._renamed = remembered(self._schema_of)

    def convert(
        self, schema: Schema | None, values: Sequence[Any], batch: RecordColumns
    ) -> tuple[Schema | None, list[Any]]:
        if schema is None:
            if any(value is not None for value in values):
                raise DataError(
                    "SetSchemaMetadata: the record has no schema to change",
                    code="transform.no_schema",
                    hint="use a converter with schemas, or remove the transform",
                )
            return None, list(values)
        if schema.type is not Type.STRUCT:
            raise DataError(
                f"SetSchemaMetadata changes schemas of structs, and found {schema.type.value}",
                code="transform.not_a_map",
            )
        present = [value for value in values if value is not None]
        filled = iter(with_defaults(schema, present, replace_null=self._replace_null))
        return self._renamed(schema), [None if value is None else next(filled) for value in values]

    def _schema_of(self, schema: Schema) -> Schema:
        return replace(
            schema,
            name=schema.name if self._name is None else self._name,
            version=schema.version if self._version is None else self._version,
        )


class SetSchemaMetadataKey(SetSchemaMetadata):
    """SetSchemaMetadata for keys."""

    on_key = True
    aliases = (f"{JVM}SetSchemaMetadata$Key",)


class SetSchemaMetadataValue(SetSchemaMetadata):
    """SetSchemaMetadata for values."""

    on_key = False
    aliases = (f"{JVM}SetSchemaMetadata$Value",)
