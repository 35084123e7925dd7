"""ValueToKey: a key made of fields of the value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from headrace import ColumnTransform, DataError, Field, Finding, RecordColumns, Schema, Type, key
from headrace_transforms.field_path import FieldSyntaxConfig, parse_path
from headrace_transforms.keys import Names
from headrace_transforms.sides import JVM, remembered, require_maps, require_struct

_PURPOSE = "ValueToKey"


class ValueToKeyConfig(FieldSyntaxConfig):
    """Keys of Kafka Connect's ValueToKey."""

    fields: Names = key("fields", doc="Fields of the value that become the key.", importance="high")

    def problems(self) -> Iterable[Finding]:
        yield from self.path_problems("fields", self.fields)


class ValueToKey(ColumnTransform):
    """Replaces the key by fields of the value."""

    config_model = ValueToKeyConfig
    aliases = (f"{JVM}ValueToKey",)

    def configure(self, properties: Mapping[str, str]) -> None:
        config = ValueToKeyConfig.parse(properties)
        self._replace_null = config.replace_null
        self._paths = [parse_path(text, config.syntax) for text in config.fields]
        self._key_schema = remembered(self._schema_of)

    def apply_columns(self, batch: RecordColumns) -> Sequence[RecordColumns]:
        schema, values = batch.value_schema, batch.values
        if schema is None:
            require_maps(values, _PURPOSE)
            if all(len(path.names) == 1 for path in self._paths):
                names = [(path.text, path.names[0]) for path in self._paths]
                keys = [{text: value.get(name) for text, name in names} for value in values]
            else:
                keys = [{path.text: path.value_in(value) for path in self._paths} for value in values]
            return [replace(batch, keys=keys, key_schema=None)]
        require_struct(schema, values, _PURPOSE)
        return [
            replace(batch, keys=[self._key_of(schema, value) for value in values], key_schema=self._key_schema(schema))
        ]

    def _key_of(self, schema: Schema, value: Mapping[str, Any]) -> dict[str, Any]:
        return {path.text: path.struct_value_in(schema, value, replace_null=self._replace_null) for path in self._paths}

    def _schema_of(self, schema: Schema) -> Schema:
        fields = []
        for path in self._paths:
            described = path.schema_in(schema)
            if described is None:
                raise DataError(
                    f"ValueToKey: the value has no field '{path.text}'",
                    code="transform.no_field",
                    hint="fields: " + ", ".join(field.name for field in schema.fields),
                )
            fields.append(Field(path.text, described))
        return Schema(Type.STRUCT, fields=tuple(fields))
